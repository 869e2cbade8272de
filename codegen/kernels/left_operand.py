"""The left operand of a product: where its elements are, as they lie or in a copy of the block at hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tapeless.codegen.kernels.copies import Reader, copy_row
from tapeless.codegen.kernels.product_blocks import Block
from tapeless.codegen.kernels.product_plan import ProductPlan, ProductShape, Scratch
from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import Constant, Operand

__all__ = ["Left"]

Places = Sequence[tuple[Operand, int]]
"""Of each row, an index that is computed before the loop over k, and a known distance from it."""


class Left:
    """op(A), whose rows, or columns if it lies transposed, are `apart` from each other. `start` is where the matrix at
    hand begins.
    """

    def __init__(
        self, b: Builder, name: str, kind: str, apart: Operand, shape: ProductShape, plan: ProductPlan, scratch: Scratch
    ) -> None:
        self.b, self.name, self.kind, self.apart = b, name, kind, apart
        self.transposed = shape.left_transposed
        self.copied = plan.blocks is not None and plan.blocks.left
        self.lanes, self.height, self.scratch = plan.lanes, plan.tile.rows, scratch
        self.whole_steps = plan.whole_steps(shape)
        self.start: Operand = index_constant(0)

    def pack(self, block: Block) -> None:
        """Copies the block: row by row, or tile by tile where it lies transposed. Either way memory is read in
        sequence, as the caches foresee.
        """
        b = self.b
        first, last = block.rows
        if not self.transposed:
            rows = b.open_loop(first, last, 1)
            with b.inside(rows.block):
                source = b.arithmetic("add", self.start, b.arithmetic("mul", rows.variable, self.apart))
                into = b.arithmetic("sub", self.row(rows.variable, block), block.steps[0])
                copy_row(b, self.reader(source), into, block.steps, self.lanes, self.whole_steps)
            b.close_loop(rows)
            return
        height = self.height
        steps = b.open_loop(*block.steps, 1)
        tiles = b.open_loop(first, last, height)
        with b.inside(steps.block):
            row = b.arithmetic("add", self.start, b.arithmetic("mul", steps.variable, self.apart))
            within = b.arithmetic("sub", steps.variable, block.steps[0])
            within = b.arithmetic("mul", within, index_constant(height))
        with b.inside(tiles.block):
            i = tiles.variable
            left = b.arithmetic("min", b.arithmetic("sub", last, i), index_constant(height))
            source, place = b.arithmetic("add", row, i), b.arithmetic("add", self.row(i, block), within)
            for shift in range(0, height, self.lanes):  # a tile may have more rows than a vector has elements
                here = b.first(b.arithmetic("sub", left, index_constant(shift)), self.lanes)
                whole = b.first(index_constant(height - shift), self.lanes) if height - shift < self.lanes else None
                value = self.reader(b.arithmetic("add", source, index_constant(shift)))(index_constant(0), here)
                b.store("scratch", b.arithmetic("add", place, index_constant(shift)), value, whole)
        with b.inside(steps.block):
            b.close_loop(tiles)
        b.close_loop(steps)

    def reader(self, start: Operand) -> Reader:
        b = self.b
        return lambda k, mask: b.load(self.name, self.kind, b.arithmetic("add", start, k), self.lanes, mask)

    def row(self, i: Operand, block: Block) -> Operand:
        """Where row i of the copy begins. Where A lies transposed, tiles follow each other, and within a tile its rows
        lie side by side; fewer rows than a tile's may start within one.
        """
        b, scratch = self.b, self.scratch
        row = b.arithmetic("sub", i, block.rows[0])
        if not self.transposed:
            place = b.arithmetic("mul", row, index_constant(scratch.left_row))
            return b.arithmetic("add", place, index_constant(scratch.left))
        height = index_constant(self.height)
        whole = b.arithmetic("mul", b.arithmetic("div", row, height), height)
        within = b.arithmetic("add", b.arithmetic("sub", row, whole), index_constant(scratch.left))
        return b.arithmetic("add", b.arithmetic("mul", whole, index_constant(scratch.left_row)), within)

    def places(self, i: Operand, rows: int, there: Operand | None, block: Block) -> Places:
        """Where so many rows start. Those that are not `there` are held at the last one; in a copy, their surplus is
        read from what lies behind.
        """
        b = self.b
        if self.copied:
            step = self.height if self.transposed else 1
            base = b.arithmetic("sub", self.row(i, block), b.arithmetic("mul", block.steps[0], index_constant(step)))
            return [(base, row * (1 if self.transposed else self.scratch.left_row)) for row in range(rows)]
        step_of_row = index_constant(1) if self.transposed else self.apart
        if there is None and isinstance(step_of_row, Constant):
            base = b.arithmetic("add", self.start, b.arithmetic("mul", i, step_of_row))
            return [(base, row * int(step_of_row.value)) for row in range(rows)]  # type: ignore[arg-type]
        made: list[tuple[Operand, int]] = []
        last = b.arithmetic("sub", there, index_constant(1)) if there is not None else None
        for row in range(rows):
            distance: Operand = index_constant(row)
            if last is not None and row:
                distance = b.arithmetic("min", distance, last)
            base = b.arithmetic("mul", b.arithmetic("add", i, distance), step_of_row)
            made.append((b.arithmetic("add", self.start, base), 0))
        return made

    def elements(self, k: Operand, places: Places) -> Iterator[Operand]:
        """Of each row, the element of step k in all lanes."""
        b = self.b
        name, step = self.name, self.apart if self.transposed else index_constant(1)
        if self.copied:
            name, step = "scratch", index_constant(self.height if self.transposed else 1)
        moved = b.arithmetic("mul", k, step)
        common = b.arithmetic("add", moved, places[0][0])
        for base, distance in places:
            start = common if base is places[0][0] else b.arithmetic("add", moved, base)
            yield b.splat(b.load(name, self.kind, b.arithmetic("add", start, index_constant(distance))), self.lanes)
