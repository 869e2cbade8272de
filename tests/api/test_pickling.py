"""Copies and pickles of programs, models and estimators: they mean the same elsewhere, whatever becomes of the
files.
"""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tapeless
from tapeless.runtime import pickles

LAYERS = "layer Hidden(x[n, d], units):\n    param W: [d, units] ~ glorot_uniform\n    return tanh(x @ W)\n"
TEXT = """
import "layers.tl"

model Net(units = 6, t = 3):
    input  x: [batch, 5]
    target y: int[batch] < 3
    h      = dropout(Hidden(x, units), 0.2)
    logits = Dense(h, 3)
    output p = softmax(logits)
    loss   cross_entropy(logits, y)

train Net:
    optimizer Adam(lr = 0.01)
    epochs 4
    batch 16
    validation 0.2
    stop_early patience = 3
"""
RUNNING = "model Running(t = 4):\n    input x: [batch, t, 3]\n    output y = RNN(x, 5)\n"


@pytest.fixture
def file(tmp_path) -> Path:
    (tmp_path / "layers.tl").write_text(LAYERS)
    (tmp_path / "net.tl").write_text(TEXT)
    return tmp_path / "net.tl"


@pytest.fixture
def data():
    rng = np.random.default_rng(3)
    return rng.normal(size=(120, 5)).astype(np.float32), rng.integers(0, 3, 120)


def pickled(thing):
    return pickle.loads(pickle.dumps(thing))


COPIES = {"pickle": pickled, "deepcopy": copy.deepcopy, "copy": copy.copy}


@pytest.mark.parametrize("made", COPIES.values(), ids=COPIES)
def test_a_copy_in_the_midst_of_a_run_goes_on_to_the_same_bytes(file, data, tmp_path, cache_folder, made):
    def program():
        return tapeless.load(file).compile(seed=4, cache=cache_folder)

    program().fit(*data, save=tmp_path / "whole.safetensors")
    stopped = program()
    stopped.fit(*data, max_steps=9)
    other = made(stopped)
    assert other.run.steps == 9 and other.run.program is other
    other.fit(*data, resume=True, save=tmp_path / "other.safetensors")
    assert (tmp_path / "other.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    stopped.fit(*data, resume=True, save=tmp_path / "stopped.safetensors")  # and the copy has changed nothing here
    assert (tmp_path / "stopped.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


@pytest.mark.parametrize("made", COPIES.values(), ids=COPIES)
def test_a_copy_of_what_was_never_used_starts_from_the_seed(file, data, cache_folder, made):
    program = tapeless.load(file, units=4).compile(seed=4, batch=8, threads=1, cache=cache_folder)
    other = made(made(program))
    assert (other.batch, other.threads) == (8, 1)
    np.testing.assert_array_equal(other.vector(), program.vector())
    again = made(program)
    again.reset(5)
    assert not np.array_equal(again.vector(), program.vector())


def test_weights_set_by_hand_are_kept_through_two_pickles(file, cache_folder):
    program = tapeless.load(file).compile(cache=cache_folder)
    program.parameters["logits.b"][...] = 7
    program.hyper["Adam.lr"][...] = 0.5
    other = pickled(pickled(program))
    np.testing.assert_array_equal(other.parameters["logits.b"], np.full(3, 7))
    assert other.hyper["Adam.lr"] == np.float32(0.5)


def test_a_pickle_means_the_same_when_the_files_are_gone(file, data, tmp_path):
    program = tapeless.load(file).compile(cache=False)
    program.fit(*data, epochs=1)
    model = pickled(tapeless.load(file, units=2))
    content = pickle.dumps(program)
    file.unlink()
    (tmp_path / "layers.tl").write_text(LAYERS.replace("tanh", "sin"))
    other = pickle.loads(content)
    np.testing.assert_array_equal(other.predict(data[0]), program.predict(data[0]))
    assert model.compile(cache=False).parameters["h.hidden.W"].shape == (5, 2)


def test_a_pickle_is_read_by_a_fresh_process(file, data, tmp_path):
    program = tapeless.load(file).compile(cache=tmp_path / "cache")
    program.fit(*data, epochs=1)
    (tmp_path / "p").write_bytes(pickle.dumps(program))
    np.save(tmp_path / "x.npy", data[0])
    code = (
        "import pickle, sys, numpy; p = pickle.load(open('p', 'rb')); numpy.save('y.npy', "
        "p.predict(numpy.load('x.npy')))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), program.predict(data[0]))


def test_a_carry_goes_on_from_a_pickle():
    program = tapeless.load(RUNNING).compile(cache=False)
    x = np.random.default_rng(0).normal(size=(2, 2, 3)).astype(np.float32)
    _, carry = program.step(x[0])
    expected, _ = program.step(x[1], carry)
    for made in (pickled, copy.deepcopy):
        other = made(carry)
        assert other.memory.ctypes.data % 64 == 0 and other.position == 1
        np.testing.assert_array_equal(program.step(x[1], other)[0], expected)


@pytest.mark.parametrize("what", ("program", "model", "estimator"))
def test_a_pickle_of_another_version_is_a_message(file, monkeypatch, what):
    if what == "estimator":
        pytest.importorskip("sklearn")
        from tapeless.sklearn import Classifier

        thing = Classifier(str(file))
    else:
        thing = tapeless.load(file)
        thing = thing.compile(cache=False) if what == "program" else thing
    content = pickle.dumps(thing)
    monkeypatch.setattr(pickles, "version", lambda: "9.9")
    with pytest.raises(tapeless.UserError, match=r"written by tapeless .*, and this is 9.9.*`program.save"):
        pickle.loads(content)


def test_faults_come_back_from_worker_processes(file, data):
    stopped = tapeless.TrainingStopped("the loss is not finite", 7)
    assert str(pickled(stopped)) == str(stopped) and pickled(stopped).step == 7
    for text, kind in (("model M:\n    output y = z\n", tapeless.UserError), ("model M(:\n", tapeless.UserError)):
        with pytest.raises(kind) as caught:
            tapeless.load(text).compile(cache=False).vector()
        again = pickled(caught.value)
        assert type(again) is type(caught.value) and str(again) == str(caught.value)


class TestEstimators:
    """They keep their model's texts, and their clones do."""

    @pytest.fixture
    def make(self, file, cache_folder):
        pytest.importorskip("sklearn")
        from tapeless.sklearn import Classifier

        return lambda: Classifier(str(file), epochs=2, cache=cache_folder)

    @staticmethod
    def spoil(file):
        file.unlink()
        (file.parent / "layers.tl").write_text("nonsense\n")

    def test_fitted(self, make, file, data):
        estimator = make().fit(*data)
        content, expected = pickle.dumps(estimator), estimator.predict_proba(data[0])
        self.spoil(file)
        for other in (pickle.loads(content), pickled(pickle.loads(content)), copy.deepcopy(estimator)):
            np.testing.assert_array_equal(other.predict_proba(data[0]), expected)
            np.testing.assert_array_equal(other.fit(*data).predict_proba(data[0]), expected)

    def test_not_fitted_and_its_clones(self, make, file, data):
        from sklearn.base import clone

        expected, content = make().fit(*data).predict_proba(data[0]), pickle.dumps(make())
        self.spoil(file)
        other = clone(clone(pickle.loads(content)))
        np.testing.assert_array_equal(other.fit(*data).predict_proba(data[0]), expected)

    def test_another_model_is_read_from_its_file(self, make, file, data):
        other = pickled(make())
        (file.parent / "other.tl").write_text(TEXT.replace("0.2)", "0.9)"))
        other.set_params(model=str(file.parent / "other.tl")).fit(*data)
        assert not np.array_equal(other.predict_proba(data[0]), make().fit(*data).predict_proba(data[0]))

    @pytest.mark.parametrize("backend", ("threading", pytest.param("loky", marks=pytest.mark.slow)))
    def test_cross_validation_in_threads_and_processes(self, make, data, backend):
        joblib = pytest.importorskip("joblib")
        from sklearn.model_selection import cross_val_score

        alone = cross_val_score(make(), *data, cv=3)
        with joblib.parallel_backend(backend, n_jobs=2):
            np.testing.assert_array_equal(cross_val_score(make(), *data, cv=3), alone)
