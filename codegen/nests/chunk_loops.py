"""Loops over the axes of a nest that has a vector axis, carrying values through all of them.

The vector axis goes in chunks of several vectors, what is left of it under masks. Sums that a long loop carries are
added up block by block, so the order of a row's sum never depends on how many rows there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import Constant, Operand
from tapeless.codegen.nests.groups import part_range
from tapeless.codegen.nests.open_loops import Chunk, OpenLoops, Scope, Values
from tapeless.codegen.nests.plan import BLOCK, VectorPlan
from tapeless.codegen.nests.sizes import Axis

__all__ = ["Body", "ChunkLoops"]

Body = Callable[[Values], Values]
Adds = tuple[bool, ...]  # of the values that are carried, which are sums
Turns = Callable[[Operand, Operand, Values], Values]


class ChunkLoops:
    def __init__(self, builder: Builder, plan: VectorPlan, loops: OpenLoops) -> None:
        self.b, self.plan, self.open = builder, plan, loops
        self.lanes = plan.lanes
        self.vectors = plan.vectors  # of the chunks that are opened now

    @property
    def width(self) -> int:
        return self.vectors * self.lanes

    def range(self, axis: Axis, parts: int = 1) -> tuple[Operand, Operand]:
        """From where to where a loop goes: what one of the parts does of the one that is cut."""
        extent = self.open.size(self.plan.extents[axis])
        if axis != self.plan.cut:
            return index_constant(0), extent
        return part_range(self.b, extent, parts, self.plan.grain(axis) if parts > 1 else 1)

    def nest(self, axes: Sequence[Axis], carried: Values, adds: Adds, body: Body, parts: int = 1) -> Values:
        """Loops over `axes`, the vector axis last; one of them cut into parts."""
        if not axes:
            return body(carried)
        start, stop = self.range(axes[0], parts)
        return self.over(
            axes[0], start, stop, carried, adds, lambda values: self.nest(axes[1:], values, adds, body, parts)
        )

    def over(self, axis: Axis, start: Operand, stop: Operand, carried: Values, adds: Adds, body: Body) -> Values:
        if axis == self.plan.vector_axis:
            return self.chunks(start, stop, carried, adds, body)

        def turns(start: Operand, stop: Operand, carried: Values) -> Values:
            loop = self.b.open_loop(start, stop, 1, carried)
            with self.open.within(Scope(loop.block, {axis: loop.variable})):
                yields = body(loop.parameters)
            return self.b.close_loop(loop, yields)

        levels = self.plan.block_levels(axis, 1) if any(adds) else 0
        return self.blocks(levels, start, stop, 1, carried, adds, turns)

    def blocks(
        self, level: int, start: Operand, stop: Operand, step: int, carried: Values, adds: Adds, turns: Turns
    ) -> Values:
        """A loop in blocks, in so many levels. The sums that it carries start afresh in each block: their error grows
        with the logarithm of the length, not with the length."""
        if level == 0:
            return turns(start, stop, carried)
        b, span = self.b, step * BLOCK**level
        loop = b.open_loop(start, stop, span, carried)
        with self.open.within(Scope(loop.block)):
            end = b.arithmetic("min", b.arithmetic("add", loop.variable, index_constant(span)), stop)
            fresh = tuple(
                Constant(0.0, known.type) if sums else known for known, sums in zip(loop.parameters, adds, strict=True)
            )
            made = self.blocks(level - 1, loop.variable, end, step, fresh, adds, turns)
            yields = tuple(
                b.add(known, value) if sums else value
                for known, value, sums in zip(loop.parameters, made, adds, strict=True)
            )
        return b.close_loop(loop, yields)

    # The vector axis

    def chunks(self, start: Operand, stop: Operand, carried: Values, adds: Adds, body: Body) -> Values:
        """Whole chunks, then what is left under masks."""
        extent, width = self.plan.extent, self.width
        if isinstance(start, Constant) and isinstance(stop, Constant):
            count = int(stop.value)  # type: ignore[arg-type]
            whole = 0 if self.plan.single else count // width * width
            if whole:
                carried = self.whole_chunks(start, index_constant(whole), carried, adds, body)
            return self.last_chunk(whole, count - whole, carried, body) if count > whole else carried
        if width == 1 or (extent.known and extent.coefficient % width == 0):  # so is each part's share
            return self.whole_chunks(start, stop, carried, adds, body)
        if extent.at(self.plan.capacity) <= width:  # one chunk, hardly ever whole
            return self.turns(start, stop, carried, body, tail=True)
        span = self.b.arithmetic("sub", stop, start)
        count_whole = self.b.arithmetic("div", span, index_constant(width))
        middle = self.b.arithmetic("add", start, self.b.arithmetic("mul", count_whole, index_constant(width)))
        carried = self.whole_chunks(start, middle, carried, adds, body)
        return self.turns(middle, stop, carried, body, tail=True)

    def last_chunk(self, base: int, left: int, carried: Values, body: Body) -> Values:
        """One chunk from a known place on, of as many vectors as what is left fills."""
        with self.open.within(Scope(self.b.block, {}, self.chunk_of(base, left))):
            return body(carried)

    def chunk_of(self, base: int, left: int) -> Chunk:
        masks = self.b.covering(left, self.lanes)
        return Chunk(index_constant(base), masks, aligned=True, left=index_constant(left))

    def whole_chunks(self, start: Operand, stop: Operand, carried: Values, adds: Adds, body: Body) -> Values:
        levels = self.plan.block_levels(self.plan.vector_axis, self.width) if any(adds) else 0
        return self.blocks(
            levels,
            start,
            stop,
            self.width,
            carried,
            adds,
            lambda start, stop, carried: self.turns(start, stop, carried, body),
        )

    def turns(self, start: Operand, stop: Operand, carried: Values, body: Body, tail: bool = False) -> Values:
        """A loop over chunks; the `tail` is masked."""
        loop = self.b.open_loop(start, stop, self.width, carried)
        masks: tuple[Operand | None, ...] = (None,) * self.vectors
        left: Operand | None = None
        if tail:
            with self.b.inside(loop.block):
                left = rest = self.b.arithmetic("sub", stop, loop.variable)
                masks = tuple(
                    self.b.first(self.b.arithmetic("sub", rest, index_constant(k * self.lanes)), self.lanes)
                    for k in range(self.vectors)
                )
        with self.open.within(Scope(loop.block, {}, Chunk(loop.variable, masks, aligned=True, left=left))):
            yields = body(loop.parameters)
        return self.b.close_loop(loop, yields)

    def aligned(self, head: Operand, extent: Operand, body: Callable[[], None], past: Callable[[bool], None]) -> None:
        """The vector axis in three, a vector at a time: `head` elements up to where memory is aligned, whole vectors,
        which go `past` the caches, and the rest.
        """

        def each(carried: Values) -> Values:
            body()
            return carried

        with self.single_vectors():
            first = Chunk(index_constant(0), (self.b.first(head, self.lanes),))
            with self.open.within(Scope(self.b.block, {}, first)):
                body()
            count = self.b.arithmetic("div", self.b.arithmetic("sub", extent, head), index_constant(self.width))
            middle = self.b.arithmetic("add", head, self.b.arithmetic("mul", count, index_constant(self.width)))
            past(True)
            self.turns(head, middle, (), each)
            past(False)
            self.turns(middle, extent, (), each, tail=True)

    @contextmanager
    def single_vectors(self) -> Iterator[None]:
        vectors, self.vectors = self.vectors, 1
        try:
            yield
        finally:
            self.vectors = vectors
