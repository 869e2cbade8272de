"""Names of the values of a graph, for whoever reads it: as the program calls them, else after their operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tapeless.ir.graph import Graph, Node, Value


def named(graph: Graph, claims: Mapping[Value, str]) -> Graph:
    """A graph without nodes that no output needs, its values named as claimed, unique, in order."""
    needed = graph.ancestors(port.value for port in graph.outputs)
    taken: set[str] = set()
    counts: dict[str, int] = {}
    renamed: dict[Value, Value] = {}

    def rename(value: Value, wanted: str) -> Value:
        name = wanted
        while name in taken:
            counts[wanted] = counts.get(wanted, 1) + 1
            name = f"{wanted}.{counts[wanted]}"
        taken.add(name)
        fresh = value if name == value.name else Value(name, value.type)
        renamed[value] = fresh
        return fresh

    inputs = tuple(replace(port, value=rename(port.value, port.value.name)) for port in graph.inputs)
    nodes = []
    for node in graph.nodes:
        if not any(value in needed for value in node.results):
            continue
        operands = tuple(renamed[value] for value in node.operands)
        results = tuple(rename(value, claims.get(value) or _plain(value, node)) for value in node.results)
        nodes.append(Node(node.op, operands, results, node.attrs, node.regions, node.span))
    outputs = tuple(replace(port, value=renamed[port.value]) for port in graph.outputs)
    return Graph(graph.name, inputs, tuple(nodes), outputs)


def _plain(value: Value, node: Node) -> str:
    """The name as it was asked for, without the number that made it unique among names that claims replace."""
    base, _, number = value.name.rpartition(".")
    return base if base and number.isdigit() and base.endswith(node.op) else value.name
