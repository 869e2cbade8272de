"""`tapeless run`: the text of a graph, of any stage, executed by the reference interpreter on data from a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeless.ir.graph import Graph
from tapeless.ir.interpreter import InterpreterError, run
from tapeless.ir.text import TextError, read_all
from tapeless.ir.types import DType, IRTypeError, Rows
from tapeless.runtime.errors import UserError

Array = npt.NDArray[Any]
PRECISIONS = {"float32": DType.F32, "float64": DType.F64}


def run_file(
    path: Path,
    arrays: Mapping[str, Array],
    name: str | None,
    precision: str | None,
    rows: int | None,
    note: Callable[[str], None],
) -> dict[str, Array]:
    """The outputs, by name, of a graph in a file. Inputs that `arrays` lacks are zero; `note` is told of them."""
    graph = _chosen(path, name)
    given = {port.key: arrays[port.key] for port in graph.inputs if port.key in arrays}
    extent = rows if rows is not None else _rows(graph, given)
    inputs: dict[str, Array] = {}
    for port in graph.inputs:
        kind = port.value.type
        if port.key in given:
            value = np.asarray(given[port.key])
            by_rows = bool(kind.shape) and isinstance(kind.shape[0], Rows) and value.ndim > 0
            inputs[port.key] = value[: kind.at(extent)[0]] if by_rows else value
        else:
            inputs[port.key] = np.zeros(kind.at(extent), kind.dtype.numpy)
    missing = [port.key for port in graph.inputs if port.key not in given]
    if missing:
        note(f"not among the data, so zero: {', '.join(missing)}")
    try:
        return run(graph, inputs, rows=extent, precision=PRECISIONS[precision] if precision else None)
    except InterpreterError as error:
        raise UserError(f"{path}: {error}") from error


def _chosen(path: Path, name: str | None) -> Graph:
    try:
        graphs = {graph.name: graph for graph in read_all(path.read_text("utf-8"))}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}") from error
    except (TextError, IRTypeError) as error:
        raise UserError(f"{path}: {error}") from error
    if name is None and len(graphs) == 1:
        return next(iter(graphs.values()))
    if name not in graphs:
        wanted = f"has no graph {name!r}; it has" if name else "has several graphs; choose with --graph:"
        raise UserError(f"{path} {wanted} {', '.join(graphs)}")
    return graphs[name]


def _rows(graph: Graph, given: Mapping[str, Array]) -> int:
    for port in graph.inputs:
        kind = port.value.type
        if port.key in given and kind.shape and isinstance(kind.shape[0], Rows):
            return int(np.shape(given[port.key])[0]) // kind.shape[0].multiple
    return 1
