"""Where the rows of a batch stand along the axes of values, followed through a graph, and which operations ask for it.

A reshape makes an axis of `batch` and one of 64 places one axis of 64 * batch, and another one takes it apart again; a
loop over time stacks what it gives in front of the rows. Neither tells rows apart as long as what meets along an axis
has its rows in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence

from tapeless.compiler.stepping.axis_parts import Part, regroup, tidy
from tapeless.ir.correspondence import labels
from tapeless.ir.graph import Graph, Node, Value
from tapeless.ir.ops import OPERATIONS
from tapeless.ir.types import Dim, Rows, product

Place = tuple[int, int] | None
"""In an axis that holds rows, several times each: how many of its factors are outside of them, and inside. None of
another axis, and of one along which nothing differs.
"""
Places = tuple[Place, ...]


def knowing_places(graph: Graph) -> list[Node]:
    """The operations that work otherwise at different places along the rows, or that may; also those whose results
    the graph gives with rows in another order than they came in.
    """
    places = {port.value: _by_nature(port.value) for port in graph.inputs}
    knowing: dict[Node, None] = {}
    for node in graph.nodes:
        found = _made(node, [places[value] for value in node.operands])
        if found is None:
            knowing[node] = None
        for value in node.results:
            places[value] = found if found is not None and len(node.results) == 1 else _by_nature(value)
    turned = {port.value for port in graph.outputs if not _natural(port.value, places[port.value])}
    knowing.update((node, None) for node in graph.nodes if not turned.isdisjoint(node.results))
    return list(knowing)


def _by_nature(value: Value) -> Places:
    """Rows come first, each with all that belongs to it."""
    return tuple((1, dim.multiple) if isinstance(dim, Rows) else None for dim in value.type.shape)


def _natural(value: Value, places: Places) -> bool:
    return all(one in (None, other) for one, other in zip(places, _by_nature(value), strict=True))


def _made(node: Node, operands: Sequence[Places]) -> Places | None:
    """Where rows stand in the result of an operation; None if it asks for the places of rows, or may."""
    family = OPERATIONS[node.op].family
    nature = _by_nature(node.results[0])
    if node.op == "constant":
        return (None,) * len(nature)
    if node.op == "iota":
        return None if isinstance(node.attrs["shape"][node.attrs["axis"]], Rows) else nature
    if family == "random" or node.op == "count":
        return nature
    if node.op == "reshape":
        return _reshaped(node, operands[0])
    found = None if node.regions else labels(node)
    if found is None:
        rowless = not any(isinstance(dim, Rows) for value in node.operands for dim in value.type.shape)
        natural = all(_natural(value, places) for value, places in zip(node.operands, operands, strict=True))
        return nature if rowless or (natural and not _asks_within(node)) else None
    return _met(node, found, operands)


def _asks_within(node: Node) -> bool:
    """Whether an operation that has no correspondence of axes, or regions, asks for places."""
    if node.regions:
        return any(knowing_places(region) for region in node.regions)
    return node.op != "attention" or isinstance(node.result.type.shape[-2], Rows)


def _reshaped(node: Node, places: Places) -> Places | None:
    """Where a reshape leaves the rows; None if it cuts through their order."""
    parts = tuple(
        tidy((Part(place[0]), Part(Rows(), True), Part(place[1]))) if place else tidy([Part(dim)])
        for dim, place in zip(node.operands[0].type.shape, places, strict=True)
    )
    if not any(places):
        return (None,) * node.result.type.rank
    made = regroup(parts, node.result.type.shape)
    if made is None:
        return None
    return tuple(map(_place, made))


def _place(axis: Sequence[Part]) -> Place:
    at = next((k for k, part in enumerate(axis) if part.mark), None)
    return None if at is None else (_count(axis[:at]), _count(axis[at + 1 :]))


def _count(parts: Sequence[Part]) -> int:
    sizes: list[Dim] = [part.size for part in parts]
    total = product(sizes)
    assert isinstance(total, int)
    return total


def _met(node: Node, found: Sequence[Sequence[int | None]], operands: Sequence[Places]) -> Places | None:
    """Where rows stand in a result whose axes correspond to those of the operands: all that meet must agree."""
    met: dict[int, Place] = {}
    for value, places, axes in zip(node.operands, operands, found, strict=True):
        for dim, place, axis in zip(value.type.shape, places, axes, strict=True):
            if not isinstance(dim, Rows):
                continue
            if axis is None or (axis < 0 and node.op == "argmax"):
                return None
            known = met.setdefault(axis, place)
            if known is None:
                met[axis] = place
            elif place not in (None, known):
                return None
    nature = _by_nature(node.result)
    if node.op == "broadcast":
        return tuple(met.get(axis) for axis in range(len(nature)))
    return tuple(met.get(axis, place) for axis, place in enumerate(nature))


__all__ = ["knowing_places"]
