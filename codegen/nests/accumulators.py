"""Accumulators: what a reduction carries through its loop, and how lanes become one number at the end.

Each vector of a chunk has an accumulator of its own. At the end they are combined in a fixed tree, the vectors first,
then halves of the last vector, so the order of a sum depends on the count of elements alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tapeless.abi.dtypes import INTEGER
from tapeless.codegen.loops.builder import Builder
from tapeless.codegen.loops.language import Constant, Operand, Type
from tapeless.codegen.nests.pointwise import maximum, minimum

__all__ = ["Accumulator", "accumulator_of"]


_OF_REALS = {"sum": 0.0, "prod": 1.0, "max": -math.inf, "min": math.inf, "argmax": -math.inf}
_OF_INTEGERS = {"sum": 0, "prod": 1, "max": -(2**31), "min": 2**31 - 1, "argmax": -(2**31)}


class Accumulator:
    """A sum, a product, a maximum or a minimum over `vectors` accumulators of a type."""

    def __init__(self, b: Builder, op: str, type: Type, vectors: int) -> None:
        self.b = b
        self.op = op
        self.type = type
        self.vectors = vectors

    @property
    def width(self) -> int:
        """How many values the loop carries."""
        return self.vectors

    @property
    def identity(self) -> Constant:
        return Constant(_OF_REALS[self.op] if self.type.is_float else _OF_INTEGERS[self.op], self.type)

    def initial(self) -> tuple[Operand, ...]:
        return (self.identity,) * self.vectors

    def combine(self, a: Operand, b: Operand) -> Operand:
        if self.op == "sum":
            return self.b.add(a, b)
        if self.op == "prod":
            return self.b.mul(a, b)
        return maximum(self.b, a, b) if self.op == "max" else minimum(self.b, a, b)

    def feed(
        self,
        carried: Sequence[Operand],
        values: Sequence[Operand],
        masks: Sequence[Operand | None],
        places: Sequence[Operand],
    ) -> tuple[Operand, ...]:
        """Takes in one chunk; lanes outside their mask count as the identity. A shorter chunk leaves the last
        accumulators as they are."""
        made = list(carried)
        for k, (value, mask) in enumerate(zip(values, masks, strict=True)):
            kept = value if mask is None else self.b.select(mask, value, self.identity)
            made[k] = self.combine(made[k], kept)
        return tuple(made)

    def each(self, carried: Sequence[Operand]) -> tuple[Operand, ...]:
        """The results where the lanes are separate elements."""
        return tuple(carried)

    def across(self, carried: Sequence[Operand]) -> Operand:
        """The result where the lanes belong to one element: a scalar."""
        total = _tree(list(carried), self.combine)
        while total.type.lanes > 1:
            low, high = self.b.halves(total)
            total = self.combine(low, high)
        return total


class _ArgMax(Accumulator):
    """The first place of the greatest value; NaN counts as the greatest, as in NumPy."""

    @property
    def width(self) -> int:
        return 2 * self.vectors

    def initial(self) -> tuple[Operand, ...]:
        return (self.identity,) * self.vectors + (Constant(0, self.type.of(INTEGER)),) * self.vectors

    def _beats(self, value: Operand, best: Operand) -> Operand:
        b = self.b
        new_nan = b.bits("and", b.compare("ne", value, value), b.compare("eq", best, best))
        return b.bits("or", b.compare("lt", best, value), new_nan)

    def feed(
        self,
        carried: Sequence[Operand],
        values: Sequence[Operand],
        masks: Sequence[Operand | None],
        places: Sequence[Operand],
    ) -> tuple[Operand, ...]:
        best, where = list(carried[: self.vectors]), list(carried[self.vectors :])
        for k, (value, mask) in enumerate(zip(values, masks, strict=True)):
            kept = value if mask is None else self.b.select(mask, value, self.identity)
            better = self._beats(kept, best[k])
            best[k] = self.b.select(better, kept, best[k])
            where[k] = self.b.select(better, places[k], where[k])
        return (*best, *where)

    def each(self, carried: Sequence[Operand]) -> tuple[Operand, ...]:
        return tuple(carried[self.vectors :])

    def across(self, carried: Sequence[Operand]) -> Operand:
        pairs = list(zip(carried[: self.vectors], carried[self.vectors :], strict=True))
        while len(pairs) > 1:
            pairs = [
                self._better(*pairs[k : k + 2]) if k + 1 < len(pairs) else pairs[k] for k in range(0, len(pairs), 2)
            ]
        value, place = pairs[0]
        while value.type.lanes > 1:
            (low, high), (low_place, high_place) = self.b.halves(value), self.b.halves(place)
            value, place = self._better((low, low_place), (high, high_place))
        return place

    def _better(self, first: tuple[Operand, Operand], second: tuple[Operand, Operand]) -> tuple[Operand, Operand]:
        b = self.b
        (x, i), (y, j) = first, second
        tie = b.bits("or", b.compare("eq", x, y), b.bits("and", b.compare("ne", x, x), b.compare("ne", y, y)))
        earlier = b.bits("and", tie, b.compare("lt", j, i))
        take = b.bits("or", self._beats(y, x), earlier)
        return b.select(take, y, x), b.select(take, j, i)


def _tree(values: list[Operand], combine: object) -> Operand:
    while len(values) > 1:
        values = [
            combine(values[k], values[k + 1]) if k + 1 < len(values) else values[k]  # type: ignore[operator]
            for k in range(0, len(values), 2)
        ]
    return values[0]


def accumulator_of(b: Builder, op: str, type: Type, vectors: int) -> Accumulator:
    return (_ArgMax if op == "argmax" else Accumulator)(b, op, type, vectors)
