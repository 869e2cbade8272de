"""Euclidean norms, over axes of one tensor or over all elements of several: roots of sums of squares that neither
overflow nor vanish.

A norm is a primitive because its derivative, x / norm(x), is as far from the ends of the range as the norm is, and
has a value at the origin: 0. Kernels take three sums in one sweep, of the squares as they are and of elements scaled
down and up, and choose one of the roots at the end (Blue, A portable Fortran program to find the Euclidean norm of a
vector, 1978).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tapeless.ir import ranges
from tapeless.ir.correspondence import over
from tapeless.ir.ops.reduction import spread
from tapeless.ir.ops.registry import Array, Gradients, Operation, Run, Sample, declare, expect, expect_count
from tapeless.ir.range_analysis import weighed
from tapeless.ir.types import DType, Rows, Tensor

if TYPE_CHECKING:
    from tapeless.ir.graph import Builder, Graph, Node, Value


@dataclass(frozen=True)
class Range:
    """Between `low` and `high` a sum of squares is right as it is; beyond, that of elements times `down` or `up`."""

    low: float
    high: float
    down: float
    up: float
    least: float


# f32: up to 2**32 squares of (2**128 2**-80)**2 = 2**96 fit; the least square is (2**-149 2**100)**2 = 2**-98, and sums
# below 2**-90 become 2**110 at most. f64 likewise, with more room. Squares that vanish beside a sum of 2**-90 do not
# count. `least` is the least normal number, whose reciprocal is finite.
RANGES = {
    DType.F32: Range(2.0**-90, 2.0**126, 2.0**-80, 2.0**100, 2.0**-126),
    DType.F64: Range(2.0**-900, 2.0**1020, 2.0**-600, 2.0**700, 2.0**-1022),
}


def root_of_squares(builder: Builder, values: Sequence[Value], axes: Sequence[Sequence[int]]) -> Value:
    """The norm of all values over their axes, as sums."""
    within = RANGES[values[0].type.dtype]

    def total(factor: float) -> Value:
        made: Value | None = None
        for x, reduced in zip(values, axes, strict=True):
            scaled = x if factor == 1.0 else builder.emit("mul", x, builder.full(factor, x))
            squares = builder.emit("sum", builder.emit("square", scaled), axes=tuple(reduced))
            made = squares if made is None else builder.emit("add", made, squares)
        assert made is not None
        return made

    def rescaled(factor: float) -> Value:
        root = builder.emit("sqrt", total(factor))
        return builder.emit("mul", root, builder.full(1 / factor, root))

    plain = total(1.0)
    large = builder.emit("lt", builder.full(within.high, plain), plain)
    small = builder.emit("lt", plain, builder.full(within.low, plain))
    near = builder.emit("select", small, rescaled(within.up), builder.emit("sqrt", plain))
    return builder.emit("select", large, rescaled(within.down), near)


def _unit(builder: Builder, x: Value, norm: Value, axes: Sequence[int]) -> Value:
    """x / norm(x), and 0 at the origin."""
    origin = builder.emit("lt", norm, builder.full(RANGES[x.type.dtype].least, norm))
    divisor = builder.emit("select", origin, builder.full(1.0, norm), norm)
    there = spread(builder, origin, x, axes)
    unit = builder.emit(
        "select", there, builder.full(0.0, x), builder.emit("div", x, spread(builder, divisor, x, axes))
    )
    builder.ranges.state(unit, ranges.Range(-1.0, 1.0, nan=builder.ranges.of(x).special))
    return unit


def _norm_of(x: Array, axes: tuple[int, ...]) -> Array:
    top = np.max(np.abs(x), axis=axes, keepdims=True, initial=0)
    scale = np.where((top > 0) & (top < np.inf), top, 1).astype(x.dtype)
    return np.asarray(np.sqrt(np.sum(np.square(x / scale), axis=axes)) * np.squeeze(scale, axis=axes))


def _norm_rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
    expect_count("norm", operands, 1)
    (x,), axes = operands, tuple(attrs["axes"])
    expect(x.dtype.is_float, f"`norm` does not take {x}")
    expect(list(axes) == sorted(set(axes)) and all(0 <= k < x.rank for k in axes), f"`norm` of {x} over axes {axes}")
    return (x.with_shape([dim for k, dim in enumerate(x.shape) if k not in axes]),)


def _norm_derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    (x,), axes = node.operands, node.attrs["axes"]
    return (weighed(builder, spread(builder, adjoint, x, axes), _unit(builder, x, node.result, axes)),)


def _norm_reference(run: Run, operands: Sequence[Array]) -> Array:
    return _norm_of(operands[0], tuple(run.attrs["axes"])).astype(run.dtype, copy=False)


declare(
    Operation(
        "norm",
        "reduction",
        _norm_rule,
        _norm_derivative,
        _norm_reference,
        (
            Sample((Tensor(DType.F64, (3, 4)),), {"axes": (1,)}),
            Sample((Tensor(DType.F64, (2, 3, 4)),), {"axes": (0, 2)}),
            Sample((Tensor(DType.F64, (Rows(), 4)),), {"axes": (0, 1)}),
        ),
        6.0,
        ("axes",),
        range=ranges.lengths,
        axes=over,
    )
)


def _all_norm_rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
    expect(len(operands) > 0, "`global_norm` needs something to take the norm of")
    first = operands[0].dtype
    expect(
        first.is_float and all(x.dtype is first for x in operands),
        f"`global_norm` does not take {', '.join(map(str, operands))}",
    )
    return (Tensor(first, ()),)


def _all_norm_derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    made = []
    for x in node.operands:
        axes = range(x.type.rank)
        made.append(weighed(builder, spread(builder, adjoint, x, axes), _unit(builder, x, node.result, axes)))
    return made


def _all_norm_reference(run: Run, operands: Sequence[Array]) -> Array:
    parts = np.asarray([_norm_of(x, tuple(range(x.ndim))) for x in operands], operands[0].dtype)
    return _norm_of(parts, (0,)).astype(run.dtype, copy=False)


declare(
    Operation(
        "global_norm",
        "reduction",
        _all_norm_rule,
        _all_norm_derivative,
        _all_norm_reference,
        (
            Sample((Tensor(DType.F64, (3, 4)), Tensor(DType.F64, ()))),
            Sample((Tensor(DType.F64, (2, 3)), Tensor(DType.F64, (5,)))),
        ),
        6.0,
        range=ranges.lengths,
    )
)
