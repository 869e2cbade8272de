"""Products whose right operand lies transposed, C[M, N] = op(A)[M, K] B[N, K]^T, without a transposed copy of B.

A tile is made the other way round: each step of k broadcasts one element of a row of B for each column of the tile, and
multiplies it into the tile's elements of a column of op(A). When all steps are done, registers are transposed, and the
tile is as any other's. Columns of A as it lies are first copied to where they can be read as vectors: it is the smaller
of the two (see `compiler.passes.layout`).
"""

from __future__ import annotations

from collections.abc import Iterator

from tapeless.codegen.kernels.matmul import Product
from tapeless.codegen.kernels.micro_kernel import multiply
from tapeless.codegen.loops.builder import index_constant
from tapeless.codegen.loops.language import Constant, Operand, vector
from tapeless.codegen.loops.register_transpose import transposed

__all__ = ["Turned"]


class Turned(Product):
    """Writes a product whose tiles are made the other way round."""

    @property
    def panel(self) -> int:
        """Elements of the copy of a tile's rows of A: their columns, each a vector, for all steps of k."""
        return max(1, -(-self.k.at(self.capacity) // self.lanes)) * self.lanes * self.lanes

    def row_blocks(self, start: Operand, stop: Operand) -> None:
        if not self.transposed:
            self.copy_columns()
        self.columns(start, stop)

    def copy_columns(self) -> None:
        """The panels of the rows at hand."""
        b, lanes = self.builder, self.lanes
        first, last = self.rows_range
        self.packed_elements = max(1, -(-self.m.at(self.capacity) // lanes)) * self.panel
        whole = index_constant(self.k.coefficient // lanes * lanes) if self.k.known else index_constant(0)
        tiles = b.open_loop(first, last, lanes)
        with b.inside(tiles.block):
            i = tiles.variable
            left = None if self.m.known and self.m.coefficient % lanes == 0 else b.arithmetic("sub", last, i)
            offsets = self.row_offsets(i, lanes, left)
            into = self.panel_at(i)
            loop = b.open_loop(index_constant(0), whole, lanes)
            with b.inside(loop.block):
                self.copy_square(offsets, loop.variable, into, None)
            b.close_loop(loop)
            if whole != self.k_extent:
                rest = b.open_loop(whole, self.k_extent, lanes)
                with b.inside(rest.block):
                    mask = b.first(b.arithmetic("sub", self.k_extent, rest.variable), lanes)
                    self.copy_square(offsets, rest.variable, into, mask)
                b.close_loop(rest)
        b.close_loop(tiles)

    def copy_square(self, offsets: list[tuple[Operand, int]], k: Operand, into: Operand, mask: Operand | None) -> None:
        b, lanes = self.builder, self.lanes
        rows: list[Operand] = []
        for base, distance in offsets:
            place = b.arithmetic("add", b.arithmetic("add", base, k), index_constant(distance))
            rows.append(b.load(self.buffers[self.a].name, self.kind, place, lanes, mask))
        start = b.arithmetic("add", into, b.arithmetic("mul", k, index_constant(lanes)))
        for step, column in enumerate(transposed(b, rows)):
            b.store("scratch", b.arithmetic("add", start, index_constant(step * lanes)), column)

    def panel_at(self, i: Operand) -> Operand:
        b = self.builder
        tile = b.arithmetic("div", b.arithmetic("sub", i, self.rows_range[0]), index_constant(self.lanes))
        behind = index_constant(self.tile.rows * self.width)
        return b.arithmetic("add", b.arithmetic("mul", tile, index_constant(self.panel)), behind)

    def product(
        self,
        i: Operand,
        j: Operand,
        masks: tuple[Operand | None, ...],
        rows: int,
        left: Operand | None,
        steps: tuple[Operand, Operand] | None = None,
        known: tuple[Operand, ...] | None = None,
    ) -> list[tuple[Operand, ...]]:
        b, lanes = self.builder, self.lanes
        zero = Constant(0.0, vector(self.kind, lanes))
        mask: Operand | None = None
        step: Operand = index_constant(lanes)
        if self.transposed:
            name, step, start = self.buffers[self.a].name, self.lda_step, b.arithmetic("add", self.a_start, i)
            mask = b.first(left or index_constant(rows), lanes) if left or rows < lanes else None
        else:
            name, start = "scratch", self.panel_at(i)
        starts = self.right_rows(j, masks)

        def column(k: Operand) -> list[Operand]:
            return [b.load(name, self.kind, b.arithmetic("add", b.arithmetic("mul", k, step), start), lanes, mask)]

        def elements(k: Operand) -> Iterator[Operand]:
            common = b.arithmetic("add", k, starts[0][0])
            for base, distance in starts:
                row = common if base is starts[0][0] else b.arithmetic("add", k, base)
                place = b.arithmetic("add", row, index_constant(distance))
                yield b.splat(b.load(self.buffers[self.b_place].name, self.kind, place), lanes)

        totals = multiply(b, (index_constant(0), self.k_extent), (zero,) * len(starts), elements, column)
        return [(row,) for row in transposed(b, [*totals, *(zero,) * (lanes - len(totals))])[:rows]]

    def right_rows(self, j: Operand, masks: tuple[Operand | None, ...]) -> list[tuple[Operand, int]]:
        """Where the row of B for each column of the tile starts: an index computed before the loop, and a known
        distance from it. Where the count of columns is not known, those beyond it are held at the last one.
        """
        b, step, count = self.builder, self.ldb_step, self.lanes
        if masks[0] is not None and self.n.known:
            count = self.n.coefficient % self.lanes
        if (masks[0] is None or self.n.known) and isinstance(step, Constant):
            base = b.arithmetic("add", self.b_start, b.arithmetic("mul", j, step))
            return [(base, column * int(step.value)) for column in range(count)]  # type: ignore[arg-type]
        last = b.arithmetic("sub", self.n_extent, index_constant(1))
        places = [b.arithmetic("min", b.arithmetic("add", j, index_constant(column)), last) for column in range(count)]
        return [(b.arithmetic("add", self.b_start, b.arithmetic("mul", place, step)), 0) for place in places]
