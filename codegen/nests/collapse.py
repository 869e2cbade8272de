"""Making one loop axis of two, where every access walks through both without a gap.

A dense tensor of any rank that only meets tensors of its own shape becomes a flat row of elements this way, and the
vectors' tails come once for the whole tensor instead of once for each row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tapeless.codegen.nests.sizes import Axis, Size, Strides
from tapeless.codegen.nests.terms import (
    Domain,
    Iota,
    Reduction,
    Store,
    Term,
    Walk,
    closure,
    strides_without,
    without,
)

__all__ = ["collapse"]


def collapse(domain: Domain) -> Domain:
    """The domain with axes merged until none can be: of two, the inner one stays, with the product of the extents."""
    terms = closure(store.term for store in domain.stores)
    walks = [term.strides for term in terms if isinstance(term, Walk)] + [store.strides for store in domain.stores]
    fixed = {axis for term in terms for axis in _numbered(term)}
    extents = dict(domain.extents)
    gone: frozenset[Axis] = frozenset()
    while (pair := _mergeable(extents, fixed, terms, walks)) is not None:
        outer, inner = pair
        extents[inner] = extents[inner] * extents.pop(outer)
        gone |= {outer}
    made: dict[Term, Term] = {}
    for term in terms:
        made[term] = without(term, gone, made)
    stores = tuple(Store(s.buffer, made[s.term], strides_without(s.strides, gone)) for s in domain.stores)
    return Domain(stores, extents, domain.leaf, domain.first_axes)


def _numbered(term: Term) -> tuple[Axis, ...]:
    """The axes along which it counts."""
    if isinstance(term, Iota):
        return () if term.axis is None else (term.axis,)
    return (term.axis,) if isinstance(term, Reduction) and term.op == "argmax" else ()


def _mergeable(
    extents: dict[Axis, Size], fixed: set[Axis], terms: Sequence[Term], walks: Sequence[Strides]
) -> tuple[Axis, Axis] | None:
    return next(
        (
            (outer, inner)
            for outer in extents
            for inner in extents
            if outer != inner and outer not in fixed and inner not in fixed
            if _together(outer, inner, terms, walks)
            if all(_contiguous(outer, inner, extents[inner], strides) for strides in walks)
        ),
        None,
    )


def _together(outer: Axis, inner: Axis, terms: Iterable[Term], walks: Iterable[Strides]) -> bool:
    return all(
        (outer in term.axes) == (inner in term.axes) and (outer in term.reduced) == (inner in term.reduced)
        for term in terms
    ) and all((outer in strides) == (inner in strides) for strides in walks)


def _contiguous(outer: Axis, inner: Axis, extent: Size, strides: Strides) -> bool:
    return outer not in strides or strides[outer] == strides[inner] * extent
