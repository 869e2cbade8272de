"""What attention's kernels share: blocks of queries against blocks of keys, tile by tile through scratch.

Rows are queries, `rows` at a time; those beyond the last are held at it. Lanes are keys, a block of them is
some tiles wide. A row of scratch scores belongs to each query. Heads are done one after the other, and parts share them
out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tapeless.abi.dtypes import INDEX, INTEGER
from tapeless.codegen.kernels.attention_plan import AttentionPlan
from tapeless.codegen.kernels.axis_walk import Single
from tapeless.codegen.kernels.micro_kernel import multiply
from tapeless.codegen.loops.builder import index_constant
from tapeless.codegen.loops.language import Buffer, Constant, Function, Operand, vector
from tapeless.codegen.nests.accumulators import accumulator_of
from tapeless.codegen.nests.groups import part_range
from tapeless.codegen.nests.pointwise import maximum
from tapeless.codegen.nests.sizes import product
from tapeless.codegen.vectormath import FUNCTIONS
from tapeless.ir.graph import Node
from tapeless.ir.ops.attention import heads_sharing
from tapeless.ir.target import Target

__all__ = ["Blocks", "Matrix"]


@dataclass(frozen=True)
class Matrix:
    """A row-major matrix in a buffer: where it starts, how many elements from one row to the next."""

    buffer: str
    start: Operand
    step: int


class Blocks:
    """`scratch` names what a part keeps, in elements."""

    def __init__(self, node: Node, target: Target, capacity: int, op: str, plan: AttentionPlan) -> None:
        self.kernel = Single(node, target, capacity, (op,))
        self.b, self.inner = self.kernel.b, self.kernel.inner
        self.name, self.capacity = node.attrs["name"], capacity
        q, k, v = (value.type for value in self.inner.operands[:3])
        self.kind, self.bytes = q.dtype.kind, q.dtype.computed.bytes
        self.plan, self.lanes, self.rows, self.vectors = plan, plan.lanes, plan.rows, plan.vectors
        self.type = vector(self.kind, self.lanes)
        self.n, self.d = q.at(capacity)[-2:]
        self.m, self.e = v.at(capacity)[-2:]
        self.tile = self.vectors * self.lanes
        self.block = plan.tiles * self.tile
        self.shared = heads_sharing(q, k)
        self.serving = product(k.shape[:-2])
        self.examples = product(q.shape[1:-2])
        self.causal, self.scale = self.inner.attrs["causal"], self.inner.attrs["scale"]

    def function(self, scratch: Mapping[str, int], group: Callable[[Operand], None]) -> Function:
        """The kernel: `group` writes the code for one head of keys and all the heads of queries that it serves."""
        b = self.b
        self.places: dict[str, int] = {}
        end = 0
        for name, size in scratch.items():
            self.places[name] = end
            end += -(-size // self.lanes) * self.lanes
        self.places["end"] = end
        parts = self.plan.parts
        start, stop = part_range(b, self.kernel.sizes.size(self.serving), parts, 1)
        over = b.open_loop(start, stop, 1)
        with b.inside(over.block):
            group(over.variable)
        b.close_loop(over)
        size = -(-end * self.bytes // 64) * 64
        return Function(
            self.name, (*self.kernel.buffers, Buffer("scratch", self.kind, "scratch", size)), parts, tuple(b.block)
        )

    # Places

    def source(self, place: int) -> str:
        return self.kernel.buffer(self.inner.operands[place]).name

    def at(self, base: Operand | int, *terms: tuple[Operand | int, int]) -> Operand:
        """base + index * step + ..."""
        total = index_constant(base) if isinstance(base, int) else base
        for index, step in terms:
            index = index_constant(index) if isinstance(index, int) else index
            total = self.b.arithmetic("add", total, self.b.arithmetic("mul", index, index_constant(step)))
        return total

    def kept(self, name: str, step: int = 0) -> Matrix:
        return Matrix("scratch", index_constant(self.places[name]), step)

    def vectors_of(self, length: int) -> int:
        return -(-length // self.lanes)

    def mask(self, length: int, number: int) -> Operand | None:
        """The lanes of a row's vector that exist, where not all do."""
        left = length - number * self.lanes
        return None if left >= self.lanes else self.b.first(index_constant(left), self.lanes)

    def held(self, i: Operand) -> list[Operand]:
        """The rows of the block at i, those beyond the last held at it."""
        b, last = self.b, index_constant(self.n - 1)
        return [b.arithmetic("min", b.arithmetic("add", i, index_constant(r)), last) for r in range(self.rows)]

    def keys_of(self, head: Operand, lengths: int) -> Operand:
        """How many keys count for a head of queries: all, or as many as the operand at place `lengths` says."""
        b, keys = self.b, index_constant(self.m)
        if len(self.inner.operands) == lengths:
            return keys
        example = b.arithmetic("div", head, self.kernel.sizes.size(self.examples))
        given = b.convert(b.load(self.source(lengths), INTEGER, example), INDEX)
        return b.arithmetic("max", index_constant(0), b.arithmetic("min", given, keys))

    # Loops

    def over_queries(self, body: Callable[[Operand], None]) -> None:
        blocks = self.b.open_loop(index_constant(0), index_constant(self.n), self.rows)
        with self.b.inside(blocks.block):
            body(blocks.variable)
        self.b.close_loop(blocks)

    def over_keys(self, i: Operand, keys: Operand, body: Callable[[Operand, Operand], None]) -> None:
        """Blocks that some query from i on sees, each with its count of keys."""
        b = self.b
        stop = b.arithmetic("min", keys, b.arithmetic("add", i, index_constant(self.rows))) if self.causal else keys
        over = b.open_loop(index_constant(0), stop, self.block)
        with b.inside(over.block):
            body(
                over.variable, b.arithmetic("min", b.arithmetic("sub", stop, over.variable), index_constant(self.block))
            )
        b.close_loop(over)

    def over_rows(self, stop: Operand | int, body: Callable[[Operand], None]) -> None:
        over = self.b.open_loop(index_constant(0), index_constant(stop) if isinstance(stop, int) else stop, 1)
        with self.b.inside(over.block):
            body(over.variable)
        self.b.close_loop(over)

    def clear(self, buffer: str, start: Operand, count: int) -> None:
        """Zeros."""
        b = self.b
        over = b.open_loop(index_constant(0), index_constant(count), self.lanes)
        with b.inside(over.block):
            left = (
                b.first(b.arithmetic("sub", index_constant(count), over.variable), self.lanes)
                if count % self.lanes
                else None
            )
            b.store(buffer, b.arithmetic("add", start, over.variable), Constant(0.0, self.type), left)
        b.close_loop(over)

    # Steps

    def product(self, left: Matrix, right: Matrix, length: int, i: Operand, j: Operand, into: str) -> None:
        """Rows i.. of left [n, length] times the block of columns at j of right [length, m], to scratch; zeros
        beyond the last key.
        """
        b, vectors = self.b, self.vectors
        rows = [self.at(left.start, (row, left.step)) for row in self.held(i)]
        chunks = b.open_loop(index_constant(0), index_constant(self.block), self.tile)
        with b.inside(chunks.block):
            first = b.arithmetic("add", j, chunks.variable)
            masks = self.key_masks(first)

            def columns(k: Operand) -> list[Operand]:
                base = b.arithmetic("add", self.at(right.start, (k, right.step)), first)
                return [
                    b.load(right.buffer, self.kind, self.at(base, (v, self.lanes)), self.lanes, mask)
                    for v, mask in enumerate(masks)
                ]

            def elements(k: Operand) -> Iterator[Operand]:
                for row in rows:
                    yield b.splat(b.load(left.buffer, self.kind, b.arithmetic("add", row, k)), self.lanes)

            steps, zero = (index_constant(0), index_constant(length)), Constant(0.0, self.type)
            for place, value in enumerate(multiply(b, steps, (zero,) * (self.rows * vectors), elements, columns)):
                r, v = divmod(place, vectors)
                b.store(
                    "scratch", self.at(chunks.variable, (1, self.places[into] + r * self.block + v * self.lanes)), value
                )
        b.close_loop(chunks)

    def key_masks(self, first: Operand) -> list[Operand]:
        """Of the vectors of a tile at key `first`, the lanes that are keys."""
        left = self.b.arithmetic("sub", index_constant(self.m), first)
        return [
            self.b.first(self.b.arithmetic("sub", left, index_constant(v * self.lanes)), self.lanes)
            for v in range(self.vectors)
        ]

    def row_places(self, name: str, row: Operand) -> list[Operand]:
        """The vectors of a row of the block."""
        return [
            self.at(self.places[name] + v * self.lanes, (row, self.block))
            for v in range(self.plan.tiles * self.vectors)
        ]

    def seen(self, i: Operand, j: Operand, row: Operand, count: Operand) -> Operand:
        """How many keys of the block at j the query i + row sees."""
        if not self.causal:
            return count
        b = self.b
        return b.arithmetic("min", count, self.at(1, (b.arithmetic("sub", b.arithmetic("add", i, row), j), 1)))

    def scores_of(self, row: Operand, seen: Operand) -> list[Operand]:
        """The scores of a row, minus infinity where a key is not seen."""
        b = self.b
        made: list[Operand] = []
        for v, place in enumerate(self.row_places("scores", row)):
            score = b.mul(b.load("scratch", self.kind, place, self.lanes), Constant(self.scale, self.type))
            there = b.first(b.arithmetic("sub", seen, index_constant(v * self.lanes)), self.lanes)
            made.append(b.select(there, score, Constant(-math.inf, self.type)))
        return made

    def begin(self) -> None:
        """No scores yet."""
        self.clear("scratch", index_constant(self.places["totals"]), self.rows * self.lanes)
        for row in range(self.rows):
            self.b.store(
                "scratch", index_constant(self.places["greatest"] + row), Constant(-math.inf, self.type.scalar)
            )

    def go_on(self, i: Operand, j: Operand, count: Operand, keep: bool) -> None:
        """Greatest scores and totals of weights after one more block; what was known before shrinks by a factor.

        To `keep` is to store the weights in the place of the scores, and the factor.
        """
        b, lanes = self.b, self.lanes

        def row(row: Operand) -> None:
            values = self.scores_of(row, self.seen(i, j, row, count))
            known = self.at(self.places["greatest"], (row, 1))
            before = b.load("scratch", self.kind, known)
            greatest = maximum(b, accumulator_of(b, "max", self.type, len(values)).across(values), before)
            b.store("scratch", known, greatest)
            shift = b.splat(greatest, lanes)
            factor = FUNCTIONS["exp"](b, b.sub(b.splat(before, lanes), shift))
            place = self.at(self.places["totals"], (row, lanes))
            total: Operand = b.mul(b.load("scratch", self.kind, place, lanes), factor)
            for stored, value in zip(self.row_places("scores", row), values, strict=True):
                weight = FUNCTIONS["exp"](b, b.sub(value, shift))
                total = b.add(total, weight)
                if keep:
                    b.store("scratch", stored, weight)
            b.store("scratch", place, total)
            if keep:
                b.store("scratch", self.at(self.places["factor"], (row, 1)), b.extract(factor, 0))

        self.over_rows(self.rows, row)

    def inverse_total(self, row: Operand) -> Operand:
        """One over the total of a row's weights; 1 where no key was seen, and what was gathered is zero."""
        b, one = self.b, Constant(1.0, self.type.scalar)
        known = b.load("scratch", self.kind, self.at(self.places["totals"], (row, self.lanes)), self.lanes)
        total = accumulator_of(b, "sum", self.type, 1).across([known])
        return b.div(one, b.select(b.compare("eq", total, 0.0), one, total))

    def gather(self, weights: str, right: Matrix, length: int, j: Operand, count: Operand, shrinks: bool) -> None:
        """Adds weights times the block of rows at j of right [m, length] to what was gathered, which may shrink
        first.
        """
        vectors = self.vectors_of(length)
        for first in range(0, vectors, self.vectors):
            self.gather_columns(
                weights, right, length, j, count, shrinks, range(first, min(first + self.vectors, vectors))
            )

    def gather_columns(self, weights: str, right: Matrix, length: int, j: Operand, count: Operand, shrinks: bool,
                       columns: Sequence[int]) -> None:  # fmt: skip
        b, lanes, wide = self.b, self.lanes, self.vectors_of(length)
        places = [self.at(self.places["gathered"] + (r * wide + c) * lanes) for r in range(self.rows) for c in columns]
        known: list[Operand] = [b.load("scratch", self.kind, place, lanes) for place in places]
        if shrinks:
            factors = [
                b.splat(b.load("scratch", self.kind, self.at(self.places["factor"] + r)), lanes)
                for r in range(self.rows)
            ]
            known = [b.mul(value, factors[k // len(columns)]) for k, value in enumerate(known)]
        masks = [self.mask(length, c) for c in columns]

        def values(k: Operand) -> list[Operand]:
            base = self.at(right.start, (b.arithmetic("add", j, k), right.step))
            return [
                b.load(right.buffer, self.kind, self.at(base, (c, lanes)), lanes, mask)
                for c, mask in zip(columns, masks, strict=True)
            ]

        def elements(k: Operand) -> Iterator[Operand]:
            for r in range(self.rows):
                place = self.at(k, (1, self.places[weights] + r * self.block))
                yield b.splat(b.load("scratch", self.kind, place), lanes)

        for place, value in zip(places, multiply(b, (index_constant(0), count), known, elements, values), strict=True):
            b.store("scratch", place, value)

    def write(self, i: Operand, into: Matrix, length: int, factor: Callable[[Operand], Operand] | None = None) -> None:
        """What was gathered, to the rows of the result that exist, times a factor for each if there is one."""
        b, lanes, wide = self.b, self.lanes, self.vectors_of(length)

        def row(row: Operand) -> None:
            times = b.splat(factor(row), lanes) if factor else None
            place = self.at(into.start, (b.arithmetic("add", i, row), into.step))
            for c in range(wide):
                value: Operand = b.load(
                    "scratch", self.kind, self.at(self.places["gathered"] + c * lanes, (row, wide * lanes)), lanes
                )
                b.store(
                    into.buffer,
                    self.at(place, (c, lanes)),
                    value if times is None else b.mul(value, times),
                    self.mask(length, c),
                )

        self.over_rows(
            b.arithmetic("min", index_constant(self.rows), b.arithmetic("sub", index_constant(self.n), i)), row
        )
