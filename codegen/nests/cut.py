"""Making two loop axes of one: shares of it, and the places within a share, so that shares can be done side by side.

The inverse of `collapse.py`, for sums of which each share is stored.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from tapeless.abi.dtypes import INTEGER
from tapeless.codegen.nests.sizes import Axis, Size, Strides
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
    closure,
)

__all__ = ["cut"]


def cut(domain: Domain, inner: Axis, outer: Axis, shares: int) -> Domain:
    """The domain with `inner` cut into so many shares, which are what `outer` counts; `inner` is what is within one."""
    extent = domain.extents[inner]
    places = Size(extent.coefficient // shares, extent.power)
    made: dict[Term, Term] = {}
    for term in closure(store.term for store in domain.stores):
        made[term] = _cut(term, inner, outer, places, made)
    stores = tuple(
        Store(store.buffer, made[store.term], _walk(store.strides, inner, outer, places)) for store in domain.stores
    )
    extents = {**domain.extents, inner: places, outer: Size(shares)}
    return Domain(stores, extents, domain.leaf, domain.first_axes)


def _walk(strides: Strides, inner: Axis, outer: Axis, places: Size) -> Strides:
    return {**strides, outer: strides[inner] * places} if inner in strides else strides


def _cut(term: Term, inner: Axis, outer: Axis, places: Size, made: dict[Term, Term]) -> Term:
    match term:
        case Number() | Count():
            return term
        case Leaf():
            return replace(term, along=term.along | ({outer} if inner in term.along else frozenset()))
        case Iota():
            if term.axis != inner:
                return term
            size = Number(INTEGER, places.coefficient) if places.known else Count(INTEGER, places)
            first = Apply(INTEGER, "mul", (Iota(INTEGER, outer), size))
            return Apply(INTEGER, "add", (first, term))
        case Uniform() | Load():
            return replace(term, strides=_walk(term.strides, inner, outer, places))
        case MaskedLoad():
            return replace(term, strides=_walk(term.strides, inner, outer, places), there=made[term.there])
        case IndexedLoad():
            return replace(term, strides=_walk(term.strides, inner, outer, places), index=made[term.index])
        case Apply():
            return replace(term, to=tuple(made[operand] for operand in term.to))
        case Reduction():
            return replace(term, operand=made[term.operand])
        case _:
            assert_never(term)
