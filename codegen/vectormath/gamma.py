"""The logarithm of the gamma function and its derivatives, as loop IR, in f64.

lgamma: below 8, a polynomial on [1.5, 2.5] and the logarithm of the factors that lead there; from 8, Stirling's series.
polygamma: SHIFT terms of its sum, then Euler and Maclaurin's series for the rest (Abramowitz and Stegun 6.4). Both go to
negative arguments by reflection. Errors are measured relative to max(1, |f|): near a zero the absolute error counts.
"""

from __future__ import annotations

import math
from fractions import Fraction

from tapeless.codegen.builder import Builder
from tapeless.codegen.loops import Operand, Value
from tapeless.codegen.vectormath.exponential import horner, log, number, polynomial
from tapeless.codegen.vectormath.trigonometric import cos, sin
from tapeless.codegen.vectormath.widening import in_double

__all__ = ["lgamma", "polygamma"]

_STIRLING_FROM = 8.0
SHIFT = 10
# Bernoulli's numbers B2, B4, ... : at 10, the series ends below 1e-17 of its sum for all orders in use.
_BERNOULLI = tuple(
    Fraction(*pair)
    for pair in ((1, 6), (-1, 30), (1, 42), (-1, 30), (5, 66), (-691, 2730), (7, 6), (-3617, 510), (43867, 798), (-174611, 330))
)


def _from_integer(b: Builder, x: Operand) -> Value:
    """pi times the distance of x from the nearest integer, signed."""
    nearest = b.unary("floor", b.add(x, number(0.5, x)))
    return b.mul(b.sub(x, nearest), number(math.pi, x))


def _lgamma_positive(b: Builder, x: Operand) -> Value:
    one = number(1.0, x)
    factors: Operand = one
    z: Operand = x
    for k in range(1, int(_STIRLING_FROM) - 1):
        factor = b.sub(x, number(float(k), x))
        there = b.compare("le", number(1.5, x), factor)
        factors = b.mul(factors, b.select(there, factor, one))
        z = b.select(there, factor, z)
    low, lower = b.compare("lt", x, 1.5), b.compare("lt", x, 0.5)
    above = b.add(x, one)
    divisor = b.select(lower, b.mul(x, above), x)
    z = b.select(low, b.select(lower, b.add(x, number(2.0, x)), above), z)
    t = b.sub(z, number(2.0, x))
    moved = log(b, b.select(low, divisor, factors))
    near = b.fma(t, polynomial(b, t, "lgamma"), b.select(low, b.unary("neg", moved), moved))
    inverse = b.div(one, x)
    series = [float(bernoulli / (2 * k * (2 * k - 1))) for k, bernoulli in enumerate(_BERNOULLI, 1)]
    rest = b.mul(inverse, horner(b, b.mul(inverse, inverse), series))
    rest = b.add(rest, number(0.5 * math.log(2 * math.pi) - 0.5, x))
    far = b.fma(b.sub(x, number(0.5, x)), b.sub(log(b, x), one), rest)
    return b.select(b.compare("lt", x, _STIRLING_FROM), near, far)


@in_double
def lgamma(b: Builder, x: Operand) -> Value:
    """log(pi / |sin(pi x)|) - lgamma(1 - x) below zero; infinite at zero and at negative integers."""
    negative = b.compare("lt", x, 0.0)
    value = _lgamma_positive(b, b.select(negative, b.sub(number(1.0, x), x), x))
    sine = b.unary("abs", sin(b, _from_integer(b, x)))
    # Near zero it is -log|x|: pi times a denormal number is not exact.
    size = b.unary("abs", x)
    close = b.compare("lt", size, 1e-200)
    moved = b.select(close, number(0.0, x), number(math.log(math.pi), x))
    reflected = b.sub(b.sub(moved, log(b, b.select(close, size, sine))), value)
    infinite = b.bits("or", b.compare("eq", size, math.inf), b.compare("eq", x, 0.0))
    return b.select(infinite, number(math.inf, x), b.select(negative, reflected, value))


def cotangent_derivative(order: int) -> list[int]:
    """The polynomial P, lowest power first, with (d/dx)**order cot(pi x) = pi**order P(cot(pi x)):
    P' times -(1 + c**2), from c."""
    coefficients = [0, 1]
    for _ in range(order):
        slope = [k * c for k, c in enumerate(coefficients)][1:]
        coefficients = [-a - c for a, c in zip([*slope, 0, 0], [0, 0, *slope], strict=True)]
    return coefficients


def _polygamma_positive(b: Builder, x: Operand, order: int) -> Value:
    """(-1)**(order + 1) order! zeta(order + 1, x) for x >= 0; log in place of the divergent first term of order 0."""
    s, one = order + 1, number(1.0, x)
    y = b.add(x, number(float(SHIFT), x))
    inverse = b.div(one, y)
    square = b.mul(inverse, inverse)
    series = []
    rising = Fraction(s)
    factorial = 2
    for k, bernoulli in enumerate(_BERNOULLI, 1):
        series.append(float(bernoulli * rising / factorial))
        rising *= (s + 2 * k - 1) * (s + 2 * k)
        factorial *= (2 * k + 1) * (2 * k + 2)
    rest = b.fma(inverse, horner(b, square, series), number(0.5, x))
    # rest is, so far, what follows the first term, over y**-s
    scale: Operand = one
    for _ in range(order):
        scale = b.mul(scale, inverse)
    total = b.mul(b.mul(rest, inverse), scale)
    if order:
        total = b.add(total, b.mul(scale, number(1 / order, x)))
    for k in reversed(range(SHIFT)):
        term = b.div(one, b.add(x, number(float(k), x)) if k else x)
        power: Operand = term
        for _ in range(order):
            power = b.mul(power, term)
        total = b.add(total, power)
    if order == 0:
        return b.sub(log(b, y), total)
    return b.mul(total, number(float((-1) ** (order + 1) * math.factorial(order)), x))


@in_double
def polygamma(b: Builder, x: Operand, order: int) -> Value:
    """The derivative of digamma of that order: (-1)**order psi(1 - x) - pi**(order + 1) P(cot(pi x)) below zero."""
    negative = b.compare("lt", x, 0.0)
    value = _polygamma_positive(b, b.select(negative, b.sub(number(1.0, x), x), x), order)
    angle = _from_integer(b, x)
    sine = sin(b, angle)
    cotangent = b.div(cos(b, angle), sine)
    scale = math.pi ** (order + 1)
    turn = horner(b, cotangent, [scale * c for c in cotangent_derivative(order)])
    reflected = b.sub(value if order % 2 == 0 else b.unary("neg", value), turn)
    pole = number(math.inf if order % 2 else math.nan, x)
    whole = b.bits("or", b.compare("eq", sine, 0.0), b.compare("eq", x, -math.inf))
    return b.select(negative, b.select(whole, pole, reflected), value)
