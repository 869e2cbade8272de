"""A kernel between plan and text: what was decided of it, and the function that writes it by this plan or another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tapeless.codegen.loops.language import Function
from tapeless.codegen.nests.groups import parts_for
from tapeless.codegen.nests.sizes import Size
from tapeless.ir.machine import Machine

OUTER, INNER = "outer places", "inner places"

__all__ = ["OUTER", "Planned", "SharePlan", "share_lines", "share_out"]


@dataclass(frozen=True)
class Planned:
    """`plan` is the one that is expected to be the best; `write` takes any that is possible, and writes once.
    `alternatives` are others worth measuring, by which the same bits are computed.
    """

    plan: Any
    write: Callable[[Any], Function]
    alternatives: Callable[[], Sequence[Any]] = tuple


@dataclass(frozen=True)
class SharePlan:
    """All that is decided of most kernels of a single operation: how many elements are done at a time, and into how
    many shares of what they are cut.
    """

    lanes: int
    parts: int = 1
    along: str = ""

    def __str__(self) -> str:
        shared = f", parts of the {self.along}" if self.parts > 1 else ""
        return f"{self.lanes} at a time{shared}"


def share_out(microseconds: float, shares: int, along: str, lanes: int, machine: Machine) -> SharePlan:
    """Parts for so much work, of which at most so many are possible."""
    return SharePlan(lanes, parts_for(microseconds, machine, shares), along)


def share_lines(
    outer: Size, inner: Size, capacity: int, microseconds: float, lanes: int, machine: Machine
) -> SharePlan:
    """Parts of the outer places or of the inner ones, whichever are more."""
    rows, columns = outer.at(capacity), -(-inner.at(capacity) // lanes)
    return share_out(microseconds, max(rows, columns), OUTER if rows >= columns else INNER, lanes, machine)
