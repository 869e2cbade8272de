"""asin, acos, atan and atan2, as loop IR, in f64: polynomials from derive.py after the usual reductions.

asin(x) for |x| > 1/2 is pi/2 - 2 asin(sqrt((1 - |x|) / 2)); atan(x) for |x| > 1 is pi/2 - atan(1/|x|), and beyond
tan(pi/8) it is pi/4 + atan((x - 1) / (x + 1)).
"""

from __future__ import annotations

import math

from tapeless.codegen.builder import Builder
from tapeless.codegen.loops import Operand, Value
from tapeless.codegen.vectormath.exponential import number, polynomial, with_sign
from tapeless.codegen.vectormath.widening import in_double

__all__ = ["acos", "asin", "atan", "atan2"]

_HALF_PI, _HALF_PI_LOW = math.pi / 2, 6.123233995736766e-17
_TAN_PI_8 = math.sqrt(2) - 1
_SIGN_BIT = -(2**63)


def _arc(b: Builder, x: Operand) -> tuple[Value, Value, Value]:
    """For |x|: whether it is above 1/2; what is left to take the arc sine of, s; and asin(s)."""
    size = b.unary("abs", x)
    far = b.compare("lt", number(0.5, x), size)
    z = b.select(far, b.mul(number(0.5, x), b.sub(number(1.0, x), size)), b.mul(x, x))
    s = b.select(far, b.unary("sqrt", z), size)
    return far, s, b.fma(b.mul(s, z), polynomial(b, z, "asin"), s)


@in_double
def asin(b: Builder, x: Operand) -> Value:
    far, _, arc = _arc(b, x)
    turned = b.sub(number(_HALF_PI, x), b.sub(b.add(arc, arc), number(_HALF_PI_LOW, x)))
    return with_sign(b, b.select(far, turned, arc), x)


@in_double
def acos(b: Builder, x: Operand) -> Value:
    far, _, arc = _arc(b, x)
    negative = b.compare("lt", x, 0.0)
    twice = b.add(arc, arc)
    outer = b.select(negative, b.sub(number(2 * _HALF_PI, x), b.sub(twice, number(2 * _HALF_PI_LOW, x))), twice)
    signed = b.select(negative, b.unary("neg", arc), arc)
    inner = b.sub(number(_HALF_PI, x), b.sub(signed, number(_HALF_PI_LOW, x)))
    return b.select(far, outer, inner)


def _upright(b: Builder, q: Operand) -> Value:
    """atan(q) for 0 <= q <= 1."""
    steep = b.compare("lt", number(_TAN_PI_8, q), q)
    one = number(1.0, q)
    t = b.select(steep, b.div(b.sub(q, one), b.add(q, one)), q)
    z = b.mul(t, t)
    arc = b.fma(b.mul(t, z), polynomial(b, z, "atan"), t)
    turned = b.add(number(_HALF_PI / 2, q), b.add(arc, number(_HALF_PI_LOW / 2, q)))
    return b.select(steep, turned, arc)


@in_double
def atan(b: Builder, x: Operand) -> Value:
    size = b.unary("abs", x)
    far = b.compare("lt", number(1.0, x), size)
    arc = _upright(b, b.select(far, b.div(number(1.0, x), size), size))
    turned = b.sub(number(_HALF_PI, x), b.sub(arc, number(_HALF_PI_LOW, x)))
    return with_sign(b, b.select(far, turned, arc), x)


@in_double
def atan2(b: Builder, y: Operand, x: Operand) -> Value:
    """The angle of the point (x, y), in [-pi, pi]; zeros' signs count, as in C."""
    across, up = b.unary("abs", x), b.unary("abs", y)
    steep = b.compare("lt", across, up)
    least, most = b.select(steep, across, up), b.select(steep, up, across)
    # 0 / 0 counts as 0, infinity / infinity as 1; NaN stays, as it is equal to nothing.
    q = b.select(b.compare("eq", least, 0.0), b.select(b.compare("eq", most, most), least, most), b.div(least, most))
    q = b.select(b.compare("eq", least, math.inf), number(1.0, x), q)
    arc = _upright(b, q)
    arc = b.select(steep, b.sub(number(_HALF_PI, x), b.sub(arc, number(_HALF_PI_LOW, x))), arc)
    leftwards = b.compare("ne", b.bits("and", b.bitcast(x, "i64"), _SIGN_BIT), 0)
    arc = b.select(leftwards, b.sub(number(2 * _HALF_PI, x), b.sub(arc, number(2 * _HALF_PI_LOW, x))), arc)
    either = b.add(x, y)
    nan = b.bits("or", b.compare("ne", x, x), b.compare("ne", y, y))
    return b.select(nan, either, with_sign(b, arc, y))
