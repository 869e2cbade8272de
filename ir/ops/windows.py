"""Sliding windows over one axis and their adjoint; windows over several axes are one node for each.

`windows` makes two axes of one: places and the elements of each window, `[n] -> [size, kernel]`, where element (i,
u) is x[i * step + u * dilation]. It moves nothing: codegen reads the operand with two strides. `overlap_add` is its
adjoint,
`[out, kernel] -> [n]`: each window's elements are added where they were taken from. The two are closed under
differentiation. `align_windows` is what `overlap_add` is made of in kernels: the elements at their places, `[out,
kernel] -> [n, kernel]`, still to be summed over the kernel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tapeless.ir.correspondence import ALL, At, Axes, kept
from tapeless.ir.ops.registry import Array, Gradients, Operation, Run, Sample, declare, expect, expect_count
from tapeless.ir.ranges import chosen, chosen_or_zero, scattered
from tapeless.ir.types import Dim, DType, Rows, Tensor

if TYPE_CHECKING:
    from tapeless.ir.graph import Builder, Graph, Node, Value

_ROWS = Rows()


def reach(size: int, kernel: int, step: int, dilation: int) -> int:
    """The places that so many windows span, from the first element of the first one to the last of the last."""
    return (size - 1) * step + (kernel - 1) * dilation + 1


def _positive(name: str, *numbers: Any) -> None:
    expect(
        all(isinstance(n, int) and n >= 1 for n in numbers),
        f"`{name}` needs whole numbers of at least 1, not {numbers}",
    )


def _windows_rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
    expect_count("windows", operands, 1)
    (x,), axis = operands, attrs["axis"]
    size, kernel, step, dilation = (attrs[part] for part in ("size", "kernel", "step", "dilation"))
    expect(0 <= axis < x.rank, f"`windows` of {x} along axis {axis}")
    _positive("windows", size, kernel, step, dilation)
    extent = x.shape[axis]
    expect(isinstance(extent, int) and reach(size, kernel, step, dilation) <= extent,
           f"`windows`: {size} of {kernel} elements leave axis {axis} of {x}")  # fmt: skip
    return (x.with_shape((*x.shape[:axis], size, kernel, *x.shape[axis + 1 :])),)


def _windows_derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    (x,), axis = node.operands, node.attrs["axis"]
    steps = {part: node.attrs[part] for part in ("step", "dilation")}
    return (builder.emit("overlap_add", adjoint, axis=axis, size=x.type.shape[axis], **steps),)


def _windows_axes(node: Node) -> Axes:
    axis, rank = node.attrs["axis"], node.operands[0].type.rank
    walked = At(((axis, node.attrs["step"]), (axis + 1, node.attrs["dilation"])))
    return (tuple(walked if k == axis else kept(k + (k > axis)) for k in range(rank)),)


def _windows_reference(run: Run, operands: Sequence[Array]) -> Array:
    axis, size, kernel, step, dilation = (run.attrs[part] for part in ("axis", "size", "kernel", "step", "dilation"))
    places = step * np.arange(size)[:, None] + dilation * np.arange(kernel)
    return np.asarray(np.take(operands[0], places, axis=axis))


declare(
    Operation(
        "windows",
        "movement",
        _windows_rule,
        _windows_derivative,
        _windows_reference,
        (
            Sample((Tensor(DType.F64, (_ROWS, 7)),), {"axis": 1, "size": 5, "kernel": 3, "step": 1, "dilation": 1}),
            Sample((Tensor(DType.F64, (2, 9, _ROWS)),), {"axis": 1, "size": 3, "kernel": 2, "step": 2, "dilation": 3}),
            Sample((Tensor(DType.F64, (6, 3)),), {"axis": 0, "size": 2, "kernel": 2, "step": 3, "dilation": 1}),
            Sample((Tensor(DType.I32, (8,)),), {"axis": 0, "size": 1, "kernel": 8, "step": 1, "dilation": 1}),
        ),
        flops=0,
        attributes=("axis", "size", "kernel", "step", "dilation"),
        range=chosen,
        axes=_windows_axes,
    )
)


def _placed(name: str, x: Tensor, attrs: Mapping[str, Any]) -> tuple[Dim, ...]:
    """The shape of `[.., out, kernel, ..]` with its windows put into `size` places: `[.., size, kernel, ..]`."""
    axis, extent, step, dilation = (attrs[part] for part in ("axis", "size", "step", "dilation"))
    expect(0 <= axis < x.rank - 1, f"`{name}` of {x} along the axes {axis} and {axis + 1}")
    size, kernel = x.shape[axis : axis + 2]
    _positive(name, size, kernel, extent, step, dilation)
    assert isinstance(size, int) and isinstance(kernel, int)
    expect(reach(size, kernel, step, dilation) <= extent, f"`{name}` of {x} does not fit into {extent} places")
    return (*x.shape[:axis], extent, *x.shape[axis + 1 :])


def _overlap_rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
    expect_count("overlap_add", operands, 1)
    (x,), axis = operands, attrs["axis"]
    expect(x.dtype.is_float, f"`overlap_add` does not take {x}")
    placed = _placed("overlap_add", x, attrs)
    return (x.with_shape((*placed[: axis + 1], *placed[axis + 2 :])),)


def _overlap_derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    (x,), axis = node.operands, node.attrs["axis"]
    size, kernel = x.type.shape[axis : axis + 2]
    steps = {part: node.attrs[part] for part in ("step", "dilation")}
    return (builder.emit("windows", adjoint, axis=axis, size=size, kernel=kernel, **steps),)


def _overlap_axes(node: Node) -> Axes:
    axis, rank = node.attrs["axis"], node.operands[0].type.rank
    return (tuple(ALL if k in (axis, axis + 1) else kept(k - (k > axis)) for k in range(rank)),)


def _overlap_reference(run: Run, operands: Sequence[Array]) -> Array:
    return np.asarray(_aligned(operands[0], run.attrs, run.dtype).sum(axis=run.attrs["axis"] + 1))


def _aligned(x: Array, attrs: Mapping[str, Any], dtype: np.dtype[Any]) -> Array:
    axis, extent, step, dilation = (attrs[part] for part in ("axis", "size", "step", "dilation"))
    made = np.zeros((*x.shape[:axis], extent, *x.shape[axis + 1 :]), dtype)
    for u in range(x.shape[axis + 1]):
        places = slice(u * dilation, u * dilation + (x.shape[axis] - 1) * step + 1, step)
        before = (slice(None),) * axis
        made[(*before, places, u)] = x[(*before, slice(None), u)]
    return made


_SAMPLES = (
    Sample((Tensor(DType.F64, (_ROWS, 5, 3)),), {"axis": 1, "size": 7, "step": 1, "dilation": 1}),
    Sample((Tensor(DType.F64, (2, 3, 2, _ROWS)),), {"axis": 1, "size": 9, "step": 2, "dilation": 3}),
    Sample((Tensor(DType.F64, (2, 2, 3)),), {"axis": 0, "size": 6, "step": 3, "dilation": 1}),
    Sample((Tensor(DType.F64, (3, 3)),), {"axis": 0, "size": 9, "step": 2, "dilation": 2}),
)

declare(
    Operation(
        "overlap_add",
        "movement",
        _overlap_rule,
        _overlap_derivative,
        _overlap_reference,
        _SAMPLES,
        attributes=("axis", "size", "step", "dilation"),
        range=scattered,
        axes=_overlap_axes,
    )
)


def _align_rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
    expect_count("align_windows", operands, 1)
    return (operands[0].with_shape(_placed("align_windows", operands[0], attrs)),)


def _align_derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    """Element (i, u) takes the adjoint at (i * step + u * dilation, u): of all windows of all columns, the own
    column's.
    """
    (x,), axis = node.operands, node.attrs["axis"]
    size, kernel = x.type.shape[axis : axis + 2]
    steps = {part: node.attrs[part] for part in ("step", "dilation")}
    every = builder.emit("windows", adjoint, axis=axis, size=size, kernel=kernel, **steps)
    places = [builder.emit("iota", axis=k, shape=every.type.shape, dtype=DType.I32) for k in (axis + 1, axis + 2)]
    own = builder.emit("select", builder.emit("eq", *places), every, builder.full(0.0, every))
    return (builder.emit("sum", own, axes=(axis + 2,)),)


def _align_axes(node: Node) -> Axes:
    """Place p of column u is of the window (p - u * dilation) / step."""
    axis = node.attrs["axis"]
    window = At(((axis, 1), (axis + 1, -node.attrs["dilation"])), every=node.attrs["step"], bounded=True)
    return (tuple(window if k == axis else kept(k) for k in range(node.result.type.rank)),)


def _align_reference(run: Run, operands: Sequence[Array]) -> Array:
    return _aligned(operands[0], run.attrs, run.dtype)


declare(
    Operation(
        "align_windows",
        "movement",
        _align_rule,
        _align_derivative,
        _align_reference,
        _SAMPLES,
        attributes=("axis", "size", "step", "dilation"),
        range=chosen_or_zero,
        axes=_align_axes,
    )
)
