"""The logarithm of the gamma function and its derivatives, as loop IR, in f64.

lgamma: below 8, a polynomial on [1.5, 2.5] and the logarithm of the factors that lead there; from 8, Stirling's series.
polygamma: SHIFT terms of its sum, then Euler and Maclaurin's series for the rest (Abramowitz and Stegun 6.4). Both
go to negative arguments by reflection. Errors are measured relative to max(1, |f|): near a zero the absolute error
counts.
"""

from __future__ import annotations

import math
from fractions import Fraction

from tapeless.codegen.loops.builder import Builder
from tapeless.codegen.loops.language import Instruction, Operand, Value
from tapeless.codegen.vectormath.exact import left_over, product_error, two_sum
from tapeless.codegen.vectormath.exponential import horner, log, number, polynomial, with_sign
from tapeless.codegen.vectormath.trigonometric import sin
from tapeless.codegen.vectormath.widening import in_double

__all__ = ["lgamma", "polygamma"]

_STIRLING_FROM = 8.0
SHIFT = 10
_PI_LOW = 1.2246467991473532e-16  # pi less its f64
# Bernoulli's numbers B2, B4, ... : at 10, the series ends below 1e-17 of its sum for all orders in use.
_BERNOULLI = tuple(
    Fraction(*pair)
    for pair in (
        (1, 6),
        (-1, 30),
        (1, 42),
        (-1, 30),
        (5, 66),
        (-691, 2730),
        (7, 6),
        (-3617, 510),
        (43867, 798),
        (-174611, 330),
    )
)


def _from_integer(b: Builder, x: Operand) -> Value:
    """The distance of x from the nearest integer, signed; exact."""
    return b.sub(x, b.unary("floor", b.add(x, number(0.5, x))))


def _stirling(b: Builder, x: Operand) -> Value:
    """lgamma(x) for x >= 8."""
    inverse = b.div(number(1.0, x), x)
    series = [float(bernoulli / (2 * k * (2 * k - 1))) for k, bernoulli in enumerate(_BERNOULLI, 1)]
    rest = b.mul(inverse, horner(b, b.mul(inverse, inverse), series))
    rest = b.add(rest, number(0.5 * math.log(2 * math.pi) - 0.5, x))
    return b.fma(b.sub(x, number(0.5, x)), b.sub(log(b, x), number(1.0, x)), rest)


def _moved(b: Builder, x: Operand) -> tuple[Value, Value, Value]:
    """For 0 <= x < 8: lgamma(z) with z in [1.5, 2.5] at an integer's distance from x; the product of the factors
    from one to the other; and whether it divides gamma(z) (it multiplies it where x is larger).
    """
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
    return b.mul(t, polynomial(b, t, "lgamma")), b.select(low, divisor, factors), low


@in_double
def lgamma(b: Builder, x: Operand) -> Value:
    """-log(|x sin(pi x)| / pi) - lgamma(-x) below zero; infinite at zero and at negative integers."""
    negative, size = b.compare("lt", x, 0.0), b.unary("abs", x)
    far = b.compare("le", number(_STIRLING_FROM, x), size)
    whole, factors, divides = _moved(b, size)
    logarithm = log(b, factors)
    near = b.add(whole, b.select(divides, b.unary("neg", logarithm), logarithm))
    stirling = _stirling(b, size)
    value = b.select(far, stirling, near)
    block: list[Instruction] = []
    with b.inside(block):
        sine = b.unary("abs", sin(b, b.mul(_from_integer(b, x), number(math.pi, x))))
        # Near zero it is x: pi times a denormal number is not exact.
        sine = b.select(b.compare("lt", size, 1e-200), size, b.mul(sine, number(1 / math.pi, x)))
        # One logarithm for both, where their difference would be one of large numbers.
        sine = b.mul(sine, b.select(far, size, b.select(divides, b.div(size, factors), b.mul(size, factors))))
        reflected = b.sub(b.unary("neg", log(b, sine)), b.select(far, stirling, whole))
        reflected = b.select(negative, reflected, value)
    value = _where_any(b, negative, block, reflected, value)
    return b.select(b.bits("or", b.compare("eq", size, math.inf), b.compare("eq", x, 0.0)), number(math.inf, x), value)


def _where_any(b: Builder, mask: Value, block: list[Instruction], value: Value, otherwise: Value) -> Value:
    """The value that the block makes if the mask has a lane."""
    return b.conditional(b.compute("any", mask, type=mask.type.scalar), block, (value,), (), (otherwise,))[0]


def cotangent_derivative(order: int) -> list[int]:
    """The polynomial P, lowest power first, with (d/dx)**order cot(pi x) = pi**order P(cot(pi x)):
    P' times -(1 + c**2), from c."""
    coefficients = [0, 1]
    for _ in range(order):
        slope = [k * c for k, c in enumerate(coefficients)][1:]
        coefficients = [-a - c for a, c in zip([*slope, 0, 0], [0, 0, *slope], strict=True)]
    return coefficients


def _polygamma_positive(b: Builder, x: Operand, order: int) -> tuple[Value, Operand, Value]:
    """(-1)**(order + 1) order! zeta(order + 1, x) for x >= 0; log in place of the divergent first term of order 0.
    The first number less the others, of which the last is the term 1 / x**(order + 1): without it, the value is that
    at x + 1.
    """
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
    term: Operand = one
    for k in reversed(range(SHIFT)):
        inverse = b.div(one, b.add(x, number(float(k), x)) if k else x)
        term = inverse
        for _ in range(order):
            term = b.mul(term, inverse)
        if k:
            total = b.add(total, term)
    if order == 0:
        return log(b, y), total, inverse
    factor = number(float((-1) ** (order + 1) * math.factorial(order)), x)
    return b.mul(total, factor), number(0.0, x), b.mul(b.unary("neg", term), factor)


@in_double
def polygamma(b: Builder, x: Operand, order: int) -> Value:
    """The derivative of digamma of that order: (-1)**order psi(1 - x) - pi**(order + 1) P(cot(pi x)) below zero."""
    negative, size = b.compare("lt", x, 0.0), b.unary("abs", x)
    first, rest, term = _polygamma_positive(b, b.select(negative, size, x), order)
    value = b.sub(b.sub(first, rest), term)
    block: list[Instruction] = []
    with b.inside(block):
        t = _from_integer(b, x)
        cotangent, low = _cotangent(b, t)
        scale = math.pi ** (order + 1)
        coefficients = [scale * c for c in cotangent_derivative(order)]
        turn = horner(b, cotangent, coefficients)
        low = b.mul(horner(b, cotangent, [k * c for k, c in enumerate(coefficients)][1:]), low)
        if order == 0:  # the one whose zeros lie where two large numbers cancel
            low = b.add(
                low, b.fma(cotangent, number(_PI_LOW, t), product_error(b, cotangent, number(math.pi, t), turn))
            )
        both, lost = two_sum(b, first if order % 2 == 0 else b.unary("neg", first), b.unary("neg", turn))
        low = b.select(b.compare("lt", b.unary("abs", turn), 1e290), b.sub(low, lost), number(0.0, x))
        reflected = b.sub(b.sub(both, rest), low)
        pole = number(math.inf if order % 2 else math.nan, x)
        whole = b.bits("or", b.compare("eq", t, 0.0), b.compare("eq", size, math.inf))
        reflected = b.select(negative, b.select(whole, pole, reflected), value)
    return _where_any(b, negative, block, reflected, value)


def _cotangent(b: Builder, t: Operand) -> tuple[Value, Value]:
    """cot(pi t), |t| <= 1/2, as a sum of two numbers: from 1/4 on it is tan(pi (1/2 - |t|)), whose error grows less
    with its angle's.
    """
    one, size = number(1.0, t), b.unary("abs", t)
    far = b.compare("lt", number(0.25, t), size)
    turns = b.select(far, b.sub(number(0.5, t), size), size)
    r = b.mul(turns, number(math.pi, t))
    r_low = b.fma(turns, number(_PI_LOW, t), product_error(b, turns, number(math.pi, t), r))
    z = b.mul(r, r)
    tail = b.mul(b.mul(z, r), polynomial(b, z, "sin"))
    sine = b.add(r, tail)
    half = b.fma(z, number(-0.5, t), one)
    half_low = b.fma(z, number(-0.5, t), b.sub(one, half))
    tail_of_cosine = b.mul(b.mul(z, z), polynomial(b, z, "cos"))
    cosine = b.add(half, tail_of_cosine)
    sine_low = b.fma(r_low, cosine, b.add(b.sub(r, sine), tail))
    cosine_low = b.add(b.add(b.sub(half, cosine), tail_of_cosine), b.fma(b.unary("neg", sine), r_low, half_low))
    above, above_low = b.select(far, sine, cosine), b.select(far, sine_low, cosine_low)
    below, below_low = b.select(far, cosine, sine), b.select(far, cosine_low, sine_low)
    below, below_low = with_sign(b, below, t), b.select(b.compare("lt", t, 0.0), b.unary("neg", below_low), below_low)
    cotangent = b.div(above, below)
    low = b.fma(b.unary("neg", cotangent), below_low, b.add(left_over(b, above, cotangent, below), above_low))
    return cotangent, b.div(low, below)
