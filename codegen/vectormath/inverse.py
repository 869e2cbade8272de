"""asin, acos, atan and atan2, as loop IR: polynomials from derive.py after the usual reductions.

asin(x) for |x| > 1/2 is pi/2 - 2 asin(sqrt((1 - |x|) / 2)); atan(a / b) for a > b is pi/2 - atan(b / a), and beyond
tan(pi/8) it is pi/4 + atan((a - b) / (a + b)), so that one division does for both reductions.
"""

from __future__ import annotations

import math

from tapeless.codegen.loops.builder import Builder
from tapeless.codegen.loops.language import Operand, Value
from tapeless.codegen.vectormath.exponential import keep_max, keep_min, number, polynomial, with_sign

__all__ = ["acos", "asin", "atan", "atan2"]

# Half a turn's half in two parts, the first rounded to the element type.
_HALF_PI = {"f32": (1.5707963705062866, -4.371139000186241e-08), "f64": (math.pi / 2, 6.123233995736766e-17)}
_TAN_PI_8 = math.sqrt(2) - 1


def _from_quarters(b: Builder, count: float, x: Operand) -> Value:
    """count times pi/2, less x."""
    high, low = _HALF_PI[x.type.kind]
    return b.sub(number(count * high, x), b.sub(x, number(count * low, x)))


def _arc(b: Builder, x: Operand) -> tuple[Value, Value]:
    """Whether |x| is above 1/2; and asin(s) of what is left to take the arc sine of, s."""
    size = b.unary("abs", x)
    far = b.compare("lt", number(0.5, x), size)
    z = b.select(far, b.mul(number(0.5, x), b.sub(number(1.0, x), size)), b.mul(x, x))
    s = b.select(far, b.unary("sqrt", z), size)
    return far, b.fma(b.mul(s, z), polynomial(b, z, "asin"), s)


def asin(b: Builder, x: Operand) -> Value:
    far, arc = _arc(b, x)
    return with_sign(b, b.select(far, _from_quarters(b, 1, b.add(arc, arc)), arc), x)


def acos(b: Builder, x: Operand) -> Value:
    far, arc = _arc(b, x)
    negative = b.compare("lt", x, 0.0)
    twice = b.add(arc, arc)
    outer = b.select(negative, _from_quarters(b, 2, twice), twice)
    return b.select(far, outer, _from_quarters(b, 1, b.select(negative, b.unary("neg", arc), arc)))


def _upright(b: Builder, least: Operand, most: Operand) -> Value:
    """atan(least / most) for 0 <= least <= most."""
    endless = b.compare("eq", least, math.inf)
    steep = b.bits("or", b.compare("lt", b.mul(most, number(_TAN_PI_8, most)), least), endless)
    above = b.select(steep, b.sub(least, most), least)
    below = b.select(steep, b.add(least, most), most)
    t = b.div(above, below)
    # 0 / 0 counts as 0, infinity / infinity as 1.
    t = b.select(b.bits("or", b.compare("eq", least, 0.0), endless), number(0.0, t), t)
    z = b.mul(t, t)
    arc = b.fma(b.mul(t, z), polynomial(b, z, "atan"), t)
    high, low = _HALF_PI[t.type.kind]
    return b.select(steep, b.add(number(high / 2, t), b.add(arc, number(low / 2, t))), arc)


def atan(b: Builder, x: Operand) -> Value:
    size, one = b.unary("abs", x), number(1.0, x)
    arc = _upright(b, keep_min(b, size, one), keep_max(b, size, one))
    return with_sign(b, b.select(b.compare("lt", one, size), _from_quarters(b, 1, arc), arc), x)


def atan2(b: Builder, y: Operand, x: Operand) -> Value:
    """The angle of the point (x, y), in [-pi, pi]; zeros' signs count, as in C."""
    across, up = b.unary("abs", x), b.unary("abs", y)
    steep = b.compare("lt", across, up)
    least, most = b.select(steep, across, up), b.select(steep, up, across)
    # Far out, a quarter of both, as their sum is taken.
    huge = 2.0 ** (x.type.record.bias - 1)  # beyond, the sum of both can overflow
    scale = b.select(b.compare("lt", number(huge, x), most), number(0.25, x), number(1.0, x))
    arc = _upright(b, b.mul(least, scale), b.mul(most, scale))
    arc = b.select(steep, _from_quarters(b, 1, arc), arc)
    integer, sign = x.type.record.bits, x.type.record.sign_bit
    leftwards = b.compare("ne", b.bits("and", b.bitcast(x, integer), sign), 0)
    arc = b.select(leftwards, _from_quarters(b, 2, arc), arc)
    either = b.add(x, y)
    nan = b.bits("or", b.compare("ne", x, x), b.compare("ne", y, y))
    return b.select(nan, either, with_sign(b, arc, y))
