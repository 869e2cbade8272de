"""The general family: pointwise work and reductions over any axes, as one loop nest.

Outputs with the same parallel axes share loops over them; inside, each reduction is a loop over the axes it sums out,
and reductions of one stage over the same axes share theirs, as do outputs that keep those axes. The axis that most
accesses walk with stride 1 is the vector axis, whether it is parallel or reduced, and is innermost. What a later stage
needs again lies in registers still, or is kept where that pays (`keeping.py`), or is computed again. Order of sums: a
row's never depends on how many rows there are.

The work is cut into parts along the outermost parallel axis; a nest without one is done by part 0 alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import PART, Buffer, Constant, Function, Instruction, Operand, Type, vector
from tapeless.codegen.nests.accumulators import Accumulator, accumulator_of
from tapeless.codegen.nests.analysis import analyse
from tapeless.codegen.nests.collapse import collapse
from tapeless.codegen.nests.evaluate import Evaluator
from tapeless.codegen.nests.groups import (
    Group,
    buffers_of,
    groups,
    instruction_count,
    microseconds,
    part_range,
    parts_for,
)
from tapeless.codegen.nests.open_loops import Chunk, Scope
from tapeless.codegen.nests.row_cache import kept, load_of, sweep_terms
from tapeless.codegen.nests.short_rows import ShortRows, short_axis, turning_cost
from tapeless.codegen.nests.sizes import Axis, Size
from tapeless.codegen.nests.terms import (
    Count,
    Domain,
    IndexedLoad,
    Load,
    MaskedLoad,
    Number,
    Reduction,
    Store,
    Term,
    Uniform,
    Walk,
)
from tapeless.ir.graph import Node
from tapeless.ir.ops import OPERATIONS
from tapeless.ir.target import Target

__all__ = ["lower_nest"]

GATHER, SCATTER, ACROSS = 27, 34, 12
"""Instructions that stand for a gather, a scatter, and combining the lanes of one vector, on a machine that has them
all: a row shorter than a vector is better taken sixteen rows at a time."""
BLOCK = 64
"""Turns of a loop whose sums are added up by themselves: an add for each of 64 costs little."""
FEW_ROWS = 8
"""Rows to a part below which sweeping one row more than there are costs more than it gains."""
NEAR = 16384
"""Bytes that stay in a first-level cache, of 32 KB at least, while as much again comes and goes."""
MOST_TEXT = 320
"""Instructions up to which a chunk's body is written out for all of its vectors: compile time is by the line."""


def lower_nest(node: Node, target: Target, capacity: int) -> Function:
    domain = collapse(analyse(node.regions[0], node.attrs["leading"]))
    builder = Builder(target)
    buffers = buffers_of(node)
    shared = groups(domain)
    region = node.regions[0]
    moved = sum(port.value.type.bytes(capacity) for port in (*region.inputs, *region.outputs))
    streams = 0 < target.cache_bytes < moved
    nests = [_Nest(builder, buffers, domain, group, target, capacity, streams) for group in shared]
    parts = parts_for(max((microseconds(group, domain, target, capacity) for group in shared), default=0.0))
    parts = min(parts, max((nest.grains for nest in nests), default=1))
    for nest in nests:
        nest.write(parts)
    scratch = [
        nest.e.short_rows.scratch() for nest in nests if nest.e.short_rows is not None and nest.e.short_rows.blocks
    ]
    widest = sorted(scratch, key=lambda buffer: buffer.bytes)[-1:]  # nests come one after the other
    return Function(node.attrs["name"], (*buffers, *widest), parts, tuple(builder.block))


Body = Callable[[tuple[Operand, ...]], tuple[Operand, ...]]
Turns = Callable[[Operand, Operand, tuple[Operand, ...]], tuple[Operand, ...]]


class _Nest:
    def __init__(
        self,
        builder: Builder,
        buffers: tuple[Buffer, ...],
        domain: Domain,
        group: Group,
        target: Target,
        capacity: int,
        streams: bool,
    ) -> None:
        self.b = builder
        self.streams = streams
        self.domain = domain
        self.group = group
        self.parts = 1
        self.adds: tuple[bool, ...] = ()  # of the values that the open sweep carries, which are sums
        self.capacity = capacity
        widest = max((8 if term.kind == "f64" else 4 for term in group.terms), default=4)
        self.lanes = target.lanes(widest)
        self.vector_axis = self.choose_vector_axis()
        if self.vector_axis is None:
            self.lanes = 1
        short = None if self.vector_axis is None else short_axis(group, domain, self.vector_axis, self.lanes)
        self.vectors = 1 if short is not None else self.choose_vectors()
        self.e = Evaluator(builder, buffers, self.vector_axis, self.lanes, self.reduce)
        if self.vector_axis is not None and short is not None:
            self.e.short_rows = ShortRows(self.e, domain, self.vector_axis, short, self.lanes)
        self.kept = {} if self.single else kept(group, self.dense)
        self.pending: list[Store] = [store for store in group.stores if set(store.strides) - set(group.parallel)]
        self.unwritten: list[Store] = []
        self.ahead: tuple[Term, ...] = ()
        self.begin_next: Callable[[], None] | None = None

    # Choices

    def dense(self, store: Store) -> bool:
        """Whether the vectors of a result lie side by side, there or in scratch."""
        short = self.e.short_rows
        return store.strides.get(self.vector_axis) == Size(1) or (short is not None and short.covers(store.strides))  # type: ignore[arg-type]

    def choose_vector_axis(self) -> Axis | None:
        """The axis along which the nest is expected to take the fewest instructions; of equals, the longest."""
        axes = {axis for term in self.group.terms for axis in term.axes | term.reduced}
        axes |= {axis for store in self.group.stores for axis in store.strides}
        if not axes:
            return None
        return min(sorted(axes), key=lambda axis: (self.expected(axis), -self.domain.extents[axis].at(self.capacity)))

    def expected(self, axis: Axis) -> float:
        """Instructions, roughly, with `axis` as the vector axis."""
        extent = max(1, self.domain.extents[axis].at(self.capacity))
        filled = extent / -(-extent // self.lanes)  # lanes that do work, on average

        def times(axes: Iterable[Axis]) -> float:
            count = 1.0
            for other in axes:
                count *= max(1, self.domain.extents[other].at(self.capacity))
            return count / filled if axis in axes else count

        short = short_axis(self.group, self.domain, axis, self.lanes)
        turning = None if short is None else turning_cost(self.domain.extents[short].coefficient, self.lanes)
        gather, scatter = (GATHER, SCATTER) if turning is None else (turning, turning)
        total = 0.0
        for term in self.group.terms:
            turns = times(term.axes | term.reduced)
            if isinstance(term, Walk) and axis in term.axes:
                unit = term.strides.get(axis) == Size(1)
                total += turns * (
                    term.instructions if unit else 4 * term.instructions if isinstance(term, Uniform) else gather
                )
            elif not isinstance(term, Number | Count):
                total += turns * term.instructions
            if axis in term.reduced:
                total += times(term.axes) * ACROSS
        for store in self.group.stores:
            total += times(store.strides) * (1 if store.strides.get(axis, Size(1)) == Size(1) else scatter)
        return total

    def choose_vectors(self) -> int:
        """How many vectors a chunk has. Four hide the latency of a sum (4 cycles, and one add a cycle at least);
        64 elements share the words of one random block; a short axis is one chunk, and needs no loop."""
        axis = self.vector_axis
        if axis is None or self.lanes == 1:
            return 1
        varying = [term for term in self.group.terms if axis in term.axes | term.reduced]
        cost = max(
            (
                instruction_count([term for term in varying if term.stage == stage])
                for stage in {term.stage for term in varying}
            ),
            default=0,
        )
        draws = any(isinstance(term, Uniform) and term.kind == "f32" and axis in term.axes for term in self.group.terms)
        if (
            draws
            and 4 <= self.lanes <= 16
            and (cost - OPERATIONS["random_uniform"].instructions) * 64 // self.lanes <= MOST_TEXT
        ):
            return 64 // self.lanes
        extent = self.domain.extents[axis]
        whole = -(-extent.at(self.capacity) // self.lanes)
        if any(term.reduced for term in self.group.terms):
            if extent.known and whole <= 4 and whole * cost <= 160:
                return max(1, whole)
            return 4 if cost <= 24 and whole >= 4 else 2 if cost <= 60 and whole >= 2 else 1
        return 1

    def choose_ahead(self) -> tuple[Term, ...]:
        """The reductions that need nothing but memory, if they have a sweep over each of many rows to themselves."""
        rows, swept = frozenset(self.group.parallel), frozenset((self.vector_axis,))
        first = tuple(
            term
            for term in self.group.terms
            if term.reduced == swept and term.axes == rows and term.operands[0].stage == 0
        )
        later = any(term.reduced == swept and term not in first for term in self.group.terms) or self.pending
        beside = any(
            frozenset(store.strides) - rows == swept and store.term.stage == 0
            for store in (*self.pending, *self.kept.values())
        )
        if not first or not rows or self.single or beside or not later or (self.streams and not self.kept):
            return ()
        many = self.domain.extents[self.group.parallel[-1]].at(self.capacity) >= FEW_ROWS * self.parts
        return first if many and 2 * self.row_bytes() <= NEAR else ()

    def row_bytes(self) -> int:
        """How much memory the sweeps over one row walk through."""
        axis = self.vector_axis
        assert axis is not None
        walked = {
            (term.buffer, term.kind)
            for term in self.group.terms
            if isinstance(term, Load | MaskedLoad | IndexedLoad) and axis in term.strides
        }
        walked |= {(store.buffer, store.term.kind) for store in self.group.stores if axis in store.strides}
        return self.domain.extents[axis].at(self.capacity) * sum(8 if kind == "f64" else 4 for _, kind in walked)

    @property
    def single(self) -> bool:
        """Whether the vector axis is one chunk of known extent: bound without a loop."""
        if self.vector_axis is None:
            return False
        extent = self.domain.extents[self.vector_axis]
        return extent.known and 0 < extent.coefficient <= self.vectors * self.lanes

    @property
    def whole_chunk(self) -> bool:
        """Whether the open scopes bind the vector axis to one chunk that covers it."""
        return self.single and self.e.open.in_chunk

    # Loops

    @property
    def parallel(self) -> list[Axis]:
        """The axes of the outer loops: the vector axis, if it is one of them, is the innermost."""
        axes = [axis for axis in self.group.parallel if axis != self.vector_axis]
        return axes + [axis for axis in self.group.parallel if axis == self.vector_axis]

    @property
    def grains(self) -> int:
        """How many shares the outermost loop can be cut into."""
        if not self.parallel:
            return 1
        outermost = self.parallel[0]
        grain = self.vectors * self.lanes if outermost == self.vector_axis else 1
        return max(1, -(-self.domain.extents[outermost].at(self.capacity) // grain))

    def write(self, parts: int) -> None:
        self.parts = parts
        self.ahead = self.choose_ahead()
        parallel = self.parallel
        if parallel:
            self.loops(parallel, (), self.innermost, outermost=True)
        elif self.parts == 1:
            self.innermost(())
        else:
            alone: list[object] = []
            scope = Scope(alone)  # type: ignore[arg-type]
            with self.e.open.within(scope):
                self.innermost(())
            self.b.conditional(self.b.compare("eq", PART, 0), alone)  # type: ignore[arg-type]

    def loops(
        self, axes: Sequence[Axis], carried: tuple[Operand, ...], body: Body, outermost: bool = False
    ) -> tuple[Operand, ...]:
        """Loops over `axes`, the vector axis last, carrying values through all of them."""
        if not axes:
            return body(carried)
        axis, rest = axes[0], axes[1:]
        extent = self.e.open.size(self.domain.extents[axis])
        vector_axis = axis == self.vector_axis
        start: Operand = index_constant(0)
        stop = extent
        if outermost and self.parts > 1:
            start, stop = part_range(self.b, extent, self.parts, self.vectors * self.lanes if vector_axis else 1)
        if vector_axis:
            return self.chunks(axis, start, stop, carried, lambda values: self.loops(rest, values, body))
        if self.ahead and axis == self.group.parallel[-1]:
            self.rows_ahead(axis, start, stop)
            return carried

        def turns(start: Operand, stop: Operand, carried: tuple[Operand, ...]) -> tuple[Operand, ...]:
            loop = self.b.open_loop(start, stop, 1, carried)
            with self.e.open.within(Scope(loop.block, {axis: loop.variable})):
                yields = self.loops(rest, loop.parameters, body)
            return self.b.close_loop(loop, yields)

        return self.in_blocks(axis, start, stop, 1, carried, turns)

    def rows_ahead(self, axis: Axis, start: Operand, stop: Operand) -> None:
        """The loop over rows, with the first sweep over each row done in the turn before, ahead of the last sweeps
        there: the processor has work while it waits for the lanes of a sum to be added up and for what is made of
        that.
        """
        b = self.b

        def first(block: list[Instruction], row: Operand) -> tuple[Operand, ...]:
            with self.e.open.within(Scope(block, {axis: row})):
                return tuple(self.e.get(term)[0] for term in self.ahead)

        if isinstance(start, Constant) and isinstance(stop, Constant) and start.value < stop.value:  # type: ignore[operator]
            initial = first(b.block, start)
        else:
            block: list[Instruction] = []
            made = first(block, start)
            nothing = tuple(Constant(0, value.type) for value in made)
            initial = b.conditional(b.compare("lt", start, stop), block, made, [], nothing)
        loop = b.open_loop(start, stop, 1, initial)
        yields: tuple[Operand, ...] = ()

        def begin_next() -> None:
            nonlocal yields
            last = b.arithmetic("sub", stop, index_constant(1))
            following = b.arithmetic("min", b.arithmetic("add", loop.variable, index_constant(1)), last)
            yields = first(loop.block, following)

        known = {term: (value,) for term, value in zip(self.ahead, loop.parameters, strict=True)}
        self.begin_next = begin_next
        with self.e.open.within(Scope(loop.block, {axis: loop.variable}, None, known)):
            self.innermost(())
        b.close_loop(loop, yields)

    def in_blocks(
        self, axis: Axis, start: Operand, stop: Operand, step: int, carried: tuple[Operand, ...], turns: Turns
    ) -> tuple[Operand, ...]:
        """A long loop in blocks of BLOCK turns, those in blocks of BLOCK blocks, and so on. The sums that it carries
        start afresh in each block: their error grows with the logarithm of the length, not with the length."""
        levels, count = 0, self.domain.extents[axis].at(self.capacity) // step
        while carried and any(self.adds) and count > BLOCK:
            levels, count = levels + 1, count // BLOCK
        return self.block_level(levels, start, stop, step, carried, turns)

    def block_level(
        self, level: int, start: Operand, stop: Operand, step: int, carried: tuple[Operand, ...], turns: Turns
    ) -> tuple[Operand, ...]:
        if level == 0:
            return turns(start, stop, carried)
        b, span = self.b, step * BLOCK**level
        loop = b.open_loop(start, stop, span, carried)
        with self.e.open.within(Scope(loop.block)):
            end = b.arithmetic("min", b.arithmetic("add", loop.variable, index_constant(span)), stop)
            fresh = tuple(
                Constant(0.0, known.type) if adds else known
                for known, adds in zip(loop.parameters, self.adds, strict=True)
            )
            made = self.block_level(level - 1, loop.variable, end, step, fresh, turns)
            yields = tuple(
                b.add(known, value) if adds else value
                for known, value, adds in zip(loop.parameters, made, self.adds, strict=True)
            )
        return b.close_loop(loop, yields)

    def chunks(
        self, axis: Axis, start: Operand, stop: Operand, carried: tuple[Operand, ...], body: Body
    ) -> tuple[Operand, ...]:
        """The vector axis: whole chunks, then what is left under masks."""
        width = self.vectors * self.lanes
        if isinstance(start, Constant) and isinstance(stop, Constant):
            count = int(stop.value)  # type: ignore[arg-type]
            whole = count // width * width
            if whole > width or (whole and not self.single):
                carried = self.chunk_loop(start, index_constant(whole), (None,) * self.vectors, carried, body)
                left = count - whole
            else:
                left, whole = count, 0
            if left == 0:
                return carried
            vectors = -(-left // self.lanes)
            masks = tuple(
                self.b.first(index_constant(left - k * self.lanes), self.lanes) if left < (k + 1) * self.lanes else None
                for k in range(vectors)
            )
            chunk = Chunk(index_constant(whole), masks, aligned=True, left=index_constant(left))
            with self.e.open.within(Scope(self.b.block, {}, chunk)):
                return body(carried)
        if self.lanes == 1 and self.vectors == 1:
            return self.chunk_loop(start, stop, (None,), carried, body)
        extent = self.domain.extents[axis]
        if extent.known and extent.coefficient % width == 0:  # so is each part's share
            return self.chunk_loop(start, stop, (None,) * self.vectors, carried, body)
        if extent.at(self.capacity) <= width:  # one chunk, hardly ever whole
            return self.chunk_loop(start, stop, "tail", carried, body)
        span = self.b.arithmetic("sub", stop, start)
        whole_span = self.b.arithmetic(
            "mul", self.b.arithmetic("div", span, index_constant(width)), index_constant(width)
        )
        middle = self.b.arithmetic("add", start, whole_span)
        carried = self.chunk_loop(start, middle, (None,) * self.vectors, carried, body)
        return self.chunk_loop(middle, stop, "tail", carried, body)

    def chunk_loop(
        self, start: Operand, stop: Operand, masks: tuple[None, ...] | str, carried: tuple[Operand, ...], body: Body
    ) -> tuple[Operand, ...]:
        if masks == "tail":
            return self.chunk_turns(start, stop, masks, carried, body)
        assert self.vector_axis is not None
        return self.in_blocks(
            self.vector_axis,
            start,
            stop,
            self.vectors * self.lanes,
            carried,
            lambda start, stop, carried: self.chunk_turns(start, stop, masks, carried, body),
        )

    def chunk_turns(
        self, start: Operand, stop: Operand, masks: tuple[None, ...] | str, carried: tuple[Operand, ...], body: Body
    ) -> tuple[Operand, ...]:
        loop = self.b.open_loop(start, stop, self.vectors * self.lanes, carried)
        made: tuple[Operand | None, ...]
        left: Operand | None = None
        if masks == "tail":
            with self.b.inside(loop.block):
                left = self.b.arithmetic("sub", stop, loop.variable)
                made = tuple(
                    self.b.first(self.b.arithmetic("sub", left, index_constant(k * self.lanes)), self.lanes)
                    for k in range(self.vectors)
                )
        else:
            assert isinstance(masks, tuple)
            made = masks
        chunk = Chunk(loop.variable, made, aligned=True, left=left)
        with self.e.open.within(Scope(loop.block, {}, chunk)):
            yields = body(carried if not carried else loop.parameters)
        return self.b.close_loop(loop, yields)

    def ordered(self, axes: frozenset[Axis]) -> list[Axis]:
        """Outer to inner: longer strides outside (the order in which the axes were met), the vector axis last."""
        return sorted(axes, key=lambda axis: (axis == self.vector_axis, axis))

    # Inside the parallel loops

    def innermost(self, carried: tuple[Operand, ...]) -> tuple[Operand, ...]:
        """Reductions by stage, then what is stored here."""
        bound = frozenset(self.group.parallel)
        pending = list(self.pending)
        waiting = sorted(
            (term for term in self.group.terms if term.reduced and term.axes <= bound), key=lambda term: term.stage
        )
        self.waiting = waiting
        self.unwritten = pending
        if self.single and self.vector_axis not in bound:
            return self.with_chunk(waiting, carried)
        self.finish(waiting)
        if self.e.short_rows is not None:
            self.e.short_rows.take([store for store in self.pending if self.e.short_rows.covers(store.strides)])
        return carried

    def with_chunk(self, waiting: list[Term], carried: tuple[Operand, ...]) -> tuple[Operand, ...]:
        """The vector axis is short: bound here once, so that every stage finds the others' values in registers."""
        axis = self.vector_axis
        assert axis is not None
        extent = self.domain.extents[axis].coefficient
        vectors = -(-extent // self.lanes)
        masks = tuple(
            self.b.first(index_constant(extent - k * self.lanes), self.lanes) if extent < (k + 1) * self.lanes else None
            for k in range(vectors)
        )
        with self.e.open.within(Scope(self.b.block, {}, Chunk(index_constant(0), masks, aligned=True))):
            self.finish(waiting)
        return carried

    def finish(self, waiting: list[Term]) -> None:
        for term in waiting:
            self.e.get(term)
        if self.begin_next is not None:
            self.begin_next()
        while self.unwritten:
            store = self.unwritten[0]
            axes = self.e.open.free(frozenset(store.strides))
            same = [other for other in self.unwritten if self.e.open.free(frozenset(other.strides)) == axes]
            self.unwritten = [other for other in self.unwritten if other not in same]
            self.sweep(axes, [], same)
        here = [store for store in self.group.stores if store not in self.pending]
        for store in here:
            self.e.get(store.term)
        for store in here:
            self.e.write(store)

    def reduce(self, wanted: Reduction) -> None:
        """Computes a reduction, and with it all others that can share its loop; also the stores that keep its axes,
        if no later stage walks them again."""
        memo = self.e.open.scopes[-1].memo
        operand_stage = wanted.operands[0].stage
        alike = [
            term
            for term in self.group.terms
            if isinstance(term, Reduction)
            and term.reduced == wanted.reduced
            and term.axes == wanted.axes
            and term not in memo
        ]
        shared = [term for term in alike if term.operands[0].stage <= operand_stage]
        # A loop of its own for each axis, even where an outer one is open over the same: the inner one hides it.
        axes = wanted.reduced - ({self.vector_axis} if self.whole_chunk else set())
        stores: list[Store] = []
        if axes == wanted.reduced and len(shared) == len(alike):
            bound = frozenset(self.group.parallel)
            stores = [
                store
                for store in self.unwritten
                if wanted.axes == bound
                and frozenset(store.strides) - bound == wanted.reduced
                and store.term.stage <= operand_stage
            ]
            self.unwritten = [store for store in self.unwritten if store not in stores]
        made = {term for reduction in shared for term in sweep_terms(reduction.operands[0])}
        keeping = [
            store
            for term, store in self.kept.items()
            if term in made and term not in self.e.kept and frozenset(store.strides) == wanted.axes | axes
        ]
        self.sweep(axes, shared, stores + keeping)
        self.e.kept |= {store.term: load_of(store) for store in keeping}

    def sweep(self, axes: frozenset[Axis], reductions: list[Reduction], stores: list[Store]) -> None:
        """One loop over `axes` that feeds the accumulators and writes the stores; then the accumulators' results."""
        accumulators = [self.accumulator(term) for term in reductions]
        initial = tuple(value for accumulator in accumulators for value in accumulator.initial())

        def body(carried: tuple[Operand, ...]) -> tuple[Operand, ...]:
            made: list[Operand] = []
            for store in stores:
                self.e.get(store.term)
            position = 0
            for term, accumulator in zip(reductions, accumulators, strict=True):
                own = carried[position : position + accumulator.width]
                position += accumulator.width
                made += self.feed(term, accumulator, own)
            for store in stores:
                self.e.write(store)
            return tuple(made)

        outer, self.adds = (
            self.adds,
            tuple(accumulator.op == "sum" for accumulator in accumulators for _ in range(accumulator.width)),
        )
        if self.past_caches(axes, reductions, stores):
            self.stream(stores[0], body)
            final: tuple[Operand, ...] = ()
        else:
            final = self.loops(self.ordered(axes), initial, body)
        self.adds = outer
        written = {store.buffer for store in stores}
        self.e.kept = {term: load for term, load in self.e.kept.items() if load.buffer not in written}
        position = 0
        memo = self.e.open.scopes[-1].memo
        for term, accumulator in zip(reductions, accumulators, strict=True):
            own = final[position : position + accumulator.width]
            position += accumulator.width
            if self.vector_axis in term.reduced:
                memo[term] = (accumulator.across(own),)
            else:
                memo[term] = accumulator.each(own)

    def past_caches(self, axes: frozenset[Axis], reductions: list[Reduction], stores: list[Store]) -> bool:
        """Whether the sweep only writes a result that is not looked at again, of a kernel that moves more than the
        caches hold: a store would first read what it overwrites.
        """
        if not self.streams or reductions or len(stores) != 1 or axes != {self.vector_axis} or self.single:
            return False
        (store,) = stores
        assert self.vector_axis is not None
        kept = {place.buffer for place in self.kept.values()}
        draws = any(isinstance(term, Uniform) for term in self.group.terms)
        dense = store.strides[self.vector_axis] == Size(1)
        return dense and store.term.kind[0] == "f" and store.buffer not in kept and not draws

    def stream(self, store: Store, body: Body) -> None:
        """The sweep in three: up to where the result's memory is aligned, whole vectors, and the rest."""
        axis, lanes, width = self.vector_axis, self.lanes, self.lanes
        assert axis is not None
        vectors, self.vectors = self.vectors, 1
        extent = self.e.open.size(self.domain.extents[axis])
        element = 8 if store.term.kind == "f64" else 4
        first = self.e.open.address({other: stride for other, stride in store.strides.items() if other != axis})
        head = self.b.arithmetic("min", self.b.gap(self.e.buffers[store.buffer].name, first, lanes * element), extent)
        with self.e.open.within(Scope(self.b.block, {}, Chunk(index_constant(0), (self.b.first(head, lanes),)))):
            body(())
        count = self.b.arithmetic("div", self.b.arithmetic("sub", extent, head), index_constant(width))
        middle = self.b.arithmetic("add", head, self.b.arithmetic("mul", count, index_constant(width)))
        assert self.e.vectors is not None
        self.e.vectors.streaming = True
        self.chunk_turns(head, middle, (None,) * self.vectors, (), body)
        self.e.vectors.streaming = False
        self.chunk_turns(middle, extent, "tail", (), body)
        self.vectors = vectors

    def accumulator(self, term: Reduction) -> Accumulator:
        operand = term.operands[0]
        spread = self.vector_axis is not None and (self.vector_axis in term.reduced or self.e.open.varies(operand))
        lanes = self.lanes if spread else 1
        vectors = 1
        if spread and self.vector_axis in term.reduced:
            vectors = self.e.open.chunk.vectors if self.whole_chunk else self.widest()
        elif spread:
            vectors = self.e.open.chunk.vectors
        type: Type = vector(operand.kind, lanes)
        return accumulator_of(self.b, term.op, type, vectors)

    def widest(self) -> int:
        """How many vectors the chunks of the vector axis have at most."""
        extent = self.domain.extents[self.vector_axis]  # type: ignore[index]
        if extent.known:
            return max(1, min(self.vectors, -(-extent.coefficient // self.lanes)))
        return self.vectors

    def feed(self, term: Reduction, accumulator: Accumulator, carried: tuple[Operand, ...]) -> list[Operand]:
        operand = term.operands[0]
        if accumulator.type.lanes == 1 and not (self.vector_axis in term.reduced or self.e.open.varies(operand)):
            return list(accumulator.feed(carried, self.e.get(operand), (None,), self.places(term, False)))
        values = self.e.spread(operand)
        masks = self.e.open.chunk.masks if self.vector_axis in term.reduced else (None,) * len(values)
        return list(accumulator.feed(carried, values, masks, self.places(term, True)))

    def places(self, term: Reduction, spread: bool) -> tuple[Operand, ...]:
        """For an argmax: the index along its axis, for each vector."""
        if term.op != "argmax":
            return ()
        if term.axis == self.vector_axis:
            return self.e.open.positions("i32")
        index = self.b.convert(self.e.open.index(term.axis), "i32")
        if not spread:
            return (index,)
        return (self.b.splat(index, self.lanes),) * self.e.open.chunk.vectors
