"""Reductions over axes, which are removed from the shape.

`logsumexp` is a primitive because its derivative is the softmax and because no spelling of it in other operations is
both short and safe from overflow: log(softmax(x)) is x - logsumexp(x) everywhere in the compiler.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tapeless.ir import ranges
from tapeless.ir.correspondence import over, over_shares
from tapeless.ir.ops.registry import (
    Array,
    Gradients,
    NoDerivative,
    Operation,
    Run,
    Sample,
    declare,
    expect,
    expect_count,
)
from tapeless.ir.range_analysis import weighed
from tapeless.ir.types import DType, Rows, Tensor, multiple

if TYPE_CHECKING:
    from tapeless.ir.graph import Builder, Graph, Node, Value

_SAMPLES = (
    Sample((Tensor(DType.F64, (3, 4)),), {"axes": (1,)}),
    Sample((Tensor(DType.F64, (3, 4)),), {"axes": (0,)}),
    Sample((Tensor(DType.F64, (2, 3, 4)),), {"axes": (0, 2)}),
    Sample((Tensor(DType.F64, (3, 4)),), {"axes": (0, 1)}),
)


def _kept(operand: Tensor, axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(k for k in range(operand.rank) if k not in axes)


def spread(builder: Builder, value: Value, like: Value, axes: Sequence[int]) -> Value:
    """A reduced value, broadcast back over the axes that were reduced from `like`."""
    return builder.broadcast_to(value, like.type.shape, _kept(like.type, axes))


def _rule(name: str, integers: bool) -> Any:
    def rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
        expect_count(name, operands, 1)
        (operand,), axes = operands, tuple(attrs["axes"])
        expect(operand.dtype.is_float or (integers and operand.dtype.is_integer), f"`{name}` does not take {operand}")
        expect(
            list(axes) == sorted(set(axes)) and all(0 <= k < operand.rank for k in axes),
            f"`{name}` of {operand} over axes {axes}",
        )
        return (operand.with_shape([operand.shape[k] for k in _kept(operand, axes)]),)

    return rule


def _reduction(
    name: str,
    function: Callable[[Array, tuple[int, ...]], Array],
    derivative: Any,
    range: ranges.Rule,
    flops: float = 1.0,
    integers: bool = True,
) -> None:
    def reference(run: Run, operands: Sequence[Array]) -> Array:
        return np.asarray(function(operands[0], tuple(run.attrs["axes"]))).astype(run.dtype, copy=False)

    samples = (*_SAMPLES, Sample((Tensor(DType.I32, (3, 4)),), {"axes": (1,)})) if integers else _SAMPLES
    declare(
        Operation(
            name,
            "reduction",
            _rule(name, integers),
            derivative,
            reference,
            samples,
            flops,
            ("axes",),
            range=range,
            axes=over,
        )
    )


def _sum_derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    return (spread(builder, adjoint, node.operands[0], node.attrs["axes"]),)


def _prod_derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    return (_prod_adjoint(builder, node.operands[0], tuple(node.attrs["axes"]), adjoint),)


def _prod_adjoint(builder: Builder, x: Value, axes: tuple[int, ...], adjoint: Value) -> Value:
    """The adjoint times the product of all other elements: n ** 2 factors, so that zeros are no exception.

    Dividing the product by the element would be 0 / 0 at a zero. Axis by axis, the last one first.
    """
    if not axes:
        return adjoint
    axis = axes[-1]
    if len(axes) > 1:
        adjoint = _prod_adjoint(builder, builder.emit("prod", x, axes=(axis,)), axes[:-1], adjoint)
    rank = x.type.rank
    shape = (*x.type.shape[:axis], x.type.shape[axis], *x.type.shape[axis:])
    factors = builder.broadcast_to(x, shape, tuple(k if k < axis else k + 1 for k in range(rank)))
    own = builder.emit("eq", *(builder.emit("iota", axis=k, shape=shape, dtype=DType.I32) for k in (axis, axis + 1)))
    others = builder.emit("prod", builder.emit("select", own, builder.full(1.0, factors), factors), axes=(axis + 1,))
    return weighed(builder, spread(builder, adjoint, x, (axis,)), others)


def _extremum_derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    """The adjoint goes to the elements that attain the extremum, in equal shares."""
    (x,), axes = node.operands, node.attrs["axes"]
    attained = builder.emit("eq", x, spread(builder, node.result, x, axes))
    # How many attain it is a step: the second derivative is zero, and not missing.
    ties = builder.emit(
        "sum", builder.emit("stop_gradient", builder.emit("cast", attained, dtype=x.type.dtype)), axes=axes
    )
    builder.ranges.state(ties, ranges.Range(1.0, math.inf))  # or all are NaN, and none is chosen below
    share = spread(builder, builder.emit("div", adjoint, ties), x, axes)
    return (builder.emit("select", attained, share, builder.full(0.0, x)),)


def _logsumexp_derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    """The adjoint times the softmax, exp(x - logsumexp(x))."""
    (x,), axes = node.operands, node.attrs["axes"]
    softmax = builder.emit("exp", builder.emit("sub", x, spread(builder, node.result, x, axes)), name="softmax")
    return (weighed(builder, spread(builder, adjoint, x, axes), softmax),)


def logsumexp(x: Array, axes: tuple[int, ...]) -> Array:
    """log(sum(exp(x))), shifted by the greatest element; infinities as they come."""
    if x.size == 0:
        return np.asarray(np.log(np.sum(x, axis=axes)))
    top = np.max(x, axis=axes, keepdims=True)
    shift = np.where(np.isfinite(top), top, 0)
    return np.asarray(np.log(np.sum(np.exp(x - shift), axis=axes)) + np.squeeze(shift, axis=axes))


def _bound(x: Array, least: bool) -> float | int:
    """What the extremum over nothing is: the last value that any other one replaces."""
    if x.dtype.kind == "f":
        return np.inf if least else -np.inf
    limits = np.iinfo(x.dtype)
    return int(limits.max if least else limits.min)


_reduction("sum", lambda x, axes: np.sum(x, axis=axes, dtype=x.dtype), _sum_derivative, ranges.sums)
_reduction("prod", lambda x, axes: np.prod(x, axis=axes, dtype=x.dtype), _prod_derivative, ranges.products)
_reduction(
    "max",
    lambda x, axes: np.max(x, axis=axes, initial=_bound(x, False)),
    _extremum_derivative,
    ranges.maximum_over_axes,
)
_reduction("min", lambda x, axes: np.min(x, axis=axes, initial=_bound(x, True)), _extremum_derivative, ranges.chosen)
_reduction("logsumexp", logsumexp, _logsumexp_derivative, ranges.logsumexp, flops=22, integers=False)


def _argmax_rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
    expect_count("argmax", operands, 1)
    operand, axis = operands[0], attrs["axis"]
    expect(operand.dtype.is_number and 0 <= axis < operand.rank, f"`argmax` of {operand} along axis {axis}")
    return (Tensor(DType.I32, tuple(operand.shape[k] for k in _kept(operand, (axis,)))),)


def _argmax_reference(run: Run, operands: Sequence[Array]) -> Array:
    if operands[0].shape[run.attrs["axis"]] == 0:
        return np.zeros(run.shape, run.dtype)
    return np.asarray(np.argmax(operands[0], axis=run.attrs["axis"])).astype(run.dtype)


declare(
    Operation(
        "argmax",
        "reduction",
        _argmax_rule,
        NoDerivative("the place of a maximum is an integer: it has no derivative"),
        _argmax_reference,
        (
            Sample((Tensor(DType.F64, (3, 4)),), {"axis": 1}),
            Sample((Tensor(DType.F64, (3, 4)),), {"axis": 0}),
            Sample((Tensor(DType.I32, (3, 4)),), {"axis": 1}),
        ),
        attributes=("axis",),
        range=ranges.between(0.0, math.inf),
        axes=over,
    )
)


def _shares_rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
    (kept,) = _rule("sum_shares", False)(operands, attrs, regions)
    (operand,), shared, shares = operands, attrs["shared"], attrs["shares"]
    expect(shared in attrs["axes"], f"`sum_shares` over {attrs['axes']} cuts axis {shared}, which it does not sum")
    expect(
        shares > 0 and multiple(operand.shape[shared]) % shares == 0,
        f"`sum_shares` of {operand}: axis {shared} is not cut into {shares} equal shares",
    )
    return (kept.with_shape((shares, *kept.shape)),)


def _shares_reference(run: Run, operands: Sequence[Array]) -> Array:
    (x,), shared = operands, run.attrs["shared"]
    stretches = np.split(x, run.attrs["shares"], axis=shared)
    return np.stack([np.sum(one, axis=tuple(run.attrs["axes"]), dtype=x.dtype) for one in stretches])


# Sums over equal stretches of one of the axes that are summed: partial sums, side by side along a new first axis.
declare(
    Operation(
        "sum_shares",
        "reduction",
        _shares_rule,
        NoDerivative("sums are cut into shares after differentiation"),
        _shares_reference,
        (
            Sample((Tensor(DType.F64, (3, 8)),), {"axes": (1,), "shared": 1, "shares": 4}),
            Sample((Tensor(DType.F64, (6, 4)),), {"axes": (0, 1), "shared": 0, "shares": 2}),
            Sample((Tensor(DType.F64, (5, 6, 3)),), {"axes": (0, 1), "shared": 1, "shares": 3}),
            Sample((Tensor(DType.F64, (Rows(6), 3)),), {"axes": (0,), "shared": 0, "shares": 2}),
        ),
        attributes=("axes", "shared", "shares"),
        axes=over_shares,
    )
)
