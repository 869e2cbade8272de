"""Derivatives of what a graph under construction holds so far: the part between x and y is cut out, brought into stable
form, differentiated by the same sweep that differentiates a loss, simplified, and written back as nodes like any
others.

So a derivative can be differentiated again, by another `grad` or by training. The work for one is that of the part
between x and y; what the graph holds already is used and not made again. Knows nothing of syntax and messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tapeless.compiler.elaborate.emission import Emitter
from tapeless.compiler.elaborate.emission_record import BEFORE
from tapeless.compiler.passes.differentiate import differentiate
from tapeless.compiler.passes.layout import FREE
from tapeless.compiler.passes.rewriter import Rewriter, computation, without_dead_code
from tapeless.compiler.passes.rules import ALGEBRA, RULES
from tapeless.compiler.passes.stacked import stacked
from tapeless.ir.adjoints import moved
from tapeless.ir.graph import Graph, Node, Value
from tapeless.ir.ranges import Range
from tapeless.ir.types import Rows, Shape

# Labels of a part's inputs; those that a program's names could have stand beside them.
_X, _SEED, _DIRECTION = "<x>", "<seed>", "<direction>"


@dataclass(frozen=True)
class Excerpt:
    """A graph with one output, and the values of the graph under construction that its inputs stand for, with what
    is known of their ranges. `asked` is the number of operations that differentiation has asked for so far.
    """

    graph: Graph
    bindings: Mapping[str, Value]
    ranges: Mapping[str, Range]
    asked: int = 0


@dataclass(frozen=True)
class Between:
    """The nodes through which y depends on x, in order; none where it does not."""

    nodes: tuple[Node, ...]
    moving: frozenset[Value]

    @property
    def mixes_rows(self) -> bool:
        """Whether a row of y may depend on other rows of x: something on the way has lost the axis of the rows."""
        return any(
            sum(isinstance(dim, Rows) for dim in value.type.shape) != 1 for node in self.nodes for value in node.results
        )


class Derivatives:
    """Derivatives of what one emitter's graph holds, written into that graph or into the body of a loop within it.

    Values are asked for as they are called where they were made; a question leaves every graph as it is.
    """

    def __init__(self, emitter: Emitter, into: Emitter | None = None) -> None:
        self.emitter = emitter
        self.into = into or emitter
        self.record = emitter.record

    @classmethod
    def of(cls, y: Value, into: Emitter, held: Sequence[Value]) -> Derivatives:
        """Derivatives of y, which may have been made around the loop whose body is being written: then they are
        written there, too, if what is held constant is known there, so that they can be differentiated again.
        """
        home, around = into, into.around()
        while around is not None and not home.builder.made(y):
            home = around[0]
            around = home.around()
        if any(home.term(value) is None for value in held):
            return cls(home, into)
        home.span, home.where = into.span, into.where
        return cls(home)

    def term(self, value: Value) -> Value:
        """A value as it is called in the graph; one that has never come into it is its own name."""
        return self.emitter.term(value) or value

    def root(self, x: Value) -> Value:
        """The value through which all uses of x go: a reduction that kept its axes is also used without them."""
        return self.emitter.reduced.get(x, x)

    def between(self, y: Value, x: Value) -> Between:
        """What lies between x and y. A stopped gradient ends the way, and so does a comparison."""
        y, x = self.term(y), self.root(self.term(x))
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
        y, x = self.term(y), self.root(self.term(x))
        return any(x in node.operands for node in self.leading(y, x) if node.op != "stop_gradient")

    def leads_around(self, y: Value, x: Value) -> bool:
        """In a loop's body, whether y depends on x also by what is computed outside of the body."""
        around = self.emitter.around()
        if around is None or around[0].term(x) is None:
            return False
        outer, taken = around
        beyond = Derivatives(outer)
        own, y = self.term(x), self.term(y)
        return any(
            inner != own
            and (
                beyond.term(outside) == beyond.term(x)
                or beyond.between(outside, x).nodes
                or beyond.leads_around(outside, x)
            )
            and (inner == y or self.between(y, inner).nodes)
            for inner, outside in taken.items()
        )

    def gradient(self, y: Value, x: Value, seed: Value | None = None) -> Value:
        """The gradient of sum(y * seed) by x, `seed` held constant; of sum(y) without one. Raises
        DifferentiationError.
        """
        part = self.part(y, x, {} if seed is None else {_SEED: seed})
        return self.written(self.derived(part, _X, None if seed is None else _SEED), x.type.shape)

    def gradients(self, y: Value, x: Value, seeds: Value) -> Value:
        """As `gradient`, by many seeds at once, along their first axis. Raises DifferentiationError."""
        derived = self.derived(self.part(y, x, {_SEED: seeds}, stack=_SEED), _X, _SEED)
        return self.written_for_all(derived, _SEED, x.type.shape)

    def directional(self, y: Value, x: Value, direction: Value) -> Value:
        """The derivative of y as x moves along `direction`. Raises DifferentiationError.

        It is the gradient by u of the sum of direction * (the gradient by x of sum(u * y)): that is linear in u, so
        its value does not depend on u (J. Townsend, A new trick for calculating Jacobian vector products, 2017).
        """
        part = self.part(y, x, {_SEED: self.into.builder.full(0.0, y), _DIRECTION: self.along_root(x, direction)})
        return self.written(self.derived(self.derived(part, _X, _SEED), _SEED, _DIRECTION), y.type.shape)

    def directionals(self, y: Value, x: Value, directions: Value) -> Value:
        """As `directional`, along many directions at once, which stand along their first axis. Raises
        DifferentiationError.
        """
        held = {_SEED: self.into.builder.full(0.0, y), _DIRECTION: self.along_root(x, directions)}
        part = self.part(y, x, held, stack=_DIRECTION)
        derived = self.derived(self.derived(part, _X, _SEED), _SEED, _DIRECTION)
        return self.written_for_all(derived, _DIRECTION, y.type.shape)

    def along_root(self, x: Value, directions: Value) -> Value:
        """Directions of x, one or a stack of them, in the shape of the value that all uses of x go through."""
        root, shape = self.root(self.term(x)), directions.type.shape
        stack = shape[: len(shape) - x.type.rank]
        return (
            directions
            if root.type == x.type
            else self.into.emit("reshape", directions, shape=(*stack, *root.type.shape))
        )

    def part(self, y: Value, x: Value, held: Mapping[str, Value], stack: str = "") -> Excerpt:
        """The part between x and y as a graph of its own, in stable form; x and what is held constant are inputs: of a
        stack of values, one of them.
        """
        found = self.between(y, x)
        builder = Rewriter("part", self.emitter.real, RULES)
        y, root = self.term(y), self.root(self.term(x))
        bindings = {_X: root, **held}
        seen = {root: builder.input(_X, root.type, "operand")}
        for label, value in held.items():
            type = value.type
            builder.input(label, type.with_shape(type.shape[1:]) if label == stack else type, "operand")
        for value in (value for node in found.nodes for value in node.operands if value not in found.moving):
            chain = self.constant(value)
            if chain:
                builder.copy_nodes([node for node in chain if node.result not in seen], seen)
            elif value not in seen:
                seen[value] = builder.input(value.name, value.type, "operand", name=f"outer.{value.name}")
                bindings[value.name] = value
        builder.copy_nodes(found.nodes, seen)
        builder.output("result", seen[y], "result")
        return Excerpt(
            without_dead_code(builder.graph()),
            bindings,
            {label: self.range(value) for label, value in bindings.items()},
        )

    def range(self, value: Value) -> Range:
        """What is known of a value, here or where the derivative is to be written."""
        emitter = self.emitter if self.emitter.builder.made(value) else self.into
        return replace(emitter.builder.ranges.of(value), above=None)

    def derived(self, part: Excerpt, by: str, weight: str | None) -> Excerpt:
        """A part's gradient. The rows of a Jacobian, and a program in training and in evaluation, have many alike:
        each is found once.
        """
        known, key = self.into.root.gradients, (part.graph, by, weight, tuple(part.ranges.items()))
        if key not in known:
            self.into.count_derived(len(part.graph.nodes))
            known[key] = _gradient(*key)
        graph, asked = known[key]
        return Excerpt(graph, part.bindings, part.ranges, part.asked + asked)

    def constant(self, value: Value) -> list[Node]:
        """The nodes that make a broadcast or reshaped constant; none for all else."""
        chain: list[Node] = []
        node = self.record.producer(value)
        while node is not None and node.op in ("broadcast", "reshape"):
            chain.append(node)
            node = self.record.producer(node.operands[0])
        return [node, *reversed(chain)] if node is not None and node.op == "constant" else []

    def written_for_all(self, part: Excerpt, label: str, shape: Shape) -> Value:
        """Write a part for a stack of values of one of its inputs; the stack of results, each of that shape."""
        count = part.bindings[label].type.shape[0]
        assert isinstance(count, int)
        return self.written(replace(part, graph=stacked(part.graph, label, count)), (count, *shape))

    def written(self, part: Excerpt, shape: Shape) -> Value:
        """Write a part's nodes into the graph, but for those that are made already; its result, in that shape."""
        written, into = 0, self.into
        seen = {port.value: part.bindings[port.label] for port in part.graph.inputs}
        for node in part.graph.nodes:
            operands = tuple(seen[value] for value in node.operands)
            known = self.known(node, operands)
            seen.update(zip(node.results, known or into.copied(node, operands), strict=True))
            written += not known and node.op not in FREE
        if into.span is not None:
            derived = into.root.derived
            before = derived.get(into.span, (0, 0))
            derived[into.span] = (before[0] + part.asked, before[1] + written)
        made = seen[part.graph.outputs[0].value]
        return made if made.type.shape == shape else into.emit("reshape", made, shape=shape)

    def known(self, node: Node, operands: Sequence[Value]) -> tuple[Value, ...] | None:
        """What a node on these operands has given already, here or where it is to be written."""
        for emitter in dict.fromkeys((self.emitter, self.into)):
            emitter.record.update()
            here = tuple(emitter.term(value) or value for value in operands)
            made = emitter.record.made.get(computation(node.op, here, node.attrs, node.regions))
            if made:
                return made
        return None


def _gradient(graph: Graph, by: str, weight: str | None, ranges: Sequence[tuple[str, Range]]) -> tuple[Graph, int]:
    """From the graph of a result, that of the gradient of its sum, weighed by an input, by another input;
    simplified. And the number of operations that differentiation has asked for.
    """
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
    for label, known in ranges:
        builder.ranges.state(seen[graph.input(label).value], known)
    builder.copy_nodes(graph.nodes, seen)
    before, wanted = builder.asked, graph.input(by).value
    adjoints = differentiate(builder, graph, seen, graph.outputs[0].value, [wanted])
    builder.output("result", adjoints[wanted], "result")
    return without_dead_code(builder.graph()), builder.asked - before
