"""The reciprocal square root and the cube root, as loop IR."""

from __future__ import annotations

from tapeless.codegen.builder import Builder
from tapeless.codegen.loops import Operand, Value
from tapeless.codegen.vectormath.exponential import exp, log, number, with_sign
from tapeless.codegen.vectormath.widening import in_double

__all__ = ["cbrt", "rsqrt"]

# Below TINY, cubes would lose bits to underflow: such numbers are taken 2**180 times, their roots 2**-60 times.
_TINY, _UP, _DOWN = 2.0**-900, 2.0**180, 2.0**-60


def rsqrt(b: Builder, x: Operand) -> Value:
    return b.div(number(1.0, x), b.unary("sqrt", x))


@in_double
def cbrt(b: Builder, x: Operand) -> Value:
    """e**(log|x| / 3), right to some 45 bits, and a step of Newton's."""
    size = b.unary("abs", x)
    tiny = b.compare("lt", size, _TINY)
    scaled = b.select(tiny, b.mul(size, number(_UP, x)), size)
    y = exp(b, b.mul(log(b, scaled), number(1 / 3, x)))
    square = b.mul(y, y)
    error = b.fma(square, y, b.unary("neg", scaled))
    better = b.sub(y, b.div(error, b.mul(number(3.0, x), square)))
    better = b.select(tiny, b.mul(better, number(_DOWN, x)), better)
    inside = b.bits("and", b.compare("lt", number(0.0, x), size), b.compare("lt", size, float("inf")))
    return with_sign(b, b.select(inside, better, size), x)
