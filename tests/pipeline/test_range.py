"""Sums of squares and of powers whose result is a number though a square, or all of them, is beyond the range; and
their slopes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tapeless
from tapeless.compiler.messages.diagnostics import ProgramErrors
from tapeless.compiler.model import load

FAR = {"float32": (1e25, 1e-25, 1.5e38, 1e-37), "float64": (1e200, 1e-200, 8e307, 1e-306)}
DTYPES = pytest.mark.parametrize("dtype", FAR)
R = 0.5**0.5
# By what a vector (a, b) of two large, two small and mixed numbers has: value and slope, of the vector divided by its
# scale.
LENGTHS = {
    "hypot(x[:, 0], x[:, 1])": 2,
    "sqrt(x[:, 0] ** 2 + x[:, 1] ** 2)": 2,
    "norm(x, axis = 1)": 2,
    "sqrt(sum(x ** 2, axis = 1))": 2,
    "norm(x, 3, axis = 1)": 3,
    "norm(x, 1.5, axis = 1)": 1.5,
    "norm(x, 0.5, axis = 1)": 0.5,
    "norm(x, -2, axis = 1)": -2,
}


def predicted(outputs: list[str], x: np.ndarray, dtype: str) -> list[np.ndarray]:
    lines = "".join(f"    output o{k} = {expression}\n" for k, expression in enumerate(outputs))
    text = f"model M:\n    input x: [batch, {x.shape[1]}]\n    param w = 1.0\n{lines}    loss w ** 2\n"
    made: Any = tapeless.load(text).compile(batch=8, dtype=dtype).predict({"x": x.astype(dtype)})
    return [made[f"o{k}"] for k in range(len(outputs))]


@DTYPES
def test_lengths_and_their_slopes(dtype: str) -> None:
    large, small, *_ = FAR[dtype]
    ratios = np.array([[1, 1], [-1, 1], [3, -4], [0.5, 0.25]])
    x = np.concatenate([large * ratios, small * ratios, ratios]).astype(dtype)
    scale = np.abs(x).max(1, keepdims=True).astype(np.float64)
    unit = x / scale
    made = predicted([*LENGTHS, *(f"grad({expression}, x)" for expression in LENGTHS)], x, dtype)
    tolerance = 2e-6 if dtype == "float32" else 1e-14
    for k, (expression, p) in enumerate(LENGTHS.items()):
        length = (np.abs(unit) ** p).sum(1) ** (1 / p)
        slope = np.sign(unit) * (np.abs(unit) / length[:, None]) ** (p - 1)
        np.testing.assert_allclose(made[k] / scale[:, 0], length, rtol=tolerance, err_msg=expression)
        np.testing.assert_allclose(made[k + len(LENGTHS)], slope, rtol=tolerance, err_msg=expression)


@DTYPES
def test_at_the_origin_and_at_zeros(dtype: str) -> None:
    x = np.array([[0, 0], [0, -2], [5, 0]])
    orders = [*LENGTHS, "norm(x, -inf, axis = 1)", "norm(x, inf, axis = 1)"]
    made = predicted([*orders, *(f"grad({expression}, x)" for expression in orders)], x, dtype)
    for k, expression in enumerate(orders):
        length, slope = made[k], made[k + len(orders)]
        negative = "-2" in expression or "-inf" in expression
        np.testing.assert_allclose(length, [0, 0, 0] if negative else [0, 2, 5], rtol=1e-6, err_msg=expression)
        assert np.isfinite(slope).all(), expression
        if not negative:
            np.testing.assert_allclose(slope, [[0, 0], [0, -1], [1, 0]], rtol=1e-6, err_msg=expression)


@DTYPES
def test_what_is_made_of_lengths(dtype: str) -> None:
    large, small, most, least = FAR[dtype]
    x = np.array([[large, large, 0], [-large, large, large], [small, -small, 0], [most, most / 2, 0], [least, 0, 0]])
    expressions = ["std(x, axis = 1)", "cosine_similarity(x, x)", "x / norm(x, axis = 1, keepdims = true)",
        "sqrt(x[:, 0] ** 2 + 1)",
                   "grad(sqrt(x[:, 0] ** 2 + 1), x)", "grad(norm(x, axis = 1), x)"]  # fmt: skip
    deviation, cosine, unit, root, slope, unit_again = predicted(expressions, x, dtype)
    scale = np.abs(x).max(1)
    wanted = x / scale[:, None] / np.sqrt(((x / scale[:, None]) ** 2).sum(1, keepdims=True))
    np.testing.assert_allclose(deviation / scale, (x / scale[:, None]).std(1), rtol=1e-5)
    np.testing.assert_allclose(cosine[[0, 1, 3]], 1, rtol=1e-6)
    np.testing.assert_allclose(unit, wanted, rtol=1e-6)
    np.testing.assert_allclose(unit_again[[0, 1, 2, 4]], wanted[[0, 1, 2, 4]], rtol=1e-6)
    np.testing.assert_allclose(root, np.hypot(x[:, 0], 1), rtol=1e-6)
    np.testing.assert_allclose(slope[:, 0], x[:, 0] / np.hypot(x[:, 0], 1), rtol=1e-6)


@DTYPES
@pytest.mark.parametrize("size", [0, 1, 2])
def test_clipping_scales_first(dtype: str, size: int) -> None:
    """A gradient whose squares overflow is scaled to the bound, and one whose squares vanish is left alone, or
    scaled as well.
    """
    scale, bound = ((FAR[dtype][0], 0.5), (FAR[dtype][1], 0.5), (FAR[dtype][1], FAR[dtype][1]))[size]
    text = f"""
model M:
    input x: [batch, 1]
    param a: [2] = 0
    param b = 0
    loss mean(x) * (3 * a[0] - 4 * a[1] + 12 * b)

train M:
    optimizer SGD(lr = 1)
    clip_norm {bound}
    epochs 1
    batch 2
"""
    program = tapeless.load(text).compile(batch=2, dtype=dtype)
    program.fit({"x": np.full((2, 1), scale, dtype)}, progress=False)
    moved = np.array([*program.parameters["a"][...], program.parameters["b"][...]], np.float64)
    gradient = np.array([3, -4, 12]) / 13
    np.testing.assert_allclose(moved, -gradient * min(bound, 13 * scale), rtol=1e-6)


def test_the_order_of_a_norm_is_not_zero() -> None:
    with pytest.raises(ProgramErrors, match="count_nonzero"):
        load("model M:\n    input x: [batch, 3]\n    output y = norm(x, 0, axis = 1)\n", "model.tl")
