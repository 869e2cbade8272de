"""Reading and writing at computed indices. An index outside the range is clamped into it: never a wild read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tapeless.ir.correspondence import Axes, By, kept
from tapeless.ir.ops.registry import Array, Gradients, Operation, Run, Sample, declare, expect, expect_count
from tapeless.ir.ranges import chosen, scattered
from tapeless.ir.types import DType, Rows, Tensor

if TYPE_CHECKING:
    from tapeless.ir.graph import Builder, Graph, Node, Value

_INDEX = Tensor(DType.I32, (5,))


def _pick_rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
    expect_count("pick", operands, 2)
    x, index = operands
    expect(x.rank >= 1 and x.dtype.is_number and index.dtype is DType.I32, f"`pick` from {x} by {index}")
    expect(
        index.shape == x.shape[:-1],
        f"`pick` needs one index for each row: {x} has the rows {x.shape[:-1]}, the index is {index}",
    )
    return (index.with_dtype(x.dtype),)


def _pick_derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    """The adjoint at the picked place, zero elsewhere."""
    x, index = node.operands
    lead = tuple(range(x.type.rank - 1))
    places = builder.emit("iota", axis=x.type.rank - 1, shape=x.type.shape, dtype=DType.I32)
    picked = builder.emit("eq", places, builder.broadcast_to(index, x.type.shape, lead))
    return (
        builder.emit("select", picked, builder.broadcast_to(adjoint, x.type.shape, lead), builder.full(0.0, x)),
        None,
    )


def _pick_axes(node: Node) -> Axes:
    rows = tuple(kept(k) for k in range(node.result.type.rank))
    return ((*rows, By(1)), rows)


def _pick_reference(run: Run, operands: Sequence[Array]) -> Array:
    x, index = operands
    within = np.clip(index, 0, x.shape[-1] - 1)
    return np.take_along_axis(x, within[..., None], axis=-1)[..., 0]


declare(
    Operation(
        "pick",
        "indexing",
        _pick_rule,
        _pick_derivative,
        _pick_reference,
        (
            Sample((Tensor(DType.F64, (5, 4)), _INDEX)),
            Sample((Tensor(DType.F64, (Rows(), 4)), Tensor(DType.I32, (Rows(),)))),
            Sample((Tensor(DType.I32, (5, 4)), _INDEX)),
        ),
        range=chosen,
        axes=_pick_axes,
    )
)


def _gather_rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
    expect_count("gather", operands, 2)
    table, index = operands
    expect(table.rank >= 1 and index.dtype is DType.I32, f"`gather` from {table} by {index}")
    return (table.with_shape(index.shape + table.shape[1:]),)


def _gather_derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    table, index = node.operands
    return (builder.emit("scatter_add", adjoint, index, size=table.type.shape[0]), None)


def _gather_axes(node: Node) -> Axes:
    table, index = (value.type.rank for value in node.operands)
    return ((By(1), *(kept(k) for k in range(index, index + table - 1))), tuple(kept(k) for k in range(index)))


def _gather_reference(run: Run, operands: Sequence[Array]) -> Array:
    table, index = operands
    return np.asarray(table[np.clip(index, 0, table.shape[0] - 1)])


declare(
    Operation(
        "gather",
        "indexing",
        _gather_rule,
        _gather_derivative,
        _gather_reference,
        (
            Sample((Tensor(DType.F64, (4, 3)), _INDEX)),
            Sample((Tensor(DType.F64, (4, 3)), Tensor(DType.I32, (Rows(),)))),
        ),
        kernel="gather",
        range=chosen,
        axes=_gather_axes,
    )
)


def _scatter_rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
    expect_count("scatter_add", operands, 2)
    updates, index = operands
    expect(updates.dtype.is_float and index.dtype is DType.I32, f"`scatter_add` of {updates} by {index}")
    expect(
        updates.shape[: index.rank] == index.shape, f"`scatter_add` needs one index for each update: {updates}, {index}"
    )
    return (updates.with_shape((attrs["size"], *updates.shape[index.rank :])),)


def _scatter_derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    return (builder.emit("gather", adjoint, node.operands[1]), None)


def _scatter_reference(run: Run, operands: Sequence[Array]) -> Array:
    updates, index = operands
    total = np.zeros(run.shape, run.dtype)
    if index.size:
        np.add.at(total, np.clip(index, 0, run.shape[0] - 1), updates)
    return total


declare(
    Operation(
        "scatter_add",
        "indexing",
        _scatter_rule,
        _scatter_derivative,
        _scatter_reference,
        (
            Sample((Tensor(DType.F64, (5, 3)), _INDEX), {"size": 4}),
            Sample((Tensor(DType.F64, (Rows(), 3)), Tensor(DType.I32, (Rows(),))), {"size": 4}),
        ),
        attributes=("size",),
        kernel="scatter",
        range=scattered,
    )
)
