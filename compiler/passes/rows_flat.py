"""What follows a product of rows is done row by row: the axes that the rows are made of stay one axis.

A layer over sequences multiplies a matrix with a row for each place of each sequence, and gives the result the shape of
sequences again. Work behind that shape cannot be the product's epilogue, whose axes are the matrix's. So the pointwise
work on such a result, its sums along rows and its sums over all of them are done on the matrix, and the shape is given
to what others read of them: a view. Valid graph in, valid graph out, with the same values; sums over all rows are in
the order of the rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tapeless.compiler.passes.layout import FREE, inputs_of, with_outputs
from tapeless.compiler.passes.rewriter import without_dead_code
from tapeless.ir.graph import Builder, Graph, Node, Value
from tapeless.ir.ops import POINTWISE
from tapeless.ir.types import product

SUMS = frozenset({"sum", "prod", "max", "min"})


def rows_flat(graph: Graph) -> Graph:
    """The graph in which the rows of products stay rows."""
    if not any(_shapes_rows(graph, node) for node in graph.nodes):
        return graph
    return without_dead_code(_Flat(graph).run())


def _shapes_rows(graph: Graph, node: Node) -> bool:
    """Whether a node gives the rows of a product the shape of several axes."""
    if node.op != "reshape" or (maker := graph.producers.get(node.operands[0])) is None or maker.op != "matmul":
        return False
    rows, result = maker.result.type.shape, node.result.type.shape
    return len(rows) == 2 < len(result) and rows[1] == result[-1] and rows[0] == product(result[:-1])


class _Flat:
    """One run over one graph. `rows` has the values that are at hand with one axis of rows, and how many axes that
    stands for.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.builder = Builder(graph.name)
        self.seen = inputs_of(self.builder, graph)
        self.rows: dict[Value, tuple[Value, int]] = {}
        self.views: dict[Value, Value] = {}

    def run(self) -> Graph:
        for node in self.graph.nodes:
            self.builder.span = node.span
            if not (self._reshape(node) or self._pointwise(node) or self._reduction(node)):
                self.builder.copy_nodes([node], self.seen)
        return with_outputs(self.builder, self.graph, self.seen)

    def _keep(self, value: Value, flat: Value, axes: int) -> None:
        """A value is at hand with one axis of rows; others see it through a view."""
        self.rows[value] = flat, axes
        self.seen[value] = self.builder.emit("reshape", flat, name=f"{value.name}.view", shape=value.type.shape)

    def _reshape(self, node: Node) -> bool:
        if node.op != "reshape":
            return False
        source, shape = node.operands[0], node.result.type.shape
        if _shapes_rows(self.graph, node):
            self._keep(node.result, self.seen[source], len(shape) - 1)
            return True
        if source not in self.rows:
            return False
        flat, axes = self.rows[source]
        if shape == flat.type.shape:
            self.seen[node.result] = flat
            return True
        if shape[:axes] != source.type.shape[:axes]:
            return False
        inner = (flat.type.shape[0], *shape[axes:])
        self._keep(node.result, self.builder.emit("reshape", flat, name=node.result.name, shape=inner), axes)
        return True

    def _pointwise(self, node: Node) -> bool:
        known = {self.rows[value][1] for value in node.operands if value in self.rows}
        if node.op not in POINTWISE | {"pick"} or len(known) != 1:
            return False
        (axes,) = known
        if node.op == "pick" and node.operands[0] not in self.rows:
            return False
        if not all(self._can_be_read(value, axes) for value in node.operands):
            return False
        self._keep(
            node.result, self._emit(node, [self._read(value, axes) for value in node.operands], node.attrs), axes
        )
        return True

    def _emit(self, node: Node, operands: Sequence[Value], attrs: Mapping[str, Any]) -> Value:
        return self.builder.emit_node(node.op, operands, attrs, (), [node.result.name], node.span)[0]

    def _can_be_read(self, value: Value, axes: int) -> bool:
        """Whether a value can be had by rows without being stored for it."""
        if value in self.rows:
            return True
        maker = self.graph.producers.get(value)
        if maker is None:
            return True
        if maker.op == "broadcast":
            leading = [axis for axis in maker.attrs["axes"] if axis < axes]
            return not leading or (len(leading) == axes and self._can_be_read(maker.operands[0], axes))
        if maker.op == "iota":
            return int(maker.attrs["axis"]) >= axes
        if maker.op in FREE:
            return False
        if not self._for_one(value):
            return True  # stored in any case
        return maker.op not in POINTWISE or all(self._can_be_read(operand, axes) for operand in maker.operands)

    def _for_one(self, value: Value) -> bool:
        """Whether one node alone wants a value, so that it is not made twice if it is made by rows."""
        return len(self.graph.uses[value]) == 1 and value not in self.graph.output_values

    def _read(self, value: Value, axes: int) -> Value:
        """A value with one axis of rows."""
        if value in self.rows:
            return self.rows[value][0]
        maker = self.graph.producers.get(value)
        shape = (product(value.type.shape[:axes]), *value.type.shape[axes:])
        if maker is not None and (maker.op == "iota" or (maker.op == "random_uniform" and self._for_one(value))):
            along = {"axis": maker.attrs["axis"] - axes + 1} if maker.op == "iota" else {}
            operands = [self.seen[operand] for operand in maker.operands]
            return self._emit(maker, operands, {**maker.attrs, **along, "shape": shape})
        if maker is not None and maker.op in POINTWISE and self._for_one(value):
            return self._emit(maker, [self._read(operand, axes) for operand in maker.operands], maker.attrs)
        if maker is None or maker.op != "broadcast":
            if value not in self.views:
                name = f"{value.name}.rows"
                self.views[value] = self.builder.emit("reshape", self.seen[value], name=name, shape=shape)
            return self.views[value]
        spread: Sequence[int] = maker.attrs["axes"]
        inner = tuple(axis - axes + 1 for axis in spread if axis >= axes)
        if len(inner) == len(spread):
            return self.builder.broadcast_to(self.seen[maker.operands[0]], shape, inner)
        return self.builder.broadcast_to(self._read(maker.operands[0], axes), shape, (0, *inner))

    def _reduction(self, node: Node) -> bool:
        if node.op not in SUMS or node.operands[0] not in self.rows:
            return False
        flat, axes = self.rows[node.operands[0]]
        reduced = node.attrs["axes"]
        inner = tuple(axis - axes + 1 for axis in reduced if axis >= axes)
        whole = len(reduced) - len(inner)
        if whole not in (0, axes):
            return False
        attrs = {**node.attrs, "axes": (0, *inner) if whole else inner}
        made = self._emit(node, [flat], attrs)
        if whole:
            self.seen[node.result] = made
        else:
            self._keep(node.result, made, axes)
        return True
