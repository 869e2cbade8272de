"""Quantiles, the scaled error function and Bessel functions against mpmath: values, and slopes of slopes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tapeless
from tapeless.ir.graph import Builder
from tapeless.ir.interpreter import run
from tapeless.ir.types import DType, Tensor

from .kernels import kernel, run_compiled

mpmath = pytest.importorskip("mpmath")
KINDS = pytest.mark.parametrize("dtype", (DType.F32, DType.F64), ids=str)


def quantile(q: Any) -> Any:
    """The number that a standard normal one is above with the probability q < 1/2, by Newton's steps on the
    logarithm of the tail.
    """
    x = mpmath.sqrt(-2 * mpmath.log(q)) if q < 0.1 else mpmath.mpf("0.5")
    for _ in range(60):
        tail = mpmath.erfc(x / mpmath.sqrt(2)) / 2
        step = (mpmath.log(tail) - mpmath.log(q)) * tail * mpmath.sqrt(2 * mpmath.pi) * mpmath.exp(x * x / 2)
        x += step
        if abs(step) < mpmath.mpf(10) ** -40:
            return x
    raise AssertionError(q)


def ndtri(p: Any) -> Any:
    return -quantile(p) if p < 0.5 else quantile(1 - p) if p > 0.5 else mpmath.mpf(0)


def erfinv(y: Any) -> Any:
    size = abs(y)
    return mpmath.sign(y) * (
        quantile((1 - size) / 2) / mpmath.sqrt(2) if size > 1e-20 else size * mpmath.sqrt(mpmath.pi) / 2
    )


def erfcx(x: Any) -> Any:
    with mpmath.workdps(80):
        return (
            mpmath.exp(x**2) * mpmath.erfc(x)
            if x < 1e4
            else (1 - 1 / (2 * x**2) + 3 / (4 * x**4)) / (x * mpmath.sqrt(mpmath.pi))
        )


def bessel(order: int) -> Callable[[Any], Any]:
    return lambda x: mpmath.besseli(order, x)


RNG = np.random.default_rng(0)
TAILS = 10.0 ** np.concatenate([RNG.uniform(-35, -1, 60), RNG.uniform(-7, -1, 60)])
FUNCTIONS: dict[str, tuple[str, dict[str, int], Callable[[Any], Any], np.ndarray]] = {
    "erfcx": (
        "erfcx",
        {"order": 0},
        erfcx,
        np.concatenate([RNG.uniform(-9, 30, 150), 10.0 ** RNG.uniform(-10, 30, 50), [0, 0.46875, 4, 2]]),
    ),
    "i0": (
        "bessel_i",
        {"order": 0},
        bessel(0),
        np.concatenate([RNG.uniform(-30, 30, 150), RNG.uniform(-85, 85, 50), 10.0 ** RNG.uniform(-10, 0, 30), [0, 12]]),
    ),
    "i1": (
        "bessel_i",
        {"order": 1},
        bessel(1),
        np.concatenate([RNG.uniform(-30, 30, 150), RNG.uniform(-85, 85, 50), 10.0 ** RNG.uniform(-10, 0, 30), [12]]),
    ),
    "ndtri": (
        "ndtri",
        {},
        ndtri,
        np.concatenate([RNG.uniform(0, 1, 100), TAILS, 1 - TAILS[60:], 0.5 + TAILS[60:] / 4, [0.25, 0.75]]),
    ),
    "erfinv": ("erfinv", {}, erfinv, np.concatenate([RNG.uniform(-1, 1, 100), TAILS, -1 + TAILS[60:], [0.5, -0.5]])),
}
EDGES = {
    "erfcx": {-np.inf: np.inf, -30.0: np.inf, np.inf: 0.0, np.nan: np.nan},
    "i0": {-np.inf: np.inf, np.inf: np.inf, 1000.0: np.inf, np.nan: np.nan},
    "i1": {-np.inf: -np.inf, np.inf: np.inf, 0.0: 0.0, -1000.0: -np.inf, np.nan: np.nan},
    "ndtri": {0.0: -np.inf, 1.0: np.inf, 0.5: 0.0, -0.1: np.nan, 1.1: np.nan, np.nan: np.nan},
    "erfinv": {-1.0: -np.inf, 1.0: np.inf, 0.0: 0.0, 1.1: np.nan, -1.1: np.nan, np.nan: np.nan},
}


@KINDS
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values(name: str, dtype: DType) -> None:
    op, attrs, function, points = FUNCTIONS[name]
    x = np.concatenate([points, list(EDGES[name])]).astype(dtype.numpy)

    def build(b: Builder) -> None:
        b.output("z", b.emit(op, b.input("x", Tensor(dtype, x.shape), "operand"), **attrs), "result")

    node = kernel("nest", build, dtype=dtype)
    with mpmath.workdps(50):
        wanted = np.array([float(function(mpmath.mpf(float(value)))) for value in x[: points.size]])
    eps = np.finfo(dtype.numpy).eps
    for made, most in ((run_compiled(node, {"x": x}, 1)["z"], 4), (run(node.regions[0], {"x": x}, rows=1)["z"], 8)):
        np.testing.assert_allclose(made[: points.size], wanted, rtol=most * eps)
        np.testing.assert_array_equal(made[points.size :], np.array(list(EDGES[name].values()), dtype.numpy))


@KINDS
@pytest.mark.parametrize("name", FUNCTIONS)
def test_slopes_and_their_slopes(name: str, dtype: DType) -> None:
    function = FUNCTIONS[name][2]
    inside = {
        "ndtri": [1e-12 if dtype is DType.F32 else 1e-30, 1e-5, 0.1, 0.3, 0.5 + 1e-6, 0.8, 0.999],
        "erfinv": [-0.999, -0.3, 1e-6, 0.1, 0.5, 0.9, 0.9999],
    }
    x = np.array(inside.get(name, [-3, -1e-6, 1e-6, 0.1, 1, 1.99, 2.01, 7, 11, 13, 40, 80])).astype(dtype.numpy)
    text = f"""
model M:
    input x: [batch]
    first = grad({name}(x), x)
    output a = first
    output b = grad(first, x)
    param w = 1.0
    loss w ** 2
"""
    made: Any = (
        tapeless.load(text)
        .compile(batch=16, dtype={DType.F32: "float32", DType.F64: "float64"}[dtype])
        .predict({"x": x})
    )
    root = mpmath.sqrt(2 * mpmath.pi)
    with mpmath.workdps(60):
        points = [mpmath.mpf(float(value)) for value in x]
        values = [function(point) for point in points]
        if name == "ndtri":
            first = [root * mpmath.exp(z**2 / 2) for z in values]
            second = [z * slope**2 for z, slope in zip(values, first, strict=True)]
        elif name == "erfinv":
            first = [mpmath.sqrt(mpmath.pi) / 2 * mpmath.exp(z**2) for z in values]
            second = [2 * z * slope**2 for z, slope in zip(values, first, strict=True)]
        else:
            first, second = (
                [mpmath.diff(function, point, n, h=mpmath.mpf(10) ** -15) for point in points] for n in (1, 2)
            )
    tolerance = 2e-6 if dtype is DType.F32 else 3e-14
    np.testing.assert_allclose(made["a"], [float(value) for value in first], rtol=tolerance)
    np.testing.assert_allclose(made["b"], [float(value) for value in second], rtol=2 * tolerance)


def test_a_slope_that_is_infinite_leaves_zeros_alone() -> None:
    text = (
        "model M:\n    input x: [batch]\n    output a = grad(where(abs(x) < 1, erfinv(x), 0), x)\n    output b = "
        "grad(ndtri(x), x)\n    param w = 1.0\n    loss w ** 2\n"
    )
    made: Any = tapeless.load(text).compile(batch=4).predict({"x": np.array([1, 0, 0.5], np.float32)})
    np.testing.assert_allclose(made["a"], [0, 0.8862269, 1.112585], rtol=1e-6)
    np.testing.assert_allclose(made["b"], [np.inf, np.inf, 2.5066283], rtol=1e-6)
