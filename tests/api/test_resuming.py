"""A run that is stopped, saved and resumed ends in the same bytes as one that never stopped."""

import os
import signal

import numpy as np
import pytest

import tapeless
from tapeless.runtime.call import Call

from ..forked import in_a_child

# Dropout, a schedule over the planned steps, momentum terms, a held-out part and early stopping, all at work.
TEXT = """
layer Average(x[n, c], momentum = 0.1):
    state mean: [c] = 0
    if training:
        mean = (1 - momentum) * mean + momentum * sum(x, axis = 0) / 64
    return x - mean

model Noisy(hidden = 24):
    input  image: [batch, 64]
    target label: int[batch] < 10
    h      = Dense(image, hidden, relu)
    h      = dropout(Average(h), 0.5)
    logits = Dense(h, 10)
    output probs = softmax(logits)
    loss   cross_entropy(logits, label)
    metric accuracy = mean(argmax(logits) == label)

train Noisy:
    optimizer Adam(lr = cosine(peak = 0.03, warmup = 20))
    clip_norm 1.0
    epochs 40
    batch 32
    validation 0.25
    stop_early patience = 3 on accuracy rising
"""
STOPS = [int(stop) for stop in np.random.default_rng(20).integers(1, 150, 10)]


@pytest.fixture(scope="module")
def made(digits, cache_folder):
    """A function that makes a program, and the data."""
    model = tapeless.load(TEXT)
    image, label = digits
    return lambda seed=3: model.compile(seed=seed, cache=cache_folder), image[:700], label[:700]


@pytest.fixture(scope="module")
def whole(made, tmp_path_factory):
    """The checkpoint, the curves and the log of the run that never stops."""
    make, image, label = made
    folder = tmp_path_factory.mktemp("whole")
    run = make().fit(image, label, save=folder / "w.safetensors", log=folder / "w.jsonl")
    assert run.steps > max(STOPS) and run.epochs < 40, "early stopping was to end the run, after the last stop"
    assert run.best_epoch == run.epochs - 3
    return (folder / "w.safetensors").read_bytes(), run


@pytest.mark.parametrize("stop", STOPS)
def test_stopped_after_any_step_and_resumed(made, whole, tmp_path, stop):
    make, image, label = made
    path = tmp_path / "w.safetensors"
    first = make().fit(image, label, save=path, max_steps=stop, log=tmp_path / "w.jsonl")
    assert first.steps == stop
    second = make(seed=99).fit(image, label, resume=path, save=path, log=tmp_path / "w.jsonl")
    content, run = whole
    assert path.read_bytes() == content
    assert second.curves == run.curves
    assert (second.epochs, second.steps, second.best_epoch) == (run.epochs, run.steps, run.best_epoch)
    assert len((tmp_path / "w.jsonl").read_text().splitlines()) == run.epochs


def test_stopped_at_every_place_in_turn_in_one_process(made, whole, tmp_path):
    make, image, label = made
    program = make()
    program.fit(image, label, max_steps=STOPS[0])
    for stop in sorted(STOPS)[1:]:
        program.fit(image, label, resume=True, max_steps=stop)
    program.fit(image, label, resume=True, save=tmp_path / "w.safetensors")
    assert (tmp_path / "w.safetensors").read_bytes() == whole[0]


def test_checkpoints_on_the_way_hold_the_best_weights_and_continue(made, whole, tmp_path):
    make, image, label = made
    path = tmp_path / "w.safetensors"
    kept = {}

    def keep(run):
        kept[run.epochs] = path.read_bytes() if path.exists() else b""

    make().fit(image, label, save=path, every="3 steps", on_epoch=keep)
    assert path.read_bytes() == whole[0]
    path.write_bytes(kept[6])
    program = make()
    program.load(path)
    value = program.evaluate(image, label)["loss"]
    run = program.fit(image, label, resume=path, save=path)
    assert path.read_bytes() == whole[0]
    assert np.isfinite(value) and run.best_epoch


def test_more_epochs_after_the_end(made, tmp_path):
    make, image, label = made
    path = tmp_path / "w.safetensors"
    make().fit(image, label, save=path, epochs=2, patience=0)
    run = make().fit(image, label, resume=path)
    assert run.epochs == 2 and run.seconds >= 0
    run = make().fit(image, label, resume=path, epochs=3)
    assert run.epochs == 3 and len(run.curves["loss"]) == 3


@in_a_child
def test_ctrl_c_within_an_epoch_is_a_place_like_any(made, whole, tmp_path, monkeypatch):
    make, image, label = made
    path = tmp_path / "w.safetensors"
    chunks, native = [], Call.run

    def run_and_interrupt(call, begin, end):
        done = native(call, begin, end)
        if call.sums.size == 2:
            chunks.append(done)
            if len(chunks) == 2:
                os.kill(os.getpid(), signal.SIGINT)
        return done

    monkeypatch.setattr(Call, "run", run_and_interrupt)
    program = make()
    with pytest.raises(KeyboardInterrupt):
        program.fit(image, label, save=path)
    run = program.run
    assert run.interrupted and run.saved == path and run.epochs == 0 and 1 < run.steps < 17
    run = make().fit(image, label, save=path, resume=path)
    assert not run.interrupted and path.read_bytes() == whole[0]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": 0.5}, "can't be resumed with validation 0.5: it was begun with 0.25"),
        ({"batch": 16}, "can't be resumed with batch 16: it was begun with 32"),
        ({"monitor": "loss"}, "can't be resumed with monitor loss: it was begun with accuracy"),
        ({"rows": 600}, "can't be resumed with other data: the run was begun with 700 rows"),
        ({"text": TEXT.replace("0.5", "0.4")}, "was written by another program"),
        ({"resume": "none.safetensors"}, "there is no file of weights none.safetensors"),
        ({"resume": True}, "there is no run to resume"),
        ({"every": "often"}, '"5 epochs", "1000 steps" or "60 s", not every \'often\''),
        ({"save": "no/where"}, "there is no folder no"),
    ],
)
def test_what_can_not_be_resumed(made, cache_folder, tmp_path, options, message):
    make, image, label = made
    path = tmp_path / "w.safetensors"
    make().fit(image, label, save=path, max_steps=5)
    rows = options.pop("rows", 700)
    program = tapeless.load(options.pop("text", TEXT)).compile(cache=cache_folder)
    with pytest.raises(tapeless.UserError, match=message):
        program.fit(image[:rows], label[:rows], **{"resume": path, **options})


def test_weights_alone_are_no_run(made, tmp_path):
    make, image, label = made
    program = make()
    program.save(tmp_path / "w.safetensors")
    with pytest.raises(tapeless.CheckpointError, match="holds weights but no training run"):
        program.fit(image, label, resume=tmp_path / "w.safetensors")


def test_a_damaged_record_is_a_message(made, tmp_path):
    from tapeless.runtime import checkpoint

    make, image, label = made
    path = tmp_path / "w.safetensors"
    make().fit(image, label, save=path, max_steps=3)
    tensors, metadata = checkpoint.read(path)
    for record in ("", "{}", '{"settings": {}}', metadata["training"].replace("epochs", "aeons")):
        checkpoint.save(path, tensors, {**metadata, "training": record})
        with pytest.raises(tapeless.CheckpointError, match="can't be read"):
            make().fit(image, label, resume=path)


def test_callbacks_may_stop_training(made):
    make, image, label = made

    class AtTwo:
        def on_epoch(self, run):
            assert run.program.parameters["h.W"].shape == (64, 24)
            return run.epochs == 2

    run = make().fit(image, label, callbacks=[AtTwo()])
    assert run.epochs == 2 and not run.interrupted


def test_other_machine_code_is_noted(made, tmp_path):
    from tapeless.runtime import checkpoint

    make, image, label = made
    path = tmp_path / "w.safetensors"
    make().fit(image, label, save=path, max_steps=3)
    tensors, metadata = checkpoint.read(path)
    checkpoint.save(path, tensors, {**metadata, "image": "of another processor"})
    run = make().fit(image, label, resume=path, epochs=1)
    assert len(run.notes) == 1 and "not to the same last bit" in run.notes[0] and run.epochs == 1


def test_a_checkpoint_on_the_way_that_can_not_be_written_is_left_out(made, whole, tmp_path, monkeypatch):
    from tapeless.runtime import checkpoint

    make, image, label = made
    path, native, calls = tmp_path / "w.safetensors", checkpoint.save, []

    def full_at_first(*arguments):
        calls.append(1)
        if len(calls) < 3:
            raise tapeless.CheckpointError("the disk is full")
        native(*arguments)

    monkeypatch.setattr(checkpoint, "save", full_at_first)
    run = make().fit(image, label, save=path, every="2 epochs")
    assert run.notes == ["a checkpoint was left out: the disk is full"]
    assert path.read_bytes() == whole[0]


@in_a_child
def test_sigterm_saves_and_ends_like_ctrl_c(made, whole, tmp_path):
    make, image, label = made
    path, program = tmp_path / "w.safetensors", make()

    def terminate(run):
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as ended:
        program.fit(image, label, save=path, on_epoch=terminate)
    assert ended.value.code == 143 and program.run.interrupted and program.run.epochs == 1
    make().fit(image, label, save=path, resume=path)
    assert path.read_bytes() == whole[0]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@in_a_child
def test_a_second_ctrl_c_ends_at_once_between_two_steps(made, whole, tmp_path):
    make, image, label = made
    path, program, after = tmp_path / "w.safetensors", make(), []

    def twice(run):
        if run.epochs == 2:
            os.kill(os.getpid(), signal.SIGINT)
            after.append("the first is a wish")
            os.kill(os.getpid(), signal.SIGINT)
            after.append("never reached")

    with pytest.raises(KeyboardInterrupt):
        program.fit(image, label, save=path, every="1 epoch", on_epoch=twice)
    assert after == ["the first is a wish"] and program.run.interrupted and program.run.saved is None
    program.fit(image, label, resume=True, save=path)
    assert path.read_bytes() == whole[0]


@in_a_child
def test_a_second_ctrl_c_waits_for_what_is_done_whole(made, whole, tmp_path, monkeypatch):
    make, image, label = made
    path, program, native, calls = tmp_path / "w.safetensors", make(), Call.run, []

    def run_and_interrupt_twice(call, begin, end):
        done = native(call, begin, end)
        if call.sums.size == 2 and not calls:
            calls.append(done)
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return done

    monkeypatch.setattr(Call, "run", run_and_interrupt_twice)
    with pytest.raises(KeyboardInterrupt):
        program.fit(image, label, save=path)
    assert not path.exists() and program.run.steps >= 1
    program.fit(image, label, resume=True, save=path)
    assert path.read_bytes() == whole[0]


@in_a_child
def test_ctrl_c_while_the_end_is_saved_waits_and_is_raised(made, whole, tmp_path, monkeypatch):
    make, image, label = made
    path, program, native = tmp_path / "w.safetensors", make(), tapeless.Program.save

    def save_and_interrupt(program, path):
        os.kill(os.getpid(), signal.SIGINT)
        native(program, path)

    monkeypatch.setattr(tapeless.Program, "save", save_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        program.fit(image, label, save=path)
    assert path.read_bytes() == whole[0] and program.run.interrupted and program.run.saved == path


@in_a_child
def test_ctrl_c_ends_a_loop_of_seeds(made):
    make, image, label = made
    tried = []

    def press(run):
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        for seed in range(3):
            tried.append(seed)
            make(seed).fit(image, label, on_epoch=press)
    assert tried == [0]


@in_a_child
def test_handlers_of_the_callers_own_are_left_alone(made):
    make, image, label = made
    seen = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        run = make().fit(image, label, epochs=2, on_epoch=lambda run: os.kill(os.getpid(), signal.SIGINT))
        own = signal.signal(signal.SIGINT, before)
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIGINT] * 2 and run.epochs == 2 and not run.interrupted and own is not before


def test_what_a_callback_raises_leaves_a_run_to_resume(made, whole, tmp_path):
    make, image, label = made

    def leave(run):
        if run.epochs == 3:
            raise SystemExit

    program = make()
    with pytest.raises(SystemExit):
        program.fit(image, label, on_epoch=leave)
    assert not program.run.interrupted
    program.fit(image, label, resume=True, save=tmp_path / "w.safetensors")
    assert (tmp_path / "w.safetensors").read_bytes() == whole[0]


@pytest.mark.parametrize("yes", (True, np.True_, np.array(True)))
def test_a_callback_ends_training_with_true_of_any_kind(made, yes):
    make, image, label = made
    assert make().fit(image, label, on_epoch=lambda run: yes).epochs == 1


def test_a_damaged_file_is_noticed(made, tmp_path):
    make, image, label = made
    path = tmp_path / "w.safetensors"
    make().fit(image, label, save=path, max_steps=20)
    whole, generator = path.read_bytes(), np.random.default_rng(0)
    for turn in range(60):
        damaged = bytearray(whole)
        if turn % 3 == 0:
            del damaged[generator.integers(0, len(whole)) :]
        else:
            place = generator.integers(8, len(whole) if turn % 3 == 1 else 2000)
            damaged[place] ^= 1 << generator.integers(0, 8)
        path.write_bytes(damaged)
        with pytest.raises(tapeless.CheckpointError):
            make().fit(image, label, resume=path, epochs=1)
