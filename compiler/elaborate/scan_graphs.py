"""Graphs of loops: an emitter for the body of a scan, and the scan around it. Knows neither scopes nor syntax."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tapeless.compiler.elaborate.emission import Emitter
from tapeless.compiler.elaborate.values import Computed
from tapeless.ir.graph import Builder, Graph, Value
from tapeless.ir.ranges import Range
from tapeless.ir.types import DType


class BodyEmitter(Emitter):
    """Emits one step of a scan. What it uses of the graph around it becomes an operand that every step shares."""

    def __init__(self, outer: Emitter, length: int) -> None:
        super().__init__("step", outer.real)
        self.use(Builder("step", outer.real, among=outer.builder))
        self.outer, self.length = outer, length
        self.where, self.span = outer.where, outer.span
        self.carries: list[Value] = []
        self.walked: dict[Value, Value] = {}  # inputs of the body to what the scan walks
        self.captured: dict[Value, Value] = {}  # values around the scan to inputs of the body
        self.step: Value | None = None

    @property
    def root(self) -> Emitter:
        return self.outer.root

    def around(self) -> tuple[Emitter, dict[Value, Value]] | None:
        return self.outer, {**self.walked, **{inner: outside for outside, inner in self.captured.items()}}

    def own(self, value: Value) -> Value:
        """The value in the body's terms."""
        if self.builder.made(value):
            return value
        if value not in self.captured:
            outside = self.outer.own(value)
            self.captured[value] = self.builder.input(value.name, outside.type, "operand")
            if outside in self.outer.lone:
                self.lone.add(self.captured[value])
            self.single.take(self.captured[value], outside, self.outer.single)
            self.builder.ranges.state(self.captured[value], self.outer.builder.ranges.of(outside))
        return self.captured[value]

    def term(self, value: Value) -> Value | None:
        return value if self.builder.made(value) else self.captured.get(value)

    def carry(self, name: str, start: Value) -> Value:
        """An input of the body that the step before made, or before the first the start: infinite where that can be."""
        value = self.builder.input(name, start.type, "operand")
        known = self.outer.builder.ranges.of(self.outer.own(start))
        self.builder.ranges.state(value, Range(infinite=known.infinite, nan=known.nan))
        self.carries.append(value)
        return value

    def element(self, sequence: Value, name: str) -> Value:
        """The input of the body that is one step's element of a sequence around it, [steps, ...]."""
        for inner, outside in self.walked.items():
            if outside == sequence:
                return inner
        value = self.builder.input(name, sequence.type.with_shape(sequence.type.shape[1:]), "operand")
        self.walked[value] = sequence
        self.builder.ranges.state(value, self.outer.builder.ranges.of(sequence))
        return value

    def place(self) -> Value:
        """The number of the step, an int."""
        if self.step is None:
            places = self.outer.emit("iota", axis=0, shape=(self.length,), dtype=DType.I32)
            self.step = self.element(places, "step")
        return self.step

    def scan(self, starts: Sequence[Value], nexts: Sequence[Computed], yields: Sequence[Computed],
        reverse: bool = False,
             checkpoint: int | None = None) -> tuple[list[Value], list[Value]]:  # fmt: skip
        """Emit the scan around the body; returns the last carries and the stacks, [steps, ...]."""
        given = [self.own(value.value) for value in (*nexts, *yields)]
        for k, value in enumerate(given):
            self.builder.output(f"r{k}", value, "result")
        names = [port.value.name for port in self.builder.graph().inputs]
        body = self.graph()
        ports = dict(zip(names, body.inputs, strict=True))
        order = [value.name for value in (*self.carries, *self.walked, *self.captured.values())]
        inputs = (ports[name] for name in order)
        body = Graph("step", tuple(replace(port, label=port.value.name) for port in inputs), body.nodes, body.outputs)
        sequences = list(self.walked.values())
        shared = [self.outer.own(value) for value in self.captured]
        loop = _Loop(self.outer, body, len(starts), shared, reverse)
        if checkpoint is None or checkpoint >= self.length:
            last, stacks = loop.whole(starts, sequences, self.length)
        else:
            last, stacks = loop.in_blocks(starts, sequences, self.length, checkpoint)
        self.outer.lone.update(made for made, value in zip((*last, *stacks), given, strict=True) if value in self.lone)
        return last, stacks


class _Loop:
    """A body and what every step shares; emits scans of it over sequences."""

    def __init__(self, emitter: Emitter, body: Graph, carries: int, shared: Sequence[Value], reverse: bool) -> None:
        self.emitter, self.body, self.carries = emitter, body, carries
        self.shared, self.reverse = list(shared), reverse

    def whole(
        self, starts: Sequence[Value], sequences: Sequence[Value], length: int
    ) -> tuple[list[Value], list[Value]]:
        """One scan over all steps."""
        return self.emit(self.body, starts, sequences, length)

    def emit(self, body: Graph, starts: Sequence[Value], sequences: Sequence[Value], length: int
             ) -> tuple[list[Value], list[Value]]:  # fmt: skip
        attrs = self.attributes(len(sequences), length)
        results = self.emitter.region("scan", (*starts, *sequences, *self.shared), attrs, body)
        return list(results[: self.carries]), list(results[self.carries :])

    def attributes(self, sequences: int, length: int) -> Mapping[str, object]:
        return {"carries": self.carries, "sequences": sequences, "length": length, "reverse": self.reverse}

    def in_blocks(self, starts: Sequence[Value], sequences: Sequence[Value], length: int, size: int
                  ) -> tuple[list[Value], list[Value]]:  # fmt: skip
        """Checkpoints (Griewank, 1992; Chen and others, 2016): a scan of scans of `size` steps. Differentiation
        saves the carries between blocks and runs a block again when it gets there. What is left at the end is a scan
        of its own.
        """
        count, rest = divmod(length, size)
        emit = self.emitter.emit

        def part(value: Value, start: int, steps: int) -> Value:
            if steps == length:
                return value
            others = value.type.shape[1:]
            return emit(
                "slice", value, start=(start, *(0 for _ in others)), size=(steps, *others), step=(1,) * value.type.rank
            )

        def blocks(carries: Sequence[Value]) -> tuple[list[Value], list[Value]]:
            cut = [part(sequence, 0, count * size) for sequence in sequences]
            cut = [emit("reshape", value, shape=(count, size, *value.type.shape[1:])) for value in cut]
            last, stacks = self.emit(self.block(size), carries, cut, count)
            return last, [emit("reshape", value, shape=(count * size, *value.type.shape[2:])) for value in stacks]

        def tail(carries: Sequence[Value]) -> tuple[list[Value], list[Value]]:
            if not rest:
                return list(carries), []
            return self.emit(self.body, carries, [part(sequence, count * size, rest) for sequence in sequences], rest)

        first, second = (tail, blocks) if self.reverse else (blocks, tail)
        middle, one = first(starts)
        last, other = second(middle)
        if not rest:
            return last, one or other
        head, end = (other, one) if self.reverse else (one, other)
        return last, [emit("concat", a, b, axis=0) for a, b in zip(head, end, strict=True)]

    def block(self, size: int) -> Graph:
        """The body of the outer scan: the inner one over `size` steps."""
        builder = Builder("block", self.emitter.real)
        first = len(self.body.inputs) - len(self.shared)
        inputs = []
        for k, port in enumerate(self.body.inputs):
            type = port.value.type
            walked = self.carries <= k < first
            inputs.append(
                builder.input(port.label, type.with_shape((size, *type.shape)) if walked else type, "operand")
            )
        names = [port.value.name for port in self.body.outputs]
        results = builder.emit_node("scan", inputs, self.attributes(first - self.carries, size), (self.body,), names)
        for k, value in enumerate(results):
            builder.output(f"r{k}", value, "result")
        return builder.graph()


__all__ = ["BodyEmitter"]
