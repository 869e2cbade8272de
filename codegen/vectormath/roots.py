"""The reciprocal square root and the cube root, as loop IR."""

from __future__ import annotations

from tapeless.codegen.builder import Builder
from tapeless.codegen.loops import Operand, Value
from tapeless.codegen.vectormath.exponential import exp, log, number, with_sign

__all__ = ["cbrt", "rsqrt"]

# Below TINY, cubes would lose bits to underflow: such numbers are taken 2**180 times, their roots 2**-60 times.
_TINY, _UP, _DOWN = 2.0**-900, 2.0**180, 2.0**-60
# The bits of a power -1/3, as a number, are this less a third of the bits of its base: 4/3 (127 - 0.035) 2**23.
_INVERSE_CBRT = 4 / 3 * (127 - 0.035) * 2.0**23


def rsqrt(b: Builder, x: Operand) -> Value:
    return b.div(number(1.0, x), b.unary("sqrt", x))


def cbrt(b: Builder, x: Operand) -> Value:
    size = b.unary("abs", x)
    root = _cbrt32(b, size) if x.type.kind == "f32" else _cbrt64(b, size)
    inside = b.bits("and", b.compare("lt", number(0.0, x), size), b.compare("lt", size, float("inf")))
    return with_sign(b, b.select(inside, root, size), x)


def _cbrt32(b: Builder, size: Operand) -> Value:
    """size r**2 with r = size**(-1/3), and a step of Newton's.

    A third of the bits, taken from a constant, gives r to some 4 %; with h = 1 - size r**3, the binomial series of
    (1 - h)**(-1/3) up to h**3 leaves 35/243 h**4 of 1, and a second time up to h what the last step makes good.
    """
    tiny = b.compare("lt", size, 2.0**-126)
    x = b.select(tiny, b.mul(size, number(2.0**24, size)), size)
    bits = b.convert(b.bitcast(x, "i32"), "f32")
    guess = b.fma(bits, number(-1 / 3, x), number(_INVERSE_CBRT, x))
    r: Operand = b.bitcast(b.convert(guess, "i32"), "f32")
    for series in ((14 / 81, 2 / 9, 1 / 3), (1 / 3,)):
        h = b.sub(number(1.0, x), b.mul(b.mul(b.mul(x, r), r), r))
        factor: Operand = number(series[0], x)
        for coefficient in series[1:]:
            factor = b.fma(factor, h, number(coefficient, x))
        r = b.fma(b.mul(r, h), factor, r)
    square = b.mul(r, r)
    y = b.mul(x, square)
    error = b.fma(b.unary("neg", b.mul(y, y)), y, x)
    y = b.fma(b.mul(error, square), number(1 / 3, x), y)
    return b.select(tiny, b.mul(y, number(2.0**-8, x)), y)


def _cbrt64(b: Builder, size: Operand) -> Value:
    """e**(log(size) / 3), right to some 45 bits, and a step of Newton's."""
    tiny = b.compare("lt", size, _TINY)
    scaled = b.select(tiny, b.mul(size, number(_UP, size)), size)
    y = exp(b, b.mul(log(b, scaled), number(1 / 3, size)))
    square = b.mul(y, y)
    error = b.fma(square, y, b.unary("neg", scaled))
    better = b.sub(y, b.div(error, b.mul(number(3.0, size), square)))
    return b.select(tiny, b.mul(better, number(_DOWN, size)), better)
