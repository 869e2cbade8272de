"""Indices that are known when compiling, up to index variables: sums of whole multiples of them."""

from __future__ import annotations

from dataclasses import dataclass

from tapeless.compiler.elaborate.index_ranges import Variable
from tapeless.ir.types import Dim


@dataclass(frozen=True)
class Affine:
    """An index known when compiling, up to its variables: `first` plus each of them times its step."""

    first: int
    steps: tuple[tuple[Variable, int], ...]

    def scaled(self, factor: int) -> Affine:
        """The index times a number."""
        return Affine(self.first * factor, tuple((variable, step * factor) for variable, step in self.steps if factor))

    def plus(self, other: Affine) -> Affine:
        """The sum of two indices."""
        steps: dict[Variable, int] = {}
        for variable, step in (*self.steps, *other.steps):
            steps[variable] = steps.get(variable, 0) + step
        return Affine(self.first + other.first, tuple((variable, step) for variable, step in steps.items() if step))

    def part(self, extent: Dim) -> tuple[int, Dim, int]:
        """The slice of an axis that the index walks: first place, size and step."""
        if not self.steps:
            return (self.first, 1, 1)
        if len(self.steps) == 1:
            variable, step = self.steps[0]
            size = variable.size
            assert size is not None
            return (self.first, size, 1 if size == 1 else step)
        low = self.first + sum(step * variable.last for variable, step in self.steps if step < 0)
        return (low, 1 + sum(abs(step) * variable.last for variable, step in self.steps), 1)
