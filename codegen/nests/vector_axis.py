"""Which axis of a nest is the vector axis, and how many vectors a chunk of it has: by instructions, roughly counted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tapeless.abi.dtypes import TYPES
from tapeless.codegen.nests.groups import Group, instruction_count
from tapeless.codegen.nests.sizes import ONE, Axis, Size
from tapeless.codegen.nests.terms import Count, Load, Number, Uniform, Walk
from tapeless.ir.machine import Machine
from tapeless.ir.ops import OPERATIONS

__all__ = ["VectorChoice"]

LONG_ROW = 64
"""Vectors along an axis from which it pays to write the body twice."""
MOST_TEXT = 320
"""Instructions up to which a chunk's body is written out for all of its vectors: compile time is by the line."""


@dataclass(frozen=True)
class VectorChoice:
    """The choices for a group, in vectors of so many lanes, with at most `capacity` rows."""

    group: Group
    extents: Mapping[Axis, Size]
    lanes: int
    capacity: int
    machine: Machine

    def axis(self) -> Axis | None:
        """The axis along which the nest is expected to take the fewest instructions; of equals, the longest. None of
        a nest over no axes.
        """
        axes = {axis for term in self.group.terms for axis in term.axes | term.reduced}
        axes |= {axis for store in self.group.stores for axis in store.strides}
        return min(
            sorted(axes), key=lambda axis: (self.expected(axis), -self.extents[axis].at(self.capacity)), default=None
        )

    def expected(self, axis: Axis) -> float:
        """Instructions, roughly, with `axis` as the vector axis."""
        extent = max(1, self.extents[axis].at(self.capacity))
        filled = extent / -(-extent // self.lanes)  # lanes that do work, on average

        def times(axes: Iterable[Axis]) -> float:
            count = 1.0
            for other in axes:
                count *= max(1, self.extents[other].at(self.capacity))
            return count / filled if axis in axes else count

        short = self.short_axis(axis)
        turning = None if short is None else self.turning_cost(self.extents[short].coefficient)
        costs = self.machine.costs
        gather, scatter = (costs.gather, costs.scatter) if turning is None else (turning, turning)
        total = 0.0
        for term in self.group.terms:
            turns = times(term.axes | term.reduced)
            if isinstance(term, Walk) and axis in term.axes:
                unit = term.strides.get(axis) == ONE
                total += turns * (
                    term.instructions if unit else 4 * term.instructions if isinstance(term, Uniform) else gather
                )
            elif not isinstance(term, Number | Count):
                total += turns * term.instructions
            if axis in term.reduced:
                total += times(term.axes) * costs.across
        for store in self.group.stores:
            total += times(store.strides) * (1 if store.strides.get(axis, ONE) == ONE else scatter)
        return total

    def vectors(self, axis: Axis) -> int:
        """How many vectors a chunk has. Four hide the latency of a sum (4 cycles, and one add a cycle at least);
        64 elements share the words of one random block; a short axis is one chunk, and needs no loop."""
        if self.lanes == 1 or self.short_axis(axis) is not None:
            return 1
        varying = [term for term in self.group.terms if axis in term.axes | term.reduced]
        cost = max(
            (
                instruction_count([term for term in varying if term.stage == stage])
                for stage in {term.stage for term in varying}
            ),
            default=0,
        )
        draws = any(
            isinstance(term, Uniform) and term.takes_one_word and axis in term.axes for term in self.group.terms
        )
        if (
            draws
            and 4 <= self.lanes <= 16
            and (cost - OPERATIONS["random_uniform"].instructions) * 64 // self.lanes <= MOST_TEXT
        ):
            return 64 // self.lanes
        extent = self.extents[axis]
        whole = -(-extent.at(self.capacity) // self.lanes)
        # A body so long that the next turn is not looked at while this one waits has two vectors side by side.
        long = 2 if cost > self.machine.window // 2 and whole >= LONG_ROW else 1
        if any(term.reduced for term in self.group.terms):
            if extent.known and whole <= 4 and whole * cost <= 160:
                return max(1, whole)
            return 4 if cost <= 24 and whole >= 4 else 2 if cost <= 60 and whole >= 2 else long
        return long

    def short_axis(self, rows: Axis) -> Axis | None:
        """The axis along the rows if all sweeps are over it, it is shorter than a vector, and each access walks it
        densely: then rows are better turned than gathered (short_rows.py).
        """
        swept = {axis for term in self.group.terms for axis in term.reduced}
        if rows not in self.group.parallel or len(swept) != 1 or self.lanes < 4:
            return None
        (columns,) = swept
        extent = self.extents[columns]
        walks = [(term.strides, term.kind) for term in self.group.terms if isinstance(term, Load)]
        walks += [(store.strides, store.term.kind) for store in self.group.stores]
        crossing = [(strides, kind) for strides, kind in walks if rows in strides and columns in strides]
        dense = all(
            strides[columns] == ONE and strides[rows].known and strides[rows].coefficient >= extent.coefficient
            for strides, _ in crossing
        )
        kinds = {kind for _, kind in crossing}
        alike = len(kinds) == 1 and all(TYPES[kind].is_real for kind in kinds)
        return columns if extent.known and 2 <= extent.coefficient <= self.lanes and dense and alike else None

    def turning_cost(self, columns: int) -> float:
        """Instructions for a vector that comes or goes through a block of rows."""
        return (self.lanes * math.log2(self.lanes) + self.lanes) / columns + 1
