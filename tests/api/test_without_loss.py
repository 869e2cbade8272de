"""Models that state no loss: they predict, they can be measured by their metrics, and they say why they can't train."""

import shutil
import subprocess

import numpy as np
import pytest

import tapeless
from tapeless.runtime.errors import UserError
from tapeless.runtime.image import Image

TEXT = "model Net:\n    input x: [batch, 3]\n    h = Dense(x, 2)\n    output h\n"
X = np.ones((4, 3), np.float32)


@pytest.fixture
def program(cache_folder):
    return tapeless.load(TEXT).compile(cache=cache_folder, seed=1)


def test_it_predicts_and_is_saved(program, tmp_path):
    before = program.predict(X)
    program.save(tmp_path / "w.safetensors")
    program.reset(2)
    assert not np.array_equal(program.predict(X), before)
    program.load(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(program.predict(X), before)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda p: p.fit(X), "the model Net has no loss, so it can't be trained"),
        (lambda p: p.gradients(X), "has no loss"),
        (lambda p: p.apply({}), "has no loss"),
        (lambda p: p.evaluate(X), "the model Net has no loss or metric, so it can't be evaluated"),
        (lambda p: tapeless.load(TEXT).inspect().stage("backward"), "has no loss"),
    ],
)
def test_what_needs_a_loss_says_so(program, call, message):
    with pytest.raises(UserError, match=message):
        call(program)


def test_metrics_are_measured(cache_folder):
    program = tapeless.load(TEXT + "    metric size = mean(h * h)\n").compile(cache=cache_folder)
    assert set(program.evaluate(X)) == {"size"}


def test_predicting_compiles_nothing_else(model, digits):
    program = model.compile(cache=False)
    program.predict(digits[0][:3])
    assert {group for group, _ in program._images} == {"start", "predict"}


def test_it_builds(tmp_path):
    paths = {path.suffix: path for path in tapeless.load(TEXT).build(tmp_path)}
    assert "net_predict" in paths[".h"].read_text() and "net_train_step" not in paths[".h"].read_text()
    if compiler := shutil.which("cc"):
        flags = ["-fsyntax-only", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-std=c99", "-x", "c"]
        subprocess.run([compiler, *flags, paths[".h"]], check=True)
    if ".so" in paths:
        built = tapeless.Program(lambda group, capacity: Image.from_library(paths[".so"]))
        assert built.predict(X).shape == (4, 2)
        with pytest.raises(UserError, match="built without `train_step`"):
            built.fit(X)


def test_a_model_without_parameters_has_an_empty_vector() -> None:
    program = tapeless.load("model Sum:\n    input x: [batch, 3]\n    loss mean(x)\n").compile(threads=1)
    assert program.vector().shape == (0,)
    program.set_vector([])
    loss, flat = program.value_and_grad([], [[1.0, 2.0, 3.0]])
    assert loss == 2 and flat.shape == (0,)


def test_parameters_larger_than_any_memory_are_a_message() -> None:
    program = tapeless.load(
        "model Vast:\n    input x: [batch]\n    param W: [1000000, 1000000] = 0\n    output y = x + W[0, 0]\n"
    ).compile(threads=1)
    with pytest.raises(tapeless.UserError, match=r"there is no memory for the [0-9,]+ bytes of the parameters"):
        program.predict([1.0])
