"""Whether results depend on where in a batch a row stands: rows come in any order, and an epoch shuffles them.

Operations that know the place of a row, as `iota` along the rows or a running sum over them does, are found in the
graph (`row_places.py`). Where one leads to a result, it need not matter: the labels `arange(batch)` of a loss over
pairs go with the rows, and what is sorted may be added up. So the graph is run, on some rows of random numbers in two
orders, and the results are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tapeless.compiler.elaborate.row_places import knowing_places
from tapeless.ir.graph import Graph, Node, Port, Value
from tapeless.ir.interpreter import Array, run
from tapeless.ir.ops import OPERATIONS
from tapeless.ir.types import DType, Rows

ORDER = np.random.default_rng(0).permutation(67)  # more rows than conditions on a place are likely to let pass
# Uniform numbers and what rounding may change of results: some of which most functions have a value, some of both
# signs, some far apart.
DRAWS = ((0.1, 0.9, 1e-7), (-2.0, 2.0, 1e-7), (-50.0, 50.0, 1e-3))


def by_place(graph: Graph, ports: Sequence[Port], bounds: Mapping[str, int | None]) -> dict[str, Node]:
    """Of the outputs whose value depends on the places of rows, the label and the node by which it comes to.
    `bounds` are those of the integers that the data bring.
    """
    knowing = knowing_places(graph)
    suspects: dict[str, Node] = {}
    for port in ports if knowing else ():
        wanted = graph.ancestors([port.value])
        node = next((node for node in knowing if node.results[0] in wanted), None)
        if node is not None:
            suspects[port.label] = node
    if not suspects:
        return {}
    found = _moved(graph, [port for port in ports if port.label in suspects], bounds)
    return {label: node for label, node in suspects.items() if label in found}


def _moved(graph: Graph, ports: Sequence[Port], bounds: Mapping[str, int | None]) -> set[str]:
    """The outputs that are others when the rows come in another order."""
    tested = _with_drawn_inputs(graph.with_outputs(ports))
    found: set[str] = set()
    for seed, (low, high, relative) in enumerate(DRAWS):
        rng = np.random.default_rng(seed)
        inputs = {port.key: _drawn(rng, port, bounds.get(port.label), low, high) for port in tested.inputs}
        other = {port.key: _ordered(inputs[port.key], port.value) for port in tested.inputs}
        one, two = (run(tested, given, rows=len(ORDER), precision=DType.F64) for given in (inputs, other))
        for port in ports:
            expected = _ordered(one[port.key], port.value)
            if not np.allclose(two[port.key], expected, rtol=relative, atol=relative / 100, equal_nan=True):
                found.add(port.label)
    return found


def _with_drawn_inputs(graph: Graph) -> Graph:
    """The part that the outputs need, in which what is drawn at random comes in with the rows that it was drawn for."""
    wanted = graph.ancestors(port.value for port in graph.outputs)
    nodes = [node for node in graph.nodes if not wanted.isdisjoint(node.results)]
    drawn = [node for node in nodes if OPERATIONS[node.op].family == "random"]
    inputs = [port for port in graph.inputs if port.value in wanted]
    inputs += [Port(f"<{value.name}>", value, "data") for node in drawn for value in node.results]
    return Graph(graph.name, tuple(inputs), tuple(node for node in nodes if node not in drawn), graph.outputs)


def _drawn(rng: np.random.Generator, port: Port, bound: int | None, low: float, high: float) -> Array:
    shape, dtype = port.value.type.at(len(ORDER)), port.value.type.dtype
    if dtype.is_float:
        positive = port.role == "state"  # such as a variance
        return np.asarray(rng.uniform(abs(low) if positive else low, high, shape))
    limit = bound if bound is not None else 2
    return np.asarray(rng.integers(0, limit, shape)).astype(np.bool_ if dtype is DType.BOOL else np.int64)


def _ordered(array: Array, value: Value) -> Array:
    """The rows in the other order, each with what belongs to it."""
    for axis, dim in enumerate(value.type.shape):
        if isinstance(dim, Rows):
            groups = array.reshape(*array.shape[:axis], len(ORDER), dim.multiple, *array.shape[axis + 1 :])
            array = np.take(groups, ORDER, axis=axis).reshape(array.shape)
    return array


__all__ = ["by_place"]
