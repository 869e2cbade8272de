"""Derivatives of what a graph under construction holds so far: the part between x and y is cut out, brought into stable
form, differentiated by the same sweep that differentiates a loss, simplified, and written back as nodes like any others.

So a derivative can be differentiated again, by another `grad` or by training. The work for one is that of the part between
x and y; what the graph holds already is used and not made again. Knows nothing of syntax and messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tapeless.compiler.differentiate import differentiate
from tapeless.compiler.elaborate.emission import Emitter
from tapeless.compiler.elaborate.record import BEFORE
from tapeless.compiler.passes.rewriter import FREE, Rewriter, computation, without_dead_code
from tapeless.compiler.passes.rules import ALGEBRA, RULES
from tapeless.ir.adjoints import moved
from tapeless.ir.graph import Graph, Node, Value
from tapeless.ir.types import Rows

# Labels of a part's inputs; those that a program's names could have stand beside them.
_X, _SEED, _DIRECTION = "<x>", "<seed>", "<direction>"


@dataclass(frozen=True)
class Part:
    """A graph with one output, and the values of the graph under construction that its inputs stand for. `asked` is the number of
    operations that differentiation has asked for so far."""

    graph: Graph
    bindings: Mapping[str, Value]
    asked: int = 0


@dataclass(frozen=True)
class Between:
    """The nodes through which y depends on x, in order; none where it does not."""

    nodes: tuple[Node, ...]
    moving: frozenset[Value]

    @property
    def mixes_rows(self) -> bool:
        """Whether a row of y may depend on other rows of x: something on the way has lost the axis of the rows."""
        return any(sum(isinstance(dim, Rows) for dim in value.type.shape) != 1 for node in self.nodes for value in node.results)


class Derivatives:
    """Derivatives within one emitter's graph."""

    def __init__(self, emitter: Emitter) -> None:
        self.emitter = emitter
        self.record = emitter.record

    def root(self, x: Value) -> Value:
        """The value through which all uses of x go: a reduction that kept its axes is also used without them."""
        return self.emitter.reduced.get(x, x)

    def between(self, y: Value, x: Value) -> Between:
        """What lies between x and y. A stopped gradient ends the way, and so does a comparison."""
        y, x = self.emitter.own(y), self.root(self.emitter.own(x))
        moving, nodes = {x}, []
        for node in self.leading(y, x):
            if fresh := moved(node, moving):
                moving.update(fresh)
                nodes.append(node)
        return Between(tuple(nodes) if y in moving else (), frozenset(moving))

    def leading(self, y: Value, x: Value) -> list[Node]:
        """The nodes that y is made by, as far back as x was made, in order."""
        record = self.record
        record.update()
        first = record.places.get(x, BEFORE)
        found: set[int] = set()
        pending = [y]
        while pending:
            value = pending.pop()
            place = record.places.get(value, BEFORE)
            if value != x and place > first and place not in found:
                found.add(place)
                pending += record.builder.nodes[place].operands
        return [record.builder.nodes[place] for place in sorted(found)]

    def jumps(self, y: Value, x: Value) -> bool:
        """Whether y, which does not move with x, depends on it by comparisons."""
        y, x = self.emitter.own(y), self.root(self.emitter.own(x))
        return any(x in node.operands for node in self.leading(y, x) if node.op != "stop_gradient")

    def leads_around(self, y: Value, x: Value) -> bool:
        """In a loop's body, whether y depends on x also by what is computed outside of the body."""
        around = self.emitter.around()
        if around is None:
            return False
        outer, taken = around
        beyond = Derivatives(outer)
        own = self.emitter.own(x)
        return any(
            inner != own
            and (outside == x or beyond.between(outside, x).nodes or beyond.leads_around(outside, x))
            and (inner == y or self.between(y, inner).nodes)
            for inner, outside in taken.items()
        )

    def gradient(self, y: Value, x: Value, seed: Value | None = None) -> Value:
        """The gradient of sum(y * seed) by x, `seed` held constant; of sum(y) without one. Raises DifferentiationError."""
        y, x = self.emitter.own(y), self.emitter.own(x)
        part = self.part(y, x, {} if seed is None else {_SEED: self.emitter.own(seed)})
        return self.written(_gradient(part, _X, None if seed is None else _SEED), x)

    def directional(self, y: Value, x: Value, direction: Value) -> Value:
        """The derivative of y as x moves along `direction`. Raises DifferentiationError.

        It is the gradient by u of the sum of direction * (the gradient by x of sum(u * y)): that is linear in u, so its value
        does not depend on u (J. Townsend, A new trick for calculating Jacobian vector products, 2017).
        """
        y, x, direction = (self.emitter.own(value) for value in (y, x, direction))
        root = self.root(x)
        if root is not x:
            direction = self.emitter.emit("reshape", direction, shape=root.type.shape)
        part = self.part(y, x, {_SEED: self.emitter.builder.full(0.0, y), _DIRECTION: direction})
        return self.written(_gradient(_gradient(part, _X, _SEED), _SEED, _DIRECTION), y)

    def part(self, y: Value, x: Value, held: Mapping[str, Value]) -> Part:
        """The part between x and y as a graph of its own, in stable form; x and what is held constant are inputs."""
        found = self.between(y, x)
        builder = Rewriter("part", self.emitter.real, RULES)
        bindings = {_X: self.root(x), **held}
        seen = {self.root(x): builder.input(_X, self.root(x).type, "operand")}
        for label, value in held.items():
            builder.input(label, value.type, "operand")
        for value in (value for node in found.nodes for value in node.operands if value not in found.moving):
            chain = self.constant(value)
            if chain:
                builder.copy_nodes([node for node in chain if node.result not in seen], seen)
            elif value not in seen:
                seen[value] = builder.input(value.name, value.type, "operand", name=f"outer.{value.name}")
                bindings[value.name] = value
        builder.copy_nodes(found.nodes, seen)
        builder.output("result", seen[y], "result")
        return Part(without_dead_code(builder.graph()), bindings)

    def constant(self, value: Value) -> list[Node]:
        """The nodes that make a broadcast or reshaped constant; none for all else."""
        chain: list[Node] = []
        node = self.record.producer(value)
        while node is not None and node.op in ("broadcast", "reshape"):
            chain.append(node)
            node = self.record.producer(node.operands[0])
        return [node, *reversed(chain)] if node is not None and node.op == "constant" else []

    def written(self, part: Part, like: Value) -> Value:
        """Write a part's nodes into the emitter's graph, but for those that are there already; its result, shaped `like`."""
        record, written = self.record, 0
        seen = {port.value: part.bindings[port.label] for port in part.graph.inputs}
        for node in part.graph.nodes:
            operands = tuple(seen[value] for value in node.operands)
            record.update()
            known = record.made.get(computation(node.op, operands, node.attrs, node.regions))
            seen.update(zip(node.results, known or self.emitter.copied(node, operands), strict=True))
            written += not known and node.op not in FREE
        if self.emitter.span is not None:
            derived = self.emitter.root.derived
            before = derived.get(self.emitter.span, (0, 0))
            derived[self.emitter.span] = (before[0] + part.asked, before[1] + written)
        made = seen[part.graph.outputs[0].value]
        return made if made.type.shape == like.type.shape else self.emitter.emit("reshape", made, shape=like.type.shape)


def _gradient(part: Part, by: str, weight: str | None) -> Part:
    """From the graph of a result, that of the gradient of its sum, weighed by an input, by another input; simplified."""
    graph = part.graph
    source = Rewriter("weighed", graph.inputs[0].value.type.dtype, RULES)
    seen = {port.value: source.input(port.label, port.value.type, port.role) for port in graph.inputs}
    source.copy_nodes(graph.nodes, seen)
    total = seen[graph.outputs[0].value]
    if weight is not None:
        total = source.emit("mul", total, seen[graph.input(weight).value])
    if total.type.rank:
        total = source.emit("sum", total, axes=tuple(range(total.type.rank)))
    source.output("loss", total, "loss")
    graph = without_dead_code(source.graph())

    builder = Rewriter("derivative", source.dtype, ALGEBRA)
    seen = {port.value: builder.input(port.label, port.value.type, port.role) for port in graph.inputs}
    builder.copy_nodes(graph.nodes, seen)
    before, wanted = builder.asked, graph.input(by).value
    adjoints = differentiate(builder, graph, seen, graph.outputs[0].value, [wanted])
    builder.output("result", adjoints[wanted], "result")
    return Part(without_dead_code(builder.graph()), part.bindings, part.asked + builder.asked - before)
