"""The runtime by itself, on a program written by hand in C with the same interface as compiled ones (line.c)."""

import os
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from tapeless.runtime.errors import CheckpointError, DataError, TrainingStopped, UserError
from tapeless.runtime.image import Image, pack, unpack
from tapeless.runtime.program import Program

HERE = Path(__file__).parent
COMPILER = shutil.which("cc")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")

X = np.linspace(-1, 1, 22, dtype=np.float32)
T = 3 * X - 1


@pytest.fixture(scope="session")
def image(tmp_path_factory):
    folder = tmp_path_factory.mktemp("line")
    shutil.copy(HERE / "line.json", folder)
    library = folder / "line.so"
    subprocess.run([COMPILER, "-O1", "-shared", "-fPIC", "-o", library, HERE / "line.c", "-lm"], check=True)
    return Image.from_library(library)


@pytest.fixture
def program(image):
    return Program(lambda group, capacity: image, seed=3)


def test_training_finds_the_line(program):
    run = program.fit(X, T)
    assert run.epochs == 60 and run.steps == 60 * 6
    assert run.curves["loss"][-1] < 1e-6 < run.curves["loss"][0]
    assert program.state["step"] == 360 and program.state["steps"] == 360 and program.state["epoch"] == 60
    assert program.parameters["w"] == pytest.approx(3, abs=1e-3)


def test_one_seed_gives_one_result_and_another_another(image):
    def weights(seed):
        program = Program(lambda group, capacity: image, seed=seed)
        program.fit(X, T, epochs=2)
        return program.parameters["w"].tobytes()

    assert weights(1) == weights(1) != weights(2)


def test_predictions_for_any_rows_and_threads(program):
    program.parameters["w"][...] = 2
    program.parameters["b"][...] = 1
    for rows in (1, 3, 4, 5, 22):
        for threads in (1, 2, 3, 4, None):
            program.threads = threads
            np.testing.assert_array_equal(program.predict(X[:rows]), 2 * X[:rows] + 1)


def test_evaluate_weighs_batches_by_their_rows(program):
    program.parameters["w"][...] = 0
    assert program.evaluate(X, T)["loss"] == pytest.approx(float(np.mean(T.astype(np.float64) ** 2)), rel=1e-6)


def test_gradient_of_a_flat_vector(program):
    vector = np.array([0.5, 0.25])
    loss, gradient = program.value_and_grad(vector, X[:4], T[:4])
    error = 0.5 * X[:4] + 0.25 - T[:4]
    assert loss == pytest.approx(np.mean(error**2), rel=1e-6)
    np.testing.assert_allclose(gradient, [2 * np.mean(error * X[:4]), 2 * np.mean(error)], rtol=1e-5)
    np.testing.assert_array_equal(program.vector(), vector)


def test_a_validation_split_is_a_seeded_fifth(program):
    run = program.fit(X, T, epochs=3, validation=0.2)
    assert set(run.curves) == {"loss", "validation_loss"}
    assert program.state["step"] == 3 * 5  # 18 of 22 rows in batches of 4


def test_early_stopping_keeps_the_best_weights(program):
    seen = []
    run = program.fit(X, T, patience=2, monitor="loss", rising=True, on_epoch=lambda run: seen.append(run.epochs))
    assert run.epochs == 3 and run.best_epoch == 1 and seen == [1, 2, 3]
    assert run.last["loss"] == run.curves["loss"][0]


def test_a_loss_that_is_not_finite_stops_before_the_update(program):
    program.fit(X, T, epochs=1)
    before = program.vector()
    program.parameters["w"][...] = np.inf
    with pytest.raises(TrainingStopped, match=r"\(line 3\) is not finite at step 7, in epoch 1") as caught:
        program.fit(X, T, epochs=1)
    assert caught.value.step == 7
    assert program.vector()[0] == np.inf and program.vector()[1] == before[1]


def test_a_saved_program_continues_where_it_was(program, image, tmp_path):
    program.fit(X, T, epochs=2)
    path = tmp_path / "line.safetensors"
    program.save(path)
    other = Program(lambda group, capacity: image, seed=9)
    other.load(path)
    for name, value in program.state.items():
        np.testing.assert_array_equal(other.state[name], value)
    program.fit(X, T, epochs=2)
    other.fit(X, T, epochs=2)
    assert program.vector().tobytes() == other.vector().tobytes()
    assert [entry.name for entry in tmp_path.iterdir()] == ["line.safetensors"]


def test_weights_of_another_program_are_refused(program, tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "other.safetensors"
    save_file({"w": np.zeros(3, np.float32)}, path)
    before = program.vector()
    with pytest.raises(CheckpointError, match=r"`w` is \[3\] there and \[\] here; `b` is missing"):
        program.load(path)
    np.testing.assert_array_equal(program.vector(), before)
    path.write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="can't be read as safetensors"):
        program.load(path)
    with pytest.raises(CheckpointError, match="there is no file"):
        program.load(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="can't be written"):
        program.save(tmp_path / "none" / "w.safetensors")


def test_interrupting_ends_cleanly(program):
    def stop(run):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        program.fit(X, T, on_epoch=stop)
    assert program.run.interrupted and program.run.epochs == 1 and program.run.saved is None
    assert program.fit(X, T, resume=True).epochs == 60


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.fit(X, T[:5]), "`x` has 22, `t` has 5"),
        (lambda p: p.fit(X), "the target `t: .batch.` is missing"),
        (lambda p: p.fit(X[:1], T[:1], validation=0.2), "too few"),
        (lambda p: p.fit(X, T, patience=1, monitor="accuracy"), "the program measures loss"),
        (lambda p: p.set_vector(np.zeros(5)), "a vector of 2 numbers"),
    ],
)
def test_wrong_calls(program, call, message):
    with pytest.raises(UserError, match=message):
        call(program)
    assert issubclass(DataError, UserError)


def test_an_image_is_a_run_of_bytes():
    assert unpack(pack({"a": [1]}, b"\x00code")) == ({"a": [1]}, b"\x00code")
    with pytest.raises(ValueError, match="not an image"):
        unpack(b"something else")


def test_two_python_threads_train_at_once(image):
    """They share the team of native threads, which would wait for ever at a barrier if both had a part of it."""
    code = f"""
import threading
import numpy as np
from tapeless.runtime.image import Image
from tapeless.runtime.program import Program
image = Image.from_library({image._keep_alive._name!r})
x = np.linspace(-1, 1, 22, dtype=np.float32)
programs = [Program(lambda group, capacity: image, seed=k, threads=2) for k in range(2)]
threads = [threading.Thread(target=lambda p=p: [p.predict(x) for _ in range(2000)]) for p in programs]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_has_threads_of_its_own(image):
    program = Program(lambda group, capacity: image, seed=3, threads=2)
    program.predict(X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons warn of any fork beside threads
        child = os.fork()
    if not child:
        program.predict(X)
        os._exit(0)
    for _ in range(600):
        if os.waitpid(child, os.WNOHANG)[0]:
            return
        time.sleep(0.05)
    os.kill(child, 9)
    os.waitpid(child, 0)
    pytest.fail("the child hangs")
