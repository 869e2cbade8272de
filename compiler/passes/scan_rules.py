"""Passes over scans: two that walk the same are merged, what nobody reads of one is left out, and what need not be done
step by step is done before the loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import replace

from tapeless.compiler.passes.layout import FREE, lay_out
from tapeless.ir.graph import Builder, Graph, Node, Port, Value
from tapeless.ir.machine import Machine
from tapeless.ir.reverse_scan import is_slope
from tapeless.ir.types import product


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
            stored = dict(
                zip(
                    (port.value for port in whole.regions[0].outputs[_carries(whole) :]),
                    whole.results[_carries(whole) :],
                    strict=True,
                )
            )
            for node in nodes:
                gone.add(node.results[0])
                carries = _carries(node)
                fresh.update(zip(node.results[:carries], whole.results[:carries], strict=True))
                fresh.update(
                    (old, stored[port.value])
                    for port, old in zip(node.regions[0].outputs[carries:], node.results[carries:], strict=True)
                )

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
    """What two scans share if and only if they walk the same: operands, attributes and the body's nodes, but for slopes
    that stand there for the reverse scan."""
    (body,) = node.regions
    carried = tuple(port.value for port in body.outputs[: _carries(node)])
    return (
        node.operands,
        tuple(sorted(node.attrs.items())),
        tuple(p.value for p in body.inputs),
        tuple(n for n in body.nodes if not is_slope(n)),
        carried,
    )


def _merged(nodes: list[Node]) -> Node:
    """The first of the scans, with all that any of them yields, each value once."""
    first, carries = nodes[0], _carries(nodes[0])
    body = max((node.regions[0] for node in nodes), key=lambda one: len(one.nodes))
    yields: dict[Value, tuple[Port, Value]] = {}
    for node in nodes:
        for port, result in zip(node.regions[0].outputs[carries:], node.results[carries:], strict=True):
            yields.setdefault(port.value, (port, result))
    ports = [
        replace(port, label=f"r{k}")
        for k, port in enumerate((*body.outputs[:carries], *(port for port, _ in yields.values())))
    ]
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


def products_outside(graph: Graph) -> Graph:
    """`x[t] @ W` for all steps is one product before the loop: [steps, rows, n] @ [n, m], of a walked x and a W that
    every step shares."""
    return _moved(graph, _walked_products)


def invariants_outside(graph: Graph, machine: Machine) -> Graph:
    """What is the same in every step of a scan is computed once, before it. Bodies are laid out for kernels here, which
    is what makes such values: transposed copies of weights.
    """
    return _moved(graph, lambda builder, node: _invariants(builder, node, machine))


Rebuild = Callable[[Builder, Node], Node]


def _moved(graph: Graph, rebuild: Rebuild) -> Graph:
    """The graph with each scan rebuilt, inner ones first. `rebuild` gets a scan whose operands are the builder's."""
    if not any(node.op == "scan" for node in graph.nodes):
        return graph
    builder = Builder(graph.name)
    seen = {p.value: builder.input_like(p) for p in graph.inputs}
    for node in graph.nodes:
        if node.op != "scan":
            builder.copy_nodes([node], seen)
            continue
        bodies = tuple(_moved(body, rebuild) for body in node.regions)
        builder.span = node.span
        made = rebuild(builder, replace(node, operands=tuple(seen[value] for value in node.operands), regions=bodies))
        names = [value.name for value in node.results]
        seen.update(
            zip(
                node.results,
                builder.emit_node("scan", made.operands, made.attrs, made.regions, names, node.span),
                strict=True,
            )
        )
        builder.span = None
    for port in graph.outputs:
        builder.output_like(port, seen[port.value])
    return builder.graph()


def _split(node: Node) -> tuple[Graph, int, int]:
    """Body, count of carries, count of carries and sequences."""
    return node.regions[0], _carries(node), _carries(node) + node.attrs["sequences"]


def _walked_products(builder: Builder, node: Node) -> Node:
    body, carries, walked = _split(node)
    place = {port.value: k for k, port in enumerate(body.inputs)}
    sequences: list[Value] = []
    ports: list[Port] = []
    gone: set[Value] = set()
    for inner in body.nodes:
        if inner.op != "matmul" or inner.attrs["transpose_a"] or inner.operands[0].type.rank != 2:
            continue
        left, right = (place.get(value, -1) for value in inner.operands)
        if not carries <= left < walked <= right:
            continue
        stack, weights = node.operands[left], node.operands[right]
        steps, rows, width = stack.type.shape
        flat = builder.emit("reshape", stack, shape=(product((steps, rows)), width))
        made = builder.emit("matmul", flat, weights, name=f"{inner.result.name}.steps", **dict(inner.attrs))
        sequences.append(builder.emit("reshape", made, shape=(steps, rows, made.type.shape[1])))
        ports.append(Port(inner.result.name, inner.result, "operand"))
        gone.add(inner.result)
    return _with_inputs(node, body, walked, sequences, ports, gone, sequential=True) if gone else node


def _invariants(builder: Builder, node: Node, machine: Machine) -> Node:
    node = replace(node, regions=tuple(lay_out(body, machine, True) for body in node.regions))
    body, _, walked = _split(node)
    seen = {port.value: node.operands[k] for k, port in enumerate(body.inputs) if k >= walked}
    moved: list[Node] = []
    for inner in body.nodes:
        shared = inner.operands and all(value in seen for value in inner.operands) and not inner.regions
        if shared and inner.op not in FREE and not body.output_values.intersection(inner.results):
            builder.copy_nodes([inner], seen)
            moved.append(inner)
    values = [value for inner in moved for value in inner.results]
    gone = set(values)
    used = [v for v in values if any(user.results[0] not in gone for user in body.uses.get(v, ()))]
    ports = [Port(value.name, value, "operand") for value in used]
    return (
        _with_inputs(node, body, len(body.inputs), [seen[v] for v in used], ports, gone, sequential=False)
        if gone
        else node
    )


def _with_inputs(node: Node, body: Graph, at: int, operands: Sequence[Value], ports: Sequence[Port], gone: Set[Value],
                 sequential: bool) -> Node:  # fmt: skip
    """The scan with more operands from place `at` on, which are the body's `ports`; its nodes that made them are
    `gone`.
    """
    nodes = tuple(inner for inner in body.nodes if inner.results[0] not in gone)
    inner = replace(body, inputs=(*body.inputs[:at], *ports, *body.inputs[at:]), nodes=nodes)
    attrs = {**node.attrs, "sequences": node.attrs["sequences"] + len(operands) * sequential}
    return replace(node, operands=(*node.operands[:at], *operands, *node.operands[at:]), attrs=attrs, regions=(inner,))
