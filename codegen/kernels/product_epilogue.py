"""The epilogue of a product: pointwise work over [M, N] that turns a tile into what is stored.

A light one is written out on the registers. A heavy one (an exponential is twenty instructions, and a tile has up to 28
vectors) goes through a tile of scratch and a loop over its rows: compile time is by the line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tapeless.codegen.kernels.product_blocks import Block
from tapeless.codegen.kernels.product_plan import ProductPlan, ProductShape
from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import Buffer, Operand
from tapeless.codegen.nests.evaluate import Evaluator
from tapeless.codegen.nests.open_loops import Chunk, Scope
from tapeless.codegen.nests.sizes import ONE, Axis
from tapeless.codegen.nests.terms import Domain, Load, Store, closure
from tapeless.ir.graph import Value

__all__ = ["Epilogue"]

Masks = tuple[Operand | None, ...]
Tile = list[tuple[Operand, ...]]


class Epilogue:
    """Writes it for a tile. `stack` says where the product at hand stands in its stack, and `spilled` whether a tile
    went through scratch.
    """

    def __init__(
        self,
        b: Builder,
        domain: Domain,
        leaf: Value,
        buffers: Sequence[Buffer],
        stack: Mapping[Axis, Operand],
        shape: ProductShape,
        plan: ProductPlan,
    ) -> None:
        self.b, self.domain, self.buffers, self.stack, self.plan = b, domain, buffers, stack, plan
        self.kind, self.lanes, self.shape = leaf.type.dtype.kind, plan.lanes, shape
        # What a tile's rows run along, and what its vectors do, of the result.
        rows, columns = (-1, -2) if shape.as_transpose else (-2, -1)
        axes = domain.first_axes[leaf]
        self.row_axis, self.column_axis = axes[rows], axes[columns]
        self.spilled = False

    def write(self, tile: Tile, i: Operand, j: Operand, masks: Masks, there: Operand | None) -> None:
        """Stores what becomes of the tile at row i and column j, of those of its rows that are `there`."""
        cost = self.shape.epilogue * len(tile) * len(masks)
        if there is None and (cost <= self.plan.inline or len(tile) == 1):
            self.on_registers(tile, i, j, masks)
        else:
            self.through_scratch(tile, i, j, masks, there)

    def on_registers(self, tile: Tile, i: Operand, j: Operand, masks: Masks) -> None:
        b, e = self.b, self.evaluator()
        with e.open.within(Scope(b.block, {}, self.chunk(j, masks))):
            for row, values in enumerate(tile):
                self.row(e, b.arithmetic("add", i, index_constant(row)), b.block, values)

    def through_scratch(self, tile: Tile, i: Operand, j: Operand, masks: Masks, there: Operand | None) -> None:
        b, e, lanes = self.b, self.evaluator(), self.lanes
        self.spilled = True
        width = len(masks) * lanes
        for row, values in enumerate(tile):
            for v, value in enumerate(values):
                b.store("scratch", index_constant(row * width + v * lanes), value)
        stop: Operand = index_constant(len(tile))
        if there is not None:
            stop = b.arithmetic("min", there, stop)
        loop = b.open_loop(index_constant(0), stop, 1)
        with e.open.within(Scope(b.block, {}, self.chunk(j, masks))), b.inside(loop.block):
            base = b.arithmetic("mul", loop.variable, index_constant(width))
            values = tuple(
                b.load("scratch", self.kind, b.arithmetic("add", base, index_constant(v * lanes)), lanes)
                for v in range(len(masks))
            )
            self.row(e, b.arithmetic("add", i, loop.variable), loop.block, values)
        b.close_loop(loop)

    def evaluator(self) -> Evaluator:
        """Fresh for each tile, so that no loaded value is held in a register through a tile's inner loop."""
        made = Evaluator(self.b, self.buffers, self.column_axis, self.lanes)
        made.open.scopes[0].indices.update(self.stack)
        return made

    def chunk(self, j: Operand, masks: Masks) -> Chunk:
        """Tiles of whole width stand at multiples of it."""
        return Chunk(j, masks, aligned=len(masks) == self.plan.tile.vectors)

    def row(self, e: Evaluator, row: Operand, block: list[Any], leaf: Sequence[Operand]) -> None:
        scope = Scope(block, {} if self.row_axis is None else {self.row_axis: row})
        with e.open.within(scope):
            e.write_all(self.domain, leaf)

    def prefetch(self, i: Operand, j: Operand, rows: int, block: Block) -> Callable[[Operand], None] | None:
        """What is read and written by the epilogue of the tile at row i and column j, some rows of it at each step of
        k that is asked for.
        """
        b, touched = self.b, self.touched()
        if not self.plan.prefetch or not touched:
            return None
        every, line = self.plan.every(self.shape), self.plan.line(self.shape)
        blocks, (_, _, k) = self.plan.blocks, self.shape.extents
        times = max(1, (min(k, blocks.steps) if blocks else k) // every)
        each = -(-rows // times)
        assert self.row_axis is not None

        def at(k: Operand) -> None:
            passed = b.arithmetic("div", b.arithmetic("sub", k, block.steps[0]), index_constant(every))
            for more in range(each):
                row = b.arithmetic("add", b.arithmetic("mul", passed, index_constant(each)), index_constant(more))
                row = b.arithmetic("add", i, b.arithmetic("min", row, index_constant(rows - 1)))
                e = self.evaluator()
                with e.open.within(Scope(b.block, {self.row_axis: row}, self.chunk(j, (None,)))):  # type: ignore[dict-item]
                    for term in touched:
                        base = e.open.address(term.strides, term.offset if isinstance(term, Load) else ())
                        for shift in range(0, self.plan.width, line):
                            place = b.arithmetic("add", base, index_constant(shift))
                            b.prefetch(self.buffers[term.buffer].name, place)

        return at

    def touched(self) -> list[Load | Store]:
        """What walks along rows and columns of the result, each place once."""
        found: dict[object, Load | Store] = {}
        for term in (*closure(store.term for store in self.domain.stores), *self.domain.stores):
            if not isinstance(term, Load | Store) or self.row_axis not in term.strides:
                continue
            if self.column_axis is not None and term.strides.get(self.column_axis) == ONE:
                found.setdefault((term.buffer, *sorted(map(str, term.strides.items()))), term)
        return list(found.values())
