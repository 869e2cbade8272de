"""sin, cos and tan, written as loop IR for any count of lanes.

The argument is reduced by multiples of pi/2 in float64 (f32 too), whose parts below are exact to 100 bits and more:
results are within the tests' ulps up to 2**30 in size. Where a lane of f32 is larger, a branch reduces it by Payne and
Hanek's method (Radian reduction for trigonometric functions, SIGNUM 1983): only the 96 bits of 2/pi that matter are
multiplied. In f64 such arguments stay within [-1, 1] but lose their meaning. An infinity gives NaN.
"""

from __future__ import annotations

import itertools
import math

from tapeless.codegen.loops.builder import Builder
from tapeless.codegen.loops.language import Constant, Instruction, Operand, Value
from tapeless.codegen.vectormath.exponential import number, polynomial

__all__ = ["cos", "sin", "tan"]

# pi/2 in three parts; the first two have 33 bits, so that their products with a quadrant's number are exact.
_PARTS = (1.57079632673412561417e00, 6.07710050630396597660e-11, 2.02226624879595063154e-21)
_ROUNDER = 1.5 * 2.0**52
_FAR = 2.0**28
# 2/pi in words of 32 bits, after two zero bits: as many as the largest f32's reduction reads.
_TWO_OVER_PI = (0x28BE60DB, 0x9391054A, 0x7F09D5F4, 0x7D4D3770, 0x36D8A566, 0x4F10E410, 0x7F9458EA)


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
    turns = b.bitcast(shifted, "i64")
    if x.type.kind == "f64":
        return turns, r  # type: ignore[return-value]
    far = b.compare("le", number(_FAR, x), b.unary("abs", x))
    block: list[Instruction] = []
    with b.inside(block):
        far_turns, far_r = _far_quadrant(b, x)
        taken = (b.select(far, far_turns, turns), b.select(far, far_r, r))
    turns, r = b.conditional(b.compute("any", far, type=far.type.scalar), block, taken, (), (turns, r))
    return turns, b.convert(r, x.type.kind)  # type: ignore[return-value]


def _far_quadrant(b: Builder, x: Operand) -> tuple[Value, Value]:
    """The quadrant's number and r, as f64, for an f32 of at least 2**23: x = m 2**e with an integer m of 24 bits.

    F = 96 bits of 2/pi from bit e on (two of them before the point) times m, modulo 2**96, is x 2/pi modulo 4.
    """
    raw = b.convert(b.bits("and", b.bitcast(x, "i32"), 0x7FFFFFFF), "i64")
    e = b.bits("sub", b.bits("shr", raw, 23), 150)
    m = b.bits("or", b.bits("and", raw, (1 << 23) - 1), 1 << 23)
    word, shift = b.bits("shr", e, 5), b.bits("and", e, 31)
    first = [b.compare("eq", word, float(k)) for k in range(1, 4)]

    def chosen(place: int) -> Operand:
        value: Operand = Constant(_TWO_OVER_PI[place], word.type)
        for k, mask in enumerate(first, 1):
            value = b.select(mask, Constant(_TWO_OVER_PI[place + k], word.type), value)
        return value

    words = [chosen(place) for place in range(4)]
    parts = []
    for high, low in itertools.pairwise(words):
        both = b.bits("or", b.bits("shl", high, 32), low)
        both = b.bits("shr", b.bits("shl", both, shift), 32)
        parts.append(b.bits("and", both, 0xFFFFFFFF))
    top = b.add(b.bits("shl", b.mul(m, parts[0]), 32), b.mul(m, parts[1]))
    top = b.add(top, b.bits("shr", b.mul(m, parts[2]), 32))
    turns = b.bits("and", b.bits("shr", b.bits("add", top, 1 << 61), 62), 3)
    rest = b.sub(top, b.bits("shl", turns, 62))
    r = b.mul(b.convert(rest, "f64"), number(math.pi / 2 * 2.0**-62, Constant(0.0, rest.type.of("f64"))))
    negative = b.compare("lt", x, 0.0)
    infinite = b.compare(
        "le", b.bitcast(Constant(math.inf, x.type), "i32"), b.bits("and", b.bitcast(x, "i32"), 0x7FFFFFFF)
    )
    r = b.select(infinite, number(math.nan, r), b.select(negative, b.unary("neg", r), r))
    return b.select(negative, b.unary("neg", turns), turns), r


def _sine_and_cosine(b: Builder, r: Operand) -> tuple[Value, Value]:
    """For |r| <= pi/4."""
    z = b.mul(r, r)
    sine = b.fma(b.mul(z, r), polynomial(b, z, "sin"), r)
    cosine = b.fma(z, number(-0.5, z), number(1.0, z))
    return sine, b.fma(b.mul(z, z), polynomial(b, z, "cos"), cosine)


def _wave(b: Builder, x: Operand, quarter: int) -> Value:
    bits, r = _quadrant(b, x)
    if quarter:
        bits = b.bits("add", bits, quarter)
    sine, cosine = _sine_and_cosine(b, r)
    swap = b.compare("ne", b.bits("and", bits, 1), 0)
    flip = b.compare("ne", b.bits("and", bits, 2), 0)
    value = b.select(swap, cosine, sine)
    return b.select(flip, b.unary("neg", value), value)


def sin(b: Builder, x: Operand) -> Value:
    return _wave(b, x, 0)


def cos(b: Builder, x: Operand) -> Value:
    return _wave(b, x, 1)


def tan(b: Builder, x: Operand) -> Value:
    """sin / cos in even quadrants, -cos / sin in odd ones."""
    bits, r = _quadrant(b, x)
    sine, cosine = _sine_and_cosine(b, r)
    swap = b.compare("ne", b.bits("and", bits, 1), 0)
    return b.div(b.select(swap, b.unary("neg", cosine), sine), b.select(swap, sine, cosine))
