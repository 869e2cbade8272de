"""Cholesky's factor and triangular systems of stacks of matrices, as NumPy has them matrix by matrix; their
gradients by differences.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tapeless
from tapeless.compiler.messages.diagnostics import ProgramErrors
from tapeless.compiler.model import load

RNG = np.random.default_rng(0)
ROWS, STACK, SIZE = 5, 3, 6
X = RNG.normal(size=(ROWS, STACK, SIZE, SIZE))
B = RNG.normal(size=(ROWS, STACK, SIZE, 9))
V = RNG.normal(size=(ROWS, STACK, SIZE))
TEXT = f"""
model M:
    input x: [batch, {STACK}, {SIZE}, {SIZE}]
    input b: [batch, {STACK}, {SIZE}, 9]
    input v: [batch, {STACK}, {SIZE}]
    a = x @ transpose(x, [0, 1, 3, 2]) + eye({SIZE})
    one = tril(x[:, 0]) + 3 * eye({SIZE})
"""


def test_values() -> None:
    text = (
        TEXT
        + """
    output factor = cholesky(a)
    output lower = solve_triangular(cholesky(a), b)
    output upper = solve_triangular(cholesky(a), b, transposed = true)
    output single = solve_triangular(cholesky(a), v)
    output spd = solve_spd(a, b)
    output logdet = logdet_spd(a)
    output shared = solve_triangular(expand_dims(one, 1), b)
    output table = solve_triangular(eye(6) * 2 + tril(ones([6, 6]), -1), b)
    param w = 1.0
    loss w ** 2
"""
    )
    for dtype, tolerance in (("float64", 1e-9), ("float32", 2e-2)):
        made: Any = (
            tapeless.load(text)
            .compile(batch=4, dtype=dtype)
            .predict({"x": X.astype(dtype), "b": B.astype(dtype), "v": V.astype(dtype)})
        )
        a = X @ X.swapaxes(-1, -2) + np.eye(SIZE)
        factor = np.linalg.cholesky(a)
        table = np.eye(SIZE) * 2 + np.tril(np.ones((SIZE, SIZE)), -1)
        lead = np.tril(X[:, :1]) + 3 * np.eye(SIZE)
        wanted = {
            "factor": factor,
            "lower": np.linalg.solve(factor, B),
            "upper": np.linalg.solve(factor.swapaxes(-1, -2), B),
            "single": np.linalg.solve(factor, V[..., None])[..., 0],
            "spd": np.linalg.solve(a, B),
            "logdet": np.linalg.slogdet(a)[1],
            "shared": np.linalg.solve(np.broadcast_to(lead, X.shape), B),
            "table": np.linalg.solve(np.broadcast_to(table, X.shape), B),
        }
        for name, value in wanted.items():
            np.testing.assert_allclose(
                made[name], value, rtol=tolerance, atol=tolerance * np.abs(value).max(), err_msg=name
            )


def test_gradients() -> None:
    """Along a direction, against central differences."""
    text = TEXT.replace("input x", "input y: [batch]\n    param shift = 0\n    input x").replace(
        "a = x @", "z = x + shift * b[:, :, :, :6]\n    a = z @"
    )
    text = text.replace("transpose(x", "transpose(z") + (
        "    loss sum(solve_triangular(cholesky(a), v) ** 2) + sum(logdet_spd(a)) + sum(solve_spd(a, b) * "
        "sin(b)) + 0 * sum(y)\n"
    )
    program = tapeless.load(text).compile(batch=ROWS, dtype="float64")
    data = {"x": X, "b": B, "v": V, "y": np.zeros(ROWS)}
    slope = float(program.gradients(data)["shift"])
    ends = []
    for moved in (1e-5, -1e-5):
        program.parameters["shift"][...] = moved
        ends.append(program.evaluate(data)["loss"])
    assert slope == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)


@pytest.mark.parametrize(
    "call", ["cholesky(x[:, :, :5])", "cholesky(v)", "solve_triangular(x, v[:, :2])", "solve_triangular(x, b[:, :2])"]
)
def test_what_does_not_fit(call: str) -> None:
    with pytest.raises(ProgramErrors):
        load(TEXT + f"    output r = {call}\n", "model.tl")
