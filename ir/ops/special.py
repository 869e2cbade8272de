"""Quantiles, the scaled error function and Bessel functions: families that their derivatives stay in.

erfcx{order} is e**(x**2) times the repeated integral i^n erfc(x): order 0 is erfcx itself, and the derivative of
order n is -2 (n + 1) times that of order n + 1, which never cancels (DLMF 7.18). bessel_i{order} is the modified
Bessel function I_n, whose derivative is (I_{n-1} + I_{n+1}) / 2 (DLMF 10.29). A quantile's slope is one over the
density there: near the middle in terms of the quantile, far out by Mills's ratio in terms of the probability, as a
quantile's rounding counts times its square.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from tapeless.ir.ops.registry import Array, Gradients, Operation, Run, Sample, declare, expect, expect_count
from tapeless.ir.range_analysis import weighed
from tapeless.ir.types import DType, Tensor

if TYPE_CHECKING:
    from tapeless.ir.graph import Builder, Graph, Node, Value

_F = Tensor(DType.F64, (3, 4))
_ROOT_PI, _ROOT_2 = math.sqrt(math.pi), math.sqrt(2)
_FRACTION_FROM, _FRACTION = 2.0, 90  # from here on so many terms of the continued fraction are exact
_SERIES_TO, _SERIES = 12.0, 40


def _rule(name: str) -> Any:
    def rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
        expect_count(name, operands, 1)
        expect(operands[0].dtype.is_float, f"`{name}` does not take {operands[0]}")
        expect(attrs.get("order", 0) in range(21), f"`{name}` has the orders 0 to 20, not {attrs.get('order')}")
        return (operands[0],)

    return rule


def _each(function: Callable[[float], float]) -> Callable[[Array], Array]:
    return lambda x: np.asarray([function(float(value)) for value in np.ravel(x)], np.float64).reshape(np.shape(x))


def _declare(
    name: str,
    derivative: Any,
    reference: Any,
    samples: tuple[Sample, ...],
    flops: float,
    instructions: int,
    attributes: tuple[str, ...] = (),
) -> None:
    declare(
        Operation(
            name, "pointwise", _rule(name), derivative, reference, samples, flops, attributes, instructions=instructions
        )
    )


# --- erfcx


def _fraction(x: float, order: int) -> float:
    """By the ratios r_n of neighbouring orders, r_n = 1 / (2 x + 2 (n + 1) r_{n+1})."""
    ratio, made = 0.0, 2 / _ROOT_PI
    for k in range(_FRACTION + order, -1, -1):
        ratio = 1 / (2 * x + 2 * (k + 1) * ratio)
        if k <= order:
            made *= ratio
    return made


def erfcx(x: float, order: int) -> float:
    """e**(x**2) i^n erfc(x), of one number."""
    if math.isnan(x) or x >= _FRACTION_FROM:
        return x if math.isnan(x) else _fraction(x, order)
    before = 2 / _ROOT_PI
    # of the square, which an exponential magnifies
    lost = float(Fraction(x) ** 2 - Fraction(x * x)) if x > -26.7 else 0.0
    now = math.inf if x < -26.7 else math.exp(x * x) * (1 + lost) * math.erfc(x)
    for n in range(order):
        before, now = now, (before - 2 * x * now) / (2 * (n + 1))
    return now


def _erfcx_reference(run: Run, operands: Sequence[Array]) -> Array:
    order = run.attrs["order"]
    return _each(lambda x: erfcx(x, order))(operands[0]).astype(run.dtype)


def _erfcx_derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    (x,), order = node.operands, node.attrs["order"]
    slope = builder.emit("mul", builder.emit("erfcx", x, order=order + 1), builder.full(-2.0 * (order + 1), x))
    return (weighed(builder, adjoint, slope),)


_declare(
    "erfcx",
    _erfcx_derivative,
    _erfcx_reference,
    tuple(Sample((_F,), {"order": order}, low=-2.0, high=6.0) for order in (0, 1, 2)),
    60,
    400,
    ("order",),
)

# --- Bessel functions


def bessel_i(x: float, order: int) -> float:
    """I_n(x), of one number: its power series, whose terms have one sign, as long as that is short; else its
    asymptotic one.
    """
    size = abs(x)
    sign = -1.0 if x < 0 and order % 2 else 1.0
    if math.isnan(x) or math.isinf(x):
        return x if math.isnan(x) else sign * math.inf
    if size <= 2 * _SERIES_TO:
        term = total = (size / 2) ** order / math.factorial(order)
        for k in range(1, 2 * _SERIES):
            term *= size * size / 4 / (k * (k + order))
            total += term
        return sign * total
    term = total = 1.0
    for k in range(1, 30):
        term *= -(4 * order * order - (2 * k - 1) ** 2) / (8 * size * k)
        if abs(term) < 1e-18 * abs(total):
            break
        total += term
    half = math.exp(min(size, 1400.0) / 2)
    return sign * half / math.sqrt(2 * math.pi * size) * total * half


def _bessel_reference(run: Run, operands: Sequence[Array]) -> Array:
    order = run.attrs["order"]
    return _each(lambda x: bessel_i(x, order))(operands[0]).astype(run.dtype)


def _bessel_derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    (x,), order = node.operands, node.attrs["order"]
    above = builder.emit("bessel_i", x, order=order + 1)
    if order == 0:
        return (weighed(builder, adjoint, above),)
    both = builder.emit("add", builder.emit("bessel_i", x, order=order - 1), above)
    return (weighed(builder, adjoint, builder.emit("mul", both, builder.full(0.5, x))),)


_declare(
    "bessel_i",
    _bessel_derivative,
    _bessel_reference,
    tuple(Sample((_F,), {"order": order}, low=-8.0, high=14.0) for order in (0, 1, 2)),
    60,
    300,
    ("order",),
)

# --- Quantiles


def ndtri(p: float) -> float:
    """The number that a standard normal one is below with the probability p."""
    if not 0 < p < 1:
        return {0.0: -math.inf, 1.0: math.inf}.get(p, math.nan)
    return (
        _ROOT_2 * _near(2 * (p - 0.5))
        if abs(p - 0.5) < 0.25
        else NormalDist().inv_cdf(p)
        if p < 0.5
        else -NormalDist().inv_cdf(1 - p)
    )


def erfinv(y: float) -> float:
    """The number whose error function is y."""
    if abs(y) < 0.5 or not abs(y) < 1:
        return _near(y) if abs(y) < 0.5 else math.copysign(math.inf, y) if abs(y) == 1 else math.nan
    return math.copysign(NormalDist().inv_cdf((1 - abs(y)) / 2) / _ROOT_2, y)


def _near(y: float) -> float:
    """Two steps of Newton's."""
    z = NormalDist().inv_cdf((1 + y) / 2) / _ROOT_2 if abs(y) > 1e-6 else y * _ROOT_PI / 2
    for _ in range(2):
        z -= (math.erf(z) - y) * _ROOT_PI / 2 * math.exp(z * z)
    return z


def _inverse_density(scale: float, root: float, tail: Callable[[Builder, Value], Value]) -> Any:
    """scale e**(z**2) with z = out / root; far out it is scale erfcx(|z|) / tail, where the tail is erfc(|z|)."""

    def derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
        (x,), one = node.operands, builder.full(1.0, node.result)
        z = builder.emit("mul", node.result, builder.full(1 / root, x)) if root != 1 else node.result
        size, zero = builder.emit("abs", z), builder.full(0.0, x)
        middle = builder.emit("lt", size, one)
        near = builder.emit("exp", builder.emit("square", builder.emit("select", middle, z, zero)))
        rest = tail(builder, x)
        gone = builder.emit("eq", rest, zero)
        far = builder.emit("div", builder.emit("erfcx", size, order=0), builder.emit("select", gone, one, rest))
        far = builder.emit("select", gone, builder.full(math.inf, x), far)
        slope = builder.emit("mul", builder.emit("select", middle, near, far), builder.full(scale, x))
        return (weighed(builder, adjoint, slope),)

    return derivative


def _beyond(builder: Builder, y: Value) -> Value:
    """1 - |y|."""
    return builder.emit("sub", builder.full(1.0, y), builder.emit("abs", y))


def _both_sides(builder: Builder, p: Value) -> Value:
    """Twice the smaller of p and 1 - p."""
    return builder.emit(
        "mul", builder.emit("minimum", p, builder.emit("sub", builder.full(1.0, p), p)), builder.full(2.0, p)
    )


def _quantile(name: str, function: Callable[[float], float], derivative: Any, sample: Sample) -> None:
    def reference(run: Run, operands: Sequence[Array]) -> Array:
        return _each(function)(operands[0]).astype(run.dtype)

    _declare(name, derivative, reference, (sample,), 60, 300)


_quantile("erfinv", erfinv, _inverse_density(_ROOT_PI / 2, 1.0, _beyond), Sample((_F,), low=-0.99, high=0.99))
_quantile(
    "ndtri", ndtri, _inverse_density(math.sqrt(2 * math.pi), _ROOT_2, _both_sides), Sample((_F,), low=0.01, high=0.99)
)
