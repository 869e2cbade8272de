"""The emitter of a graph for one place of a sequence, and of the bodies of loops in it: values as they are viewed
from there.

A view is the axes of a value (`axis_parts.py`), of which marked parts are taken at the index that is the mark. What
operations do with views that treat them in ways of their own is told by `step_operations.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tapeless.compiler.stepping.axis_parts import Axes, Axis, Part, every_part, marks, plain, shape_at, unmarked
from tapeless.compiler.stepping.causality import Causality, LooksAhead
from tapeless.compiler.stepping.step_operations import ALWAYS, SPECIAL
from tapeless.ir.correspondence import labels
from tapeless.ir.graph import Builder, Node, Value
from tapeless.ir.types import Dim, DType, Tensor

Leave = Callable[[Value], None]


class Stepper(ABC):
    """Emits one graph, or the body of a loop, for one place."""

    def __init__(self, causality: Causality, builder: Builder, position: Value) -> None:
        self.causality, self.builder, self.position = causality, builder, position
        self.made: dict[tuple[Value, Axes], Value] = {}
        self.indices: dict[int, Value] = {}  # of places beyond this one
        self.buffers: dict[Value, Value] = {}
        self.caches: dict[Value, Value] = {}
        self.reshapes: dict[Value, Value] = {}  # what a reshape made to what it was made of

    # -- what the graph around a body provides

    @abstractmethod
    def leaf(self, value: Value, view: Axes) -> Value:
        """An input of the graph."""

    @abstractmethod
    def carry(self, name: str, type: Tensor) -> tuple[Value, Leave]:
        """A new carry: what the place before has left, and the function that says what this one leaves."""

    @abstractmethod
    def limited(self) -> None:
        """Notes that places beyond the length of the sequence have no meaning."""

    # -- values

    def run(self) -> None:
        """Emits what every value is at the place, in order, so that asking for one never goes deep."""
        for node in self.causality.graph.nodes:
            for value in node.results:
                if len(marks(self.causality.facts[value].axes)) <= 1:
                    self.at(value, self.here(value))

    def here(self, value: Value) -> Axes:
        """The view of a value at this place."""
        return self.marked(self.causality.facts[value].axes)

    def marked(self, axes: Axes) -> Axes:
        return tuple(tuple(Part(part.size, self.position) if part.mark else part for part in axis) for axis in axes)

    def ahead(self, distance: int) -> Value:
        """The index of the place so far beyond this one: of a value that lags behind the sequence that much is there
        already.
        """
        if distance == 0:
            return self.position
        if distance not in self.indices:
            self.indices[distance] = self.builder.emit("add", self.position, self.builder.constant(distance, DType.I32))
        return self.indices[distance]

    def distance(self, axis: Axis) -> int:
        """How far beyond this place the one is at which an axis is viewed."""
        return next((distance for distance, index in self.indices.items() for part in axis if part.mark == index), 0)

    def at(self, value: Value, view: Axes) -> Value:
        """A value as viewed."""
        key = (value, view)
        if key not in self.made:
            self.made[key] = self.emitted(value, view)
        return self.made[key]

    def emitted(self, value: Value, view: Axes) -> Value:
        node = self.causality.graph.producers.get(value)
        if node is None:
            return self.leaf(value, view)
        self.builder.span = node.span
        moving = marks(self.causality.facts[value].axes).keys()
        if moving and moving.isdisjoint(marks(view)) and node.op not in ("broadcast", "reshape"):
            return self.remembered(value, view)
        special = SPECIAL.get(node.op)
        if special is not None and (node.op in ALWAYS or self.moves(node)):
            return special(self, node, value, view)
        return self.alike(node, view)

    def moves(self, node: Node) -> bool:
        return any(self.causality.facts[value].moves for value in node.operands)

    def alike(self, node: Node, view: Axes) -> Value:
        """An operation that works alike at all places: the same with what its operands are there."""
        found = labels(node)
        if found is None or len(node.results) > 1:
            return self.verbatim(node, node.results[0], view)
        reached = {label for operand in found for label in operand}
        kept = tuple(axis if k in reached or node.op == "broadcast" else unmarked(axis) for k, axis in enumerate(view))
        operands = []
        for value, operand in zip(node.operands, found, strict=True):
            own = self.causality.facts[value].axes
            asked = tuple(
                unmarked(own[k]) if label is None or label < 0 else kept[label] for k, label in enumerate(operand)
            )
            operands.append(self.at(value, asked))
        attrs = dict(node.attrs)
        if node.op == "broadcast":
            attrs["shape"] = shape_at(view)
        if node.op == "slice":
            attrs["size"] = shape_at(kept)
        self.builder.span = node.span
        made = self.emit(node, operands, attrs)
        for (i, j), mask in self.causality.hiding.get(node.result, {}).items():
            if i in marks(view) and j not in marks(view):
                made = self.hidden(j[0], marks(view)[i].mark, operands[mask], made)
        return self.chosen(made, kept, view)

    def hidden(self, axis: int, index: Value, mask: Value, made: Value) -> Value:
        """What a mask hides by arithmetic is made of places that are not there yet: it may be infinite, and 0 times
        that is no number.
        """
        shape = made.type.shape
        every = self.builder.emit("iota", axis=axis, shape=shape, dtype=DType.I32)
        later = self.builder.emit("lt", self.builder.broadcast_to(index, shape, ()), every)
        return self.builder.emit("select", later, mask, made)

    def emit(self, node: Node, operands: Sequence[Value], attrs: Mapping[str, Any]) -> Value:
        return self.builder.emit(
            node.op, *operands, name=node.result.name, span=node.span, regions=node.regions, **attrs
        )

    def verbatim(self, node: Node, value: Value, view: Axes) -> Value:
        """A node that has nothing to do with places, as it is; then what is asked for of its result."""
        operands = [self.at(operand, plain(operand.type.shape)) for operand in node.operands]
        names = [result.name for result in node.results]
        results = self.builder.emit_node(node.op, operands, node.attrs, node.regions, names, node.span)
        for result, made in zip(node.results, results, strict=True):
            self.made[result, plain(result.type.shape)] = made
        return self.chosen(results[node.results.index(value)], plain(value.type.shape), view)

    def turns(self, node: Node) -> tuple[Value, ...]:
        """The results of a loop that does not walk the sequence."""
        return Turn(self, node).loop()

    # -- places that are picked of what is there as a whole

    def chosen(self, value: Value, has: Axes, view: Axes) -> Value:
        """Of a value viewed as `has`, what `view` takes at an index besides."""
        if marks(has).keys() == marks(view).keys():
            return value
        self.limited()
        return self.picked(value, has, view)

    def picked(self, value: Value, has: Axes, view: Axes) -> Value:
        there = marks(has).keys()
        parts = [(part, site in there) for site, part in every_part(view)]
        shape: list[Dim] = [1 if taken else part.size for part, taken in parts]
        value = self.reshaped(value, shape)
        for k, (part, taken) in enumerate(parts):
            if part.mark is not None and not taken:
                front = self.transposed(value, (k, *(other for other in range(len(shape)) if other != k)))
                chosen = self.builder.emit("gather", front, part.mark, name=f"{value.name}.here")
                shape[k] = 1
                value = self.reshaped(chosen, shape)
        return self.reshaped(value, shape_at(view))

    def reshaped(self, value: Value, shape: Sequence[Dim]) -> Value:
        value = self.reshapes.get(value, value)
        if value.type.shape == tuple(shape):
            return value
        made = self.builder.emit("reshape", value, name=f"{value.name}.r", shape=tuple(shape))
        self.reshapes[made] = value
        return made

    def transposed(self, value: Value, perm: Sequence[int]) -> Value:
        """A transpose, which is no work where only axes of size 1 change places."""
        moved = [k for k in perm if value.type.shape[k] != 1]
        if moved == sorted(moved):
            return self.reshaped(value, [value.type.shape[k] for k in perm])
        return self.builder.emit("transpose", value, name=value.name, perm=tuple(perm))

    # -- what the places before have left

    def remembered(self, value: Value, view: Axes) -> Value:
        """A value at all places up to this one, as a whole: a cache, into which this place's is written."""
        if value not in self.caches:
            self.limited()
            parts = [part for _, part in every_part(self.causality.facts[value].axes)]
            along, *others = [k for k, part in enumerate(parts) if part.mark]
            if others:
                raise LooksAhead("this is read at all pairs of places", self.causality.graph.producers.get(value))
            shape = tuple(part.size for part in parts)
            now = self.at(value, self.here(value))
            before, leave = self.carry(value.name, value.type.with_shape(shape))
            fresh = self.reshaped(now, [*shape[:along], *shape[along + 1 :]])
            fresh = self.builder.broadcast_to(fresh, shape, (*range(along), *range(along + 1, len(shape))))
            every = self.builder.emit("iota", axis=along, shape=shape, dtype=DType.I32)
            here = self.builder.emit("eq", every, self.builder.broadcast_to(self.position, shape, ()))
            whole = self.builder.emit("select", here, fresh, before, name=f"{value.name}.cache")
            leave(whole)
            self.caches[value] = self.reshaped(whole, value.type.shape)
        return self.chosen(self.caches[value], plain(value.type.shape), view)

    def at_first(self, one: Value, other: Value) -> Value:
        """One value at the first place, another later."""
        return self.select(self.builder.emit("eq", self.position, self.builder.constant(0, DType.I32)), one, other)

    def until(self, place: int, one: Value, other: Value) -> Value:
        """One value before a place, another from there on."""
        return self.select(self.builder.emit("lt", self.position, self.builder.constant(place, DType.I32)), one, other)

    def select(self, condition: Value, one: Value, other: Value) -> Value:
        return self.builder.emit("select", self.builder.broadcast_to(condition, one.type.shape, ()), one, other)

    def filled(self, number: int, like: Value) -> Value:
        return self.builder.broadcast_to(self.builder.constant(number, like.type.dtype), like.type.shape, ())

    def delayed(self, value: Value, operand: Value, axis: int, by: int, index: Axis) -> Value:
        """What the operand of `value` was at a place that lies `by` places before the one at the index, zeros in the
        first ones.
        """
        distance = self.distance(index)
        view = list(self.here(operand))
        if distance >= by:
            view[axis] = tuple(Part(part.size, self.ahead(distance - by)) for part in view[axis])
            return self.at(operand, tuple(view))
        now = self.at(operand, tuple(view))
        made = self.recent(value, now, by, axis)
        start = tuple(distance if k == axis else 0 for k in range(now.type.rank))
        return self.builder.emit("slice", made, start=start, size=now.type.shape, step=(1,) * now.type.rank)

    def recent(self, value: Value, now: Value, before: int, axis: int) -> Value:
        """What `value` is made of, at so many places before this one, zeros in the first ones, and at this one."""
        if value not in self.buffers:
            shape = tuple(before if k == axis else dim for k, dim in enumerate(now.type.shape))
            remembered, leave = self.carry(value.name, now.type.with_shape(shape))
            made, start = (
                self.builder.emit("concat", remembered, now, axis=axis),
                tuple(int(k == axis) for k in range(len(shape))),
            )
            leave(self.builder.emit("slice", made, start=start, size=shape, step=(1,) * len(shape)))
            self.buffers[value] = made
        return self.buffers[value]


class Turn(Stepper):
    """The body of a loop whose turns do not walk the sequence, such as the layers of a network."""

    def __init__(self, outer: Stepper, node: Node) -> None:
        self.outer, self.node = outer, node
        (self.body,) = node.regions
        self.first, self.second = node.attrs["carries"], node.attrs["carries"] + node.attrs["sequences"]
        builder = Builder(self.body.name, outer.builder.dtype, among=outer.builder)
        causality = outer.causality.bodies[node.results[0]]
        self.captured: dict[Value, Value] = {}  # values around the loop to inputs of the body
        self.caches_here: list[tuple[str, Value, Value]] = []  # of each carry its name, what comes in, and what is left
        super().__init__(causality, builder, outer.position)
        self.position = self.capture(outer.position)
        self.inputs: dict[Value, Value] = {}
        for port in self.body.inputs[: self.second]:
            type = port.value.type.with_shape(shape_at(self.here(port.value)))
            self.inputs[port.value] = builder.input(port.label, type, "operand", name=port.value.name)

    def capture(self, value: Value) -> Value:
        if value not in self.captured:
            self.captured[value] = self.builder.input(value.name, value.type, "operand")
        return self.captured[value]

    def leaf(self, value: Value, view: Axes) -> Value:
        here = self.here(value)
        if value in self.inputs:
            if marks(here).keys() - marks(view).keys():
                return self.remembered(value, view)
            return self.chosen(self.inputs[value], here, view)
        outside = dict(zip((port.value for port in self.body.inputs), self.node.operands, strict=True))[value]
        indices = {part.mark for part in marks(view).values()}
        if indices <= {self.position}:
            return self.capture(self.outer.at(outside, self.outer.marked(view)))
        return self.chosen(self.leaf(value, here), here, view)

    def limited(self) -> None:
        self.outer.limited()

    def carry(self, name: str, type: Tensor) -> tuple[Value, Leave]:
        before = self.builder.input(name, type, "operand", name=f"{name}.before")
        return before, lambda after: self.caches_here.append((name, before, after))

    def loop(self) -> tuple[Value, ...]:
        """Emits the loop around the body; its results."""
        self.run()
        length, outer = self.node.attrs["length"], self.outer
        carried = [self.here(port.value) for port in self.body.inputs[: self.first]]
        views = [*carried, *(self.here(port.value) for port in self.body.outputs[self.first :])]
        made = [self.at(port.value, view) for port, view in zip(self.body.outputs, views, strict=True)]
        for k, value in enumerate([*made, *(after for _, _, after in self.caches_here)]):
            self.builder.output(f"r{k}", value, "result")
        starts = [outer.at(value, outer.marked(view)) for value, view in zip(self.node.operands, carried, strict=False)]
        walked = self.node.operands[self.first : self.second]
        turns = plain((length,))
        inner = [self.here(port.value) for port in self.body.inputs[self.first : self.second]]
        sequences = [outer.at(value, (*turns, *outer.marked(view))) for value, view in zip(walked, inner, strict=True)]
        carries = [
            outer.carry(name, before.type.with_shape((length, *before.type.shape)))
            for name, before, _ in self.caches_here
        ]
        ports = {port.value: port for port in self.builder.graph().inputs}
        order = [*self.inputs.values(), *(before for _, before, _ in self.caches_here), *self.captured.values()]
        body = replace(self.builder.graph(), inputs=tuple(ports[value] for value in order))
        attrs = {**self.node.attrs, "sequences": len(sequences) + len(carries)}
        operands = [*starts, *sequences, *(before for before, _ in carries), *self.captured]
        names = [*(value.name for value in self.node.results), *(f"{name}.left" for name, _, _ in self.caches_here)]
        results = outer.builder.emit_node("scan", operands, attrs, (body,), names, self.node.span)
        for (_, leave), value in zip(carries, results[len(self.node.results) :], strict=True):
            leave(value)
        return results[: len(self.node.results)]
