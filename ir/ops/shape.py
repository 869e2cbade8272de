"""Operations that make, move or view elements without arithmetic: constants, iota, broadcasts, reshapes, transposes.

Broadcasts are explicit, so no other operation repairs shapes and no derivative has to sum where a shape was stretched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tapeless.ir.correspondence import ALL, At, Axes, kept, of_units, same
from tapeless.ir.ops.registry import (
    Array,
    Gradients,
    Operation,
    Run,
    Sample,
    declare,
    expect,
    expect_count,
)
from tapeless.ir.ranges import Range, chosen, reshaped, stretched
from tapeless.ir.types import DType, Rows, Tensor, product, shape_text

if TYPE_CHECKING:
    from tapeless.ir.graph import Builder, Graph, Node, Value

Types = Sequence[Tensor]
_ROWS = Rows()


def _made(operands: Types, attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Types:
    expect(not operands, "this operation takes no operands")
    return (Tensor(attrs["dtype"], tuple(attrs["shape"])),)


def _nothing(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    return ()


def _constant_reference(run: Run, operands: Sequence[Array]) -> Array:
    return np.full(run.shape, run.attrs["value"], run.dtype)


def _range_of_constant(node: Node, operands: Sequence[Range]) -> Range:
    value = float(node.attrs["value"])
    return Range(infinite=math.isinf(value), nan=True) if math.isnan(value) else Range(value, value, math.isinf(value))


declare(
    Operation(
        "constant",
        "shape",
        _made,
        _nothing,
        _constant_reference,
        (Sample((), {"value": 1.5, "dtype": DType.F64, "shape": (3,)}),),
        flops=0,
        attributes=("value", "dtype", "shape"),
        range=_range_of_constant,
    )
)


def _iota_rule(operands: Types, attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Types:
    expect(
        0 <= attrs["axis"] < len(attrs["shape"]), f"`iota` along axis {attrs['axis']} of {shape_text(attrs['shape'])}"
    )
    return _made(operands, attrs, regions)


def _iota_reference(run: Run, operands: Sequence[Array]) -> Array:
    shape, axis = run.shape, run.attrs["axis"]
    along = np.arange(shape[axis], dtype=run.dtype)
    return np.broadcast_to(along.reshape([-1 if k == axis else 1 for k in range(len(shape))]), shape).copy()


def _range_of_iota(node: Node, operands: Sequence[Range]) -> Range:
    size = node.attrs["shape"][node.attrs["axis"]]
    return Range(0.0, float(max(size - 1, 0)) if isinstance(size, int) else math.inf)


declare(
    Operation(
        "iota",
        "shape",
        _iota_rule,
        _nothing,
        _iota_reference,
        (Sample((), {"axis": 1, "dtype": DType.I32, "shape": (3, 4)}),),
        flops=0,
        attributes=("axis", "dtype", "shape"),
        range=_range_of_iota,
    )
)


def _count_rule(operands: Types, attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Types:
    expect(not operands, "`count` takes no operands")
    product(attrs["shape"])
    return (Tensor(attrs["dtype"]),)


def _count_reference(run: Run, operands: Sequence[Array]) -> Array:
    return np.asarray(Tensor(DType.F64, tuple(run.attrs["shape"])).count(run.rows), run.dtype)


def _range_of_count(node: Node, operands: Sequence[Range]) -> Range:
    """At least one: of nothing there is neither a loss nor a gradient. At most what an index of 64 bits can be, so
    that one part of so many is not zero.
    """
    return Range(1.0, 2.0**63)


declare(
    Operation(
        "count",
        "shape",
        _count_rule,
        _nothing,
        _count_reference,
        (Sample((), {"dtype": DType.F64, "shape": (3, _ROWS)}),),
        flops=0,
        attributes=("shape", "dtype"),
        range=_range_of_count,
    )
)


def _broadcast_rule(operands: Types, attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Types:
    expect_count("broadcast", operands, 1)
    (operand,), shape, axes = operands, tuple(attrs["shape"]), tuple(attrs["axes"])
    expect(len(axes) == operand.rank, f"`broadcast` of {operand} needs {operand.rank} axes, not {axes}")
    expect(list(axes) == sorted(set(axes)), f"`broadcast` axes must rise: {axes}")
    for size, axis in zip(operand.shape, axes, strict=True):
        expect(0 <= axis < len(shape), f"`broadcast` axis {axis} is outside {shape_text(shape)}")
        expect(shape[axis] == size, f"`broadcast` of {operand} to {shape_text(shape)}: axis {axis} differs")
    return (operand.with_shape(shape),)


def _broadcast_derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    kept = set(node.attrs["axes"])
    return (builder.emit("sum", adjoint, axes=tuple(k for k in range(adjoint.type.rank) if k not in kept)),)


def _broadcast_reference(run: Run, operands: Sequence[Array]) -> Array:
    shape = [1] * len(run.shape)
    for size, axis in zip(operands[0].shape, run.attrs["axes"], strict=True):
        shape[axis] = size
    return np.broadcast_to(operands[0].reshape(shape), run.shape).copy()


declare(
    Operation(
        "broadcast",
        "shape",
        _broadcast_rule,
        _broadcast_derivative,
        _broadcast_reference,
        (
            Sample((Tensor(DType.F64, (3,)),), {"shape": (2, 3), "axes": (1,)}),
            Sample((Tensor(DType.F64, (3,)),), {"shape": (3, _ROWS), "axes": (0,)}),
            Sample((Tensor(DType.F64),), {"shape": (2, 3), "axes": ()}),
        ),
        flops=0,
        attributes=("shape", "axes"),
        range=stretched,
        axes=lambda node: (tuple(kept(axis) for axis in node.attrs["axes"]),),
    )
)


def _reshape_rule(operands: Types, attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Types:
    expect_count("reshape", operands, 1)
    shape = tuple(attrs["shape"])
    expect(
        product(shape) == product(operands[0].shape),
        f"`reshape` of {operands[0]} to {shape_text(shape)} changes the count of elements",
    )
    return (operands[0].with_shape(shape),)


def _reshape_derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    return (builder.emit("reshape", adjoint, shape=node.operands[0].type.shape),)


def _reshape_axes(node: Node) -> Axes:
    """Axes of size 1 come and go; any other change of shape mixes places."""
    shape = node.operands[0].type.shape
    found = of_units(node.result.type.shape, shape)
    return (
        tuple(ALL for _ in shape) if found is None else tuple(At(()) if axis is None else kept(axis) for axis in found),
    )


def _reshape_reference(run: Run, operands: Sequence[Array]) -> Array:
    return operands[0].reshape(run.shape)


declare(
    Operation(
        "reshape",
        "shape",
        _reshape_rule,
        _reshape_derivative,
        _reshape_reference,
        (
            Sample((Tensor(DType.F64, (3, 4)),), {"shape": (2, 6)}),
            Sample((Tensor(DType.F64, (_ROWS, 4)),), {"shape": (Rows(2), 2)}),
        ),
        flops=0,
        attributes=("shape",),
        range=reshaped,
        axes=_reshape_axes,
    )
)


def _transpose_rule(operands: Types, attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Types:
    expect_count("transpose", operands, 1)
    perm = tuple(attrs["perm"])
    expect(sorted(perm) == list(range(operands[0].rank)), f"`transpose` of {operands[0]} by {perm}")
    return (operands[0].with_shape([operands[0].shape[k] for k in perm]),)


def _transpose_derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    perm = node.attrs["perm"]
    return (builder.emit("transpose", adjoint, perm=tuple(perm.index(k) for k in range(len(perm)))),)


def _transpose_reference(run: Run, operands: Sequence[Array]) -> Array:
    return np.ascontiguousarray(operands[0].transpose(run.attrs["perm"]))


declare(
    Operation(
        "transpose",
        "shape",
        _transpose_rule,
        _transpose_derivative,
        _transpose_reference,
        (
            Sample((Tensor(DType.F64, (3, 4)),), {"perm": (1, 0)}),
            Sample((Tensor(DType.F64, (2, 3, 4)),), {"perm": (2, 0, 1)}),
        ),
        flops=0,
        attributes=("perm",),
        kernel="nest",
        range=chosen,
        axes=lambda node: (tuple(kept(node.attrs["perm"].index(k)) for k in range(node.result.type.rank)),),
    )
)


def _stop_rule(operands: Types, attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Types:
    expect_count("stop_gradient", operands, 1)
    return (operands[0],)


def _stop_derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    return (None,)


def _stop_reference(run: Run, operands: Sequence[Array]) -> Array:
    return operands[0]


declare(
    Operation(
        "stop_gradient",
        "shape",
        _stop_rule,
        _stop_derivative,
        _stop_reference,
        (Sample((Tensor(DType.F64, (3, 4)),)),),
        flops=0,
        range=chosen,
        axes=same,
    )
)
