"""From the graph of a whole sequence to that of one place of it, with what the places before have left as carries.

`stepped` takes the graph of outputs in evaluation mode. What `compiler.causality` found to go along with the places is
computed at the one place at hand: the axis of places has size 1. The rest comes from carries, which all start as zeros:

- `position`, the number of the place;
- what a scan over the sequence carries, and a running total;
- a cache of what is read at all places up to this one, as the keys and values of attention are.

Values that do not depend on the sequence, such as positions and masks, are computed at the place too: of `iota` remains
`position`. Values are asked for by a view: their axes (`compiler.parts`), of which marked parts are taken at the index
that is the mark.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tapeless.compiler.causality import Beyond, Causality, Fact, LooksAhead, access
from tapeless.compiler.parts import (
    Axes,
    Part,
    Site,
    is_marked,
    is_whole,
    left,
    marks,
    plain,
    regroup,
    shape_at,
    unmarked,
)
from tapeless.ir.graph import Builder, Graph, Node, Port, Value
from tapeless.ir.ops.movement import whole
from tapeless.ir.types import Dim, DType, Rows, Tensor

LATEST = (1 << 31) - 2  # where `position` stops counting, in a model without a last place
POSITION = "position"

Leave = Callable[[Value], None]


def stepped(graph: Graph, dtype: DType) -> Graph:
    """The graph `step`: a place's data, without the axis of places, and carries in; outputs and carries out.

    The sequence is the axis after that of the rows in the first data input for which the model can go place by place, and in
    all inputs that have as many places there. Raises LooksAhead, for the first such input, if there is none.
    """
    data = [port for port in graph.inputs if port.role == "data"]
    lengths = [port.value.type.shape[1] for port in data if port.value.type.rank > 1]
    fault: LooksAhead | None = None
    for length in dict.fromkeys(size for size in lengths if isinstance(size, int) and size > 1):
        walked = [port for port in data if port.value.type.shape[1:2] == (length,)]
        try:
            return _Root(graph, walked, length, dtype).graph()
        except LooksAhead as error:
            error.walked = walked
            fault = fault or error
    if fault is None:
        fault = LooksAhead("no input has an axis of places after that of the rows")
        fault.walked = data[:1]
    raise fault


def places(graph: Graph) -> int | None:
    """How many places a step graph goes to: as many as the sequence has that it was made for, or any number (None)."""
    (port,) = (port for port in graph.inputs if port.role == "carry" and port.label.startswith(POSITION))
    return int(port.label.partition("~")[2] or 0) or None


class _Stepper:
    """Emits one graph, or the body of a loop, for one place."""

    def __init__(self, causality: Causality, builder: Builder, position: Value) -> None:
        self.causality, self.builder, self.position = causality, builder, position
        self.made: dict[tuple[Value, Axes], Value] = {}
        self.caches: dict[Value, Value] = {}
        self.reshapes: dict[Value, Value] = {}  # what a reshape made to what it was made of

    # -- what the graph around a body provides

    def leaf(self, value: Value, view: Axes) -> Value:
        """An input of the graph."""
        raise NotImplementedError

    def carry(self, name: str, type: Tensor) -> tuple[Value, Leave]:
        """A new carry: what the place before has left, and the function that says what this one leaves."""
        raise NotImplementedError

    def limited(self) -> None:
        """Notes that places beyond the length of the sequence have no meaning."""
        raise NotImplementedError

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
        found = access(node)
        if found is None or len(node.results) > 1:
            return self.verbatim(node, node.results[0], view)
        reached = {label for labels in found.operands for label in labels}
        kept = tuple(axis if k in reached or node.op == "broadcast" else unmarked(axis) for k, axis in enumerate(view))
        operands = []
        for value, labels in zip(node.operands, found.operands, strict=True):
            own = self.causality.facts[value].axes
            asked = tuple(unmarked(own[k]) if label is None or label < 0 else kept[label] for k, label in enumerate(labels))
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
        """What a mask hides by arithmetic is made of places that are not there yet: it may be infinite, and 0 times that is no number."""
        shape = made.type.shape
        every = self.builder.emit("iota", axis=axis, shape=shape, dtype=DType.I32)
        later = self.builder.emit("lt", self.builder.broadcast_to(index, shape, ()), every)
        return self.builder.emit("select", later, mask, made)

    def emit(self, node: Node, operands: Sequence[Value], attrs: Mapping[str, Any]) -> Value:
        return self.builder.emit(node.op, *operands, name=node.result.name, span=node.span, regions=node.regions, **attrs)

    def verbatim(self, node: Node, value: Value, view: Axes) -> Value:
        """A node that has nothing to do with places, as it is; then what is asked for of its result."""
        operands = [self.at(operand, plain(operand.type.shape)) for operand in node.operands]
        names = [result.name for result in node.results]
        results = self.builder.emit_node(node.op, operands, node.attrs, node.regions, names, node.span)
        for result, made in zip(node.results, results, strict=True):
            self.made[result, plain(result.type.shape)] = made
        return self.chosen(results[node.results.index(value)], plain(value.type.shape), view)

    # -- places that are picked of what is there as a whole

    def chosen(self, value: Value, has: Axes, view: Axes) -> Value:
        """Of a value viewed as `has`, what `view` takes at an index besides."""
        if marks(has).keys() == marks(view).keys():
            return value
        self.limited()
        return self.picked(value, has, view)

    def picked(self, value: Value, has: Axes, view: Axes) -> Value:
        there = marks(has).keys()
        parts = [(part, site in there) for site, part in _parts(view)]
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
            parts = [part for _, part in _parts(self.causality.facts[value].axes)]
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

    def delayed(self, name: str, now: Value, by: int, axis: int) -> Value:
        """What a value was `by` places ago, zeros in the first ones."""
        shape = tuple(by if k == axis else dim for k, dim in enumerate(now.type.shape))
        one = now.type.shape

        before, leave = self.carry(name, now.type.with_shape(shape))
        if by == 1:
            leave(now)
            return before
        start, size = tuple(int(k == axis) for k in range(len(one))), tuple(by - 1 if k == axis else dim for k, dim in enumerate(one))
        rest = self.builder.emit("slice", before, start=start, size=size, step=(1,) * len(one))
        leave(self.builder.emit("concat", rest, now, axis=axis))
        return self.builder.emit("slice", before, start=(0,) * len(one), size=one, step=(1,) * len(one))


class _Root(_Stepper):
    """The graph of the model."""

    def __init__(self, graph: Graph, walked: Sequence[Port], length: int, dtype: DType) -> None:
        self.source, self.walked, self.length = graph, walked, length
        inputs = {port.value: self.fact(port) for port in graph.inputs}
        causality = Causality(graph, inputs, length)
        builder = Builder("step", dtype)
        self.inputs: dict[Value, Value] = {}
        for port in graph.inputs:
            shape = port.value.type.shape
            type = port.value.type.with_shape((shape[0], *shape[2:])) if port in walked else port.value.type
            self.inputs[port.value] = builder.input(port.label, type, port.role, port.span, port.value.name)
        self.count = builder.input(POSITION, Tensor(DType.I32), "carry")
        self.bounded = False
        self.left: list[tuple[str, Value]] = []
        super().__init__(causality, builder, self.count)

    def fact(self, port: Port) -> Fact:
        axes = plain(port.value.type.shape)
        return Fact((axes[0], (Part(self.length, True),), *axes[2:]) if port in self.walked else axes)

    def graph(self) -> Graph:
        outputs = [(port, self.view_of(port)) for port in self.source.outputs]
        if not any(self.causality.facts[port.value].moves or self.causality.facts[port.value].last for port, _ in outputs):
            raise LooksAhead("no output depends on the sequence")
        self.run()
        builder = self.builder
        for port, view in outputs:
            value = self.at(port.value, view)
            shape = [size for axis, size in zip(view, shape_at(view), strict=True) if not (is_whole(axis) and axis[0].mark is not None)]
            builder.span = port.span
            builder.output(port.label, self.reshaped(value, shape), port.role, port.span)
        builder.span = None
        limit, one = (builder.constant(number, DType.I32) for number in (self.length - 1 if self.bounded else LATEST, 1))
        following = builder.emit("add", builder.emit("minimum", self.position, limit), one, name=f"{POSITION}.next")
        label = f"{POSITION}~{self.length}" if self.bounded else POSITION
        builder.output(label, following, "carry")
        for name, value in self.left:
            builder.output(name, value, "carry")
        made = builder.graph()
        return replace(made, inputs=tuple(replace(port, label=label) if port.value == self.count else port for port in made.inputs))

    def view_of(self, port: Port) -> Axes:
        """An output at this place: of two axes of places the first is the one, and the other holds those before it."""
        fact = self.causality.facts[port.value]
        first, *others = marks(fact.axes) or [(-1, 1)]
        for other in others:
            if fact.beyond.get((first, other), Beyond.OPEN) in (Beyond.OPEN, Beyond.FAR):
                raise LooksAhead(f"the output `{port.label}` holds later places of the sequence", self.source.producers.get(port.value))
        return tuple(unmarked(axis) if k != first[0] else axis for k, axis in enumerate(self.marked(fact.axes)))

    def leaf(self, value: Value, view: Axes) -> Value:
        here = self.here(value)
        if marks(here).keys() - marks(view).keys():
            return self.remembered(value, view)
        return self.chosen(self.reshaped(self.inputs[value], shape_at(here)), here, view)

    def limited(self) -> None:
        self.bounded = True

    def carry(self, name: str, type: Tensor) -> tuple[Value, Leave]:
        """Outside of the program rows come first."""
        rows = next((k for k, dim in enumerate(type.shape) if isinstance(dim, Rows)), 0)
        perm = (rows, *(k for k in range(type.rank) if k != rows))[: type.rank]
        taken, label, count = {POSITION, *(other for other, _ in self.left)}, name, 2
        while label in taken:
            label, count = f"{name}_{count}", count + 1
        before = self.builder.input(label, type.with_shape([type.shape[k] for k in perm]), "carry", name=f"{name}.before")

        self.left.append((label, before))
        place = len(self.left) - 1

        def leave(after: Value) -> None:
            self.left[place] = (label, self.transposed(after, perm))

        return self.transposed(before, [perm.index(k) for k in range(type.rank)]), leave


class _Turn(_Stepper):
    """The body of a loop whose turns do not walk the sequence, such as the layers of a network."""

    def __init__(self, outer: _Stepper, node: Node) -> None:
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
            around = tuple(tuple(Part(part.size, self.outer.position if part.mark else None) for part in axis) for axis in view)
            return self.capture(self.outer.at(outside, around))
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
        starts = [outer.at(value, self.outside(view)) for value, view in zip(self.node.operands, carried, strict=False)]
        walked = self.node.operands[self.first : self.second]
        turns = plain((length,))
        inner = [self.here(port.value) for port in self.body.inputs[self.first : self.second]]
        sequences = [outer.at(value, (*turns, *self.outside(view))) for value, view in zip(walked, inner, strict=True)]
        carries = [outer.carry(name, before.type.with_shape((length, *before.type.shape))) for name, before, _ in self.caches_here]
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

    def outside(self, view: Axes) -> Axes:
        return tuple(tuple(Part(part.size, self.outer.position) if part.mark is not None else part for part in axis) for axis in view)


def _parts(axes: Axes) -> list[tuple[Site, Part]]:
    """All parts, each with its site."""
    sites = marks(tuple(tuple(Part(part.size, part) for part in axis) for axis in axes))
    return [(site, marked.mark) for site, marked in sites.items()]


# -- operations that treat places, or indices, in ways of their own


def _iota(of: _Stepper, node: Node, value: Value, view: Axes) -> Value:
    axis = view[node.attrs["axis"]]
    if not is_marked(axis):
        return of.emit(node, (), {**node.attrs, "shape": shape_at(view)})
    if not is_whole(axis):
        return of.verbatim(node, value, view)
    index = axis[0].mark
    dtype = node.attrs["dtype"]
    number = index if dtype is DType.I32 else of.builder.emit("cast", index, dtype=dtype)
    return of.builder.broadcast_to(number, shape_at(view), ())


def _constant(of: _Stepper, node: Node, value: Value, view: Axes) -> Value:
    return of.builder.broadcast_to(of.builder.constant(node.attrs["value"], node.attrs["dtype"]), shape_at(view), ())


def _transpose(of: _Stepper, node: Node, value: Value, view: Axes) -> Value:
    perm = node.attrs["perm"]
    return of.transposed(of.at(node.operands[0], tuple(view[perm.index(k)] for k in range(len(perm)))), perm)


def _reshape(of: _Stepper, node: Node, value: Value, view: Axes) -> Value:
    asked = regroup(view, node.operands[0].type.shape)
    if asked is None:
        return of.verbatim(node, value, view)
    return of.reshaped(of.at(node.operands[0], asked), shape_at(view))


def _with_derivative(of: _Stepper, node: Node, value: Value, view: Axes) -> Value:
    return of.at(node.operands[0], view)


def _slice(of: _Stepper, node: Node, value: Value, view: Axes) -> Value:
    """A sequence's first place is carried; of what has no places, an index inside the slice is one inside the whole."""
    (operand,), own = node.operands, of.causality.facts[node.operands[0]].axes
    starts, sizes, steps = (list(node.attrs[part]) for part in ("start", "size", "step"))
    asked, first = list(view), False
    for k, size in enumerate(operand.type.shape):
        if whole(starts[k], sizes[k], steps[k], size):
            sizes[k] = left(view[k])
        elif is_marked(own[k]):
            first = first or (not is_marked(of.causality.facts[value].axes[k]) and not of.causality.facts[value].last)
            asked[k] = (Part(size, of.position),)
            starts[k], sizes[k], steps[k] = 0, 1, 1
        elif is_whole(view[k]):
            index = of.builder.emit("mul", view[k][0].mark, of.builder.constant(steps[k], DType.I32))
            asked[k] = (Part(size, of.builder.emit("add", index, of.builder.constant(starts[k], DType.I32))),)
            starts[k], sizes[k], steps[k] = 0, 1, 1
        elif is_marked(view[k]):
            return of.verbatim(node, value, view)
        else:
            asked[k] = plain((size,))[0]
    taken_here = of.at(operand, tuple(asked))
    attrs = {"start": tuple(starts), "size": tuple(sizes), "step": tuple(steps)}
    made = of.emit(node, [taken_here], attrs)
    if not first:
        return made
    before, leave = of.carry(value.name, made.type)
    kept = of.at_first(made, before)
    leave(kept)
    return kept


def _pad(of: _Stepper, node: Node, value: Value, view: Axes) -> Value:
    (operand,), axis, start = node.operands, node.attrs["axis"], node.attrs["start"]
    own = of.causality.facts[operand].axes
    if not is_marked(own[axis]):
        return of.alike(node, view)
    made = of.at(operand, of.here(operand))
    if start:
        made = of.delayed(value.name, made, start, axis)
    size = operand.type.shape[axis]
    if isinstance(size, int) and start + size < node.attrs["size"]:
        made = of.until(start + size, made, of.filled(0, made))
    return of.chosen(made, of.here(value), view)


def _concat(of: _Stepper, node: Node, value: Value, view: Axes) -> Value:
    (*before, operand), axis = node.operands, node.attrs["axis"]
    if not is_marked(of.causality.facts[operand].axes[axis]):
        return of.alike(node, view)
    parts = [of.at(one, plain(one.type.shape)) for one in before]
    front = parts[0] if len(parts) == 1 else of.builder.emit("concat", *parts, axis=axis)
    made, size = of.at(operand, of.here(operand)), front.type.shape[axis]
    if not before or not isinstance(size, int):
        return of.chosen(made, of.here(value), view)
    shown = tuple((Part(size, of.position),) if k == axis else parts for k, parts in enumerate(plain(front.type.shape)))
    first = front if size == 1 else of.picked(front, plain(front.type.shape), shown)
    return of.chosen(of.until(size, first, of.delayed(value.name, made, size, axis)), of.here(value), view)


def _running(of: _Stepper, node: Node, value: Value, view: Axes) -> Value:
    here = of.here(value)
    if not is_marked(here[node.attrs["axis"]]):
        return of.alike(node, view)
    taken_here = [of.at(operand, here) for operand in node.operands]
    before, leave = of.carry(value.name, taken_here[0].type)
    if node.op == "cumprod":
        before = of.at_first(of.filled(1, before), before)
    if node.op == "linear_scan":
        before = of.builder.emit("mul", taken_here[0], before)
    made = of.builder.emit("mul" if node.op == "cumprod" else "add", before, taken_here[-1], name=value.name)
    leave(made)
    return of.chosen(made, here, view)


def _attention(of: _Stepper, node: Node, value: Value, view: Axes) -> Value:
    """A query at a place sees as many keys as there are places up to it: `lengths` says so instead of `causal`."""
    rank, attrs = value.type.rank, dict(node.attrs)
    own = [plain(operand.type.shape) for operand in node.operands]
    lead = [(*view[: rank - 3], axes[rank - 3] if own[1][rank - 3] != own[0][rank - 3] else view[rank - 3]) for axes in own[:3]]
    asked = [(*lead[0][: rank - 3], view[rank - 3], view[rank - 2], own[0][rank - 1]), *((*lead[k], *own[k][rank - 2 :]) for k in (1, 2))]
    operands = [of.at(operand, each) for operand, each in zip(node.operands, asked, strict=False)]
    lengths = [of.at(operand, (view[0],)) for operand in node.operands[3:]]
    if attrs["causal"] and is_marked(view[rank - 2]):
        index = of.builder.emit("add", view[rank - 2][0].mark, of.builder.constant(1, DType.I32))
        seen = of.builder.broadcast_to(index, operands[0].type.shape[:1], ())
        lengths = [of.builder.emit("minimum", one, seen) for one in lengths] or [seen]
        attrs["causal"] = False
    shown = (*view[: rank - 1], own[2][rank - 1])
    return of.chosen(of.emit(node, [*operands, *lengths], attrs), shown, view)


def _scan(of: _Stepper, node: Node, value: Value, view: Axes) -> Value:
    here = of.here(value)
    if (value, here) not in of.made:
        first, second = node.attrs["carries"], node.attrs["carries"] + node.attrs["sequences"]
        over_places = any(is_marked(of.causality.facts[one].axes[0]) for one in node.operands[first:second])
        made = _place_of(of, node) if over_places else _Turn(of, node).loop()
        of.made.update(((one, of.here(one)), result) for one, result in zip(node.results, made, strict=True))
    return of.chosen(of.made[value, here], here, view)


def _place_of(of: _Stepper, node: Node) -> list[Value]:
    """One step of a scan over the sequence, without the loop."""
    (body,), first, second = node.regions, node.attrs["carries"], node.attrs["carries"] + node.attrs["sequences"]
    bindings, leaves = [], []
    for k, operand in enumerate(node.operands):
        axes = plain(operand.type.shape)
        if first <= k < second:
            shown = of.at(operand, ((Part(node.attrs["length"], of.position),), *axes[1:]))
            bindings.append(of.reshaped(shown, shown.type.shape[1:]))
        elif k < first:
            before, leave = of.carry(node.results[k].name, operand.type)
            zero = of.causality.number_beyond(operand, None, None) == 0.0
            bindings.append(before if zero else of.at_first(of.at(operand, axes), before))
            leaves.append(leave)
        else:
            bindings.append(of.at(operand, axes))
    seen = {port.value: value for port, value in zip(body.inputs, bindings, strict=True)}
    of.builder.copy_nodes(body.nodes, seen)
    made = [seen[port.value] for port in body.outputs]
    for leave, value in zip(leaves, made, strict=False):
        leave(value)
    return [*made[:first], *(of.reshaped(value, (1, *value.type.shape)) for value in made[first:])]


ALWAYS = frozenset({"iota", "constant", "reshape", "transpose", "slice", "with_derivative"})
SPECIAL: Mapping[str, Callable[[_Stepper, Node, Value, Axes], Value]] = {
    "iota": _iota,
    "constant": _constant,
    "reshape": _reshape,
    "transpose": _transpose,
    "with_derivative": _with_derivative,
    "slice": _slice,
    "pad": _pad,
    "concat": _concat,
    **dict.fromkeys(("cumsum", "cumprod", "linear_scan"), _running),
    "attention": _attention,
    "scan": _scan,
}
