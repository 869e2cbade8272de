"""Writing a nest that has a vector axis, as its plan says.

Inside the loops over the parallel axes, each reduction is a loop over the axes it sums out; reductions of one stage
over the same axes share theirs, as do outputs that keep those axes. What a later stage needs again lies in registers
still, or is kept where the plan says (`row_cache.py`), or is computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tapeless.abi.dtypes import INTEGER
from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import Buffer, Constant, Instruction, Operand, Type, vector
from tapeless.codegen.nests.accumulators import Accumulator, accumulator_of
from tapeless.codegen.nests.chunk_loops import ChunkLoops
from tapeless.codegen.nests.evaluate import Evaluator
from tapeless.codegen.nests.open_loops import Scope, Values
from tapeless.codegen.nests.plan import VectorPlan
from tapeless.codegen.nests.row_cache import load_of, sweep_terms
from tapeless.codegen.nests.short_rows import ShortRows
from tapeless.codegen.nests.sizes import Axis
from tapeless.codegen.nests.terms import Reduction, Store

__all__ = ["VectorNest"]


class VectorNest:
    def __init__(self, builder: Builder, buffers: tuple[Buffer, ...], plan: VectorPlan) -> None:
        self.b = builder
        self.plan = plan
        self.e = Evaluator(builder, buffers, plan.vector_axis, plan.lanes, self.reduce)
        self.open = self.e.open
        self.loops = ChunkLoops(builder, plan, self.open)
        if plan.short is not None:
            self.e.short_rows = ShortRows(self.e, plan, plan.short)
        self.unwritten: list[Store] = []
        self.begin_next: Callable[[], None] | None = None

    @property
    def scratch(self) -> Buffer | None:
        """What rows that are taken as blocks lie in."""
        rows = self.e.short_rows
        return rows.scratch() if rows is not None and rows.blocks else None

    @property
    def whole_chunk(self) -> bool:
        """Whether the open scopes bind the vector axis to one chunk that covers it."""
        return self.plan.single and self.open.in_chunk

    # The parallel loops

    def write(self, parts: int) -> None:
        plan = self.plan
        if not plan.parallel:
            with self.open.in_part_zero(parts):
                self.innermost()
            return

        def inside(carried: Values) -> Values:
            if plan.ahead:
                self.rows_ahead(plan.parallel[-1], *self.loops.range(plan.parallel[-1], parts))
            else:
                self.innermost()
            return carried

        rows = plan.parallel[:-1] if plan.ahead else plan.parallel
        self.loops.nest(rows, (), (), inside, parts)

    def rows_ahead(self, axis: Axis, start: Operand, stop: Operand) -> None:
        """The loop over rows, with the first sweep over each row done in the turn before, ahead of the last sweeps
        there: the processor has work while it waits for the lanes of a sum to be added up and for what is made of
        that.
        """
        b, ahead = self.b, self.plan.ahead

        def first(block: list[Instruction], row: Operand) -> Values:
            with self.open.within(Scope(block, {axis: row})):
                return tuple(self.e.get(term)[0] for term in ahead)

        if isinstance(start, Constant) and isinstance(stop, Constant) and start.value < stop.value:  # type: ignore[operator]
            initial = first(b.block, start)
        else:
            block: list[Instruction] = []
            made = first(block, start)
            nothing = tuple(Constant(0, value.type) for value in made)
            initial = b.conditional(b.compare("lt", start, stop), block, made, [], nothing)
        loop = b.open_loop(start, stop, 1, initial)
        yields: Values = ()

        def begin_next() -> None:
            nonlocal yields
            last = b.arithmetic("sub", stop, index_constant(1))
            following = b.arithmetic("min", b.arithmetic("add", loop.variable, index_constant(1)), last)
            yields = first(loop.block, following)

        known = {term: (value,) for term, value in zip(ahead, loop.parameters, strict=True)}
        self.begin_next = begin_next
        with self.open.within(Scope(loop.block, {axis: loop.variable}, None, known)):
            self.innermost()
        b.close_loop(loop, yields)

    # Inside the parallel loops

    def innermost(self) -> None:
        """Reductions by stage, then what is stored here. A vector axis that is short and swept is bound here once, so
        that every stage finds the others' values in registers.
        """
        plan, bound = self.plan, frozenset(self.plan.group.parallel)
        reductions = [term for term in plan.group.terms if isinstance(term, Reduction) and term.axes <= bound]
        reductions.sort(key=lambda term: term.stage)
        self.unwritten = list(plan.swept)
        if plan.single and plan.vector_axis not in bound:
            with self.open.within(Scope(self.b.block, {}, self.loops.chunk_of(0, plan.extent.coefficient))):
                self.finish(reductions)
            return
        self.finish(reductions)
        if (rows := self.e.short_rows) is not None:
            rows.take([store for store in plan.swept if rows.covers(store.strides)])

    def finish(self, reductions: Sequence[Reduction]) -> None:
        for term in reductions:
            self.e.get(term)
        if self.begin_next is not None:
            self.begin_next()
        while self.unwritten:
            axes = self.open.free(frozenset(self.unwritten[0].strides))
            same = [other for other in self.unwritten if self.open.free(frozenset(other.strides)) == axes]
            self.unwritten = [other for other in self.unwritten if other not in same]
            self.sweep(axes, [], same)
        here = [store for store in self.plan.group.stores if store not in self.plan.swept]
        for store in here:
            self.e.get(store.term)
        for store in here:
            self.e.write(store)

    def reduce(self, wanted: Reduction) -> None:
        """Computes a reduction, and with it all others that can share its loop; also the stores that keep its axes,
        if no later stage walks them again."""
        memo = self.open.scopes[-1].memo
        stage = wanted.operand.stage
        alike = [
            term
            for term in self.plan.group.terms
            if isinstance(term, Reduction)
            and term.reduced == wanted.reduced
            and term.axes == wanted.axes
            and term not in memo
        ]
        shared = [term for term in alike if term.operand.stage <= stage]
        # A loop of its own for each axis, even where an outer one is open over the same: the inner one hides it.
        axes = wanted.reduced - ({self.plan.vector_axis} if self.whole_chunk else set())
        stores: list[Store] = []
        if axes == wanted.reduced and len(shared) == len(alike):
            bound = frozenset(self.plan.group.parallel)
            stores = [
                store
                for store in self.unwritten
                if wanted.axes == bound
                and frozenset(store.strides) - bound == wanted.reduced
                and store.term.stage <= stage
            ]
            self.unwritten = [store for store in self.unwritten if store not in stores]
        made = {term for reduction in shared for term in sweep_terms(reduction.operand)}
        keeping = [
            store
            for term, store in self.plan.kept.items()
            if term in made and term not in self.e.kept and frozenset(store.strides) == wanted.axes | axes
        ]
        self.sweep(axes, shared, stores + keeping)
        self.e.kept |= {store.term: load_of(store) for store in keeping}

    def sweep(self, axes: frozenset[Axis], reductions: list[Reduction], stores: list[Store]) -> None:
        """One loop over `axes` that feeds the accumulators and writes the stores; then the accumulators' results."""
        accumulators = [self.accumulator(term) for term in reductions]
        initial = tuple(value for accumulator in accumulators for value in accumulator.initial())
        adds = tuple(accumulator.op == "sum" for accumulator in accumulators for _ in range(accumulator.width))

        def body(carried: Values) -> Values:
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

        if axes == {self.plan.vector_axis} and not reductions and len(stores) == 1 and stores[0] in self.plan.streamed:
            self.stream(stores[0])
            final: Values = ()
        else:
            # outer to inner: longer strides outside (the order in which the axes were met), the vector axis last
            ordered = sorted(axes, key=lambda axis: (axis == self.plan.vector_axis, axis))
            final = self.loops.nest(ordered, initial, adds, body)
        written = {store.buffer for store in stores}
        self.e.kept = {term: load for term, load in self.e.kept.items() if load.buffer not in written}
        position = 0
        memo = self.open.scopes[-1].memo
        for term, accumulator in zip(reductions, accumulators, strict=True):
            own = final[position : position + accumulator.width]
            position += accumulator.width
            across = self.plan.vector_axis in term.reduced
            memo[term] = (accumulator.across(own),) if across else accumulator.each(own)

    def stream(self, store: Store) -> None:
        """The sweep that writes a result past the caches, from where its memory is aligned on."""
        axis, lanes, vectors = self.plan.vector_axis, self.plan.lanes, self.e.vectors
        assert vectors is not None
        extent = self.open.size(self.plan.extent)
        element = self.e.buffers[store.buffer].record.bytes
        first = self.open.address({other: stride for other, stride in store.strides.items() if other != axis})
        gap = self.b.gap(self.e.buffers[store.buffer].name, first, lanes * element)

        def write() -> None:
            self.e.get(store.term)
            self.e.write(store)

        self.loops.aligned(self.b.arithmetic("min", gap, extent), extent, write, vectors.past_caches)

    # Accumulators

    def accumulator(self, term: Reduction) -> Accumulator:
        along = self.plan.vector_axis in term.reduced
        spread = along or self.open.varies(term.operand)
        vectors = 1
        if spread:
            vectors = self.open.chunk.vectors if self.whole_chunk or not along else self.widest()
        type: Type = vector(term.operand.kind, self.plan.lanes if spread else 1)
        return accumulator_of(self.b, term.op, type, vectors)

    def widest(self) -> int:
        """How many vectors the chunks of the vector axis have at most."""
        extent = self.plan.extent
        if extent.known:
            return max(1, min(self.loops.vectors, -(-extent.coefficient // self.plan.lanes)))
        return self.loops.vectors

    def feed(self, term: Reduction, accumulator: Accumulator, carried: Values) -> Values:
        along = self.plan.vector_axis in term.reduced
        if not along and not self.open.varies(term.operand):
            return accumulator.feed(carried, self.e.get(term.operand), (None,), self.places(term, False))
        values = self.e.spread(term.operand)
        masks = self.open.chunk.masks if along else (None,) * len(values)
        return accumulator.feed(carried, values, masks, self.places(term, True))

    def places(self, term: Reduction, spread: bool) -> Values:
        """For an argmax: the index along its axis, for each vector."""
        if term.op != "argmax":
            return ()
        if term.axis == self.plan.vector_axis:
            return self.open.positions(INTEGER)
        index = self.b.convert(self.open.index(term.axis), INTEGER)
        return (self.b.splat(index, self.plan.lanes),) * self.open.chunk.vectors if spread else (index,)
