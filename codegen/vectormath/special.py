"""Quantiles of the normal distribution, e**(x**2) times repeated integrals of erfc, and modified Bessel functions,
in f64.

erfinv: a polynomial of y**2 up to 1/2. ndtri: of t = sqrt(-log q), q the probability of the nearer tail, from 1/4
down: t times a polynomial of t, or of 1/t, on three ranges. erfcx of order n: up to 2 by recurrence from order 0,
beyond by the continued fraction of the ratios of neighbouring orders, whose terms have one sign. bessel_i: up to 12
the power series, whose terms have one sign; beyond, e**x / sqrt(x) times a polynomial of 1 / x for the orders 0 and
1, and others by recurrence.
"""

from __future__ import annotations

import math

from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import Constant, Operand, Value
from tapeless.codegen.vectormath.error import scaled_erfc64
from tapeless.codegen.vectormath.exact import left_over
from tapeless.codegen.vectormath.exponential import (
    exp,
    horner,
    keep_max,
    keep_min,
    log,
    number,
    parts,
    polynomial,
    with_sign,
)
from tapeless.codegen.vectormath.widening import in_double

__all__ = ["MIDDLES", "bessel_i", "erfcx", "erfinv", "ndtri"]

_ROOT_PI, _ROOT_2 = math.sqrt(math.pi), math.sqrt(2)
MIDDLES = {"quantile near": 1.84, "quantile middle": 0.3, "quantile far": 0.118}  # what t, or 1/t, is taken less
_NEAR, _MIDDLE = 2.5, 5.0  # t up to which the first two polynomials go
_FRACTION_FROM, _FRACTION = 2.0, 80  # from 2 on, 80 terms leave less than half a unit in the last place
_SERIES_TO, _SERIES = 12.0, 36  # 6**72 / 36!**2 is 1e-27


def _tail(b: Builder, q: Operand) -> Value:
    """The number that a standard normal one is above with the probability q <= 1/4."""
    t = b.unary("sqrt", b.unary("neg", log(b, q)))
    inverse = b.div(number(1.0, t), t)

    def part(x: Operand, name: str) -> Operand:
        return polynomial(b, b.sub(x, number(MIDDLES[name], x)), name)

    beyond = b.select(b.compare("lt", t, _MIDDLE), part(inverse, "quantile middle"), part(inverse, "quantile far"))
    return b.mul(t, b.select(b.compare("lt", t, _NEAR), part(t, "quantile near"), beyond))


def _centre(b: Builder, y: Operand) -> Value:
    """erfinv(y) for |y| <= 1/2."""
    return b.mul(y, polynomial(b, b.mul(y, y), "erfinv"))


@in_double
def erfinv(b: Builder, y: Operand) -> Value:
    size = b.unary("abs", y)
    rest = b.mul(number(0.5, y), b.sub(number(1.0, y), size))
    outer = with_sign(b, b.mul(_tail(b, rest), number(1 / _ROOT_2, y)), y)
    return b.select(b.compare("lt", size, 0.5), _centre(b, y), outer)


@in_double
def ndtri(b: Builder, p: Operand) -> Value:
    off = b.sub(p, number(0.5, p))
    upper = b.compare("lt", number(0.0, p), off)
    outer = _tail(b, b.select(upper, b.sub(number(1.0, p), p), p))
    outer = b.select(upper, outer, b.unary("neg", outer))
    near = b.mul(_centre(b, b.add(off, off)), number(_ROOT_2, p))
    return b.select(b.compare("lt", b.unary("abs", off), 0.25), near, outer)


@in_double
def erfcx(b: Builder, x: Operand, *, order: int) -> Value:
    small = keep_min(b, x, number(_FRACTION_FROM, x)) if order else x
    before: Operand = number(2 / _ROOT_PI, x)
    now: Operand = _erfcx(b, small)
    for n in range(order):
        made = b.fma(b.mul(number(-2.0, x), small), now, before)
        before, now = now, b.mul(made, number(0.5 / (n + 1), x))
    if order == 0:
        return now  # type: ignore[return-value]
    return b.select(
        b.compare("lt", x, _FRACTION_FROM), now, _fraction(b, keep_max(b, x, number(_FRACTION_FROM, x)), order)
    )


def _erfcx(b: Builder, x: Operand) -> Value:
    """2 e**(x**2) less that of -x where x is negative."""
    size = b.unary("abs", x)
    held = keep_min(b, size, number(30.0, x))
    square = b.mul(held, held)
    rising = exp(b, square, left_over(b, b.unary("neg", square), b.unary("neg", held), held))
    near, far = scaled_erfc64(b, x, rising)
    outer = b.select(b.compare("lt", x, 0.0), b.sub(b.add(rising, rising), far), far)
    return b.select(b.compare("lt", size, 0.46875), near, outer)


def _fraction(b: Builder, x: Operand, order: int) -> Value:
    """r_n = 1 / (2 x + 2 (n + 1) r_{n+1}), and the product of the ratios up to the order."""
    twice, one = b.add(x, x), number(1.0, x)
    last = _FRACTION + order
    turns = b.open_loop(index_constant(0), index_constant(last - order), 1, (number(0.0, x),))

    def ratio(above: Operand, factor: Operand) -> Value:
        return b.div(one, b.fma(factor, above, twice))

    with b.inside(turns.block):
        count = b.convert(b.arithmetic("sub", index_constant(last + 1), turns.variable), "f64")
        factor = b.mul(count, Constant(2.0, count.type))
        yields = (ratio(turns.parameters[0], b.splat(factor, x.type.lanes)),)
    (above,) = b.close_loop(turns, yields)
    made: Operand = number(2 / _ROOT_PI, x)
    for n in range(order, -1, -1):
        above = ratio(above, number(2.0 * (n + 1), x))
        made = b.mul(made, above)
    return made  # type: ignore[return-value]


@in_double
def bessel_i(b: Builder, x: Operand, *, order: int) -> Value:
    size = b.unary("abs", x)
    value = b.select(
        b.compare("lt", size, _SERIES_TO),
        _series(b, size, order),
        _far(b, keep_max(b, size, number(_SERIES_TO, x)), order),
    )
    return with_sign(b, value, x) if order % 2 else value


def _series(b: Builder, size: Operand, order: int) -> Value:
    """(x/2)**n / n! times the sum of (x/2)**2k / (k! (n + 1) ... (n + k))."""
    half = b.mul(size, number(0.5, size))
    coefficients, term = [], 1.0
    for k in range(_SERIES):
        coefficients.append(term)
        term /= (k + 1) * (k + 1 + order)
    total = horner(b, b.mul(half, half), coefficients)
    power: Operand = number(1 / math.factorial(order), size)
    for _ in range(order):
        power = b.mul(power, half)
    return b.mul(power, total)


def _far(b: Builder, size: Operand, order: int) -> Value:
    """For x >= 12; the exponential is scaled last, as the result may be representable where e**x is not."""
    n, tail = parts(b, keep_min(b, size, number(750.0, size)))
    inverse = b.div(number(1.0, size), size)
    root = b.unary("sqrt", inverse)
    shifted = b.sub(inverse, number(1 / 24, size))
    before: Operand = b.mul(root, polynomial(b, shifted, "i0 far"))
    now: Operand = b.mul(root, polynomial(b, shifted, "i1 far"))
    for k in range(1, order):
        before, now = now, b.fma(b.mul(number(-2.0 * k, size), inverse), now, before)
    scale = now if order else before
    grown = b.compute("scale", b.fma(scale, tail, scale), n, type=size.type)
    return b.select(b.compare("eq", size, math.inf), number(math.inf, size), grown)
