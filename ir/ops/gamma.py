"""lgamma and its derivatives. polygamma{order} is the derivative of digamma of that order, so the set is closed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tapeless.ir.ops.registry import Array, Gradients, Operation, Run, Sample, declare, expect, expect_count
from tapeless.ir.range_analysis import weighed
from tapeless.ir.ranges import finite_above
from tapeless.ir.types import DType, Tensor

if TYPE_CHECKING:
    from tapeless.ir.graph import Builder, Graph, Node, Value

HIGHEST_ORDER = 20
_SHIFT = 24
_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)
_F = Tensor(DType.F64, (3, 4))


def _real(name: str, operands: Sequence[Tensor]) -> Sequence[Tensor]:
    expect_count(name, operands, 1)
    expect(operands[0].dtype.is_float, f"`{name}` does not take {operands[0]}")
    return (operands[0],)


def _lgamma_rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
    return _real("lgamma", operands)


def _polygamma_rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
    order = attrs["order"]
    expect(0 <= order <= HIGHEST_ORDER, f"`polygamma` of order {order}: it is 0 to {HIGHEST_ORDER}")
    return _real("polygamma", operands)


def _lgamma_derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    return (weighed(builder, adjoint, builder.emit("polygamma", node.operands[0], order=0)),)


def _polygamma_derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    higher = builder.emit("polygamma", node.operands[0], order=node.attrs["order"] + 1)
    return (weighed(builder, adjoint, higher),)


def _lgamma_at(x: float) -> float:
    try:
        return math.lgamma(x)
    except (ValueError, OverflowError):
        return math.inf


def _lgamma(run: Run, operands: Sequence[Array]) -> Array:
    flat = [_lgamma_at(float(value)) for value in np.ravel(operands[0])]
    return np.asarray(flat, np.float64).reshape(operands[0].shape).astype(run.dtype)


def polygamma(x: Array, order: int) -> Array:
    """24 terms of the sum, then Euler and Maclaurin's series (Abramowitz and Stegun 6.4.11); reflection below zero."""
    x = np.asarray(x, np.float64)
    with np.errstate(all="ignore"):
        negative = x < 0
        value = _positive(np.where(negative, 1 - x, x), order)
        angle = math.pi * (x - np.round(x))
        slope = math.pi ** (order + 1) * _cotangent(order, np.cos(angle) / np.sin(angle))
        reflected = (-1) ** order * value - slope
        pole = math.inf if order % 2 else math.nan
        return np.asarray(np.where(negative, np.where((angle == 0) | np.isinf(x), pole, reflected), value))


def _positive(x: Array, order: int) -> Array:
    y, s = x + _SHIFT, order + 1
    rest: Array = 0.5 / y
    coefficient = float(s)
    for k, bernoulli in enumerate(_BERNOULLI, 1):
        rest = rest + bernoulli * coefficient / math.factorial(2 * k) * y ** (-2.0 * k)
        coefficient *= (s + 2 * k - 1) * (s + 2 * k)
    rest = rest * y ** -float(order)
    for k in reversed(range(_SHIFT)):
        rest = rest + (x + k if k else x) ** -s
    if order == 0:
        return np.asarray(np.log(y) - rest)
    return np.asarray((-1) ** (order + 1) * math.factorial(order) * (rest + y ** -float(order) / order))


def _cotangent(order: int, c: Array) -> Array:
    """P(c) with (d/dx)**order cot(x) = P(cot(x)): each derivative multiplies P' by -(1 + c**2)."""
    made = [0.0, 1.0]
    for _ in range(order):
        slope = [k * factor for k, factor in enumerate(made)][1:]
        made = [-below - above for below, above in zip([*slope, 0.0, 0.0], [0.0, 0.0, *slope], strict=True)]
    value: Array = np.full_like(c, made[-1])
    for factor in reversed(made[:-1]):
        value = value * c + factor
    return value


def _polygamma(run: Run, operands: Sequence[Array]) -> Array:
    return np.asarray(polygamma(operands[0], run.attrs["order"]), run.dtype)


_NEGATIVE = Sample((_F,), low=-0.9, high=-0.1)

declare(
    Operation(
        "lgamma",
        "pointwise",
        _lgamma_rule,
        _lgamma_derivative,
        _lgamma,
        (Sample((_F,), low=0.2, high=12.0), _NEGATIVE),
        60,
        range=finite_above(0.0),
        instructions=400,
    )
)
declare(
    Operation(
        "polygamma",
        "pointwise",
        _polygamma_rule,
        _polygamma_derivative,
        _polygamma,
        (
            Sample((_F,), {"order": 0}, low=0.3, high=12.0),
            Sample((_F,), {"order": 1}, low=0.3, high=12.0),
            Sample((_F,), {"order": 3}, low=0.5, high=12.0),
            Sample((_F,), {"order": 0}, low=-0.8, high=-0.2),
            Sample((_F,), {"order": 2}, low=-0.8, high=-0.2),
        ),
        60,
        ("order",),
        range=finite_above(0.0),
        instructions=320,
    )
)
