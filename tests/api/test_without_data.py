"""Models without data, outputs without rows, and predictions for no rows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tapeless

ALONE = """model Alone:
    param w: [2] = 1
    loss sum((w - [3, 4]) ** 2)
    metric first = w[0]
    output o = 2 * w
    output total = sum(w)

train Alone:
    optimizer Adam(lr = 0.1)
    epochs 200
"""
MIXED = """model Mixed:
    input  x: [batch, 2]
    target k: int[batch] < 3
    param w: [2] = 1
    z = Dense(x * w, 3)
    output z
    output label = argmax(z)
    output scale = w
    loss cross_entropy(z, k)
"""


def test_a_model_of_parameters_alone() -> None:
    program = tapeless.load(ALONE).compile(dtype="float64")
    np.testing.assert_allclose(program.gradients()["w"], [-4, -6])
    run = program.fit(progress=False)
    assert run.steps == 200 and run.curves["loss"][-1] < 1e-6
    np.testing.assert_allclose(program.predict()["o"], [6, 8], atol=1e-3)
    assert program.predict()["total"].shape == ()
    assert program.evaluate()["first"] == pytest.approx(3, abs=1e-3)
    loss, slope = program.value_and_grad(np.array([3.0, 3.0]))
    assert loss == 1 and slope.tolist() == [0, -2]


def test_outputs_without_rows_and_no_rows() -> None:
    program = tapeless.load(MIXED).compile(batch=4)
    program.parameters["w"][...] = [2, 3]
    found = program.predict(np.ones((9, 2)))
    assert found["scale"].tolist() == [2, 3] and found["z"].shape == (9, 3)
    for nothing in (np.zeros((0, 2)), []):
        found = program.predict(nothing)
        assert found["scale"].tolist() == [2, 3] and found["z"].shape == (0, 3) and found["label"].shape == (0,)
        assert found["label"].dtype == np.int32
    with pytest.raises(tapeless.DataError, match="no rows"):
        program.evaluate(np.zeros((0, 2)), [])


def test_the_command_line(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tapeless.commands.main", *arguments], capture_output=True, text=True, check=False
        )

    model, weights = tmp_path / "alone.tl", str(tmp_path / "w.safetensors")
    model.write_text(ALONE)
    done = run("train", str(model), "--out", weights)
    assert done.returncode == 0 and "200 steps" in done.stdout, done.stderr
    assert run("evaluate", str(model), "--weights", weights).returncode == 0
    done = run("predict", str(model), "--weights", weights)
    assert done.returncode == 2 and "`o` 2, `total` 1" in done.stderr
    other = tmp_path / "mixed.tl"
    other.write_text(MIXED)
    done = run("train", str(other))
    assert done.returncode == 2 and "Missing option '--data'" in done.stderr


def test_built_for_c(tmp_path: Path) -> None:
    for text in (ALONE, MIXED):
        assert any(path.suffix == ".h" for path in tapeless.load(text).build(tmp_path))
