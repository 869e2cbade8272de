"""What a scan saves for the one that walks back is multiplied before it is saved, where two values are wanted only so.

The adjoint of a gate is `d * value * slope`: of each step both factors would be stored, and read again. As
`d * (value * slope)` it takes one stack for two. Only where one of the factors is at most 1 in size, as gates and their
slopes are, so that no product overflows which did not before. Valid graph in, valid graph out, same values up to
rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tapeless.compiler.passes.rewriter import without_dead_code
from tapeless.ir.graph import Graph, Node, Port, Value
from tapeless.ir.ops import OPERATIONS
from tapeless.ir.ranges import FINITE


@dataclass(frozen=True)
class Found:
    """In the body of a scan, `outer = inner * second` and `inner = adjoint * first`, where both factors are stacks of
    one other scan: there the values `saved`.
    """

    back: Node
    forth: Node
    inner: Node
    outer: Node
    adjoint: Value
    first: Value
    saved: tuple[Value, Value]


def saved_products(graph: Graph) -> Graph:
    """The graph with such products made by the scan that saves their factors."""
    if sum(node.op == "scan" for node in graph.nodes) < 2:
        return graph
    made = graph
    while (found := next(_found(made), None)) is not None:
        made = _multiplied(made, found)
    return graph if made is graph else without_dead_code(made)


def _found(graph: Graph) -> Iterator[Found]:
    for back in graph.nodes:
        if back.op == "scan":
            yield from _in_body(graph, back)


def _in_body(graph: Graph, back: Node) -> Iterator[Found]:
    (body,), carries = back.regions, back.attrs["carries"]
    walked = {port.value: k for k, port in enumerate(body.inputs) if 0 <= k - carries < back.attrs["sequences"]}
    once = {value for value, nodes in body.uses.items() if len(nodes) == 1 and value not in body.output_values}

    def stacked(value: Value) -> tuple[Node, Value] | None:
        """The scan that saves a value for this place alone, and its name there."""
        if value not in walked or value not in once:
            return None
        stack = back.operands[walked[value]]
        forth = graph.producers.get(stack)
        if forth is None or forth.op != "scan" or forth is back:
            return None
        if len(graph.uses[stack]) > 1 or stack in graph.output_values:
            return None
        place = forth.results.index(stack)
        return (forth, forth.regions[0].outputs[place].value) if place >= forth.attrs["carries"] else None

    for outer in body.nodes:
        for value, second in _factors(outer):
            inner = body.producers.get(value)
            if inner is None or value not in once or (one := stacked(second)) is None:
                continue
            for adjoint, first in _factors(inner):
                other = stacked(first)
                if other is None or other[0] is not one[0] or first == second or first.type != second.type:
                    continue
                if adjoint.type == first.type and (_small(one[0], one[1]) or _small(one[0], other[1])):
                    yield Found(back, one[0], inner, outer, adjoint, first, (other[1], one[1]))


def _factors(node: Node) -> tuple[tuple[Value, Value], ...]:
    """The operands of a product, either of them first."""
    if node.op != "mul":
        return ()
    x, y = node.operands
    return ((x, y), (y, x))


def _small(scan: Node, value: Value) -> bool:
    """Whether no number that a value of the body holds is above 1 in size, by the operation that makes it."""
    maker = scan.regions[0].producers.get(value)
    if maker is None or maker.regions or not maker.operands:
        return False
    known = OPERATIONS[maker.op].range(maker, [FINITE] * len(maker.operands))
    return known.low >= -1 and known.high <= 1 and not known.special


def _multiplied(graph: Graph, found: Found) -> Graph:
    """The factors multiplied where they are saved, and the product walked instead of them."""
    forth, back = found.forth, found.back
    (body,) = forth.regions
    a, b = found.saved
    product = Value(_unnamed(body, f"{a.name}.{b.name}"), a.type)
    last = body.outputs[-1]
    saving = replace(
        body,
        nodes=(*body.nodes, Node("mul", (a, b), (product,), {}, (), found.outer.span)),
        outputs=(*body.outputs, replace(last, label=f"r{len(body.outputs)}", value=product)),
    )
    stack_type = forth.results[-1].type.with_shape((forth.attrs["length"], *a.type.shape))
    stack = Value(_unnamed(graph, f"{product.name}.steps"), replace(stack_type, dtype=a.type.dtype))
    (walk,) = back.regions
    end = back.attrs["carries"] + back.attrs["sequences"]
    taken = Value(_unnamed(walk, product.name), a.type)
    port = Port(taken.name, taken, walk.inputs[end - 1].role)
    nodes = tuple(
        replace(node, operands=(found.adjoint, taken)) if node is found.outer else node
        for node in walk.nodes
        if node is not found.inner
    )
    walking = replace(walk, inputs=(*walk.inputs[:end], port, *walk.inputs[end:]), nodes=nodes)
    changed = {
        id(forth): replace(forth, results=(*forth.results, stack), regions=(saving,)),
        id(back): replace(
            back,
            operands=(*back.operands[:end], stack, *back.operands[end:]),
            attrs={**back.attrs, "sequences": back.attrs["sequences"] + 1},
            regions=(walking,),
        ),
    }
    return without_dead_code(replace(graph, nodes=tuple(changed.get(id(node), node) for node in graph.nodes)))


def _unnamed(graph: Graph, wanted: str) -> str:
    """The name, or one like it that no value of the graph has."""
    names = {port.value.name for port in graph.inputs} | {v.name for node in graph.nodes for v in node.results}
    count, name = 1, wanted
    while name in names:
        count += 1
        name = f"{wanted}.{count}"
    return name
