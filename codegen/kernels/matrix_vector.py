"""Products with a column, C[M, 1] = op(A)[M, K] b[K, 1]: lanes run along the rows of A.

They are taken as their transpose, one row b^T op(A)^T. Where A lies transposed, that is a product like any other. Where
it does not, a vector of C is as many inner products as it has lanes, each along a row of A with partial sums in lanes;
rounds of shuffles add all of them up at once, as many instructions as two or three for each row.
"""

from __future__ import annotations

from collections.abc import Sequence

from tapeless.codegen.kernels.matmul import Product
from tapeless.codegen.kernels.product_blocks import Block
from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import Constant, Operand, vector
from tapeless.codegen.loops.register_transpose import exchange

__all__ = ["Column"]


class Column(Product):
    """Writes b^T A^T for an A[M, K] as it lies."""

    def product(
        self,
        i: Operand,
        j: Operand,
        masks: tuple[Operand | None, ...],
        rows: int,
        there: Operand | None,
        known: Sequence[Operand],
        block: Block,
    ) -> list[tuple[Operand, ...]]:
        b, lanes = self.builder, self.lanes
        zero, k_extent = Constant(0.0, vector(self.kind, lanes)), self.extents[2]
        last = b.arithmetic("sub", self.extents[1], index_constant(1))
        starts: list[Operand] = []
        for row in range(lanes):
            place = b.arithmetic("add", j, index_constant(row))
            if masks[0] is not None:
                place = b.arithmetic("min", place, last)
            starts.append(b.arithmetic("add", self.right.start, b.arithmetic("mul", place, self.right.apart)))
        whole = b.arithmetic("mul", b.arithmetic("div", k_extent, index_constant(lanes)), index_constant(lanes))
        loop = b.open_loop(index_constant(0), whole, lanes, (zero,) * lanes)
        with b.inside(loop.block):
            sums = self.step(loop.variable, starts, loop.parameters, None)
        parts: list[Operand] = list(b.close_loop(loop, sums)) if whole != index_constant(0) else [zero] * lanes
        if whole != k_extent:
            rest = b.first(b.arithmetic("sub", k_extent, whole), lanes)
            parts = self.step(whole, starts, parts, rest)
        return [(added_up(b, parts),)]

    def step(
        self, k: Operand, starts: Sequence[Operand], sums: Sequence[Operand], mask: Operand | None
    ) -> list[Operand]:
        """Products of as many elements as there are lanes, from k on, added to each row's partial sums."""
        b, lanes = self.builder, self.lanes
        column = b.load(self.left.name, self.kind, b.arithmetic("add", self.left.start, k), lanes, mask)
        matrix = self.right.name
        return [
            b.fma(b.load(matrix, self.kind, b.arithmetic("add", start, k), lanes, mask), column, total)
            for start, total in zip(starts, sums, strict=True)
        ]


def added_up(b: Builder, rows: Sequence[Operand]) -> Operand:
    """The sum of each row's lanes, in the lane of the row's number: as in a transposition, but what a round exchanges
    is added, so that each round has half the vectors of the one before."""
    lanes, step = len(rows), 1
    while len(rows) > 1:
        low, high = exchange(lanes, step)
        rows = [
            b.add(b.shuffle(first, second, low), b.shuffle(first, second, high))
            for first, second in zip(rows[::2], rows[1::2], strict=True)
        ]
        step *= 2
    return rows[0]
