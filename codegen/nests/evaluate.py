"""Computing terms inside open loops.

Each term is computed in the outermost scope that binds its axes, once: what does not depend on an inner loop lands
before that loop. A term that depends on the vector axis is as many values as a chunk has vectors, any other term is
one scalar, spread over lanes where it meets a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, assert_never

from tapeless.abi.dtypes import INTEGER, WORD
from tapeless.codegen.loops.builder import Builder
from tapeless.codegen.loops.language import Buffer, Constant, Operand, vector
from tapeless.codegen.nests.elements import Elements
from tapeless.codegen.nests.open_loops import OpenLoops, Values
from tapeless.codegen.nests.pointwise import lower_pointwise
from tapeless.codegen.nests.sizes import Axis
from tapeless.codegen.nests.terms import (
    Apply,
    Count,
    Domain,
    IndexedLoad,
    Iota,
    Leaf,
    Load,
    MaskedLoad,
    Number,
    Reduction,
    Store,
    Term,
    Uniform,
)
from tapeless.codegen.nests.uniform import Uniforms
from tapeless.codegen.nests.vectors import Vectors

if TYPE_CHECKING:
    from tapeless.codegen.nests.short_rows import ShortRows

__all__ = ["Evaluator"]


class Evaluator:
    """`reduce` puts the values of a reduction, and of those that share its sweep, into their memo."""

    def __init__(
        self,
        builder: Builder,
        buffers: Sequence[Buffer],
        vector_axis: Axis | None,
        lanes: int,
        reduce: Callable[[Reduction], None] | None = None,
    ) -> None:
        self.b = builder
        self.buffers = buffers
        self.lanes = lanes
        self.reduce = reduce
        self.open = OpenLoops(builder, vector_axis, lanes)
        self.elements = Elements(builder, buffers, self.open)
        self.vectors = (
            Vectors(builder, buffers, self.open, vector_axis, lanes) if vector_axis is not None and lanes > 1 else None
        )
        self.uniforms = Uniforms(builder, buffers, self.open)
        self.short_rows: ShortRows | None = None
        self.kept: dict[Term, Load] = {}  # values that lie in memory by now: the load in their place

    def get(self, wanted: Term) -> Values:
        """The term's values in the scopes now open; computes what is missing, operands first, without recursion."""
        pending = [wanted]
        while pending:
            term = pending[-1]
            depth = self.open.depth(term.axes)
            memo = self.open.scopes[depth].memo
            if term in memo:
                pending.pop()
                continue
            if isinstance(term, Reduction):
                assert self.reduce is not None
                with self.open.at(depth):
                    self.reduce(term)
                pending.pop()
                continue
            made = self.kept.get(term, term)
            missing = [operand for operand in made.operands if operand not in self.open.memo(operand)]
            if missing:
                pending.extend(reversed(missing))
                continue
            with self.open.at(depth):
                memo[term] = self.compute(made)
            pending.pop()
        values: Values = self.open.memo(wanted)[wanted]
        return values

    def spread(self, term: Term) -> Values:
        """The term's values as vectors of the chunk, though it may not vary along the vector axis."""
        values = self.get(term)
        if self.open.varies(term) or self.open.vector_axis is None:
            return values
        memo = self.open.memo(term)
        if ("spread", term) not in memo:
            with self.open.at(self.open.depth(term.axes)):
                memo["spread", term] = self.b.splat(values[0], self.lanes)
        return (memo["spread", term],) * self.open.chunk.vectors

    def places(self, varies: bool) -> Elements | Vectors:
        """Who reads and writes memory."""
        return self.vectors if varies and self.vectors is not None else self.elements

    def compute(self, term: Term) -> Values:
        varies = self.open.varies(term)
        match term:
            case Load():
                if self.short_rows is not None and self.short_rows.covers(term.strides):
                    return self.short_rows.load(term)
                return self.places(varies).load(term)
            case MaskedLoad():
                conditions = self.spread(term.there) if varies else self.get(term.there)
                return self.places(varies).masked(term, conditions)
            case IndexedLoad():
                return self.places(varies).indexed(term, self.get(term.index))
            case Number():
                return (Constant(term.value, vector(term.kind, 1)),)
            case Count():
                if term.size.known:
                    return (Constant(float(term.size.coefficient), vector(term.kind, 1)),)
                return (self.b.convert(self.open.size(term.size), term.kind),)
            case Iota():
                return self.iota(term)
            case Uniform():
                return self.uniforms.draw(term)
            case Apply():
                columns = [self.spread(operand) if varies else self.get(operand) for operand in term.to]
                return tuple(
                    lower_pointwise(self.b, term.op, operands, term.kind, term.order)
                    for operands in zip(*columns, strict=True)
                )
            case Leaf() | Reduction():
                raise LookupError(f"{term} is given from outside, before it is asked for")
            case _:
                assert_never(term)

    def iota(self, term: Iota) -> Values:
        if term.axis is None:
            return (Constant(0, vector(term.kind, 1)),)
        if not self.open.varies(term):
            return (self.b.convert(self.open.index(term.axis), term.kind),)
        kind = term.kind if term.kind in (INTEGER, WORD) else INTEGER
        return tuple(self.b.convert(value, term.kind) for value in self.open.positions(kind))

    def write_all(self, domain: Domain, leaf: Sequence[Operand]) -> None:
        """All stores of a domain, where the loops stand, of a leaf that is known."""
        assert domain.leaf is not None
        self.open.memo(domain.leaf)[domain.leaf] = tuple(leaf)
        for store in domain.stores:
            self.get(store.term)
        for store in domain.stores:
            self.write(store)

    def write(self, store: Store) -> None:
        """Stores the term's values at the place that the open loops stand at; the values have been computed."""
        if self.short_rows is not None and self.short_rows.covers(store.strides):
            self.short_rows.store(store)
            return
        varies, base = self.open.vector_axis in store.strides, self.open.address(store.strides)
        values = self.spread(store.term) if varies else self.get(store.term)[:1]
        self.places(varies).store(store, base, values)
