"""Making one loop axis of two, where every access walks through both without a gap.

A dense tensor of any rank that only meets tensors of its own shape becomes a flat row of elements this way, and the
vectors' tails come once for the whole tensor instead of once for each row.
"""

from __future__ import annotations

from collections.abc import Iterable

from tapeless.codegen.nests.terms import Axis, Domain, Size, Strides, Term, closure

__all__ = ["collapse"]


def collapse(domain: Domain) -> None:
    """Merges axes of the domain in place until none can be merged."""
    terms = closure(store.term for store in domain.stores)
    walks: list[Strides] = [term.attrs["strides"] for term in terms if "strides" in term.attrs]
    walks += [store.strides for store in domain.stores]
    fixed = {term.attrs["axis"] for term in terms if term.attrs.get("axis") is not None}
    changed = True
    while changed:
        changed = False
        for outer, inner in [(a, b) for a in domain.extents for b in domain.extents if a != b]:
            if outer in fixed or inner in fixed:
                continue
            if _together(outer, inner, terms, walks) and all(
                _contiguous(outer, inner, domain.extents[inner], strides) for strides in walks
            ):
                _merge(outer, inner, domain, terms, walks)
                changed = True
                break


def _together(outer: Axis, inner: Axis, terms: Iterable[Term], walks: Iterable[Strides]) -> bool:
    return all(
        (outer in term.axes) == (inner in term.axes) and (outer in term.reduced) == (inner in term.reduced)
        for term in terms
    ) and all((outer in strides) == (inner in strides) for strides in walks)


def _contiguous(outer: Axis, inner: Axis, extent: Size, strides: Strides) -> bool:
    return outer not in strides or strides[outer] == strides[inner] * extent


def _merge(outer: Axis, inner: Axis, domain: Domain, terms: Iterable[Term], walks: Iterable[Strides]) -> None:
    """The inner axis stays, with the product of the extents."""
    domain.extents[inner] = domain.extents[inner] * domain.extents.pop(outer)
    for term in terms:
        term.axes -= {outer}
        term.reduced -= {outer}
    for strides in walks:
        strides.pop(outer, None)
