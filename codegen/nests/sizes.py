"""Sizes that may hang on the count of rows, and strides made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tapeless.ir.types import Dim, Rows

__all__ = ["ONE", "Axis", "Size", "Strides", "dense", "product", "size_of"]


@dataclass(frozen=True, slots=True)
class Size:
    """coefficient * rows ** power"""

    coefficient: int
    power: int = 0

    def __mul__(self, other: Size) -> Size:
        return Size(self.coefficient * other.coefficient, self.power + other.power)

    def at(self, rows: int) -> int:
        return self.coefficient * int(rows**self.power)

    @property
    def known(self) -> bool:
        return self.power == 0


ONE = Size(1)
Axis = int
Strides = Mapping[Axis, Size]


def size_of(dim: Dim) -> Size:
    return Size(dim.multiple, 1) if isinstance(dim, Rows) else Size(dim)


def product(dims: Sequence[Dim]) -> Size:
    total = ONE
    for dim in dims:
        total = total * size_of(dim)
    return total


def dense(shape: Sequence[Dim], leading: int = 0) -> tuple[Size, ...]:
    """Row-major strides; a matrix's rows may be `leading` elements apart."""
    strides: list[Size] = []
    step = ONE
    for dim in reversed(shape):
        strides.append(step)
        step = step * size_of(dim)
    strides.reverse()
    if leading and len(shape) == 2:
        strides[0] = Size(leading)
    return tuple(strides)
