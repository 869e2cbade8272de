"""Whether the rows of a batch go their own ways through a graph: of some of the rows, taken together, it gives those
rows of its results, bit for bit. Then rows can be shared out, and nobody waits for anybody inside.

Followed is where rows lie in each value, by what operations declare of their axes (`ir.correspondence`). An operation
that makes something of several rows, or of their places or number, ends it.
"""

from __future__ import annotations

from collections.abc import Container, Sequence, Set
from dataclasses import dataclass
from math import prod

from tapeless.ir.correspondence import labels
from tapeless.ir.graph import Graph, Node, Value
from tapeless.ir.types import Rows, Tensor, extent

__all__ = ["inner_wide", "is_row_wise", "wide"]


@dataclass(frozen=True)
class _Rows:
    """Where the rows of a value lie: along an axis, of which each row has a share in each of so many blocks; 0: all
    rows are the same, and lie in any order.
    """

    axis: int
    blocks: int = 1


Lie = _Rows | None  # None: a value without rows


class _Mixed(Exception):
    """Rows meet, or it is not known that they don't."""


def is_row_wise(graph: Graph) -> bool:
    """Whether each row of a graph's results is made of the same row of its inputs, and of inputs that have no rows.

    Of inputs and results, a row is one piece, or as many as stand before it: those are only walked or stacked by loops.
    """
    try:
        made = _results(graph, [_given(port.value.type) for port in graph.inputs])
        return bool(made) and all(lie is not None and lie.blocks <= 1 for lie in made) and _walked(graph, wide(graph))
    except _Mixed:
        return False


def wide(graph: Graph, among: Container[Value] | None = None) -> frozenset[Value]:
    """The inputs and results of a graph of which a row is several pieces, perhaps of some of them only."""
    ports = (port.value for port in (*graph.inputs, *graph.outputs) if among is None or port.value in among)
    return frozenset(value for value in ports if _axis(value.type))


def inner_wide(loop: Node, outside: Set[Value]) -> frozenset[Value]:
    """The inputs and results of a loop's body of which a row is several pieces, by those that are so around it."""
    (body,), carries = loop.regions, loop.attrs["carries"]
    inputs = (port.value for port, value in zip(body.inputs, loop.operands, strict=True) if value in outside)
    outputs = (port.value for port, value in zip(body.outputs, loop.results, strict=True) if value in outside)
    if any(value in outside for value in (*loop.operands[:carries], *loop.results[:carries])):
        raise _Mixed
    return wide(body, {*inputs, *outputs})


def _walked(graph: Graph, spread: Set[Value]) -> bool:
    """Whether nothing but loops touches the values of which a row is several pieces."""
    for node in graph.nodes:
        touched = any(value in spread for value in (*node.operands, *node.results))
        if touched and (node.op != "scan" or not _walked(node.regions[0], inner_wide(node, spread))):
            return False
    return True


def _given(type: Tensor) -> Lie:
    axis = _axis(type)
    return None if axis is None else _Rows(axis)


def _axis(type: Tensor) -> int | None:
    """The axis that holds the rows."""
    axes = [axis for axis, dim in enumerate(type.shape) if isinstance(dim, Rows)]
    if len(axes) > 1:
        raise _Mixed
    return axes[0] if axes else None


def _results(graph: Graph, inputs: Sequence[Lie]) -> list[Lie]:
    """Where rows lie in a graph's outputs, by where they lie in its inputs."""
    known = {port.value: lie for port, lie in zip(graph.inputs, inputs, strict=True)}
    for node in graph.nodes:
        taken = [known[value] for value in node.operands]
        known.update(zip(node.results, _made(node, taken), strict=True))
    return [known[port.value] for port in graph.outputs]


def _made(node: Node, taken: Sequence[Lie]) -> list[Lie]:
    if node.op == "kernel":
        return _results(node.regions[0], taken)
    if node.op == "scan":
        return _scanned(node, taken)
    if node.op == "reshape":
        return [_reshaped(node.operands[0].type, taken[0], node.result.type)]
    if all(lie is None for lie in taken):
        return [_new(node, value) for value in node.results]
    axes = labels(node)
    if axes is None or len(node.results) != 1:
        raise _Mixed
    here = [(_along(own, lie.axis), lie.blocks) for own, lie in zip(axes, taken, strict=True) if lie is not None]
    if {axis for axis, _ in here} != {_axis(node.result.type)}:
        raise _Mixed
    blocks = {blocks for _, blocks in here if blocks}
    if len(blocks) > 1:
        raise _Mixed
    return [_Rows(here[0][0], max(blocks, default=0))]


def _along(axes: Sequence[int | None], axis: int) -> int:
    """The axis of the result that an operand's is."""
    found = axes[axis]
    if found is None or found < 0:
        raise _Mixed
    return found


def _new(node: Node, value: Value) -> Lie:
    """Of what is made of values without rows: the same for all rows, unless it tells their places or their number, or
    draws for each.
    """
    axis = _axis(value.type)
    counted = node.op == "count" and any(isinstance(dim, Rows) for dim in node.attrs["shape"])
    placed = axis is not None and (node.op == "iota" and node.attrs["axis"] == axis)
    if counted or placed or (axis is not None and node.op not in ("constant", "iota", "broadcast")):
        raise _Mixed
    if axis is None:
        return None
    return _Rows(axis, int(value.type.shape[axis] == Rows()))


def _reshaped(old: Tensor, lie: Lie, new: Tensor) -> Lie:
    """The elements stay in order: before a row's first one in each block there stand as many as ever."""
    axis = _axis(new)
    if lie is None and axis is None:
        return None
    if lie is None or axis is None or not lie.blocks:
        raise _Mixed
    blocks, outer = lie.blocks * _before(old, lie.axis), _before(new, axis)
    dim = new.shape[axis]
    assert isinstance(dim, Rows)
    if not outer or blocks % outer or dim.multiple % (blocks // outer):
        raise _Mixed
    return _Rows(axis, blocks // outer)


def _before(type: Tensor, axis: int) -> int:
    """How many places there are along the axes before that of the rows."""
    return prod(extent(dim, 1) for dim in type.shape[:axis])


def _scanned(node: Node, taken: Sequence[Lie]) -> list[Lie]:
    """Carries lie in each step as before it; in what is walked or stacked, steps stand before all else."""
    carries = node.attrs["carries"]
    walked = carries + node.attrs["sequences"]
    inside = [_inner(lie) if carries <= k < walked else lie for k, lie in enumerate(taken)]
    made = _results(node.regions[0], inside)
    if made[:carries] != inside[:carries]:
        raise _Mixed
    return [_outer(lie) if k >= carries else lie for k, lie in enumerate(made)]


def _inner(lie: Lie) -> Lie:
    if lie is None:
        return None
    if not lie.axis:
        raise _Mixed  # steps are rows
    return _Rows(lie.axis - 1, lie.blocks)


def _outer(lie: Lie) -> Lie:
    return None if lie is None else _Rows(lie.axis + 1, lie.blocks)
