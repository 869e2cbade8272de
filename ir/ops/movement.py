"""Operations that take parts of tensors and put tensors together: slice, its adjoint pad, and concat.

The three are closed under differentiation: a slice's adjoint is padded back, a pad's is sliced, a concatenation's is
cut into slices. Indices are fixed when compiling; those computed at run time are `ir.ops.indexing`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tapeless.ir.correspondence import At, Axes, kept, same
from tapeless.ir.ops.registry import Array, Gradients, Operation, Run, Sample, declare, expect, expect_count
from tapeless.ir.ranges import any_of, chosen, chosen_or_zero
from tapeless.ir.types import Dim, DType, Rows, Tensor

if TYPE_CHECKING:
    from tapeless.ir.graph import Builder, Graph, Node, Value

_ROWS = Rows()


def whole(start: int, size: Dim, step: int, extent: Dim) -> bool:
    """Whether a slice of one axis takes all of it, in order."""
    return start == 0 and step == 1 and size == extent


def inside(start: int, size: Dim, step: int, extent: Dim) -> bool:
    """Whether the places start, start + step, ... of an axis exist."""
    if whole(start, size, step, extent):
        return True
    if not isinstance(size, int) or not isinstance(extent, int) or step == 0:
        return False
    last = start + (size - 1) * step
    return size == 0 or (0 <= start < extent and 0 <= last < extent)


def _slice_rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
    expect_count("slice", operands, 1)
    (x,) = operands
    starts, sizes, steps = attrs["start"], attrs["size"], attrs["step"]
    expect(len(starts) == len(sizes) == len(steps) == x.rank, f"`slice` of {x} needs {x.rank} starts, sizes and steps")
    for axis, extent in enumerate(x.shape):
        expect(inside(starts[axis], sizes[axis], steps[axis], extent), f"`slice` leaves axis {axis} of {x}")
    return (x.with_shape(sizes),)


def _slice_derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    """The adjoint at the places taken, zero elsewhere: padded axis by axis."""
    (x,) = node.operands
    for axis, extent in enumerate(x.type.shape):
        start, size, step = (node.attrs[part][axis] for part in ("start", "size", "step"))
        if not whole(start, size, step, extent):
            adjoint = builder.emit("pad", adjoint, axis=axis, size=extent, start=start, step=step)
    return (adjoint,)


def _slice_axes(node: Node) -> Axes:
    parts = zip(node.attrs["start"], node.attrs["step"], strict=True)
    return (tuple(At(((axis, step),), start) for axis, (start, step) in enumerate(parts)),)


def _slice_reference(run: Run, operands: Sequence[Array]) -> Array:
    (x,) = operands
    for axis, size in enumerate(run.shape):
        start, step = run.attrs["start"][axis], run.attrs["step"][axis]
        x = np.take(x, start + step * np.arange(size), axis=axis)
    return x


declare(
    Operation(
        "slice",
        "movement",
        _slice_rule,
        _slice_derivative,
        _slice_reference,
        (
            Sample((Tensor(DType.F64, (3, 7)),), {"start": (0, 1), "size": (3, 3), "step": (1, 2)}),
            Sample((Tensor(DType.F64, (_ROWS, 4)),), {"start": (0, 3), "size": (_ROWS, 4), "step": (1, -1)}),
            Sample(
                (Tensor(DType.F64, (_ROWS, 5, 6)),), {"start": (0, 2, 5), "size": (_ROWS, 1, 3), "step": (1, 1, -2)}
            ),
            Sample((Tensor(DType.I32, (6,)),), {"start": (1,), "size": (4,), "step": (1,)}),
        ),
        flops=0,
        attributes=("start", "size", "step"),
        range=chosen,
        axes=_slice_axes,
    )
)


def _pad_rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
    expect_count("pad", operands, 1)
    (x,), axis = operands, attrs["axis"]
    expect(0 <= axis < x.rank, f"`pad` of {x} along axis {axis}")
    size = attrs["size"]
    expect(inside(attrs["start"], x.shape[axis], attrs["step"], size), f"`pad` of {x} does not fit into {size} places")
    return (x.with_shape([size if k == axis else dim for k, dim in enumerate(x.shape)]),)


def _pad_derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    (x,), axis = node.operands, node.attrs["axis"]

    def along(value: int, other: int) -> tuple[int, ...]:
        return tuple(value if k == axis else other for k in range(x.type.rank))

    start, step = along(node.attrs["start"], 0), along(node.attrs["step"], 1)
    return (builder.emit("slice", adjoint, start=start, size=x.type.shape, step=step),)


def _pad_axes(node: Node) -> Axes:
    axis, start, step = node.attrs["axis"], node.attrs["start"], node.attrs["step"]
    moved = At(((axis, 1),), -start, step, bounded=True)
    return (tuple(moved if k == axis else kept(k) for k in range(node.result.type.rank)),)


def _pad_reference(run: Run, operands: Sequence[Array]) -> Array:
    (x,), axis = operands, run.attrs["axis"]
    made = np.zeros(run.shape, run.dtype)
    places = run.attrs["start"] + run.attrs["step"] * np.arange(x.shape[axis])
    made[(slice(None),) * axis + (places,)] = x
    return made


declare(
    Operation(
        "pad",
        "movement",
        _pad_rule,
        _pad_derivative,
        _pad_reference,
        (
            Sample((Tensor(DType.F64, (3, 4)),), {"axis": 1, "size": 9, "start": 2, "step": 1}),
            Sample((Tensor(DType.F64, (_ROWS, 4)),), {"axis": 1, "size": 9, "start": 7, "step": -2}),
            Sample((Tensor(DType.F64, (2, 3, 4)),), {"axis": 0, "size": 5, "start": 0, "step": 3}),
            Sample((Tensor(DType.I32, (3, 4)),), {"axis": 0, "size": 4, "start": 1, "step": 1}),
        ),
        flops=0,
        attributes=("axis", "size", "start", "step"),
        range=chosen_or_zero,
        axes=_pad_axes,
    )
)


def _concat_rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
    axis = attrs["axis"]
    expect(len(operands) >= 1, "`concat` needs something to put together")
    first = operands[0]
    expect(0 <= axis < first.rank, f"`concat` of {first} along axis {axis}")
    total = 0
    for operand in operands:
        same = operand.dtype is first.dtype and operand.rank == first.rank
        expect(same and all(operand.shape[k] == first.shape[k] for k in range(first.rank) if k != axis),
               f"`concat` along axis {axis}: {first} and {operand} differ elsewhere")  # fmt: skip
        size = operand.shape[axis]
        expect(isinstance(size, int), "`concat` puts together axes of known size")
        total += size if isinstance(size, int) else 0
    return (first.with_shape([total if k == axis else dim for k, dim in enumerate(first.shape)]),)


def _concat_derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    axis, offset = node.attrs["axis"], 0
    gradients: list[Value | None] = []
    for operand in node.operands:
        shape = operand.type.shape
        start = tuple(offset if k == axis else 0 for k in range(len(shape)))
        gradients.append(builder.emit("slice", adjoint, start=start, size=shape, step=(1,) * len(shape)))
        size = shape[axis]
        offset += size if isinstance(size, int) else 0
    return gradients


def _concat_axes(node: Node) -> Axes:
    axis, found, first = node.attrs["axis"], same(node), 0
    made = []
    for value, own in zip(node.operands, found, strict=True):
        size = value.type.shape[axis]
        if not isinstance(size, int):
            return same(node, (axis,))
        made.append((*own[:axis], At(((axis, 1),), -first, bounded=True), *own[axis + 1 :]))
        first += size
    return tuple(made)


def _concat_reference(run: Run, operands: Sequence[Array]) -> Array:
    return np.concatenate(operands, axis=run.attrs["axis"])


declare(
    Operation(
        "concat",
        "movement",
        _concat_rule,
        _concat_derivative,
        _concat_reference,
        (
            Sample((Tensor(DType.F64, (_ROWS, 2)), Tensor(DType.F64, (_ROWS, 3))), {"axis": 1}),
            Sample((Tensor(DType.F64, (1, 4)), Tensor(DType.F64, (3, 4)), Tensor(DType.F64, (2, 4))), {"axis": 0}),
            Sample((Tensor(DType.I32, (3,)), Tensor(DType.I32, (2,))), {"axis": 0}),
        ),
        flops=0,
        attributes=("axis",),
        range=any_of(0),
        axes=_concat_axes,
    )
)
