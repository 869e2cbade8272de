"""Orders along one axis: where each element goes when sorted, and reading and adding at places along an axis.

sort(x) is take_along(x, argsort(x)), and the k greatest are its first k places: the derivative is the permutation's, by
put_along. NaN comes last in either direction; equal elements keep their order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tapeless.ir.correspondence import along
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
from tapeless.ir.ranges import between, chosen, scattered
from tapeless.ir.types import DType, Rows, Tensor

if TYPE_CHECKING:
    from tapeless.ir.graph import Builder, Graph, Node, Value


def _argsort_rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
    expect_count("argsort", operands, 1)
    (x,), axis = operands, attrs["axis"]
    expect(x.dtype.is_number and 0 <= axis < x.rank, f"`argsort` of {x} along axis {axis}")
    return (x.with_dtype(DType.I32),)


def _argsort_reference(run: Run, operands: Sequence[Array]) -> Array:
    (x,) = operands
    if run.attrs["descending"]:
        x = -x if x.dtype.kind == "f" else ~x  # which no integer overflows
    return np.argsort(x, axis=run.attrs["axis"], kind="stable").astype(run.dtype)


declare(
    Operation(
        "argsort",
        "indexing",
        _argsort_rule,
        NoDerivative("the places of sorted elements are integers: they have no derivative"),
        _argsort_reference,
        (
            Sample((Tensor(DType.F64, (3, 7)),), {"axis": 1, "descending": False}),
            Sample((Tensor(DType.F64, (7, 3)),), {"axis": 0, "descending": True}),
            Sample((Tensor(DType.F64, (Rows(), 5)),), {"axis": 1, "descending": True}),
            Sample((Tensor(DType.F64, (Rows(),)),), {"axis": 0, "descending": False}),
            Sample((Tensor(DType.I32, (3, 7)),), {"axis": 1, "descending": True}),
        ),
        flops=60,
        attributes=("axis", "descending"),
        kernel="argsort",
        range=between(0.0, math.inf),
        axes=along,
    )
)


def _along(name: str, x: Tensor, index: Tensor, axis: int) -> None:
    expect(
        x.dtype.is_number and index.dtype is DType.I32 and x.rank == index.rank and 0 <= axis < x.rank,
        f"`{name}` of {x} by {index} along axis {axis}",
    )
    same = all(x.shape[k] == index.shape[k] for k in range(x.rank) if k != axis)
    expect(same, f"`{name}` needs equal sizes but for axis {axis}: {x}, {index}")


def _take_rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
    expect_count("take_along", operands, 2)
    x, index = operands
    _along("take_along", x, index, attrs["axis"])
    return (index.with_dtype(x.dtype),)


def _take_derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    (x, index), axis = node.operands, node.attrs["axis"]
    return (builder.emit("put_along", adjoint, index, axis=axis, size=x.type.shape[axis]), None)


def _take_reference(run: Run, operands: Sequence[Array]) -> Array:
    (x, index), axis = operands, run.attrs["axis"]
    return np.take_along_axis(x, np.clip(index, 0, max(0, x.shape[axis] - 1)), axis=axis)


_INDEX = Tensor(DType.I32, (3, 4))

declare(
    Operation(
        "take_along",
        "indexing",
        _take_rule,
        _take_derivative,
        _take_reference,
        (
            Sample((Tensor(DType.F64, (3, 6)), _INDEX), {"axis": 1}),
            Sample((Tensor(DType.F64, (5, 4)), _INDEX), {"axis": 0}),
            Sample((Tensor(DType.F64, (Rows(), 6, 2)), Tensor(DType.I32, (Rows(), 3, 2))), {"axis": 1}),
            Sample((Tensor(DType.I32, (3, 6)), _INDEX), {"axis": 1}),
        ),
        attributes=("axis",),
        kernel="along",
        range=chosen,
        axes=along,
    )
)


def _put_rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
    expect_count("put_along", operands, 2)
    (updates, index), axis = operands, attrs["axis"]
    _along("put_along", updates, index, axis)
    expect(updates.shape == index.shape, f"`put_along` needs one index for each update: {updates}, {index}")
    return (updates.with_shape([attrs["size"] if k == axis else dim for k, dim in enumerate(updates.shape)]),)


def _put_derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    return (builder.emit("take_along", adjoint, node.operands[1], axis=node.attrs["axis"]), None)


def _put_reference(run: Run, operands: Sequence[Array]) -> Array:
    """Adds one slice of updates after the other, so that equal indices add in their order."""
    (updates, index), axis = operands, run.attrs["axis"]
    made = np.zeros(run.shape, run.dtype)
    if made.shape[axis] == 0:
        return made
    for k in range(updates.shape[axis]):
        place = np.clip(np.take(index, [k], axis=axis), 0, made.shape[axis] - 1)
        here = np.take_along_axis(made, place, axis=axis)
        np.put_along_axis(made, place, here + np.take(updates, [k], axis=axis), axis=axis)
    return made


declare(
    Operation(
        "put_along",
        "indexing",
        _put_rule,
        _put_derivative,
        _put_reference,
        (
            Sample((Tensor(DType.F64, (3, 4)), _INDEX), {"axis": 1, "size": 6}),
            Sample((Tensor(DType.F64, (3, 4)), _INDEX), {"axis": 0, "size": 5}),
            Sample((Tensor(DType.F64, (Rows(), 3, 2)), Tensor(DType.I32, (Rows(), 3, 2))), {"axis": 1, "size": 6}),
        ),
        attributes=("axis", "size"),
        kernel="along",
        range=scattered,
        axes=along,
    )
)
