"""Long sums that leave little are made in shares side by side, and then of the shares.

A sum of a million numbers has no axis left along which threads could share it out. One of the axes that it sums is
cut into equal stretches, whose sums are stored, and a second sum adds these up. How it is cut follows from the shape
and the kind of processor alone, so the order of the sum does, too. Valid graph in, valid graph out, same values up to
rounding.
"""

from __future__ import annotations

from tapeless.compiler.passes.layout import ROWS, inputs_of, with_outputs
from tapeless.ir.graph import Builder, Graph, Node
from tapeless.ir.machine import Machine
from tapeless.ir.types import multiple

FEWEST = 4  # shares that are worth a second sum


def sums_in_shares(graph: Graph, machine: Machine) -> Graph:
    """The graph with each long sum as the sum of a `sum_shares`."""
    cuts = {node.result: found for node in graph.nodes if (found := _cut(node, machine)) is not None}
    if not cuts:
        return graph
    builder = Builder(graph.name)
    seen = inputs_of(builder, graph)
    for node in graph.nodes:
        if node.op != "sum" or node.result not in cuts:
            builder.copy_nodes([node], seen)
            continue
        (shared, shares), axes = cuts[node.result], node.attrs["axes"]
        name, builder.span = node.result.name, node.span
        operand = seen[node.operands[0]]
        made = builder.emit("sum_shares", operand, name=f"{name}.shares", axes=axes, shared=shared, shares=shares)
        seen[node.result] = builder.emit("sum", made, name=name, axes=(0,))
    return with_outputs(builder, graph, seen)


def _cut(node: Node, machine: Machine) -> tuple[int, int] | None:
    """Which axis of a sum is cut, and into how many shares; None of a sum that is short, or leaves enough."""
    if node.op != "sum" or not node.result.type.dtype.is_float:
        return None
    operand, bytes = node.operands[0].type, node.result.type.dtype.bytes
    lanes = machine.lanes(bytes)
    vectors = -(-node.result.type.count(ROWS) // lanes)
    if operand.count(ROWS) * bytes < machine.core_cache // 2 or vectors >= machine.most_parts // 2:
        return None
    found = []
    for axis in node.attrs["axes"]:
        if shares := _shares(multiple(operand.shape[axis]), lanes if axis == operand.rank - 1 else 1, machine):
            found.append((shares, axis))
    if not found:
        return None
    shares, axis = max(found, key=lambda cut: (cut[0], -cut[1]))  # of equals the first, which lies in stretches
    return axis, shares


def _shares(extent: int, grain: int, machine: Machine) -> int:
    """The most shares of whole grains that an axis has, or of any size, and none if they are few."""
    for least in (grain, 1):
        for shares in range(machine.most_parts, FEWEST - 1, -1):
            if extent % shares == 0 and extent // shares % least == 0 and extent // shares >= grain:
                return shares
    return 0
