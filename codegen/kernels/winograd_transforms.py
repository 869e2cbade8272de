"""The transforms of Winograd's F(2 x 2, 3 x 3) and their adjoints, on vectors in registers: see `winograd_plan.py`.

Each works along one axis, and is applied to the columns and then to the rows of a square of vectors. With taps g, a
patch d and results y, `y = given(taken(d) * weighed(g))` place by place; `felt` and `learned` are the adjoints of
`given` and `weighed`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tapeless.codegen.loops.builder import Builder
from tapeless.codegen.loops.language import Constant, Operand

__all__ = ["Line", "felt", "given", "learned", "square", "taken", "weighed"]

Line = Callable[[Builder, Sequence[Operand]], list[Operand]]


def square(b: Builder, transform: Line, values: Sequence[Operand], side: int) -> list[Operand]:
    """Both axes of a square, that lies row by row."""
    columns = [transform(b, values[k::side]) for k in range(side)]
    rows = [transform(b, row) for row in zip(*columns, strict=True)]
    return [value for row in rows for value in row]


def taken(b: Builder, d: Sequence[Operand]) -> list[Operand]:
    """Four places of a patch."""
    return [b.sub(d[0], d[2]), b.add(d[1], d[2]), b.sub(d[2], d[1]), b.sub(d[3], d[1])]


def weighed(b: Builder, g: Sequence[Operand]) -> list[Operand]:
    """Three taps."""
    half = Constant(0.5, g[0].type)
    ends, middle = b.mul(b.add(g[0], g[2]), half), b.mul(g[1], half)
    return [g[0], b.add(ends, middle), b.sub(ends, middle), g[2]]


def given(b: Builder, m: Sequence[Operand]) -> list[Operand]:
    """Two results."""
    return [b.add(b.add(m[0], m[1]), m[2]), b.add(b.sub(m[1], m[2]), m[3])]


def felt(b: Builder, y: Sequence[Operand]) -> list[Operand]:
    """The adjoints of two results as those of the four products that they are made of."""
    return [y[0], b.add(y[0], y[1]), b.sub(y[0], y[1]), y[1]]


def learned(b: Builder, u: Sequence[Operand]) -> list[Operand]:
    """The adjoints of four products as those of the three taps."""
    half = Constant(0.5, u[0].type)
    sum, difference = b.mul(b.add(u[1], u[2]), half), b.mul(b.sub(u[1], u[2]), half)
    return [b.add(u[0], sum), difference, b.add(sum, u[3])]
