"""x ** y, as loop IR. Where all lanes have a positive x that is neither denormal nor infinite, and a finite y, it is
e**(y log x) and no more; else a branch looks after signs, zeros, infinities and NaN."""

from __future__ import annotations

import math

from tapeless.codegen.loops.builder import Builder
from tapeless.codegen.loops.language import Constant, Instruction, Operand, Value
from tapeless.codegen.vectormath.exact import left_over, product_error, two_sum
from tapeless.codegen.vectormath.exponential import (
    LOG2,
    exp,
    keep_max,
    keep_min,
    log_edges,
    number,
    polynomial,
    round_off,
    split,
    split_normal,
)

__all__ = ["power"]

# 2 / log(2) in two parts.
_TWO_LOG2E = (2.885390043258667, 3.851925982253235e-08)
_TWO_THIRDS = (0.6666666666666666, 3.700743415417188e-17)
# 2**x rounds to 0 below, to infinity above.
_RANGE2 = (-151.0, 129.0)


def power(b: Builder, x: Operand, y: Operand) -> Value:
    """e**(y log x), the logarithm and the product in two parts; f32 with 2 in place of e."""
    if isinstance(y, Constant) and isinstance(y.value, (int, float)) and y.value in (-1, 1, 2, 3, 4):
        return _small_power(b, x, int(y.value))
    kind = x.type.kind
    logarithm = _log2_parts if kind == "f32" else _log_parts
    result = _raised(b, *logarithm(b, *split_normal(b, x)), y)
    normal = b.bits("and", b.compare("le", number(x.type.record.smallest_normal, x), x), b.compare("lt", x, math.inf))
    usual = b.bits("and", normal, b.compare("lt", b.unary("abs", y), math.inf))
    block: list[Instruction] = []
    with b.inside(block):
        size = b.unary("abs", x)
        high, low = logarithm(b, *split(b, size))
        general = _with_edges(b, x, y, _raised(b, log_edges(b, size, high), low, y))
    unusual = b.compute("any", b.bits("xor", usual, True), type=usual.type.scalar)
    return b.conditional(unusual, block, (general,), (), (result,))[0]


def _small_power(b: Builder, x: Operand, y: int) -> Value:
    if y == -1:
        return b.div(number(1.0, x), x)
    if y == 1:
        return b.add(x, number(0.0, x))
    square = b.mul(x, x)
    return square if y == 2 else b.mul(square, x) if y == 3 else b.mul(square, square)


def _raised(b: Builder, high: Operand, low: Operand, y: Operand) -> Value:
    """e or 2 to the power of y (high + low)."""
    product = b.mul(y, high)
    rest = b.fma(y, low, product_error(b, y, high, product))
    if y.type.kind == "f64":
        return exp(b, product, b.select(b.compare("lt", b.unary("abs", product), 1e4), rest, number(0.0, y)))
    least, most = _RANGE2
    kept = keep_min(b, keep_max(b, product, number(least, y)), number(most, y))
    n = round_off(b, kept)
    r = b.add(b.sub(kept, n), b.select(b.compare("eq", kept, product), rest, number(0.0, y)))
    return b.compute("scale", b.fma(r, polynomial(b, r, "exp2"), number(1.0, r)), n, type=y.type)


def _with_edges(b: Builder, x: Operand, y: Operand, result: Value) -> Value:
    """From |x| ** y: the sign, and the cases in which C has a say."""
    size = b.unary("abs", x)
    whole = b.compare("eq", b.unary("floor", y), y)
    half = b.mul(y, number(0.5, x))
    odd = b.bits("and", whole, b.compare("ne", b.unary("floor", half), half))
    negative = b.compare("lt", x, 0.0)
    # The sign counts at zero and at infinity too.
    signed = b.compare("ne", b.bits("and", b.bitcast(x, x.type.record.bits), x.type.record.sign_bit), 0)
    result = b.select(b.bits("and", signed, odd), b.unary("neg", result), result)
    unfit = b.bits("and", b.bits("and", negative, b.compare("lt", size, math.inf)), b.bits("xor", whole, True))
    result = b.select(unfit, number(math.nan, x), result)
    one = number(1.0, x)
    endless = b.compare("eq", b.unary("abs", y), math.inf)
    result = b.select(b.bits("and", endless, b.compare("eq", size, 1.0)), one, result)
    result = b.select(b.compare("eq", x, 1.0), one, result)
    return b.select(b.compare("eq", y, 0.0), one, result)


def _log2_parts(b: Builder, e: Operand, f: Operand) -> tuple[Value, Value]:
    """e + log2(1 + f) for f32 as a sum of two numbers: log2((1 + s) / (1 - s)) = 2 / log(2) s + s**3 g(s**2)."""
    s, s_low = _half_way(b, f)
    z = b.fma(b.mul(s, number(3.0, f)), s_low, b.mul(s, s))  # s z is the cube of both parts
    high, low = _TWO_LOG2E
    first = b.mul(s, number(high, f))
    rest = b.fma(s, number(low, f), product_error(b, s, number(high, f), first))
    rest = b.fma(s_low, number(high, f), rest)
    return _sum(b, e, first, b.fma(b.mul(s, z), polynomial(b, z, "log2"), rest))


def _log_parts(b: Builder, e: Operand, f: Operand) -> tuple[Value, Value]:
    """e log(2) + log(1 + f) for f64: log((1 + s) / (1 - s)) = 2 s + 2/3 s**3 + s**5 h(s**2), the cube in two parts
    too, as the result is multiplied by up to 745: ten bits more than f64 has are right.
    """
    s, s_low = _half_way(b, f)
    two = number(2.0, f)
    z = b.mul(s, s)
    z_low = b.fma(b.mul(s, two), s_low, product_error(b, s, s, z))
    cube = b.mul(s, z)
    cube_low = b.fma(s_low, z, b.fma(s, z_low, product_error(b, s, z, cube)))
    high, low = _TWO_THIRDS
    third = b.mul(cube, number(high, f))
    rest = b.fma(cube, number(low, f), product_error(b, cube, number(high, f), third))
    rest = b.fma(cube_low, number(high, f), rest)
    rest = b.fma(b.mul(cube, z), polynomial(b, z, "atanh tail"), rest)
    log_high, log_low = LOG2["f64"]
    rest = b.add(b.fma(s_low, two, rest), b.mul(e, number(log_low, f)))
    first, lost = two_sum(b, b.mul(s, two), third)
    return _sum(b, b.mul(e, number(log_high, f)), first, b.add(rest, lost))


def _half_way(b: Builder, f: Operand) -> tuple[Value, Value]:
    """s = f / (2 + f) in two parts: (1 + s) / (1 - s) = 1 + f."""
    two = number(2.0, f)
    divisor = b.add(f, two)
    lost = b.sub(f, b.sub(divisor, two))
    inverse = b.div(number(1.0, f), divisor)
    s = b.mul(f, inverse)
    return s, b.mul(b.fma(b.unary("neg", s), lost, left_over(b, f, s, divisor)), inverse)


def _sum(b: Builder, e: Operand, first: Operand, rest: Operand) -> tuple[Value, Value]:
    """The sum of three numbers in two parts; e is 0 or larger than `first`, which is larger than `rest`."""
    total = b.add(e, first)
    rest = b.add(b.add(b.sub(e, total), first), rest)
    top = b.add(total, rest)
    return top, b.add(b.sub(total, top), rest)
