"""Memory one vector at a time: what varies along the vector axis, where a vector has several lanes."""

from __future__ import annotations

from collections.abc import Sequence

from tapeless.abi.dtypes import INTEGER
from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import Buffer, Constant, Operand, vector
from tapeless.codegen.nests.elements import clamped
from tapeless.codegen.nests.open_loops import OpenLoops, Values
from tapeless.codegen.nests.sizes import ONE, Axis
from tapeless.codegen.nests.terms import IndexedLoad, Load, MaskedLoad, Store

__all__ = ["Vectors"]


class Vectors:
    def __init__(self, builder: Builder, buffers: Sequence[Buffer], loops: OpenLoops, axis: Axis, lanes: int) -> None:
        self.b, self.buffers, self.open = builder, buffers, loops
        self.axis, self.lanes = axis, lanes
        self.streaming = False  # whether results go past the caches now, where no lane is masked

    def past_caches(self, streaming: bool) -> None:
        self.streaming = streaming

    def load(self, term: Load) -> Values:
        return self.read(term, self.open.address(term.strides, term.offset))

    def read(self, term: Load | IndexedLoad, base: Operand) -> Values:
        step, masks = self.open.step(term.strides), self.open.chunk.masks
        return tuple(
            self.lanes_of(term, self.open.moved(base, step, number), step, mask) for number, mask in enumerate(masks)
        )

    def lanes_of(
        self, term: Load | MaskedLoad | IndexedLoad, index: Operand, step: Operand, mask: Operand | None
    ) -> Operand:
        """Elements that are `step` apart, as a vector."""
        buffer = self.buffers[term.buffer].name
        if step == index_constant(1):
            return self.b.load(buffer, term.kind, index, self.lanes, mask)
        return self.b.gather(buffer, term.kind, index, self.open.offsets(step), mask)

    def masked(self, term: MaskedLoad, conditions: Values) -> Values:
        base = self.open.address(term.strides, term.offset)
        step, made = self.open.step(term.strides), []
        for number, (condition, mask) in enumerate(zip(conditions, self.open.chunk.masks, strict=True)):
            index = self.open.moved(base, step, number)
            chosen = condition if mask is None else self.b.bits("and", condition, mask)
            made.append(self.lanes_of(term, index, step, chosen))
        return tuple(made)

    def indexed(self, term: IndexedLoad, picked: Values) -> Values:
        if not self.open.varies(term.index):
            (move,) = clamped(self.b, self.open, term, picked)
            return self.read(term, self.b.arithmetic("add", self.open.address(term.strides, term.offset), move))
        along = self.open.size(term.along)
        base = self.open.address(term.strides, term.offset)
        type = vector(INTEGER, self.lanes)
        limit: Operand | None = None
        if term.size is not None:
            last = self.b.arithmetic("sub", self.open.size(term.size), index_constant(1))
            limit = self.b.splat(self.b.convert(last, INTEGER), self.lanes)
        scale = self.b.splat(self.b.convert(along, INTEGER), self.lanes)
        buffer = self.buffers[term.buffer].name
        step = self.open.step(term.strides)
        made = []
        for number, (value, mask) in enumerate(zip(picked, self.open.chunk.masks, strict=True)):
            place = value
            if limit is not None:
                place = self.b.compute("min", place, limit, type=type)
                place = self.b.compute("max", place, Constant(0, type), type=type)
            offsets: Operand = self.b.mul(place, scale)
            if self.axis in term.strides:
                offsets = self.b.add(offsets, self.open.offsets(step))
            made.append(self.b.gather(buffer, term.kind, self.open.moved(base, step, number), offsets, mask))
        return tuple(made)

    def store(self, store: Store, base: Operand, values: Values) -> None:
        buffer = self.buffers[store.buffer].name
        step = self.open.step(store.strides)
        for number, (value, mask) in enumerate(zip(values, self.open.chunk.masks, strict=True)):
            index = self.open.moved(base, step, number)
            if self.streaming and mask is None:
                self.b.stream(buffer, index, value)
            elif store.strides[self.axis] == ONE:
                self.b.store(buffer, index, value, mask)
            else:
                self.b.scatter(buffer, index, self.open.offsets(step), value, mask)
