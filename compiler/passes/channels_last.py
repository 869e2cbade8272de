"""Channels last, for whole chains of layers.

A convolution takes and makes channels last, between transposes that put them where the program has them. Here these
transposes move along: what is done to a transposed value, pointwise work, pooling, padding, sums, is done to the value
as it was before the transpose, up to the next convolution, where both cancel, or to where the order of the elements
matters, where what is left of them is written out. Valid graph in, valid graph out, same values; nothing changes where
there is no convolution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tapeless.compiler.passes.convolution import transposed
from tapeless.compiler.passes.layout import inputs_of
from tapeless.compiler.passes.rewriter import without_dead_code
from tapeless.ir.graph import Builder, Graph, Node, Value
from tapeless.ir.ops import OPERATIONS, POINTWISE
from tapeless.ir.types import Dim

MAKERS = frozenset({"convolution"})
"""What makes channels last: transposes of these move along."""
REDUCTIONS = tuple(name for name, op in OPERATIONS.items() if op.family == "reduction" and op.attributes == ("axes",))


@dataclass(frozen=True)
class Turned:
    """A value of the program as it lies: axis k of `lying` is axis `order[k]` of the value."""

    lying: Value
    order: tuple[int, ...]


@dataclass(frozen=True)
class Spread:
    """A broadcast that is not written yet; `axes` are those of `small` in the value of this shape."""

    small: Turned
    shape: tuple[Dim, ...]
    axes: tuple[int, ...]


def channels_last(graph: Graph) -> Graph:
    """The graph with convolutions' transposes moved as far as they go."""
    if not any(node.op in MAKERS for node in graph.nodes):
        return graph
    return _Mover(graph).run()


class _Mover:
    """One run over one graph. `turned` has the values that lie in another order than the program's, and broadcasts of
    them; `seen` all that lie in its order.
    """

    def __init__(self, graph: Graph, order: Sequence[int] = ()) -> None:
        """With an `order`, all inputs and outputs have that of their axes."""
        self.graph, self.builder, self.order = graph, Builder(graph.name), order
        self.seen = {} if order else inputs_of(self.builder, graph)
        self.turned: dict[Value, Turned | Spread] = {}
        for port in graph.inputs if order else ():
            type = port.value.type.with_shape([port.value.type.shape[axis] for axis in order])
            self.turned[port.value] = Turned(self.builder.input_like(port, type), tuple(order))
        self.rules: dict[str, Callable[[Node], Turned | Spread | None]] = {
            "transpose": self.transpose,
            "reshape": self.reshape,
            "broadcast": self.broadcast,
            "windows": self.windows,
            "overlap_add": self.overlap_add,
            "pad": self.pad,
            "slice": self.slice,
            "with_derivative": self.with_derivative,
            **dict.fromkeys((*POINTWISE, "stop_gradient"), self.pointwise),
            **dict.fromkeys(REDUCTIONS, self.reduction),
        }

    def run(self) -> Graph:
        for node in self.graph.nodes:
            moves = node.op in self.rules and (
                self.begins(node) or any(value in self.turned for value in node.operands)
            )
            self.builder.span = node.span
            made = self.rules[node.op](node) if moves else None
            if made is None:
                here = {value: self.plain(value) for value in node.operands}
                self.builder.copy_nodes([node], here)
                self.seen.update((value, here[value]) for value in node.results)
            elif isinstance(made, Turned) and made.order == tuple(range(len(made.order))):
                self.seen[node.result] = made.lying
            else:
                self.turned[node.result] = made
        for port in self.graph.outputs:
            value = self.ordered(port.value, self.order) if self.order else self.plain(port.value)
            self.builder.output_like(port, value)
        return without_dead_code(self.builder.graph())

    def begins(self, node: Node) -> bool:
        producer = self.graph.producers.get(node.operands[0]) if node.op == "transpose" else None
        return producer is not None and producer.op in MAKERS

    # Values in one order or another

    def plain(self, value: Value) -> Value:
        """The value in the program's order, written out where it lies in another."""
        if value not in self.seen:
            self.seen[value] = self.ordered(value, tuple(range(value.type.rank)))
        return self.seen[value]

    def lying(self, value: Value) -> Turned:
        """The value as it lies; a broadcast is written out in the program's order."""
        known = self.turned.get(value)
        return known if isinstance(known, Turned) else Turned(self.plain(value), tuple(range(value.type.rank)))

    def ordered(self, value: Value, order: Sequence[int]) -> Value:
        """The value with its axes in an order: axis k is axis `order[k]` of the program's."""
        known = self.turned.get(value)
        producer = self.graph.producers.get(value)
        if known is None and producer is not None and producer.op == "broadcast":
            known = Spread(self.lying(producer.operands[0]), value.type.shape, tuple(producer.attrs["axes"]))
        if known is None and producer is not None and producer.op == "iota":
            shape, axis = tuple(value.type.shape[k] for k in order), list(order).index(producer.attrs["axis"])
            return self.builder.emit("iota", name=value.name, axis=axis, shape=shape, dtype=value.type.dtype)
        if isinstance(known, Spread):
            return self.spread(known, order, value.name)
        return self.permuted(known or Turned(self.seen[value], tuple(range(value.type.rank))), order, value.name)

    def permuted(self, known: Turned, order: Sequence[int], name: str) -> Value:
        return transposed(self.builder, known.lying, tuple(known.order.index(axis) for axis in order), name)

    def spread(self, known: Spread, order: Sequence[int], name: str) -> Value:
        inner = [axis for axis in order if axis in known.axes]
        small = self.permuted(known.small, [known.axes.index(axis) for axis in inner], name)
        shape, axes = tuple(known.shape[axis] for axis in order), tuple(list(order).index(axis) for axis in inner)
        return self.builder.emit("broadcast", small, name=name, shape=shape, axes=axes)

    def emit(self, node: Node, *operands: Value, regions: Sequence[Graph] = (), **attrs: Any) -> Value:
        """The node's operation on operands that lie otherwise."""
        attrs = {**node.attrs, **attrs}
        return self.builder.emit(node.op, *operands, name=node.result.name, regions=regions, **attrs)

    # What is done to a value as it lies

    def transpose(self, node: Node) -> Turned | Spread:
        (x,), perm = node.operands, tuple(node.attrs["perm"])
        known = self.turned.get(x)
        if isinstance(known, Spread):
            return Spread(known.small, node.result.type.shape, tuple(perm.index(axis) for axis in known.axes))
        known = self.lying(x)
        return Turned(known.lying, tuple(perm.index(axis) for axis in known.order))

    def broadcast(self, node: Node) -> Spread:
        (x,), axes = node.operands, tuple(node.attrs["axes"])
        known = self.turned.get(x)
        if isinstance(known, Spread):
            return Spread(known.small, node.result.type.shape, tuple(axes[axis] for axis in known.axes))
        return Spread(self.lying(x), node.result.type.shape, axes)

    def pointwise(self, node: Node) -> Turned | None:
        order = next((v.order for v in map(self.turned.get, node.operands) if isinstance(v, Turned)), None)
        if order is None:
            return None
        return Turned(self.emit(node, *(self.ordered(value, order) for value in node.operands)), order)

    def with_derivative(self, node: Node) -> Turned | None:
        """Its region works element by element, too."""
        made = next((v for v in map(self.turned.get, node.operands) if isinstance(v, Turned)), None)
        if made is None:
            return None
        operands = [self.ordered(value, made.order) for value in node.operands]
        regions = [_Mover(region, made.order).run() for region in node.regions]
        return Turned(self.emit(node, *operands, regions=regions), made.order)

    def reduction(self, node: Node) -> Turned | None:
        (x,), gone = node.operands, node.attrs["axes"]
        known = self.turned[x]
        if not isinstance(known, Turned):
            return None
        left = [axis for axis in range(x.type.rank) if axis not in gone]
        axes = tuple(sorted(known.order.index(axis) for axis in gone))
        order = tuple(left.index(axis) for axis in known.order if axis not in gone)
        return Turned(self.emit(node, known.lying, axes=axes), order)

    def pad(self, node: Node) -> Turned | None:
        known = self.turned[node.operands[0]]
        if not isinstance(known, Turned):
            return None
        return Turned(self.emit(node, known.lying, axis=known.order.index(node.attrs["axis"])), known.order)

    def slice(self, node: Node) -> Turned | None:
        known = self.turned[node.operands[0]]
        if not isinstance(known, Turned):
            return None
        parts = {part: tuple(node.attrs[part][axis] for axis in known.order) for part in ("start", "size", "step")}
        return Turned(self.emit(node, known.lying, **parts), known.order)

    def windows(self, node: Node) -> Turned | None:
        known, axis = self.turned[node.operands[0]], node.attrs["axis"]
        if not isinstance(known, Turned):
            return None
        made = self.emit(node, known.lying, axis=known.order.index(axis))
        order = [((axis, axis + 1) if k == axis else (k + (k > axis),)) for k in known.order]
        return Turned(made, tuple(k for part in order for k in part))

    def overlap_add(self, node: Node) -> Turned | None:
        (x,), axis = node.operands, node.attrs["axis"]
        known = self.turned[x]
        if not isinstance(known, Turned):
            return None
        order = [k for k in known.order if k != axis + 1]
        place = order.index(axis)
        value = self.ordered(x, [*order[: place + 1], axis + 1, *order[place + 1 :]])
        return Turned(self.emit(node, value, axis=place), tuple(k - (k > axis) for k in order))

    def reshape(self, node: Node) -> Turned | None:
        """Axes that are split, or merged with neighbours that lie side by side too, where they lie."""
        (x,) = node.operands
        known = self.turned[x]
        groups = grouped(x.type.shape, node.result.type.shape)
        if not isinstance(known, Turned) or groups is None:
            return None
        order: list[int] = []
        pending = list(known.order)
        by_first = {old[0]: (old, new) for old, new in groups}
        while pending:
            old, new = by_first.get(pending[0], ((), ()))
            if not old or tuple(pending[: len(old)]) != old:
                return None
            order.extend(new)
            del pending[: len(old)]
        shape = tuple(node.result.type.shape[axis] for axis in order)
        return Turned(self.emit(node, known.lying, shape=shape), tuple(order))


def grouped(old: Sequence[Dim], new: Sequence[Dim]) -> list[tuple[tuple[int, ...], tuple[int, ...]]] | None:
    """Which axes of one shape become which of another with as many elements: the fewest at a time. None where rows are
    split or merged.
    """
    found: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    i = j = 0
    while i < len(old) and j < len(new):
        first, other = i, j
        i, j = i + 1, j + 1
        while old[first:i] != new[other:j]:
            left, right = (size(part) for part in (old[first:i], new[other:j]))
            if left is None or right is None:
                return None
            if left == right:
                break
            if left < right and i < len(old):
                i += 1
            elif right < left and j < len(new):
                j += 1
            else:
                return None
        found.append((tuple(range(first, i)), tuple(range(other, j))))
    # what is left are ones
    if found and (i < len(old) or j < len(new)):
        last = found[-1]
        found[-1] = ((*last[0], *range(i, len(old))), (*last[1], *range(j, len(new))))
    return found


def size(dims: Sequence[Dim]) -> int | None:
    """The product of dimensions, unless rows are among them."""
    known = [dim for dim in dims if isinstance(dim, int)]
    return math.prod(known) if len(known) == len(dims) else None
