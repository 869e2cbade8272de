"""Terms: what one element of a result is made of, as a union of kinds.

Two terms are one only if they are the same object: what is shared is computed once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

from tapeless.abi.dtypes import DType
from tapeless.codegen.nests.sizes import Axis, Size, Strides
from tapeless.ir.graph import Value
from tapeless.ir.ops import OPERATIONS

__all__ = [
    "Apply",
    "Count",
    "Domain",
    "IndexedLoad",
    "Iota",
    "Leaf",
    "Load",
    "MaskedLoad",
    "Number",
    "Reduction",
    "Store",
    "Term",
    "Uniform",
    "Walk",
    "closure",
    "strides_without",
    "without",
]


NONE: frozenset[Axis] = frozenset()


@dataclass(frozen=True, eq=False)
class _Term:
    """What all kinds have: the `kind` of number, the loop `axes` that an element depends on, and the `stage`, how many
    sweeps of reductions come before it.
    """

    kind: str
    axes: frozenset[Axis] = field(init=False)
    stage: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes", self._bound())
        object.__setattr__(self, "stage", self._sweeps())

    def _bound(self) -> frozenset[Axis]:
        return frozenset(axis for operand in self.operands for axis in operand.axes)

    def _sweeps(self) -> int:
        return max((operand.stage for operand in self.operands), default=0)

    @property
    def operands(self) -> tuple[Term, ...]:
        return ()

    @property
    def reduced(self) -> frozenset[Axis]:
        """The axes that it sums out."""
        return NONE

    @property
    def instructions(self) -> int:
        """For one vector: for choosing parts and unrolling, not for timing."""
        return 1


@dataclass(frozen=True, eq=False)
class _Walk(_Term):
    """An element whose place follows from where the loops stand."""

    strides: Strides

    def _bound(self) -> frozenset[Axis]:
        return frozenset(self.strides) | super()._bound()


@dataclass(frozen=True, eq=False)
class _Access(_Walk):
    """An element of a buffer; the offset, a sum of sizes, is where the first one lies."""

    buffer: int
    offset: tuple[Size, ...]


@dataclass(frozen=True, eq=False)
class Number(_Term):
    """The same everywhere."""

    value: float | int | bool


@dataclass(frozen=True, eq=False)
class Count(_Term):
    """How many elements a tensor has."""

    size: Size


@dataclass(frozen=True, eq=False)
class Leaf(_Term):
    """What is computed elsewhere, at the places along some axes: a product's element."""

    along: frozenset[Axis]

    def _bound(self) -> frozenset[Axis]:
        return self.along


@dataclass(frozen=True, eq=False)
class Iota(_Term):
    """Where a loop stands; 0 along an axis of size 1."""

    axis: Axis | None

    def _bound(self) -> frozenset[Axis]:
        return NONE if self.axis is None else frozenset((self.axis,))


@dataclass(frozen=True, eq=False)
class Uniform(_Walk):
    """The random number of an element, from the seed's buffer; a counter is a buffer, or none and the number."""

    site: int
    seed: int
    counters: tuple[tuple[int | None, int], ...]

    @property
    def takes_one_word(self) -> bool:
        """Whether a number is made of one of a random block's four words, which then serve four numbers."""
        return self.kind == DType.F32.kind

    @property
    def instructions(self) -> int:
        return OPERATIONS["random_uniform"].instructions


@dataclass(frozen=True, eq=False)
class Load(_Access):
    """An element of a buffer."""


@dataclass(frozen=True, eq=False)
class MaskedLoad(_Access):
    """An element of a buffer if the operand says that there is one."""

    there: Term

    @property
    def operands(self) -> tuple[Term, ...]:
        return (self.there,)


@dataclass(frozen=True, eq=False)
class IndexedLoad(_Access):
    """An element of a buffer at a computed index, held within `size`, along an axis of elements `along` apart.

    Without a size the index is trusted: it is an entry of the order of rows.
    """

    index: Term
    along: Size
    size: Size | None

    @property
    def operands(self) -> tuple[Term, ...]:
        return (self.index,)


@dataclass(frozen=True, eq=False)
class Apply(_Term):
    """A pointwise operation; `order` is that of a family of functions."""

    op: str
    to: tuple[Term, ...]
    order: int | None = None

    @property
    def operands(self) -> tuple[Term, ...]:
        return self.to

    @property
    def instructions(self) -> int:
        return OPERATIONS[self.op].instructions


@dataclass(frozen=True, eq=False)
class Reduction(_Term):
    """The operand's elements along the axes `over`, as one."""

    op: str
    operand: Term
    over: frozenset[Axis]

    def _bound(self) -> frozenset[Axis]:
        return self.operand.axes - self.over

    def _sweeps(self) -> int:
        return self.operand.stage + 1

    @property
    def operands(self) -> tuple[Term, ...]:
        return (self.operand,)

    @property
    def reduced(self) -> frozenset[Axis]:
        return self.over

    @property
    def axis(self) -> Axis:
        """The only axis that it is over: an argmax has no more."""
        (axis,) = self.over
        return axis

    @property
    def instructions(self) -> int:
        return OPERATIONS[self.op].instructions


Term = Number | Count | Leaf | Iota | Uniform | Load | MaskedLoad | IndexedLoad | Apply | Reduction
Walk = Uniform | Load | MaskedLoad | IndexedLoad
"""The kinds that have strides."""


@dataclass(frozen=True, eq=False)
class Store:
    buffer: int
    term: Term
    strides: Strides


@dataclass(frozen=True)
class Domain:
    """What a nest computes: stores of terms, and the extent of each loop axis. Of a leaf and of what is stored it is
    known which axes theirs are.
    """

    stores: tuple[Store, ...]
    extents: Mapping[Axis, Size]
    leaf: Leaf | None = None
    first_axes: Mapping[Value, tuple[Axis | None, ...]] = field(default_factory=dict)


def closure(terms: Iterable[Term]) -> list[Term]:
    """The terms and all they depend on, operands first."""
    order: list[Term] = []
    seen: set[Term] = set()
    pending: list[tuple[Term, bool]] = [(term, False) for term in reversed(list(terms))]
    while pending:
        term, ready = pending.pop()
        if ready:
            order.append(term)
        elif term not in seen:
            seen.add(term)
            pending.append((term, True))
            pending.extend((operand, False) for operand in reversed(term.operands) if operand not in seen)
    return order


def without(term: Term, gone: frozenset[Axis], made: Mapping[Term, Term]) -> Term:
    """The term without some axes; its operands are those `made` already."""
    match term:
        case Number() | Count() | Iota():
            return term
        case Leaf():
            return replace(term, along=term.along - gone)
        case Uniform() | Load():
            return replace(term, strides=strides_without(term.strides, gone))
        case MaskedLoad():
            return replace(term, strides=strides_without(term.strides, gone), there=made[term.there])
        case IndexedLoad():
            return replace(term, strides=strides_without(term.strides, gone), index=made[term.index])
        case Apply():
            return replace(term, to=tuple(made[operand] for operand in term.to))
        case Reduction():
            return replace(term, operand=made[term.operand], over=term.over - gone)
        case _:
            assert_never(term)


def strides_without(strides: Strides, gone: frozenset[Axis]) -> Strides:
    return {axis: stride for axis, stride in strides.items() if axis not in gone}
