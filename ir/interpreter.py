"""The reference interpreter: runs a graph on NumPy arrays, one operation at a time, as the operations' references say.

It is what every pass and every kernel is tested against. With `precision` F64 a float32 program computes in float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tapeless.ir.graph import Graph, Value
from tapeless.ir.ops import Run, operation
from tapeless.ir.types import DType, Examples, Rows

Array = np.ndarray[Any, np.dtype[Any]]


class InterpreterError(Exception):
    """The arrays do not fit the graph's inputs: the message names the input and both shapes."""


def run(
    graph: Graph, inputs: Mapping[str, Any], *, rows: int | None = None, precision: DType | None = None
) -> dict[str, Array]:
    """Run a graph: arrays in by input key, arrays out by output key (see `Port.key`).

    `rows` is taken from the inputs that have a `batch` dimension unless given. Raises InterpreterError for a missing
    input or a wrong shape.
    """
    known = values(graph, inputs, rows=rows, precision=precision)
    return {port.key: known[port.value] for port in graph.outputs}


def values(
    graph: Graph, inputs: Mapping[str, Any], *, rows: int | None = None, precision: DType | None = None
) -> dict[Value, Array]:
    """As `run`, but all values of the graph on the way."""
    dtypes = computed_dtypes(precision)
    missing = [port.key for port in graph.inputs if port.key not in inputs]
    if missing:
        raise InterpreterError(f"{graph.name} needs the inputs {', '.join(missing)}")
    arrays = [np.asarray(inputs[port.key]).astype(dtypes[port.value.type.dtype]) for port in graph.inputs]
    found = _infer_rows(graph, arrays) if rows is None else rows
    for port, array in zip(graph.inputs, arrays, strict=True):
        if array.shape != port.value.type.at(found):
            raise InterpreterError(
                f"input {port.key} is {port.value.type} with {found} rows; the array has the shape {array.shape}"
            )
    return _known(graph, arrays, found, dtypes)


def evaluate(graph: Graph, arrays: Sequence[Array], rows: int, dtypes: Mapping[DType, np.dtype[Any]]) -> list[Array]:
    """Run a graph on arrays in the order of its inputs; results in the order of its outputs."""
    known = _known(graph, arrays, rows, dtypes)
    return [known[port.value] for port in graph.outputs]


def _known(
    graph: Graph, arrays: Sequence[Array], rows: int, dtypes: Mapping[DType, np.dtype[Any]]
) -> dict[Value, Array]:
    known: dict[Value, Array] = {port.value: array for port, array in zip(graph.inputs, arrays, strict=True)}

    def inner(region: Graph, operands: Sequence[Array]) -> list[Array]:
        return evaluate(region, operands, rows, dtypes)

    with np.errstate(all="ignore"):
        for node in graph.nodes:
            types = tuple(value.type for value in node.results)
            context = Run(node.attrs, node.regions, types, rows, dtypes, inner)
            made = operation(node.op).reference(context, [known[value] for value in node.operands])
            results = made if isinstance(made, tuple) else (made,)
            known.update(zip(node.results, results, strict=True))
    return known


def computed_dtypes(precision: DType | None = None) -> dict[DType, np.dtype[Any]]:
    """What NumPy computes each element type in; with a precision, all real numbers in that."""
    return {dtype: np.dtype((precision if precision and dtype.is_float else dtype).computed.numpy) for dtype in DType}


def _infer_rows(graph: Graph, arrays: Sequence[Array]) -> int:
    for port, array in zip(graph.inputs, arrays, strict=True):
        for dim, size in zip(port.value.type.shape, array.shape, strict=False):
            if isinstance(dim, Rows) and not isinstance(dim, Examples):
                return int(size) // dim.multiple
    return 1
