"""Rows shorter than a vector, as many of them at a time as a vector has lanes.

A classifier's softmax has ten columns and any number of rows: lanes run over rows, whose elements are a row's length
apart. Instead of being gathered lane by lane, again in each sweep, a block of rows is loaded row by row, transposed in
registers and laid in scratch, where each column is a vector. Results are laid there as well, and go the same way back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tapeless.codegen.loops.builder import index_constant
from tapeless.codegen.loops.language import Buffer, Constant, Operand, vector
from tapeless.codegen.loops.register_transpose import transposed
from tapeless.codegen.nests.evaluate import Evaluator
from tapeless.codegen.nests.plan import VectorPlan
from tapeless.codegen.nests.sizes import Axis, Size, Strides
from tapeless.codegen.nests.terms import Load, Store

__all__ = ["ShortRows"]


class ShortRows:
    """The blocks of one nest. Scratch holds a block for each operand and result: `columns` vectors."""

    def __init__(self, e: Evaluator, plan: VectorPlan, columns: Axis) -> None:
        self.e = e
        self.b = e.b
        self.rows = plan.vector_axis
        self.columns = columns
        self.count = plan.extents[columns].coefficient
        self.lanes = plan.lanes
        walks = [(term.strides, term.kind) for term in plan.group.terms if isinstance(term, Load)]
        walks += [(store.strides, store.term.kind) for store in plan.group.stores]
        self.kind = next(kind for strides, kind in walks if self.covers(strides))  # all are of one
        self.blocks: dict[tuple[object, ...], int] = {}

    def covers(self, strides: Strides) -> bool:
        return self.rows in strides and self.columns in strides

    def scratch(self) -> Buffer:
        size = len(self.blocks) * self.count * self.lanes * vector(self.kind, 1).bytes
        return Buffer("scratch", self.kind, "scratch", -(-size // 64) * 64)

    def load(self, term: Load) -> tuple[Operand, ...]:
        """The column that the open loop stands at; brings the block first, in the scope of its rows."""
        key = self.key(term.buffer, term.strides, term.offset)
        if key not in self.blocks:
            self.blocks[key] = len(self.blocks)
        memo = self.e.open.scopes[self.depth(term.strides)].memo
        if ("block", key) not in memo:
            memo["block", key] = True
            with self.e.open.at(self.depth(term.strides)):
                self.bring(term, self.blocks[key])
        return (self.b.load("scratch", term.kind, self.place(key), self.lanes),)

    def store(self, store: Store) -> None:
        key = self.key(store.buffer, store.strides, ())
        self.blocks.setdefault(key, len(self.blocks))
        # The block holds what was stored: nothing is to be brought.
        self.e.open.scopes[self.depth(store.strides)].memo["block", key] = True
        (value,) = self.e.spread(store.term)
        self.b.store("scratch", self.place(key), value)

    def bring(self, term: Load, block: int) -> None:
        base, step = self.first(term.strides, term.offset)
        buffer = self.e.buffers[term.buffer].name
        rows: list[Operand] = [
            self.b.load(buffer, term.kind, self.row(base, step, k), self.lanes, self.mask(k)) for k in range(self.lanes)
        ]
        for column, value in enumerate(transposed(self.b, rows)[: self.count]):
            self.b.store("scratch", index_constant((block * self.count + column) * self.lanes), value)

    def take(self, stores: Sequence[Store]) -> None:
        """Results to their places; the open scope is that of the rows."""
        for store in stores:
            block = self.blocks[self.key(store.buffer, store.strides, ())]
            base, step = self.first(store.strides, ())
            held: list[Operand] = [
                self.b.load(
                    "scratch", store.term.kind, index_constant((block * self.count + column) * self.lanes), self.lanes
                )
                for column in range(self.count)
            ]
            held += [Constant(0.0, held[0].type)] * (self.lanes - self.count)
            name = self.e.buffers[store.buffer].name
            for k, value in enumerate(transposed(self.b, held)):
                self.b.store(name, self.row(base, step, k), value, self.mask(k))

    # Places

    def key(self, buffer: int, strides: Strides, offset: Iterable[Size]) -> tuple[object, ...]:
        return buffer, tuple(sorted(strides.items(), key=lambda item: item[0])), tuple(offset)

    def depth(self, strides: Strides) -> int:
        return self.e.open.depth([axis for axis in strides if axis != self.columns])

    def place(self, key: tuple[object, ...]) -> Operand:
        block = index_constant(self.blocks[key] * self.count * self.lanes)
        column = self.b.arithmetic("mul", self.e.open.index(self.columns), index_constant(self.lanes))
        return self.b.arithmetic("add", column, block)

    def first(self, strides: Strides, offset: Iterable[Size]) -> tuple[Operand, Operand]:
        """The index of the first row's first element, and the distance between rows."""
        rows = {axis: stride for axis, stride in strides.items() if axis != self.columns}
        return self.e.open.address(rows, offset), self.e.open.size(strides[self.rows])

    def row(self, base: Operand, step: Operand, k: int) -> Operand:
        return self.b.arithmetic("add", base, self.b.arithmetic("mul", step, index_constant(k)))

    def mask(self, k: int) -> Operand | None:
        """Which lanes of row k there are: none beyond the last row."""
        left = self.e.open.chunk.left
        if left is None:
            return None if self.count == self.lanes else self.b.first(index_constant(self.count), self.lanes)
        if isinstance(left, Constant):
            return self.b.first(index_constant(self.count if k < int(left.value) else 0), self.lanes)  # type: ignore[arg-type]
        there = self.b.compare("lt", index_constant(k), left)
        return self.b.first(self.b.select(there, index_constant(self.count), index_constant(0)), self.lanes)
