"""How the axes of an operation's operands correspond to those of its result; each operation declares it, for one of
its nodes.

For each axis of each operand it is said where along that axis an element of the result is made of:

- `At`: at a place that follows from where the element stands: an axis that is kept, permuted, displaced or walked by
  windows;
- `Over`: at all places, along an axis that the operation reduces; equal numbers are reduced together;
- `By`: at a place that another operand tells;
- `ALL`: anywhere.

An axis of the result that no operand's axis moves with is new. `tests/ir/test_correspondence.py` moves single
elements and holds the declarations against what the references then change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tapeless.ir.types import Dim

if TYPE_CHECKING:
    from tapeless.ir.graph import Node


@dataclass(frozen=True, slots=True)
class At:
    """At (first + the sum of step * index over `moves`) / every, where `moves` holds axes of the result and steps.
    If `bounded`, there need be no such place: then the element is not made of this operand.
    """

    moves: tuple[tuple[int, int], ...]
    first: int = 0
    every: int = 1
    bounded: bool = False

    @property
    def axis(self) -> int | None:
        """The axis of the result whose places these are; None if they are others."""
        alone = len(self.moves) == 1 and self.moves[0][1] == self.every == 1
        return self.moves[0][0] if alone and self.first == 0 and not self.bounded else None


@dataclass(frozen=True, slots=True)
class Over:
    """At all places; `number` counts the axes that an operation reduces."""

    number: int = 0


@dataclass(frozen=True, slots=True)
class By:
    """At the place that an operand's element is."""

    operand: int


@dataclass(frozen=True, slots=True)
class All:
    """Anywhere."""


ALL = All()
Along = At | Over | By | All
Axes = tuple[tuple[Along, ...], ...]
Rule = Callable[["Node"], Axes]
Labels = tuple[tuple[int | None, ...], ...]


def kept(axis: int) -> At:
    """The axis of the result itself."""
    return At(((axis, 1),))


def same(node: Node, but: Sequence[int] = ()) -> Axes:
    """All operands have the axes of the result, and go along with them, but for some."""
    return tuple(tuple(ALL if k in but else kept(k) for k in range(value.type.rank)) for value in node.operands)


def along(node: Node) -> Axes:
    """As `same`, but for the attribute `axis`."""
    return same(node, (node.attrs["axis"],))


def last_two(node: Node) -> Axes:
    """As `same`, but for the two axes of matrices."""
    rank = node.result.type.rank
    return same(node, (rank - 2, rank - 1))


def over(node: Node) -> Axes:
    """The attribute `axes`, or `axis`, is reduced; what is left stays in order."""
    gone = reduced(node)
    left = [k for k in range(node.operands[0].type.rank) if k not in gone]
    return (
        tuple(kept(left.index(k)) if k in left else Over(gone.index(k)) for k in range(node.operands[0].type.rank)),
    )


def over_shares(node: Node) -> Axes:
    """As `over`, but the result has the shares of what is reduced as a new first axis."""
    ((*axes,),) = over(node)
    return (tuple(kept(one.moves[0][0] + 1) if isinstance(one, At) else one for one in axes),)


def reduced(node: Node) -> tuple[int, ...]:
    """The axes that a reduction removes."""
    return tuple(node.attrs["axes"]) if "axes" in node.attrs else (node.attrs["axis"],)


def correspondence(node: Node) -> Axes | None:
    """How the axes of a node correspond; None of an operation that does not work alike at places."""
    from tapeless.ir.ops import OPERATIONS

    rule = OPERATIONS[node.op].axes
    return rule(node) if rule is not None else None


def labels(node: Node) -> Labels | None:
    """For each axis of each operand the axis of the result that it is, as a whole; -1, -2, ... for what is reduced;
    None for all else. None of an operation that does not work alike at places.
    """
    return node.labels


def labels_of(node: Node, axes: Axes) -> Labels:
    """As `labels`, where the correspondence is at hand."""
    shape = node.result.type.shape

    def label(size: Dim, one: Along) -> int | None:
        if isinstance(one, Over):
            return -1 - one.number
        axis = one.axis if isinstance(one, At) else None
        return axis if axis is not None and shape[axis] == size else None

    return tuple(
        tuple(map(label, value.type.shape, operand)) for value, operand in zip(node.operands, axes, strict=True)
    )


def of_units(old: Sequence[Dim], new: Sequence[Dim]) -> list[int | None] | None:
    """For each new axis the old one it is, where shapes differ only by axes of size 1; None for those. None if they
    differ by more.
    """
    left = [axis for axis, dim in enumerate(old) if dim != 1]
    if [old[axis] for axis in left] != [dim for dim in new if dim != 1]:
        return None
    source = iter(left)
    return [None if dim == 1 else next(source) for dim in new]
