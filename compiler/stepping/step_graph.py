"""From the graph of a whole sequence to that of one place of it, with what the places before have left as carries.

`stepped` takes the graph of outputs in evaluation mode. What `causality.py` found to go along with the places is
computed at the one place at hand: the axis of places has size 1. The rest comes from carries, which all start as zeros:

- `position`, the number of the place;
- what a scan over the sequence carries, and a running total;
- a cache of what is read at all places up to this one, as the keys and values of attention are.

Values that do not depend on the sequence, such as positions and masks, are computed at the place too: of `iota` remains
`position`. Values are asked for by a view: their axes (`axis_parts.py`), of which marked parts are taken at the index
that is the mark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tapeless.compiler.stepping.axis_parts import Axes, Part, is_whole, marks, plain, shape_at, unmarked
from tapeless.compiler.stepping.causality import Causality, Fact, LooksAhead
from tapeless.compiler.stepping.masks import Beyond
from tapeless.compiler.stepping.stepper import Leave, Stepper
from tapeless.ir.graph import Builder, Graph, Port, Value
from tapeless.ir.types import DType, Rows, Tensor

LATEST = (1 << 31) - 2  # where `position` stops counting, in a model without a last place
POSITION = "position"


def stepped(graph: Graph, dtype: DType) -> Graph:
    """The graph `step`: a place's data, without the axis of places, and carries in; outputs and carries out.

    The sequence is the axis after that of the rows in the first data input for which the model can go place by
    place, and in all inputs that have as many places there. Raises LooksAhead, for the first such input, if there is
    none.
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
    (port,) = (port for port in graph.inputs if port.role == "carry" and port.label == POSITION)
    return port.places


class _Root(Stepper):
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
            self.inputs[port.value] = builder.input_like(port, type)
        self.count = builder.input(POSITION, Tensor(DType.I32), "carry")
        self.bounded = False
        self.left: list[tuple[str, Value]] = []
        super().__init__(causality, builder, self.count)

    def fact(self, port: Port) -> Fact:
        axes = plain(port.value.type.shape)
        return Fact((axes[0], (Part(self.length, True),), *axes[2:]) if port in self.walked else axes)

    def graph(self) -> Graph:
        outputs = [(port, self.view_of(port)) for port in self.source.outputs]
        if not any(
            self.causality.facts[port.value].moves or self.causality.facts[port.value].last for port, _ in outputs
        ):
            raise LooksAhead("no output depends on the sequence")
        self.run()
        builder = self.builder
        for port, view in outputs:
            value = self.at(port.value, view)
            shape = [
                size
                for axis, size in zip(view, shape_at(view), strict=True)
                if not (is_whole(axis) and axis[0].mark is not None)
            ]
            builder.span = port.span
            builder.output_like(port, self.reshaped(value, shape))
        builder.span = None
        limit, one = (
            builder.constant(number, DType.I32) for number in (self.length - 1 if self.bounded else LATEST, 1)
        )
        following = builder.emit("add", builder.emit("minimum", self.position, limit), one, name=f"{POSITION}.next")
        places = self.length if self.bounded else None
        builder.output(POSITION, following, "carry", places=places)
        for name, value in self.left:
            builder.output(name, value, "carry")
        made = builder.graph()
        inputs = (replace(port, places=places) if port.value == self.count else port for port in made.inputs)
        return replace(made, inputs=tuple(inputs))

    def view_of(self, port: Port) -> Axes:
        """An output at this place: of two axes of places the first is the one, and the other holds those before it."""
        fact = self.causality.facts[port.value]
        first, *others = marks(fact.axes) or [(-1, 1)]
        for other in others:
            if fact.beyond.get((first, other), Beyond.OPEN) in (Beyond.OPEN, Beyond.FAR):
                raise LooksAhead(
                    f"the output `{port.label}` holds later places of the sequence",
                    self.source.producers.get(port.value),
                )
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
        before = self.builder.input(
            label, type.with_shape([type.shape[k] for k in perm]), "carry", name=f"{name}.before"
        )

        self.left.append((label, before))
        place = len(self.left) - 1

        def leave(after: Value) -> None:
            self.left[place] = (label, self.transposed(after, perm))

        return self.transposed(before, [perm.index(k) for k in range(type.rank)]), leave
