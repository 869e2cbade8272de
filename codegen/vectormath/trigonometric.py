"""sin and cos, written as loop IR for any count of lanes.

The argument is reduced by multiples of pi/2 in float64 (f32 too), whose parts below are exact to 100 bits and more:
results are within the tests' ulps up to 2**30 in size. Beyond, they stay within [-1, 1] but lose their meaning. An
infinity gives NaN.
"""

from __future__ import annotations

import math

from tapeless.codegen.builder import Builder
from tapeless.codegen.loops import Operand, Value
from tapeless.codegen.vectormath.exponential import number, polynomial

__all__ = ["cos", "sin"]

# pi/2 in three parts; the first two have 33 bits, so that their products with a quadrant's number are exact.
_PARTS = (1.57079632673412561417e00, 6.07710050630396597660e-11, 2.02226624879595063154e-21)
_ROUNDER = 1.5 * 2.0**52


def _quadrant(b: Builder, x: Operand) -> tuple[Value, Value]:
    """x = n pi/2 + r, |r| <= pi/4: returns n's bits as i64 and r in the type of x."""
    wide = b.convert(x, "f64")
    shifted = b.fma(wide, number(2 / math.pi, wide), number(_ROUNDER, wide))
    n = b.sub(shifted, number(_ROUNDER, wide))
    r = wide
    for part in _PARTS:
        r = b.fma(n, number(-part, wide), r)
    low, high = number(-0.79, wide), number(0.79, wide)
    r = b.select(b.compare("lt", r, low), low, b.select(b.compare("lt", high, r), high, r))
    return b.bitcast(shifted, "i64"), b.convert(r, x.type.kind)  # type: ignore[return-value]


def _wave(b: Builder, x: Operand, quarter: int) -> Value:
    bits, r = _quadrant(b, x)
    if quarter:
        bits = b.bits("add", bits, quarter)
    z = b.mul(r, r)
    sine = b.fma(b.mul(z, r), polynomial(b, z, "sin"), r)
    cosine = b.fma(z, number(-0.5, z), number(1.0, z))
    cosine = b.fma(b.mul(z, z), polynomial(b, z, "cos"), cosine)
    swap = b.compare("ne", b.bits("and", bits, 1), 0)
    flip = b.compare("ne", b.bits("and", bits, 2), 0)
    value = b.select(swap, cosine, sine)
    return b.select(flip, b.unary("neg", value), value)


def sin(b: Builder, x: Operand) -> Value:
    return _wave(b, x, 0)


def cos(b: Builder, x: Operand) -> Value:
    return _wave(b, x, 1)
