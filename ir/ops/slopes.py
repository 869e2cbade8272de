"""Derivatives of scalar formulas as short lists of operations, and how they are written as nodes.

sympy makes them of formulas (`formula.py`), and takes longer to import than a small program takes to compile; those of
all operations are kept in `slopes.json`, as sympy found them. A formula that is not there is differentiated anew. To
keep them after a change: `python -m tests.ir.test_slopes`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tapeless.ir.graph import Builder, Value

KEPT = Path(__file__).with_name("slopes.json")
FULL = "full"  # a constant in the shape of the result

Reference = int | float | str
"""An earlier step by its place, or of a `full` its number; an operand, or the result of the formula, by its name."""


@dataclass(frozen=True)
class Slope:
    """A partial derivative: the operations that make it, each with what it takes; the last makes it. Without any, it
    is `trivial`: a number, or an operand."""

    steps: tuple[tuple[str, tuple[Reference, ...]], ...]
    trivial: float | str | None = None

    def emit(self, builder: Builder, values: Mapping[str, Value], like: Value) -> Value:
        """Write it as pointwise nodes over operands of equal shape; constants take the shape of `like`."""
        if isinstance(self.trivial, str):
            return values[self.trivial]
        if self.trivial is not None:
            return builder.full(self.trivial, like)
        made: list[Value] = []
        for op, taken in self.steps:
            if op == FULL:
                made.append(builder.full(float(taken[0]), like))
            else:
                found = [values[one] if isinstance(one, str) else made[int(one)] for one in taken]
                made.append(builder.emit(op, *found))
        return made[-1]


@dataclass
class _Recorder:
    """Stands where a builder does when a formula is written, and keeps what it is told to emit."""

    steps: list[tuple[str, tuple[Reference, ...]]] = field(default_factory=list)

    def emit(self, op: str, *operands: Reference) -> Reference:
        self.steps.append((op, operands))
        return len(self.steps) - 1

    def full(self, number: float, like: object) -> Reference:
        return self.emit(FULL, number)


def derived(formula: str, stated: Sequence[str], place: int) -> Slope:
    """The slope as sympy finds it, or as it is stated."""
    from tapeless.ir.ops import formula as formulas

    expression = formulas.partial(formula, tuple(stated), place)
    if expression.is_number:
        return Slope((), float(expression))
    recorder: Any = _Recorder()
    names: Any = {name: name for name in (*formulas.NAMES, "out")}
    last: Any = formulas.emit(recorder, expression, names, names["out"])
    return Slope((), last) if isinstance(last, str) else Slope(tuple(recorder.steps))


@cache
def slope(formula: str, stated: tuple[str, ...], place: int) -> Slope:
    """The partial derivative of a formula by its operand at `place`."""
    return kept().get(key(formula, stated, place)) or derived(formula, stated, place)


@cache
def kept() -> Mapping[str, Slope]:
    return {key: _read(one) for key, one in json.loads(KEPT.read_text()).items()} if KEPT.exists() else {}


def key(formula: str, stated: Sequence[str], place: int) -> str:
    """With its stated text a slope no longer hangs on the formula."""
    return f"d/d{place} {formula}" if not stated else stated[place]


def _read(one: Any) -> Slope:
    return Slope(tuple((op, tuple(taken)) for op, *taken in one)) if isinstance(one, list) else Slope((), one)
