"""Views that merge axes come after the work on what they merge, so that it fuses with what made it.

The adjoint of pooling is made window by window, as [.., 14, 2, 14, 2, ..], and a view as [.., 28, 28, ..] stands
between it and the derivative of the activation before, and the sum for the bias. Pointwise work is done as well before
the view, and so are sums over whole groups of merged axes: all is one kernel, and the picture is written once. What
else such work takes is viewed the other way, where that costs nothing: what lies in memory anyway, and broadcasts.
Valid graph in, valid graph out, same values; only the order of sums may differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tapeless.compiler.passes.channels_last import grouped
from tapeless.compiler.passes.layout import FREE, PRODUCTS, inputs_of, with_outputs
from tapeless.compiler.passes.rewriter import without_dead_code
from tapeless.ir.graph import Builder, Graph, Node, Value
from tapeless.ir.ops import POINTWISE
from tapeless.ir.types import Dim

FARTHEST = 16  # pointwise nodes between a product and what is asked for

Groups = list[tuple[tuple[int, ...], tuple[int, ...]]]


@dataclass(frozen=True)
class Merged:
    """A value of the new graph before a view, and which of its axes the view makes one."""

    before: Value
    groups: Groups


def views_after(graph: Graph) -> Graph:
    """The graph with views that merge axes of pointwise work moved behind the work that follows."""
    if not any(node.op == "reshape" and _merges(graph, node) is not None for node in graph.nodes):
        return graph
    return without_dead_code(_Mover(graph).run())


def _merges(graph: Graph, node: Node) -> Groups | None:
    """The groups of axes that a view merges, of a value that pointwise work makes alone."""
    (value,) = node.operands
    maker = graph.producers.get(value)
    if maker is None or maker.op not in POINTWISE or value.type.rank <= node.result.type.rank:
        return None
    if len(graph.uses[value]) > 1 or value in graph.output_values or _in_memory(graph, value):
        return None
    groups = grouped(value.type.shape, node.result.type.shape)
    return groups if groups is not None and all(len(new) == 1 for _, new in groups) else None


def _in_memory(graph: Graph, value: Value) -> bool:
    """Whether a value is stored whoever reads it: an input, or pointwise work on a product alone."""
    if value not in graph.producers:
        return True
    for _ in range(FARTHEST):
        maker = graph.producers.get(value)
        if maker is None or maker.op not in POINTWISE:
            return maker is not None and maker.op in PRODUCTS
        made = [one for one in maker.operands if (known := graph.producers.get(one)) is None or known.op not in FREE]
        if len(made) != 1:
            return False
        (value,) = made
    return False


class _Mover:
    """One run over one graph; `merged` has the values that are views of what was made before them."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.builder = graph, Builder(graph.name)
        self.seen = inputs_of(self.builder, graph)
        self.merged: dict[Value, Merged] = {}

    def run(self) -> Graph:
        for node in self.graph.nodes:
            self.builder.span = node.span
            if node.op in POINTWISE:
                moved = self.pointwise(node)
            elif node.op == "sum":
                moved = self.sum(node)
            else:
                moved = False
            if moved:
                continue
            self.builder.copy_nodes([node], self.seen)
            if node.op == "reshape" and (groups := _merges(self.graph, node)) is not None:
                self.merged[node.result] = Merged(self.seen[node.operands[0]], groups)
        return with_outputs(self.builder, self.graph, self.seen)

    def pointwise(self, node: Node) -> bool:
        """Done before the view, and viewed; unless something else it takes cannot be viewed the other way."""
        known = next((self.merged[value] for value in node.operands if value in self.merged), None)
        if known is None:
            return False
        taken = [self.split(value, known) for value in node.operands]
        if None in taken:
            return False
        operands = [value for value in taken if value is not None]
        name = node.result.name
        made = self.builder.emit(node.op, *operands, name=f"{name}.split", **node.attrs)
        view = self.builder.emit("reshape", made, name=name, shape=node.result.type.shape)
        self.seen[node.result], self.merged[node.result] = view, Merged(made, known.groups)
        return True

    def split(self, value: Value, known: Merged) -> Value | None:
        """A value with the axes apart that the view merges."""
        if (merged := self.merged.get(value)) is not None:
            return merged.before if merged.before.type.shape == known.before.type.shape else None
        shape, maker = known.before.type.shape, self.graph.producers.get(value)
        if maker is not None and maker.op == "broadcast":
            return self.split_broadcast(maker, known)
        if maker is not None and (maker.op in FREE or not _in_memory(self.graph, value)):
            return None
        return self.builder.emit("reshape", self.seen[value], name=f"{value.name}.split", shape=shape)

    def split_broadcast(self, node: Node, known: Merged) -> Value:
        (small,), axes, shape = node.operands, node.attrs["axes"], known.before.type.shape
        old = {new[0]: old for old, new in known.groups}
        apart = [axis for k in axes for axis in old[k]]
        dims: Sequence[Dim] = tuple(shape[axis] for axis in apart)
        value = self.seen[small]
        if dims != small.type.shape:
            value = self.builder.emit("reshape", value, name=f"{small.name}.split", shape=dims)
        return self.builder.emit("broadcast", value, name=node.result.name, shape=shape, axes=tuple(apart))

    def sum(self, node: Node) -> bool:
        """Over all of the axes that one axis was merged of."""
        known = self.merged.get(node.operands[0])
        if known is None:
            return False
        old = {new[0]: old for old, new in known.groups}
        left = [axis for axis in range(node.operands[0].type.rank) if axis not in node.attrs["axes"]]
        if any(len(old[axis]) > 1 for axis in left):
            return False
        axes = tuple(axis for k in node.attrs["axes"] for axis in old[k])
        self.seen[node.result] = self.builder.emit("sum", known.before, name=node.result.name, axes=axes)
        return True
