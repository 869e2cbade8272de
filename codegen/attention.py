"""Attention without its scores: a block of queries meets the keys block by block, and the softmax goes on from one to the next.

For a block of rows of queries and one of keys: a tile of scores in registers, written to scratch; for each row the greatest
score so far, the weights exp(score - greatest) in the place of the scores, and how much what was gathered before shrinks; then
the weights times the block of values, added to the gathered rows in scratch. At the end, rows are divided by their total.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tapeless.codegen.builder import index_constant
from tapeless.codegen.grouping import part_range, parts_for
from tapeless.codegen.lines import Single, product
from tapeless.codegen.loops import Buffer, Constant, Function, Operand, vector
from tapeless.codegen.pointwise import maximum
from tapeless.codegen.reduce import accumulator_of
from tapeless.codegen.vectormath import FUNCTIONS
from tapeless.ir.graph import Node
from tapeless.ir.ops.attention import heads_sharing
from tapeless.ir.target import Target

__all__ = ["lower_attention"]

MULTIPLY_ADDS_PER_MICROSECOND = 4500
"""Vector multiply-adds, two thirds of a product's: weights are computed in between."""
CHUNKS = 2
"""Tiles of scores in a block of keys: what was gathered is loaded and stored once for each block."""


@dataclass(frozen=True)
class _Scratch:
    """Where a part's scratch holds what, in elements; its size in bytes."""

    scores: int
    gathered: int
    totals: int
    greatest: int
    shrinking: int
    size: int


def lower_attention(node: Node, target: Target, capacity: int) -> Function:
    return _Attention(node, target, capacity).function()


class _Attention:
    def __init__(self, node: Node, target: Target, capacity: int) -> None:
        self.kernel = Single(node, target, capacity, ("attention",))
        self.b, inner = self.kernel.b, self.kernel.inner
        self.name = node.attrs["name"]
        q, k, v = (value.type for value in inner.operands[:3])
        self.kind = q.dtype.value
        self.lanes = target.lanes(q.dtype.bytes)
        self.n, self.d = q.at(capacity)[-2:]
        self.m, self.e = v.at(capacity)[-2:]
        # As in products: accumulators and one row of vectors fit the registers, but for two.
        self.rows = min(8 if target.registers >= 32 else 4, max(1, self.n))
        self.vectors = max(1, (target.registers - 2) // (self.rows + 1))
        self.tile = self.vectors * self.lanes
        self.block = CHUNKS * self.tile
        self.columns = -(-self.e // self.lanes)
        self.shared = heads_sharing(q, k)
        self.outer = product(q.shape[:-2])
        self.examples = product(q.shape[1:-2])
        self.scratch = self.layout(q.dtype.bytes)
        self.type = vector(self.kind, self.lanes)
        work = self.n * self.m * (self.d + self.e) / self.lanes * self.outer.at(capacity)
        self.parts = max(1, min(parts_for(work / MULTIPLY_ADDS_PER_MICROSECOND), self.outer.at(capacity)))

    def layout(self, bytes_: int) -> _Scratch:
        sizes = [self.rows * self.block, self.rows * self.columns * self.lanes, self.rows * self.lanes, self.rows, self.rows]
        places = [0]
        for size in sizes:
            places.append(places[-1] + -(-size // self.lanes) * self.lanes)
        scores, gathered, totals, greatest, shrinking, end = places
        return _Scratch(scores, gathered, totals, greatest, shrinking, -(-end * bytes_ // 64) * 64)

    def function(self) -> Function:
        b, kernel = self.b, self.kernel
        start, stop = part_range(b, kernel.sizes.size(self.outer), self.parts, 1)
        heads = b.open_loop(start, stop, 1)
        with b.inside(heads.block):
            self.head(heads.variable)
        b.close_loop(heads)
        buffers = (*kernel.buffers, Buffer("scratch", self.kind, "scratch", self.scratch.size))
        return Function(self.name, buffers, self.parts, tuple(b.block))

    # Index arithmetic

    def at(self, base: Operand | int, *terms: tuple[Operand | int, int]) -> Operand:
        """base + index * step + ..."""
        total = index_constant(base) if isinstance(base, int) else base
        for index, step in terms:
            index = index_constant(index) if isinstance(index, int) else index
            total = self.b.arithmetic("add", total, self.b.arithmetic("mul", index, index_constant(step)))
        return total

    # One head

    def head(self, head: Operand) -> None:
        b, inner = self.b, self.kernel.inner
        self.sources = [self.kernel.buffer(value).name for value in (*inner.operands[:3], inner.result)]
        serving = b.arithmetic("div", head, index_constant(self.shared))
        self.starts = [
            self.at(0, (head, self.n * self.d)), self.at(0, (serving, self.d * self.m)),
            self.at(0, (serving, self.m * self.e)), self.at(0, (head, self.n * self.e)),
        ]  # fmt: skip
        self.keys: Operand = index_constant(self.m)
        if len(inner.operands) == 4:
            example = b.arithmetic("div", head, self.kernel.sizes.size(self.examples))
            given = b.convert(b.load(self.kernel.buffer(inner.operands[3]).name, "i32", example), "i64")
            self.keys = b.arithmetic("max", index_constant(0), b.arithmetic("min", given, self.keys))
        blocks = b.open_loop(index_constant(0), index_constant(self.n), self.rows)
        with b.inside(blocks.block):
            self.queries(blocks.variable)
        b.close_loop(blocks)

    def queries(self, i: Operand) -> None:
        """Rows i to i + rows of the queries; those beyond the last are held at it, and not stored."""
        b, s = self.b, self.scratch
        zero = Constant(0.0, self.type)
        clear = b.open_loop(index_constant(s.gathered), index_constant(s.greatest), self.lanes)
        with b.inside(clear.block):
            b.store("scratch", clear.variable, zero)
        b.close_loop(clear)
        for row in range(self.rows):
            b.store("scratch", index_constant(s.greatest + row), Constant(-math.inf, self.type.scalar))
        stop = self.keys
        if self.kernel.inner.attrs["causal"]:
            stop = b.arithmetic("min", stop, b.arithmetic("add", i, index_constant(self.rows)))
        over = b.open_loop(index_constant(0), stop, self.block)
        with b.inside(over.block):
            j = over.variable
            count = b.arithmetic("min", b.arithmetic("sub", stop, j), index_constant(self.block))
            self.score(i, j)
            self.weigh(i, j, count)
            self.gather(j, count)
        b.close_loop(over)
        self.finish(i)

    def score(self, i: Operand, j: Operand) -> None:
        """The scores of a block, to scratch; beyond the last key they are zeros."""
        b = self.b
        zero = Constant(0.0, self.type)
        last = index_constant(self.n - 1)
        rows = [self.at(self.starts[0], (b.arithmetic("min", b.arithmetic("add", i, index_constant(r)), last), self.d)) for r in range(self.rows)]
        chunks = b.open_loop(index_constant(0), index_constant(self.block), self.tile)
        with b.inside(chunks.block):
            first = b.arithmetic("add", j, chunks.variable)
            left = b.arithmetic("sub", index_constant(self.m), first)
            masks = [b.first(b.arithmetic("sub", left, index_constant(v * self.lanes)), self.lanes) for v in range(self.vectors)]
            over = b.open_loop(index_constant(0), index_constant(self.d), 1, (zero,) * (self.rows * self.vectors))
            with b.inside(over.block):
                base = b.arithmetic("add", self.at(self.starts[1], (over.variable, self.m)), first)
                keys = [b.load(self.sources[1], self.kind, self.at(base, (v, self.lanes)), self.lanes, mask) for v, mask in enumerate(masks)]
                yields = []
                for r, row in enumerate(rows):
                    query = b.splat(b.load(self.sources[0], self.kind, b.arithmetic("add", row, over.variable)), self.lanes)
                    yields += [b.fma(query, keys[v], over.parameters[r * self.vectors + v]) for v in range(self.vectors)]
            made = b.close_loop(over, yields)
            for k, value in enumerate(made):
                r, v = divmod(k, self.vectors)
                b.store("scratch", self.at(chunks.variable, (1, self.scratch.scores + r * self.block + v * self.lanes)), value)
        b.close_loop(chunks)

    def weigh(self, i: Operand, j: Operand, count: Operand) -> None:
        """Row by row, weights in the place of scores."""
        b, s, lanes = self.b, self.scratch, self.lanes
        attrs = self.kernel.inner.attrs
        over = b.open_loop(index_constant(0), index_constant(self.rows), 1)
        with b.inside(over.block):
            row = over.variable
            seen = count
            if attrs["causal"]:
                seen = b.arithmetic("min", seen, self.at(index_constant(1), (b.arithmetic("sub", b.arithmetic("add", i, row), j), 1)))
            places = [self.at(s.scores + v * lanes, (row, self.block)) for v in range(CHUNKS * self.vectors)]
            unseen = Constant(-math.inf, self.type)
            values: list[Operand] = []
            for v, place in enumerate(places):
                score = b.mul(b.load("scratch", self.kind, place, lanes), Constant(attrs["scale"], self.type))
                values.append(b.select(b.first(b.arithmetic("sub", seen, index_constant(v * lanes)), lanes), score, unseen))
            before = b.load("scratch", self.kind, self.at(s.greatest, (row, 1)))
            top = accumulator_of(b, "max", self.type, len(values))
            greatest = maximum(b, top.across(values), before)
            b.store("scratch", self.at(s.greatest, (row, 1)), greatest)
            shift = b.splat(greatest, lanes)
            shrinking = FUNCTIONS["exp"](b, b.sub(b.splat(before, lanes), shift))
            b.store("scratch", self.at(s.shrinking, (row, 1)), b.extract(shrinking, 0))
            total = b.mul(b.load("scratch", self.kind, self.at(s.totals, (row, lanes)), lanes), shrinking)
            for place, value in zip(places, values, strict=True):
                weight = FUNCTIONS["exp"](b, b.sub(value, shift))
                b.store("scratch", place, weight)
                total = b.add(total, weight)
            b.store("scratch", self.at(s.totals, (row, lanes)), total)
        b.close_loop(over)

    def gather(self, j: Operand, count: Operand) -> None:
        """What was gathered, shrunk, plus weights times values, a few vectors of columns at a time."""
        for first in range(0, self.columns, self.vectors):
            self.gather_columns(j, count, range(first, min(first + self.vectors, self.columns)))

    def gather_columns(self, j: Operand, count: Operand, columns: Sequence[int]) -> None:
        b, s, lanes = self.b, self.scratch, self.lanes
        places = [self.at(s.gathered + (r * self.columns + c) * lanes) for r in range(self.rows) for c in columns]
        factors = [b.splat(b.load("scratch", self.kind, self.at(s.shrinking + r)), lanes) for r in range(self.rows)]
        known = [b.mul(b.load("scratch", self.kind, place, lanes), factors[k // len(columns)]) for k, place in enumerate(places)]
        masks = [self.mask(c) for c in columns]
        over = b.open_loop(index_constant(0), count, 1, known)
        with b.inside(over.block):
            base = self.at(self.starts[2], (b.arithmetic("add", j, over.variable), self.e))
            values = [b.load(self.sources[2], self.kind, self.at(base, (c, lanes)), lanes, mask) for c, mask in zip(columns, masks, strict=True)]
            yields = []
            for r in range(self.rows):
                weight = b.splat(b.load("scratch", self.kind, self.at(over.variable, (1, s.scores + r * self.block))), lanes)
                yields += [b.fma(weight, value, over.parameters[r * len(columns) + c]) for c, value in enumerate(values)]
        for place, value in zip(places, b.close_loop(over, yields), strict=True):
            b.store("scratch", place, value)

    def mask(self, column: int) -> Operand | None:
        """The lanes of a vector of columns that exist, where not all do."""
        left = self.e - column * self.lanes
        return None if left >= self.lanes else self.b.first(index_constant(left), self.lanes)

    def finish(self, i: Operand) -> None:
        b, s, lanes = self.b, self.scratch, self.lanes
        count = b.arithmetic("min", index_constant(self.rows), b.arithmetic("sub", index_constant(self.n), i))
        over = b.open_loop(index_constant(0), count, 1)
        with b.inside(over.block):
            row = over.variable
            total = accumulator_of(b, "sum", self.type, 1).across([b.load("scratch", self.kind, self.at(s.totals, (row, lanes)), lanes)])
            one = Constant(1.0, self.type.scalar)
            nothing = b.compare("eq", total, 0.0)       # no key was seen: what was gathered is zero
            inverse = b.splat(b.div(one, b.select(nothing, one, total)), lanes)
            into = self.at(self.starts[3], (b.arithmetic("add", i, row), self.e))
            for c in range(self.columns):
                value = b.load("scratch", self.kind, self.at(s.gathered + c * lanes, (row, self.columns * lanes)), lanes)
                b.store(self.sources[3], self.at(into, (c, lanes)), b.mul(value, inverse), self.mask(c))
        b.close_loop(over)
