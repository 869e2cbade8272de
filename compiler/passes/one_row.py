"""A batch of one row has no axis of rows.

Where each batch has one row, as where one problem is fitted by all its numbers, a sum over the batch is what it sums,
and a parameter of a million numbers walks the same loops as the data. The axis is left out of all values, if the graph
is element-wise work and sums: the data are viewed without it. Valid graph in, valid graph out, with the same values for
one row.
"""

from __future__ import annotations

from typing import Any

from tapeless.compiler.passes.layout import inputs_of, with_outputs
from tapeless.ir.graph import Builder, Graph, Node, Value
from tapeless.ir.ops import POINTWISE
from tapeless.ir.types import Rows, Tensor

REDUCTIONS = frozenset({"sum", "prod", "max", "min"})


def one_row(graph: Graph) -> Graph:
    """The graph without an axis for the row of its batches; as it is where that takes more than leaving it out."""
    if not any(port.role == "data" and _rows(port.value.type) for port in graph.inputs):
        return graph
    outer = [port.value.type for port in (*graph.inputs, *graph.outputs) if port.role != "data"]
    if any(_rows(type) for type in outer) or not all(_leaves_out(node) for node in graph.nodes):
        return graph
    if not all(_first(port.value.type) for port in graph.inputs):
        return graph
    builder = Builder(graph.name)
    seen = inputs_of(builder, graph)
    for port in graph.inputs:
        if _rows(port.value.type):
            name = f"{port.value.name}.row"
            seen[port.value] = builder.emit("only_row", seen[port.value], name=name, span=port.span)
    for node in graph.nodes:
        _emit(builder, seen, node)
    return with_outputs(builder, graph, seen)


def _rows(type: Tensor) -> bool:
    return any(isinstance(dim, Rows) for dim in type.shape)


def _first(type: Tensor) -> bool:
    """Whether a tensor has rows along its first axis or none: one for each row of the batch."""
    return not _rows(type) or (type.shape[0] == Rows() and not _rows(type.with_shape(type.shape[1:])))


def _leaves_out(node: Node) -> bool:
    """Whether the axis of rows can be left out of a node."""
    types = [value.type for value in (*node.operands, *node.results)]
    if node.op == "count" or not any(_rows(type) for type in types):
        return not node.regions
    if not all(_first(type) for type in types):
        return False
    if node.op == "sum_shares":
        return int(node.attrs["shared"]) > 0 and 0 in node.attrs["axes"]
    return node.op in POINTWISE or node.op in {"constant", "broadcast", *REDUCTIONS}


def _emit(builder: Builder, seen: dict[Value, Value], node: Node) -> None:
    """A node without the axis; one that does nothing without it is what it reads."""
    if node.op != "count" and not any(_rows(value.type) for value in (*node.operands, *node.results)):
        builder.copy_nodes([node], seen)
        return
    attrs: dict[str, Any] = dict(node.attrs)
    if node.op == "count":
        attrs["shape"] = tuple(dim.at(1) if isinstance(dim, Rows) else dim for dim in attrs["shape"])
    elif "shape" in attrs:
        attrs["shape"] = tuple(attrs["shape"][1:])
    if "axes" in attrs:
        attrs["axes"] = tuple(axis - 1 for axis in attrs["axes"] if axis > 0)
    if "shared" in attrs:
        attrs["shared"] -= 1
    operands = [seen[value] for value in node.operands]
    spread = node.op != "broadcast" or operands[0].type.shape != attrs["shape"]
    if not spread or (node.op in REDUCTIONS and not attrs["axes"]):
        seen[node.result] = operands[0]
        return
    (seen[node.result],) = builder.emit_node(node.op, operands, attrs, (), [node.result.name], node.span)
