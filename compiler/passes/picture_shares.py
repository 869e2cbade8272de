"""The adjoint of a convolution's weights is summed over shares of the pictures, and then over the shares.

How many shares there are follows from the work and the kind of processor alone, so the order of the sums does, too.
Valid graph in, valid graph out, same values up to rounding.
"""

from __future__ import annotations

from tapeless.compiler.passes.layout import ROWS, inputs_of, with_outputs
from tapeless.ir.graph import Builder, Graph, Node
from tapeless.ir.machine import Machine
from tapeless.ir.ops import OPERATIONS

FEWEST = 4  # shares that the caches need not hold: so many threads are kept at work


def in_shares(graph: Graph, machine: Machine) -> Graph:
    """The graph with each `convolution_weights` as the sum of `convolution_shares`."""
    if not any(node.op == "convolution_weights" for node in graph.nodes):
        return graph
    builder = Builder(graph.name)
    seen = inputs_of(builder, graph)
    for node in graph.nodes:
        if node.op != "convolution_weights":
            builder.copy_nodes([node], seen)
            continue
        name, builder.span = node.result.name, node.span
        operands = [seen[value] for value in node.operands]
        shares = _shares(node, machine)
        made = builder.emit("convolution_shares", *operands, name=f"{name}.shares", shares=shares, **node.attrs)
        if shares > 1:
            seen[node.result] = builder.emit("sum", made, name=name, axes=(0,))
        else:
            seen[node.result] = builder.emit("reshape", made, name=name, shape=node.result.type.shape)
    return with_outputs(builder, graph, seen)


def _shares(node: Node, machine: Machine) -> int:
    """As many as are worth two parts, but no more than there are pictures; few where the weights are many."""
    types = [value.type for value in node.operands]
    cost = OPERATIONS[node.op].cost(types, [node.result.type], node.attrs, ROWS)
    lanes = machine.lanes(node.result.type.dtype.bytes)
    parts = int(cost.flops / 4 / lanes / machine.products / machine.part_microseconds)
    held = max(FEWEST, machine.last_cache // max(1, node.result.type.bytes(ROWS)))
    return max(1, min(machine.most_parts, parts, types[0].at(ROWS)[0], held))
