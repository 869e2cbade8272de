"""Passes over scans: two that walk the same are merged, what nobody reads of one is left out."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace

from tapeless.ir.graph import Graph, Node, Port, Value


def merge_scans(graph: Graph) -> Graph:
    """One scan for those with equal operands and bodies that differ in what they yield.

    Differentiation emits the forward scan once more, with yields that save what the reverse one reads.
    """
    groups: dict[object, list[Node]] = {}
    for node in graph.nodes:
        if node.op == "scan":
            groups.setdefault(_walk(node), []).append(node)
    merged = {nodes[0].results[0]: _merged(nodes) for nodes in groups.values() if len(nodes) > 1}
    if not merged:
        return graph
    fresh: dict[Value, Value] = {}
    gone = set()
    for nodes in groups.values():
        if len(nodes) > 1:
            whole = merged[nodes[0].results[0]]
            stored = dict(zip((port.value for port in whole.regions[0].outputs[_carries(whole) :]), whole.results[_carries(whole) :], strict=True))
            for node in nodes:
                gone.add(node.results[0])
                carries = _carries(node)
                fresh.update(zip(node.results[:carries], whole.results[:carries], strict=True))
                fresh.update((old, stored[port.value]) for port, old in zip(node.regions[0].outputs[carries:], node.results[carries:], strict=True))

    def now(values: tuple[Value, ...]) -> tuple[Value, ...]:
        return tuple(fresh.get(value, value) for value in values)

    kept: list[Node] = []
    for node in graph.nodes:
        first = node.results[0]
        if first in merged:
            node = merged[first]
        elif first in gone:
            continue
        kept.append(replace(node, operands=now(node.operands)))
    outputs = tuple(replace(port, value=fresh.get(port.value, port.value)) for port in graph.outputs)
    return replace(graph, nodes=tuple(kept), outputs=outputs)


def _carries(node: Node) -> int:
    carries: int = node.attrs["carries"]
    return carries


def _walk(node: Node) -> object:
    """What two scans share if and only if they walk the same: operands, attributes and the body's nodes."""
    (body,) = node.regions
    carried = tuple(port.value for port in body.outputs[: _carries(node)])
    return (node.operands, tuple(sorted(node.attrs.items())), tuple(p.value for p in body.inputs), body.nodes, carried)


def _merged(nodes: list[Node]) -> Node:
    """The first of the scans, with all that any of them yields, each value once."""
    first, carries = nodes[0], _carries(nodes[0])
    body = first.regions[0]
    yields: dict[Value, tuple[Port, Value]] = {}
    for node in nodes:
        for port, result in zip(node.regions[0].outputs[carries:], node.results[carries:], strict=True):
            yields.setdefault(port.value, (port, result))
    ports = [replace(port, label=f"r{k}") for k, port in enumerate((*body.outputs[:carries], *(port for port, _ in yields.values())))]
    results = (*first.results[:carries], *(result for _, result in yields.values()))
    return replace(first, results=results, regions=(replace(body, outputs=tuple(ports)),))


def slim(node: Node, used: Set[Value]) -> Node:
    """The scan without carries, yields, sequences and operands that nothing in `used` depends on."""
    (body,), carries, sequences = node.regions, _carries(node), node.attrs["sequences"]
    kept = {k for k, value in enumerate(node.results) if value in used}
    while True:
        needed = body.ancestors(body.outputs[k].value for k in kept)
        more = {k for k in range(carries) if body.inputs[k].value in needed} - kept
        if not more:
            break
        kept |= more
    places = [k for k, port in enumerate(body.inputs) if (k in kept if k < carries else port.value in needed)]
    if len(places) == len(node.operands) and len(kept) == len(node.results):
        return node
    nodes = tuple(inner for inner in body.nodes if any(value in needed for value in inner.results))
    inputs = tuple(body.inputs[k] for k in places)
    outputs = tuple(port for k, port in enumerate(body.outputs) if k in kept)
    attrs = {
        **node.attrs,
        "carries": sum(k < carries for k in kept),
        "sequences": sum(carries <= k < carries + sequences for k in places),
    }
    return replace(
        node,
        operands=tuple(node.operands[k] for k in places),
        results=tuple(value for k, value in enumerate(node.results) if k in kept),
        attrs=attrs,
        regions=(replace(body, inputs=inputs, nodes=nodes, outputs=outputs),),
    )
