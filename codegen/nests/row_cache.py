"""What a nest keeps of a row from one sweep over it to the next.

What a later sweep needs again is computed again, which mostly costs less than to keep it. A value that takes many
instructions, such as a softmax's exponentials, is stored as it is first made, where the row of a result will
stand in the end: that row has to be brought into the cache anyway, and no other memory is touched. Later sweeps load
it.
"""

from __future__ import annotations

from collections.abc import Callable

from tapeless.codegen.nests.groups import Group
from tapeless.codegen.nests.sizes import Axis
from tapeless.codegen.nests.terms import Load, Reduction, Store, Term, closure

__all__ = ["kept", "load_of", "sweep_terms"]


def kept(group: Group, dear: int, dense: Callable[[Store], bool]) -> dict[Term, Store]:
    """The values that take `dear` instructions or more, which are kept, each with where it is stored: the place of a
    result that is not written before its last use, and whose vectors are `dense`.
    """
    parallel = frozenset(group.parallel)
    used_later = {
        operand for term in group.terms if not term.reduced for operand in term.operands if operand.stage < term.stage
    }
    places: dict[Term, Store] = {}
    for store in group.stores:
        swept = frozenset(store.strides) - parallel
        if not swept or not dense(store):
            continue
        needed = set(closure((store.term,)))
        reduced = [term for term in needed if term.reduced == swept and term.axes == parallel]
        made = {value for term in reduced for value in sweep_terms(term.operands[0])}
        candidates = [
            term
            for term in group.terms
            if term in needed
            and term in made
            and term in used_later
            and term not in places
            and term.axes == frozenset(store.strides)
            and term.kind == store.term.kind
            and term.stage < store.term.stage
        ]
        dearest = max(candidates, key=lambda term: _cost(term, swept), default=None)
        if dearest is not None and _cost(dearest, swept) >= dear:
            places[dearest] = Store(store.buffer, dearest, store.strides)
    return places


def load_of(store: Store) -> Load:
    """What was stored, as a term."""
    return Load(store.term.kind, store.strides, store.buffer, ())


def sweep_terms(value: Term) -> list[Term]:
    """The value and what it is made of in the same sweep."""
    found: dict[Term, None] = {}
    pending = [value]
    while pending:
        term = pending.pop()
        if term not in found:
            found[term] = None
            pending += () if isinstance(term, Reduction) else term.operands
    return list(found)


def _cost(term: Term, swept: frozenset[Axis]) -> int:
    """Instructions to have the value again from memory and from what does not change along the row."""
    return sum(value.instructions for value in sweep_terms(term) if value.axes & swept)
