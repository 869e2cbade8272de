"""The halves of a joint graph: what of a training step is forward, in which stretch of it, and what is backward.

The forward half is what losses and metrics need. It is cut at its waists, places that few bytes cross on their way to
later forward work, as between the blocks of a network. A backward node that needs nothing of the last stretch, as an
activation's slope, is a function of earlier forward values and belongs to theirs; all others are adjoints. What moves
with the data, or is drawn at random, is told from what does not, as the weights. Knows nothing of kernels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import accumulate

from tapeless.compiler.passes.layout import FREE
from tapeless.ir.graph import Graph, Node, Value
from tapeless.ir.ops import OPERATIONS, VIEWS

RESULTS = ("loss", "metric", "part")
WORTH = 4  # a stretch makes as many times the bytes that cross its end, at least: or little is freed by dropping it


@dataclass(frozen=True)
class Halves:
    """What moves with the data, and where in the halves it stands. `stretch` has the number of the forward
    stretch that a value belongs to; `adjoints` are the backward values, none of which is in it; `crossing` are the
    forward values that later stretches read.
    """

    moving: Set[Value]
    stretch: Mapping[Value, int]
    adjoints: Set[Value]
    crossing: Set[Value]

    @property
    def last(self) -> int:
        return max(self.stretch.values(), default=0)


def halves(graph: Graph, rows: int) -> Halves:
    """The halves of a graph with gradients or updates, its waists found for so many rows."""
    moving = _moving(graph)
    needed = graph.ancestors([port.value for port in graph.outputs if port.role in RESULTS])
    nodes = [node for node in graph.nodes if node.results[0] in moving]
    forward = [node for node in nodes if not needed.isdisjoint(node.results)]
    ends = _waists(graph, forward, rows)
    stretch: dict[Value, int] = {}
    number = 0
    for k, node in enumerate(forward):
        stretch.update(dict.fromkeys(node.results, number))
        number += k in ends
    adjoints: set[Value] = set()
    for node in nodes:
        if node.results[0] in stretch:
            continue
        known = [stretch.get(value, number) for value in node.operands if value in moving]
        if max(known, default=number) < number:
            stretch.update(dict.fromkeys(node.results, max(known)))
        else:
            adjoints.update(node.results)
    crossing = {
        source
        for node in nodes
        if node.results[0] in stretch
        for value in node.operands
        if value in stretch and stretch[source := stored(graph, value)] < stretch[node.results[0]]
    }
    return Halves(moving, stretch, adjoints, crossing)


def is_stored(node: Node) -> bool:
    """Whether the results of a node take memory: views and what costs nothing are made anew of what they are of."""
    return node.op not in FREE and node.op not in VIEWS


def stored(graph: Graph, value: Value) -> Value:
    """What must lie in memory for a value to be at hand."""
    while value in graph.producers and not is_stored(graph.producers[value]) and graph.producers[value].operands:
        value = graph.producers[value].operands[0]
    return value


def _moving(graph: Graph) -> set[Value]:
    """What depends on the data, or on draws."""
    moving = {port.value for port in graph.inputs if port.role == "data"}
    for node in graph.nodes:
        drawn = any(OPERATIONS[inner.op].family == "random" for inner in _with_inner(node))
        if drawn or not moving.isdisjoint(node.operands):
            moving.update(node.results)
    return moving


def _with_inner(node: Node) -> Sequence[Node]:
    return [node, *(inner for region in node.regions for inner in region.walk())]


def _waists(graph: Graph, forward: Sequence[Node], rows: int) -> set[int]:
    """The places of the forward nodes at which stretches end.

    The place in a range that the fewest bytes cross, nearest to the middle of the work among equals, cuts it in two,
    and each half is cut on; as long as both are worth it.
    """
    crossing = _crossing(forward, rows)
    made = list(accumulate((sum(_bytes(node, rows)) for node in forward), initial=0))
    ends: set[int] = set()
    pending = [(0, len(forward))]
    while pending:
        low, high = pending.pop()
        middle = (made[low] + made[high]) / 2
        worth = [
            k
            for k in range(low, high - 1)
            if crossing[k] and min(made[k + 1] - made[low], made[high] - made[k + 1]) >= WORTH * crossing[k]
        ]
        if worth:
            end = min(worth, key=lambda k: (crossing[k], abs(made[k + 1] - middle)))
            ends.add(end)
            pending += [(low, end + 1), (end + 1, high)]
    return ends


def _crossing(forward: Sequence[Node], rows: int) -> list[int]:
    """The bytes that are made up to each forward node, or at it, and read by later ones; a view, or what costs nothing
    to make again, counts as what it is made of."""
    root: dict[Value, Value] = {}
    made: dict[Value, int] = {}
    final: dict[Value, int] = {}
    for k, node in enumerate(forward):
        for value in node.operands:
            source = root.get(value, value)
            if source in made:
                final[source] = k
        if not is_stored(node):
            root[node.result] = root.get(node.operands[0], node.operands[0])
        else:
            made.update(dict.fromkeys(node.results, k))
    change = [0] * (len(forward) + 1)
    for value, first in made.items():
        if final.get(value, first) > first:
            size = value.type.bytes(rows)
            change[first] += size
            change[final[value]] -= size
    return list(accumulate(change))[:-1]


def _bytes(node: Node, rows: int) -> list[int]:
    """The bytes of what a node makes and stores."""
    return [value.type.bytes(rows) for value in node.results] if is_stored(node) else []
