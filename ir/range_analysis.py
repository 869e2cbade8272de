"""The range of every value of a graph under construction, found by the rules of `ranges` as nodes come along; and
the product that differentiation multiplies an adjoint and a slope with, which depends on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tapeless.ir.ranges import FINITE, INFINITY, UNKNOWN, Range, covers, union
from tapeless.ir.types import DType

if TYPE_CHECKING:
    from tapeless.ir.graph import Builder, Graph, Node, Value


class Ranges:
    """Ranges of the values of a list of nodes that may grow. Of an input nothing is known but that it is finite,
    unless stated.
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = nodes
        self._known: dict[Value, Range] = {}
        self._read = 0
        self._last: Node | None = None

    def state(self, value: Value, range: Range) -> None:
        """Take a value's range as given."""
        self._catch_up()
        self._known[value] = range

    def of(self, value: Value) -> Range:
        self._catch_up()
        return self._known.get(value, FINITE)

    def inside(self, node: Node) -> Mapping[Value, Range]:
        """The ranges of the values in the body of a scan, at any step."""
        return _inside(node, [self.of(value) for value in node.operands])

    def _catch_up(self) -> None:
        if self._read and self._nodes[self._read - 1] is not self._last:
            self._read -= 1  # a builder may rename the result of its last node
        for place in range(self._read, len(self._nodes)):
            self._enter(self._nodes[place])
        self._read = len(self._nodes)
        self._last = self._nodes[-1] if self._nodes else None

    def _enter(self, node: Node) -> None:
        from tapeless.ir.ops.registry import OPERATIONS

        operands = [self._known.get(value, FINITE) for value in node.operands]
        if node.op == "scan":
            carries, found = node.attrs["carries"], _inside(node, operands)
            ends = [found[port.value] for port in node.regions[0].outputs]
            known = [
                union(end, start) if k < carries else end for k, (end, start) in enumerate(_paired(ends, operands))
            ]
        else:
            known = [OPERATIONS[node.op].range(node, operands)] * len(node.results)
        self._known.update(
            (value, _held(one, value.type.dtype)) for value, one in zip(node.results, known, strict=True)
        )


def _paired(ends: Sequence[Range], starts: Sequence[Range]) -> list[tuple[Range, Range]]:
    return [(end, starts[k] if k < len(starts) else end) for k, end in enumerate(ends)]


def _inside(node: Node, operands: Sequence[Range]) -> dict[Value, Range]:
    """The ranges in a scan's body, with those of the carries that one step leaves as they are: wider from round to
    round.
    """
    (body,), carries = node.regions, node.attrs["carries"]
    given = [replace(one, above=None) for one in operands]
    while True:
        found = _evaluated(body, given)
        left = [found[port.value] for port in body.outputs[:carries]]
        if all(covers(given[k], left[k]) for k in range(carries)):
            return found
        given[:carries] = [_widened(given[k], left[k]) for k in range(carries)]


def _evaluated(body: Graph, given: Sequence[Range]) -> dict[Value, Range]:
    ranges = Ranges(body.nodes)
    for port, one in zip(body.inputs, given, strict=True):
        ranges.state(port.value, one)
    values = [*(port.value for port in body.inputs), *(port.value for port in body.outputs)]
    return {value: ranges.of(value) for value in (*values, *(value for inner in body.nodes for value in inner.results))}


def _widened(before: Range, after: Range) -> Range:
    """A range over both; a bound that moved is none, so that this comes to an end."""
    both = union(before, after)
    low, high = (-INFINITY if both.low < before.low else both.low), (INFINITY if both.high > before.high else both.high)
    return Range(low, high, both.infinite, both.nan)


def _held(range: Range, dtype: DType) -> Range:
    """A range in numbers of that type: what is too large is infinite, what is too small is zero, and an integer is
    neither infinite nor NaN.
    """
    if not dtype.record.is_real:
        return replace(range, infinite=False, nan=False)
    low, high, infinite = range.low, range.high, range.infinite
    largest, smallest = dtype.record.largest, dtype.record.smallest_normal
    if high != INFINITY and high > largest:
        high, infinite = INFINITY, True
    if low != -INFINITY and low < -largest:
        low, infinite = -INFINITY, True
    if 0 < low < smallest:
        low = 0.0
    if -smallest < high < 0:
        high = 0.0
    return replace(range, low=low, high=high, infinite=infinite)


def weighed(builder: Builder, adjoint: Value, slope: Value) -> Value:
    """adjoint * slope, in which an adjoint of exactly 0 stays 0 whatever the slope is, and a slope of 0 whatever the
    adjoint is.

    A plain product where neither can be infinite or NaN beside a zero of the other; else the operation
    `strong_product`. The zero is a "strong" one as Enzyme has it (Moses and Churavy 2020): a path that has no part
    in the result adds nothing to it.
    """
    x, y = builder.ranges.of(adjoint), builder.ranges.of(slope)
    plain = not (x.special and y.has_zero) and not (y.special and x.has_zero)
    return builder.emit("mul" if plain else "strong_product", adjoint, slope)


__all__ = ["UNKNOWN", "Ranges", "weighed"]
