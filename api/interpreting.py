"""`tapeless run`: the text of a graph, of any stage, executed by the reference interpreter on data from a file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeless.abi.dtypes import PRECISIONS
from tapeless.codegen.program.schedule import ORDER
from tapeless.ir.graph import Graph, Value
from tapeless.ir.interpreter import InterpreterError, run
from tapeless.ir.text import TextError, read_all
from tapeless.ir.types import Examples, IRTypeError, Rows
from tapeless.ir.verifier import VerificationError, verify
from tapeless.runtime.errors import UserError

Array = npt.NDArray[Any]


def run_file(
    path: Path,
    arrays: Mapping[str, Array],
    name: str | None,
    precision: str | None,
    rows: int | None,
    note: Callable[[str], None],
) -> dict[str, Array]:
    """The outputs, by name, of a graph in a file. Inputs that `arrays` lacks are zero; `note` is told of them."""
    graph = with_examples(_verified(path, _chosen(path, name)), arrays)
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
            if port.key == ORDER:
                inputs[port.key] = np.arange(extent, dtype=kind.dtype.numpy)
    missing = [port.key for port in graph.inputs if port.key not in given and port.key != ORDER]
    if missing:
        note(f"not among the data, so zero: {', '.join(missing)}")
    try:
        return run(graph, inputs, rows=extent, precision=PRECISIONS[precision] if precision else None)
    except InterpreterError as error:
        raise UserError(f"{path}: {error}") from error
    except _UNTRUE as error:  # data that the operations of the graph have no result for, such as an index outside
        raise UserError(f"{path}: the graph can't be executed on these data: {error}") from error


# What the rules of operations raise for attributes that no writer of graphs gives them.
_UNTRUE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError, AssertionError)


def _verified(path: Path, graph: Graph) -> Graph:
    """The graph, which is what graphs are: the text may be anybody's. UserError if not."""
    try:
        verify(graph)
    except VerificationError as error:
        raise UserError(f"{path}: {error}") from error
    except _UNTRUE as error:
        raise UserError(
            f"{path}: graph {graph.name}: an operation's attributes or regions are not what it takes: {error!r}"
        ) from error
    return graph


def with_examples(graph: Graph, arrays: Mapping[str, Array]) -> Graph:
    """A scheduled graph takes its batch out of all examples, whose count its text leaves open: here it is known."""
    counts = {
        len(arrays[port.key])
        for port in graph.inputs
        if port.key in arrays and port.value.type.shape[:1] == (Examples(),)
    }
    if len(counts) != 1:
        return graph
    (count,) = counts

    def known(value: Value) -> Value:
        shape = tuple(count if isinstance(dim, Examples) else dim for dim in value.type.shape)
        return replace(value, type=replace(value.type, shape=shape))

    def rewritten(graph: Graph) -> Graph:
        return Graph(
            graph.name,
            tuple(replace(port, value=known(port.value)) for port in graph.inputs),
            tuple(
                replace(
                    node,
                    operands=tuple(map(known, node.operands)),
                    results=tuple(map(known, node.results)),
                    regions=tuple(map(rewritten, node.regions)),
                )
                for node in graph.nodes
            ),
            tuple(replace(port, value=known(port.value)) for port in graph.outputs),
        )

    return rewritten(graph)


def _chosen(path: Path, name: str | None) -> Graph:
    try:
        graphs = {graph.name: graph for graph in read_all(path.read_text("utf-8"))}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}") from error
    except RecursionError as error:
        raise UserError(f"{path}: graphs in graphs are nested too deeply") from error
    except ValueError as error:  # a number of more digits than Python reads
        raise UserError(f"{path}: {error}") from error
    except (TextError, IRTypeError) as error:
        formulas = any(re.match(r" +# \S+ \| ", line) for line in path.read_text("utf-8").splitlines())
        hint = "; it holds formulas for reading: write it anew with `tapeless inspect --plain`" if formulas else ""
        raise UserError(f"{path}: {error}{hint}") from error
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
