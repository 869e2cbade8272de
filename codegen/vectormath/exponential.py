"""exp, exp2, expm1, log, log2, log1p, tanh, sigmoid, the slopes of the last two and softplus, as loop IR for any
count of lanes.

Each function takes a builder and a value of a float type and returns one of the same type. No table, no branch: every
lane does the same work. Errors are measured by the tests. The methods are Cody and Waite's range reductions (Software
Manual for the Elementary Functions, 1980) with polynomials from derive.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tapeless.codegen.loops.builder import Builder
from tapeless.codegen.loops.language import Constant, Operand, Value
from tapeless.codegen.vectormath.coefficients import POLYNOMIALS

__all__ = [
    "LOG2",
    "exp",
    "exp2",
    "expm1",
    "half_exp",
    "horner",
    "keep_max",
    "keep_min",
    "log",
    "log1p",
    "log2",
    "log_edges",
    "log_tail",
    "number",
    "parts",
    "polynomial",
    "round_off",
    "sigmoid",
    "sigmoid_slope",
    "softplus",
    "split",
    "split_normal",
    "tanh",
    "tanh_slope",
    "unsigned_expm1",
    "with_sign",
]

# Parts of log(2): the first has so few bits that its products with an exponent are exact.
LOG2 = {"f32": (0.693359375, -2.12194440e-4), "f64": (6.93147180369123816490e-01, 1.90821492927058770002e-10)}
# exp rounds to 0 below, to infinity above.
_RANGE = {"f32": (-104.0, 89.0), "f64": (-746.0, 710.0)}
# 2**x rounds to 0 below, to infinity above.
_RANGE2 = {"f32": (-151.0, 129.0), "f64": (-1076.0, 1025.0)}
# 1 / log(2) in two parts, for log2.
_LOG2E = {"f32": (1.4426950216293335, 1.925963033500011e-08), "f64": (1.4426950408889634, 2.0355273740931033e-17)}
# exp(x) - 1 rounds to -1 below.
_EXPM1_LOW = {"f32": -18.0, "f64": -38.0}
# 1 - tanh(x) is below the smallest normal number beyond; and at these tanh is 1, as it then is at infinity.
_TANH_END = {"f32": 44.5, "f64": 354.9}
_THREE_QUARTERS_BITS = 0x3F400000
_SQRT_HALF_BITS = {"f32": 0x3F3504F3, "f64": 0x3FE6A09E667F3BCD}


def number(value: float, x: Operand) -> Constant:
    return Constant(value, x.type)


def keep_max(b: Builder, x: Operand, bound: Operand) -> Value:
    """The greater of the two; x where x is NaN. One instruction on x86."""
    return b.select(b.compare("lt", x, bound), bound, x)


def keep_min(b: Builder, x: Operand, bound: Operand) -> Value:
    """The lesser of the two; x where x is NaN."""
    return b.select(b.compare("lt", bound, x), bound, x)


def horner(b: Builder, x: Operand, coefficients: Sequence[float]) -> Operand:
    """The polynomial of these coefficients, lowest power first, by Horner's scheme."""
    value: Operand = number(coefficients[-1], x)
    for coefficient in reversed(coefficients[:-1]):
        value = b.fma(value, x, number(coefficient, x))
    return value


def polynomial(b: Builder, x: Operand, name: str) -> Operand:
    return horner(b, x, POLYNOMIALS[name, x.type.kind])


def _rounder(x: Operand) -> Constant:
    """Adding and taking it away rounds to the nearest integer."""
    return number(1.5 * 2.0**x.type.record.mantissa, x)


def round_off(b: Builder, x: Operand) -> Value:
    """The nearest integer, of a number that the mantissa can count."""
    rounder = _rounder(x)
    return b.sub(b.add(x, rounder), rounder)


def _reduced(b: Builder, x: Operand, correction: Operand | None = None) -> tuple[Value, Value]:
    """n and r with x + correction = n log(2) + r, n integral and |r| <= log(2)/2. The correction is far smaller than
    x.
    """
    high, low = LOG2[x.type.kind]
    shifted = b.fma(x, number(1 / math.log(2), x), _rounder(x))
    n = b.sub(shifted, _rounder(x))
    r = b.fma(n, number(-high, x), x)
    return n, b.fma(n, number(-low, x), r) if correction is None else b.add(r, b.fma(n, number(-low, x), correction))


def parts(b: Builder, x: Operand, correction: Operand | None = None) -> tuple[Value, Value]:
    """n and t with e**(x + correction) = 2**n (1 + t), n integral: t = e**r - 1 of the rest r."""
    n, r = _reduced(b, x, correction)
    return n, b.fma(b.mul(r, r), polynomial(b, r, "exp"), r)


def _power_of_e(b: Builder, r: Operand) -> Operand:
    """e**r = 1 + r + r**2 g(r), |r| <= log(2)/2: all of it by Horner's scheme is the shortest, and rounds once."""
    return horner(b, r, (1.0, 1.0, *POLYNOMIALS["exp", r.type.kind]))


def exp(b: Builder, x: Operand, correction: Operand | None = None) -> Value:
    """e**(x + correction); the correction is far smaller than x and left out where it is None. It ends at 0 and at
    infinity, of which only one can be met where the sign of x is known.
    """
    low, high = _RANGE[x.type.kind]
    sign = b.signs.get(x, 0)
    if sign <= 0:
        x = keep_max(b, x, number(low, x))
    if sign >= 0:
        x = keep_min(b, x, number(high, x))
    n, r = _reduced(b, x, correction)
    return b.compute("scale", _power_of_e(b, r), n, type=x.type)


def half_exp(b: Builder, x: Operand) -> Value:
    """e**x / 2 for x >= 0, without overflow where e**x / 2 has none."""
    x = keep_min(b, x, number(_RANGE[x.type.kind][1] + 1.0, x))
    n, r = _reduced(b, x)
    return b.compute("scale", _power_of_e(b, r), b.sub(n, number(1.0, x)), type=x.type)


def exp2(b: Builder, x: Operand) -> Value:
    """2**n e**(log(2) (x - n)): the difference is exact."""
    kind = x.type.kind
    low, high = _RANGE2[kind]
    x = keep_min(b, keep_max(b, x, number(low, x)), number(high, x))
    n = round_off(b, x)
    r = b.mul(b.sub(x, n), number(math.log(2), x))
    return b.compute("scale", _power_of_e(b, r), n, type=x.type)


def expm1(b: Builder, x: Operand) -> Value:
    return with_sign(b, unsigned_expm1(b, x), x)


def unsigned_expm1(b: Builder, x: Operand) -> Value:
    """expm1, but for the sign of a zero: 2**n (p + (1 - 2**-n)) with p = e**r - 1: exact where n = 0, no overflow
    where 2**n would.
    """
    kind = x.type.kind
    x = keep_min(b, keep_max(b, x, number(_EXPM1_LOW[kind], x)), number(_RANGE[kind][1], x))
    n, p = parts(b, x)
    one = number(1.0, x)
    rest = b.sub(one, b.compute("scale", one, b.unary("neg", n), type=x.type))
    return b.compute("scale", b.add(p, rest), n, type=x.type)


def split(b: Builder, x: Operand, least: int | None = None) -> tuple[Value, Value]:
    """x = 2**e (1 + f) for positive x, 1 + f in [sqrt(1/2), sqrt(2)), or from the number on whose bits are `least`."""
    bits = x.type.record.mantissa
    tiny = b.compare("lt", x, number(x.type.record.smallest_normal, x))
    e, f = split_normal(b, b.select(tiny, b.mul(x, number(2.0 ** (bits + 2), x)), x), least)
    return b.sub(e, b.select(tiny, number(bits + 2.0, x), number(0.0, x))), f


def split_normal(b: Builder, x: Operand, least: int | None = None) -> tuple[Operand, Value]:
    """The same for x that are not denormal."""
    kind = x.type.kind
    integer, bits, offset = x.type.record.bits, x.type.record.mantissa, least or _SQRT_HALF_BITS[kind]
    raw = b.bits("sub", b.bitcast(x, integer), offset)
    e = b.convert(b.bits("shr", raw, bits), kind)
    m = b.bitcast(b.bits("add", b.bits("and", raw, (1 << bits) - 1), offset), kind)
    return e, b.sub(m, number(1.0, x))


def log_edges(b: Builder, x: Operand, result: Value) -> Value:
    """log at 0, below 0, at infinity and NaN."""
    result = b.select(b.compare("lt", x, math.inf), result, x)
    edge = b.select(b.compare("eq", x, 0.0), number(-math.inf, x), number(math.nan, x))
    return b.select(b.compare("lt", number(0.0, x), x), result, edge)


def log(b: Builder, x: Operand) -> Value:
    if x.type.kind == "f32":
        return _log32(b, x)
    e, f = split(b, x)
    high, low = LOG2[x.type.kind]
    # fdlibm's form: log(1+f) = f - (f^2/2 - s (f^2/2 + R)), s = f/(2+f), R the rest of 2 atanh(s)/s
    half = b.mul(b.mul(f, f), number(0.5, x))
    s = b.div(f, b.add(f, number(2.0, x)))
    z = b.mul(s, s)
    rest = b.mul(z, polynomial(b, z, "atanh"))
    tail = b.fma(s, b.add(half, rest), b.mul(e, number(low, x)))
    tail = b.add(b.sub(tail, half), f)
    return log_edges(b, x, b.fma(e, number(high, x), tail))


def _log32(b: Builder, x: Operand) -> Value:
    """e log(2) + f + f**2 g(f) of x = 2**e (1 + f), 1 + f in [3/4, 3/2), which is where an instruction of AVX-512 has
    mantissas. That and the one for exponents give all that is due to denormals, at 0, below 0, at infinity and NaN.
    """
    apart = b.target.avx512 and x.type.lanes * x.type.bytes == 64
    if apart:
        mantissa = b.unary("mantissa", x)
        e: Operand = b.sub(b.unary("exponent", x), b.unary("exponent", mantissa))
        f = b.sub(mantissa, number(1.0, x))
    else:
        e, f = split(b, x, _THREE_QUARTERS_BITS)
    square, rest = b.mul(f, f), polynomial(b, f, "log rest")
    if b.target.machine.fma:  # the product with e is exact: log(2) need not be in parts
        result = b.fma(e, number(math.log(2), x), b.fma(square, rest, f))
    else:
        high, low = LOG2["f32"]
        result = b.fma(e, number(high, x), b.add(f, b.fma(square, rest, b.mul(e, number(low, x)))))
    return result if apart else log_edges(b, x, result)


def log_tail(b: Builder, f: Operand) -> Value:
    """log(1 + f) - f"""
    square = b.mul(f, f)
    if f.type.kind == "f32":
        return b.fma(square, number(-0.5, f), b.mul(b.mul(square, f), polynomial(b, f, "log")))
    half = b.mul(square, number(0.5, f))
    s = b.div(f, b.add(f, number(2.0, f)))
    z = b.mul(s, s)
    return b.sub(b.mul(s, b.add(half, b.mul(z, polynomial(b, z, "atanh")))), half)


def log2(b: Builder, x: Operand) -> Value:
    """e + log(1 + f) / log(2), so powers of two are exact."""
    kind = x.type.kind
    e, f = split(b, x)
    tail = log_tail(b, f)
    high, low = _LOG2E[kind]
    rest = b.fma(tail, number(high, x), b.mul(f, number(low, x)))
    return log_edges(b, x, b.add(e, b.fma(f, number(high, x), rest)))


def log1p(b: Builder, x: Operand) -> Value:
    """log(u) + (x - (u - 1)) / u with u = 1 + x: the quotient makes up for u's rounding."""
    u = b.add(x, number(1.0, x))
    whole = log(b, u)
    lost = b.div(b.sub(x, b.sub(u, number(1.0, x))), u)
    return b.select(b.compare("lt", b.unary("abs", whole), math.inf), b.add(whole, lost), whole)


def with_sign(b: Builder, magnitude: Operand, like: Operand) -> Value:
    kind = like.type.kind
    integer = like.type.record.bits
    sign = b.bits("and", b.bitcast(like, integer), like.type.record.sign_bit)
    return b.bitcast(b.bits("or", b.bitcast(magnitude, integer), sign), kind)


def tanh(b: Builder, x: Operand) -> Value:
    size, _ = _unsigned_tanh(b, x)
    return with_sign(b, size, x)


def tanh_slope(b: Builder, x: Operand) -> Value:
    """1 - tanh(x)**2, by what tanh(|x|) lacks to 1: where that leaves the normal numbers, the last one before."""
    size, lacking = _unsigned_tanh(b, x)
    return b.fma(size, lacking, lacking)


def _unsigned_tanh(b: Builder, x: Operand) -> tuple[Value, Value]:
    """tanh(|x|) = h / (h + 1) with h = expm1(2|x|) / 2, so that tanh(-0) = -0, and 1 / (h + 1), which it lacks to 1.
    As 2|x| is bounded where the latter leaves the normal numbers, h = 2**n p + (2**n - 1/2) with 2 p = e**r - 1 has
    no overflow: one multiply-add.
    """
    size = keep_min(b, b.unary("abs", x), number(_TANH_END[x.type.kind], x))
    n, p = parts(b, b.add(size, size))
    half, one = number(0.5, x), number(1.0, x)
    power = b.compute("scale", half, n, type=x.type)
    h = b.fma(p, power, b.sub(power, half))
    inverse = b.div(one, b.add(h, one))
    return keep_min(b, b.mul(h, inverse), one), inverse


def sigmoid(b: Builder, x: Operand) -> Value:
    """1 / (1 + e) with e = e**-|x|, or e / (1 + e) below zero, where the former would be 0 too early."""
    above, below = _sigmoids(b, x)
    return b.select(b.compare("lt", x, 0.0), below, above)


def sigmoid_slope(b: Builder, x: Operand) -> Value:
    above, below = _sigmoids(b, x)
    return b.mul(above, below)


def _sigmoids(b: Builder, x: Operand) -> tuple[Value, Value]:
    """Of |x| and of -|x|."""
    e, one = exp(b, b.unary("neg", b.unary("abs", x))), number(1.0, x)
    above = b.div(one, b.add(e, one))
    return above, b.mul(e, above)


def softplus(b: Builder, x: Operand) -> Value:
    """max(x, 0) + log(1 + e**-|x|)"""
    return b.add(keep_max(b, x, number(0.0, x)), log1p(b, exp(b, b.unary("neg", b.unary("abs", x)))))
