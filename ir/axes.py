"""Loop axes: which axes of which tensors are walked by the same loop, for a set of nodes that want to be one kernel."""

from __future__ import annotations

from collections.abc import Hashable, Sequence, Set
from typing import Any

from tapeless.ir.correspondence import labels, reduced
from tapeless.ir.graph import Node, Value
from tapeless.ir.ops import OPERATIONS

Key = tuple[Hashable, int]  # of a value by its name, whose hash Python keeps, or of one use of it
ELSEWHERE = ("shape", "movement", "indexing")  # families that read what was made outside at places of their own


class LoopAxes:
    """Classes of (value, axis) pairs that one loop walks, by union and find.

    All direct uses of a value walk the same axes. A value made outside that is read through a broadcast is a load with
    an index map of its own for each such use, so that one tensor may be read as x[i] and as x[j].
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = nodes
        self._parent: dict[Key, Key] = {}
        self._inside = {value.name for node in nodes for value in node.results}
        for node in nodes:
            self._visit(node)

    def find(self, key: Key) -> Key:
        parent = self._parent
        above = parent.get(key)
        if above is None:
            return key
        while (higher := parent.get(above)) is not None:
            parent[key] = higher  # the way is half as long next time
            key, above = above, higher
        return above

    def of(self, value: Value) -> tuple[Key, ...]:
        """The loop axes of a value made inside or used directly, in the order of its own axes."""
        return tuple([self.find((value.name, k)) for k in range(value.type.rank)])

    def of_use(self, node: Node, place: int) -> tuple[Key, ...]:
        """The loop axes of an operand as one node uses it."""
        used = self._used(node, place)
        return tuple([self.find((used, k)) for k in range(node.operands[place].type.rank)])

    def _used(self, node: Node, place: int) -> Hashable:
        """What stands for an operand in keys."""
        name = node.operands[place].name
        mapped = OPERATIONS[node.op].family in ELSEWHERE and name not in self._inside
        return (node.results[0].name, "use", place) if mapped else name

    def _visit(self, node: Node) -> None:
        for name, direct, apart in _pairs(node):
            for axis, target in direct if apart is None or name in self._inside else apart:
                one, other = self.find(axis), self.find(target)
                if one != other:
                    self._parent[one] = other


Pairs = tuple[tuple[Key, Key], ...]


def _pairs(node: Node) -> Sequence[tuple[str, Pairs, Pairs | None]]:
    """Of each operand its name, and which of its axes are which of the result: the value's own, and where these can be
    a use's, those. Kept with the node, which is asked for each group that it might join."""
    kept: Sequence[tuple[str, Pairs, Pairs | None]] | None = vars(node).get("pairs")
    if kept is None:
        elsewhere = OPERATIONS[node.op].family in ELSEWHERE
        found = []
        for place, operand in enumerate(labels(node) or ()):
            name = node.operands[place].name
            axes = [(k, (node.result.name, to)) for k, to in enumerate(operand) if to is not None and to >= 0]
            use = (node.results[0].name, "use", place)
            found.append(
                (
                    name,
                    tuple([((name, k), target) for k, target in axes]),
                    tuple([((use, k), target) for k, target in axes]) if elsewhere else None,
                )
            )
        kept = vars(node)["pairs"] = tuple(found)
    return kept


def _walked(axes: LoopAxes, node: Node) -> tuple[Key, ...]:
    """The axes of a result that its loops walk: shares of what is summed are stretches of another."""
    return axes.of(node.results[0])[1:] if node.op == "sum_shares" else axes.of(node.results[0])


def _cut(node: Node) -> set[Any]:
    """What tells reductions over the same axes apart: into how many shares they are cut."""
    return {("shares", node.attrs["shared"], node.attrs["shares"])} if node.op == "sum_shares" else set()


def loop_axes_agree(axes: LoopAxes, free: Set[Value], reductions: Set[str]) -> bool:
    """Whether the nodes of these axes can share one nest: all reductions over the same axes R, and every value indexed
    by P and R or by P alone, where P are the axes that no reduction removes. The values in `free` may have any axes."""
    nodes = axes.nodes
    gone: set[Key] | None = None
    everything: set[Key] = set()
    held = [node for node in nodes if node.results[0] not in free]
    for node in nodes:
        if node.op in reductions:
            operand = axes.of_use(node, 0)
            removed = {operand[k] for k in reduced(node)} | _cut(node)
            if gone is not None and removed != gone:
                return False
            gone = removed
            everything.update(operand)
    indices = [_walked(axes, node) for node in held]
    everything.update(*indices)
    parallel = everything - (gone or set())
    for node, index in zip(held, indices, strict=True):
        if len(set(index)) != len(index) or set(index) not in (everything, parallel):
            return False
        if node.op in reductions:
            operand = axes.of_use(node, 0)
            if len(set(operand)) != len(operand) or set(operand) != everything:
                return False
    return True
