"""Running totals along one axis: cumulative sum and product, and the linear recurrence that their derivatives need.

linear_scan is s[k] = a[k] s[k - 1] + b[k] from s[-1] = 0 (Blelloch, Prefix sums and their applications, 1990). Its
derivative is a linear_scan in the other direction, so the set is closed; the derivative of a cumulative product is one
too, and needs no division, so zeros are no exception. strong_scan is the same with a product in which 0 times an
infinity is 0: differentiation takes it where there may be one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tapeless.ir.correspondence import along
from tapeless.ir.ops.registry import Array, Gradients, Operation, Run, Sample, declare, expect, expect_count
from tapeless.ir.range_analysis import weighed
from tapeless.ir.ranges import products, strong_products, sums
from tapeless.ir.types import DType, IRTypeError, Rows, Tensor

if TYPE_CHECKING:
    from tapeless.ir.graph import Builder, Graph, Node, Value

RECURRENCES = ("cumsum", "cumprod", "linear_scan", "strong_scan")
_ATTRIBUTES = ("axis", "reverse")


def _rule(name: str, count: int) -> Any:
    def rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
        expect_count(name, operands, count)
        first = operands[0]
        expect(all(o == first for o in operands), f"`{name}` needs equal types: {', '.join(map(str, operands))}")
        expect(
            first.dtype.is_float or (first.dtype.is_integer and name != "linear_scan"),
            f"`{name}` does not take {first}",
        )
        expect(0 <= attrs["axis"] < first.rank, f"`{name}` of {first} along {attrs['axis']}")
        return (first,)

    return rule


def _emit(builder: Builder, name: str, *operands: Value, node: Node, turned: bool) -> Value:
    reverse = node.attrs["reverse"] != turned
    return builder.emit(name, *operands, axis=node.attrs["axis"], reverse=reverse)


def _linear(builder: Builder, a: Value, b: Value, node: Node) -> Value:
    """The linear recurrence against the direction of `node`."""
    name = "strong_scan" if any(builder.ranges.of(value).special for value in (a, b)) else "linear_scan"
    return _emit(builder, name, a, b, node=node, turned=True)


def shifted(builder: Builder, x: Value, axis: int, ahead: bool) -> Value:
    """x[k + 1] (or x[k - 1] if not `ahead`) along the axis, 0 beyond its end."""
    size = x.type.shape[axis]
    if not isinstance(size, int):
        raise IRTypeError(f"a recurrence along the batch has no derivative: {x.type} along axis {axis}")
    if size <= 1:
        return builder.full(0.0, x)
    start = tuple((1 if ahead else 0) if k == axis else 0 for k in range(x.type.rank))
    sizes = tuple(size - 1 if k == axis else dim for k, dim in enumerate(x.type.shape))
    part = builder.emit("slice", x, start=start, size=sizes, step=(1,) * x.type.rank)
    return builder.emit("pad", part, axis=axis, size=size, start=0 if ahead else 1, step=1)


def _cumsum_derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    return (_emit(builder, "cumsum", adjoint, node=node, turned=True),)


def _cumprod_derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    """The product before, times the adjoint and all that multiplies onto it: t[k] = adjoint[k] + x[k + 1] t[k + 1]."""
    (x,), axis, reverse = node.operands, node.attrs["axis"], node.attrs["reverse"]
    following = _linear(builder, shifted(builder, x, axis, not reverse), adjoint, node)
    places = builder.emit("iota", axis=axis, shape=x.type.shape, dtype=DType.I32)
    size = x.type.shape[axis]
    begin = builder.constant(size - 1 if reverse and isinstance(size, int) else 0, DType.I32)
    first = builder.emit("eq", places, builder.broadcast_to(begin, x.type.shape, ()))
    before = builder.emit("select", first, builder.full(1.0, x), shifted(builder, node.result, axis, reverse))
    return (weighed(builder, before, following),)


def _linear_scan_derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    """d_b is t[k] = adjoint[k] + a[k + 1] t[k + 1]; d_a is t[k] s[k - 1]."""
    (a, _), axis, reverse = node.operands, node.attrs["axis"], node.attrs["reverse"]
    d_b = _linear(builder, shifted(builder, a, axis, not reverse), adjoint, node)
    return (weighed(builder, d_b, shifted(builder, node.result, axis, reverse)), d_b)


def _ordered(run: Run, x: Array) -> Array:
    """With the axis first, in the order of the recurrence."""
    moved = np.moveaxis(x, run.attrs["axis"], 0)
    return moved[::-1] if run.attrs["reverse"] else moved


def _restored(run: Run, x: Array) -> Array:
    return np.moveaxis(x[::-1] if run.attrs["reverse"] else x, 0, run.attrs["axis"])


def _cumsum(run: Run, operands: Sequence[Array]) -> Array:
    return _restored(run, np.cumsum(_ordered(run, operands[0]), axis=0, dtype=operands[0].dtype))


def _cumprod(run: Run, operands: Sequence[Array]) -> Array:
    return _restored(run, np.cumprod(_ordered(run, operands[0]), axis=0, dtype=operands[0].dtype))


def _linear_scan(run: Run, operands: Sequence[Array]) -> Array:
    a, b = (_ordered(run, operand) for operand in operands)
    made = np.array(b)
    for k in range(1, made.shape[0]):
        made[k] = a[k] * made[k - 1] + b[k]
    return _restored(run, made)


def _strong_scan(run: Run, operands: Sequence[Array]) -> Array:
    a, b = (_ordered(run, operand) for operand in operands)
    made = np.array(b)
    for k in range(1, made.shape[0]):
        zero = (a[k] == 0) | (made[k - 1] == 0)
        made[k] = np.where(zero, b[k], a[k] * made[k - 1] + b[k])
    return _restored(run, made)


def _samples(count: int) -> tuple[Sample, ...]:
    return (
        Sample((Tensor(DType.F64, (3, 4)),) * count, {"axis": 1, "reverse": False}),
        Sample((Tensor(DType.F64, (3, 4)),) * count, {"axis": 0, "reverse": True}),
        Sample((Tensor(DType.F64, (Rows(), 3, 5)),) * count, {"axis": 1, "reverse": False}),
        Sample((Tensor(DType.F64, (Rows(), 4)),) * count, {"axis": 1, "reverse": True}),
        *((Sample((Tensor(DType.I32, (3, 4)),), {"axis": 1, "reverse": False}),) if count == 1 else ()),
    )


for _name, _count, _derivative, _reference, _range in (
    ("cumsum", 1, _cumsum_derivative, _cumsum, sums),
    ("cumprod", 1, _cumprod_derivative, _cumprod, products),
    ("linear_scan", 2, _linear_scan_derivative, _linear_scan, products),
    ("strong_scan", 2, _linear_scan_derivative, _strong_scan, strong_products),
):
    declare(
        Operation(
            _name,
            "recurrence",
            _rule(_name, _count),
            _derivative,
            _reference,
            _samples(_count),
            2.0,
            _ATTRIBUTES,
            kernel="recurrence",
            range=_range,
            axes=along,
        )
    )
