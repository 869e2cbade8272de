"""Memory one element at a time: what does not vary along the vector axis, and chunks where a vector has one lane."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tapeless.abi.dtypes import INDEX
from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import Buffer, Operand
from tapeless.codegen.nests.open_loops import OpenLoops, Values
from tapeless.codegen.nests.sizes import Strides
from tapeless.codegen.nests.terms import IndexedLoad, Load, MaskedLoad, Store

__all__ = ["Elements", "clamped"]


class Elements:
    def __init__(self, builder: Builder, buffers: Sequence[Buffer], loops: OpenLoops) -> None:
        self.b, self.buffers, self.open = builder, buffers, loops

    def places(self, base: Operand, strides: Strides, varies: bool) -> Iterator[tuple[Operand, Operand | None]]:
        """The address and mask of each element of the chunk; of the only one if they do not vary."""
        if not varies:
            yield base, None
            return
        step = self.open.step(strides)
        for number, mask in enumerate(self.open.chunk.masks):
            yield self.open.moved(base, step, number), mask

    def load(self, term: Load) -> Values:
        return self.read(term, self.open.address(term.strides, term.offset))

    def read(self, term: Load | IndexedLoad, base: Operand) -> Values:
        buffer = self.buffers[term.buffer].name
        places = self.places(base, term.strides, self.open.varies(term))
        return tuple(self.b.load(buffer, term.kind, index, 1, mask) for index, mask in places)

    def masked(self, term: MaskedLoad, conditions: Values) -> Values:
        """Where there is no element, the buffer's first one is loaded instead."""
        buffer = self.buffers[term.buffer].name
        places = self.places(self.open.address(term.strides, term.offset), term.strides, self.open.varies(term))
        return tuple(
            self.b.load(buffer, term.kind, self.b.select(condition, index, index_constant(0)), 1, mask)
            for condition, (index, mask) in zip(conditions, places, strict=True)
        )

    def indexed(self, term: IndexedLoad, picked: Values) -> Values:
        moves = clamped(self.b, self.open, term, picked)
        base = self.open.address(term.strides, term.offset)
        if not self.open.varies(term.index):
            return self.read(term, self.b.arithmetic("add", base, moves[0]))
        step = self.open.step(term.strides)
        buffer, made = self.buffers[term.buffer].name, []
        for number, (move, mask) in enumerate(zip(moves, self.open.chunk.masks, strict=True)):
            index = self.open.moved(self.b.arithmetic("add", base, move), step, number)
            made.append(self.b.load(buffer, term.kind, index, 1, mask))
        return tuple(made)

    def store(self, store: Store, base: Operand, values: Values) -> None:
        buffer, varies = self.buffers[store.buffer].name, self.open.vector_axis in store.strides
        places = self.places(base, store.strides, varies)
        for value, (index, mask) in zip(values, places, strict=True):
            self.b.store(buffer, index, value, mask)


def clamped(b: Builder, loops: OpenLoops, term: IndexedLoad, picked: Values) -> list[Operand]:
    """How far each computed index, held within its range, is from the first element."""
    along = loops.size(term.along)
    last = None if term.size is None else b.arithmetic("sub", loops.size(term.size), index_constant(1))
    moves = []
    for value in picked:
        place: Operand = b.convert(value, INDEX)
        if last is not None:
            place = b.arithmetic("max", b.arithmetic("min", place, last), index_constant(0))
        moves.append(b.arithmetic("mul", place, along))
    return moves
