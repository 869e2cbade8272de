"""Programs used from several threads, and from processes that are forked meanwhile: the results are those of one at
a time.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import tapeless
from tapeless.runtime.call import Call

TEXT = """
model Small(hidden = 24):
    input  x: [batch, 16]
    target y: int[batch] < 4
    h      = dropout(Dense(x, hidden, tanh), 0.3)
    logits = Dense(h, 4)
    output p = softmax(logits)
    loss   cross_entropy(logits, y)

train Small:
    optimizer Adam(lr = 0.01)
    epochs 3
    batch 16
    validation 0.25
    stop_early patience = 2
"""
RUNNING = """
model Running(units = 8, t = 5):
    input x: [batch, t, 3]
    output y = RNN(x, units)
"""
THREADS = 4


@pytest.fixture(scope="module")
def make(cache_folder):
    return lambda seed=0: tapeless.load(TEXT).compile(seed=seed, cache=cache_folder)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(5)
    return rng.normal(size=(400, 16)).astype(np.float32), rng.integers(0, 4, 400)


def in_threads(work, tasks):
    """The results of all tasks, begun by threads that set out together and change places often."""
    barrier = threading.Barrier(THREADS)

    def wait_and_work(tasks):
        barrier.wait()
        return [work(task) for task in tasks]

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            parts = list(pool.map(wait_and_work, [tasks[k::THREADS] for k in range(THREADS)]))
    finally:
        sys.setswitchinterval(before)
    return [parts[k % THREADS][k // THREADS] for k in range(len(tasks))]


@pytest.fixture
def lingering(monkeypatch):
    """Native calls that stay a moment when their work is done, so that others would overtake them if nothing held
    these back.
    """
    native = Call.run

    def run(call, begin, end):
        done = native(call, begin, end)
        time.sleep(0.001)
        return done

    monkeypatch.setattr(Call, "run", run)


CALLS = {
    "gradients": lambda p, x, y: p.gradients(x, y)["h.dense.W"],
    "predict": lambda p, x, y: p.predict(x),
    "evaluate": lambda p, x, y: np.array(list(p.evaluate(x, y).values())),
    "value_and_grad": lambda p, x, y: p.value_and_grad(np.full(p.vector().size, x[0, 0] / 10), x, y)[1],
    "confusion": lambda p, x, y: p.confusion(x, y),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_from_four_threads_give_what_they_give_in_turn(make, data, name, lingering):
    program, (x, y) = make(), data
    call = CALLS[name]
    pieces = [slice(k, k + 5 + k % 12) for k in range(80)]
    alone = [call(program, x[piece], y[piece]) for piece in pieces]
    together = in_threads(lambda piece: call(program, x[piece], y[piece]), pieces)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_steps_from_four_threads(cache_folder):
    program = tapeless.load(RUNNING).compile(cache=cache_folder)
    sequences = np.random.default_rng(0).normal(size=(12, 5, 3)).astype(np.float32)

    def along(sequence):
        carry, places = None, []
        for place in sequence:
            output, carry = program.step(place[None], carry)
            places.append(output)
        return np.stack(places, axis=1)

    for one, other in zip(map(along, sequences), in_threads(along, list(sequences)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_programs_are_loaded_and_compiled_by_four_threads(tmp_path, data):
    x, y = data

    def trained(seed):
        program = tapeless.load(TEXT, hidden=4 + seed % 2).compile(seed=seed, cache=tmp_path)
        program.fit(x, y, epochs=1)
        return program.vector()

    together = in_threads(trained, list(range(8)))
    for seed, vector in enumerate(together):
        np.testing.assert_array_equal(vector, trained(seed))


class Pause:
    """A callback at which a run stands still, at the end of an epoch, until it is told to go on."""

    def __init__(self):
        self.reached, self.go = threading.Event(), threading.Event()

    def on_epoch(self, run):
        self.reached.set()
        assert self.go.wait(60)


@pytest.fixture
def standing(make, data):
    """A program whose `fit` stands still in another thread, and what lets it go on and gives its run."""
    program, pause, results = make(), Pause(), []
    thread = threading.Thread(target=lambda: results.append(program.fit(*data, callbacks=[pause])))
    thread.start()
    assert pause.reached.wait(60)

    def finish():
        pause.go.set()
        thread.join(60)
        return results[0]

    yield program, finish
    finish()


def test_two_fits_of_one_program_are_refused(standing, data):
    program, _ = standing
    with pytest.raises(tapeless.UserError, match="one `fit` at a time"):
        program.fit(*data)


@pytest.mark.parametrize("name", ("reset", "load", "resume", "set_vector", "apply", "value_and_grad"))
def test_weights_are_not_changed_under_a_run(standing, make, data, name):
    program, finish = standing
    call = {
        "reset": lambda: program.reset(1), "load": lambda: program.load("w.safetensors"),
        "resume": lambda: program.resume("w"),
        "set_vector": lambda: program.set_vector(program.vector()),
        "apply": lambda: program.apply(program.gradients(*data)),
        "value_and_grad": lambda: program.value_and_grad(program.vector(), *data),
    }[name]  # fmt: skip
    with pytest.raises(tapeless.UserError, match="is being trained"):
        call()
    finish()
    alone = make()
    alone.fit(*data)
    np.testing.assert_array_equal(program.vector(), alone.vector())


def test_callbacks_may_use_the_program_but_not_train_it(make, data, tmp_path):
    program, seen = make(), []

    def look(run):
        program.predict(data[0])
        program.gradients(*data)
        seen.append(program.evaluate(*data)["loss"])
        program.save(tmp_path / "w.safetensors")
        program.set_vector(program.vector())
        with pytest.raises(tapeless.UserError, match="one `fit` at a time"):
            program.fit(*data)

    program.fit(*data, on_epoch=look)
    alone = make()
    alone.fit(*data)
    np.testing.assert_array_equal(program.vector(), alone.vector())
    assert len(seen) == 3


def test_a_run_goes_on_from_weights_that_a_callback_loads(make, data, tmp_path):
    program, (x, y) = make(), data
    make(7).save(tmp_path / "other.safetensors")
    load = {1: lambda: program.load(tmp_path / "other.safetensors")}
    run = program.fit(
        x, y, patience=0, on_epoch=lambda run: load.get(run.epochs, int)() and None, save=tmp_path / "w.safetensors"
    )
    assert run.epochs == 3 and make().fit(x, y, resume=tmp_path / "w.safetensors").epochs == 3


def test_files_saved_by_another_thread_are_moments_between_two_steps(make, data, tmp_path, lingering):
    """Every one of them is resumed to the weights of the run that was never stopped."""
    whole = make()
    whole.fit(*data, save=tmp_path / "whole.safetensors")
    program, ended, paths = make(), threading.Event(), []

    def save_always():
        while not ended.is_set() or len(paths) < 3:
            paths.append(tmp_path / f"{len(paths)}.safetensors")
            program.save(paths[-1])

    program.fit(*data, max_steps=1)
    saver = threading.Thread(target=save_always)
    saver.start()
    for stop in range(2, 60, 3):  # chunks of few steps, so that there are many moments
        program.fit(*data, resume=True, max_steps=stop)
    ended.set()
    saver.join(60)
    for path in paths[:: max(len(paths) // 12, 1)]:
        make(9).fit(*data, resume=path, save=path)
        assert path.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def test_predictions_beside_a_run_are_of_weights_between_two_steps(make, data, lingering):
    program, x = make(), data[0]
    known = {program.predict(x[:8]).tobytes()}
    for stop in range(1, 30):
        program.fit(*data, resume=stop > 1, max_steps=stop, patience=0)
        known.add(program.predict(x[:8]).tobytes())
    again, ended, seen = make(), threading.Event(), []

    def predict_always():
        while not ended.is_set() or not seen:
            seen.append(again.predict(x[:8]).tobytes())

    thread = threading.Thread(target=predict_always)
    thread.start()
    for stop in range(1, 30):
        again.fit(*data, resume=stop > 1, max_steps=stop, patience=0)
    ended.set()
    thread.join(60)
    assert set(seen) <= known


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("standing_still", (True, False))
def test_a_process_forked_beside_a_run_goes_on(make, data, request, standing_still):
    """The child finds the program between two steps; it predicts, trains and compiles."""
    if standing_still:
        program, finish = request.getfixturevalue("standing")
    else:
        program, begun, enough = make(), threading.Event(), threading.Event()

        def forever():
            while not enough.is_set():
                program.fit(*data, on_epoch=lambda run: begun.set())

        thread = threading.Thread(target=forever)
        thread.start()
        assert begun.wait(60)

        def finish():
            enough.set()
            thread.join(60)

    for _ in range(1 if standing_still else 8):
        assert exit_code_of_child(lambda: in_child(program, data, standing_still)) == 0
    finish()


def in_child(program, data, compiles):
    program.predict(data[0])
    program.fit(*data, epochs=1)
    if compiles:
        tapeless.load(TEXT.replace("0.3", "0.2")).compile(threads=2, cache=False).predict(data[0])


def exit_code_of_child(work):
    """Of a forked process that does the work; one that hangs is killed after a minute."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons warn of any fork beside threads
        child = os.fork()
    if not child:
        try:
            work()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    killer = threading.Timer(60, os.kill, (child, 9))
    killer.start()
    status = os.waitpid(child, 0)[1]
    killer.cancel()
    return os.waitstatus_to_exitcode(status)
