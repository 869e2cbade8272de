"""The reciprocal square root, the cube root and the root of two squares' sum, as loop IR."""

from __future__ import annotations

from tapeless.codegen.loops.builder import Builder
from tapeless.codegen.loops.language import Operand, Value
from tapeless.codegen.vectormath.exponential import exp, keep_max, log, number, with_sign

__all__ = ["cbrt", "hypot", "hypot_slope", "rsqrt"]

# Below TINY, cubes would lose bits to underflow: such numbers are taken 2**180 times, their roots 2**-60 times.
_TINY, _UP, _DOWN = 2.0**-900, 2.0**180, 2.0**-60
# The greater of two numbers is squared as it is between the first two; else it is taken times the others first. The
# least number's square is then far from underflow: (2**-149 2**100)**2 and (2**-1074 2**700)**2.
_SQUARED = {"f32": (2.0**-40, 2.0**60, 2.0**100, 2.0**-70), "f64": (2.0**-400, 2.0**500, 2.0**700, 2.0**-600)}
# The bits of a power -1/3, as a number, are this less a third of the bits of its base: 4/3 (127 - 0.035) 2**23.
_INVERSE_CBRT = 4 / 3 * (127 - 0.035) * 2.0**23


def rsqrt(b: Builder, x: Operand) -> Value:
    return b.div(number(1.0, x), b.unary("sqrt", x))


def hypot(b: Builder, x: Operand, y: Operand) -> Value:
    """sqrt(x**2 + y**2), whose squares neither overflow nor vanish; infinite where either number is."""
    low, high, up, down = _SQUARED[x.type.kind]
    across, along = b.unary("abs", x), b.unary("abs", y)
    most, one = keep_max(b, across, along), number(1.0, x)

    def chosen(if_large: float, if_small: float) -> Value:
        return b.select(
            b.compare("lt", number(high, x), most),
            number(if_large, x),
            b.select(b.compare("lt", most, low), number(if_small, x), one),
        )

    scale = chosen(down, up)
    across, along = b.mul(across, scale), b.mul(along, scale)
    root = b.mul(b.unary("sqrt", b.fma(across, across, b.mul(along, along))), chosen(1 / down, 1 / up))
    endless = b.bits("or", b.compare("eq", across, float("inf")), b.compare("eq", along, float("inf")))
    return b.select(endless, number(float("inf"), x), root)


def hypot_slope(b: Builder, x: Operand, y: Operand) -> Value:
    """x / hypot(x, y), and 0 at the origin; of both made smaller where they are large, whose distance does not
    overflow, and else larger, whose distance has all its digits.
    """
    large = b.compare("lt", number(1.0, x), keep_max(b, b.unary("abs", x), b.unary("abs", y)))
    factor = b.select(large, number(0.25, x), number(2.0 ** (x.type.record.mantissa + 1), x))
    x, y = b.mul(x, factor), b.mul(y, factor)
    length = hypot(b, x, y)
    return b.select(b.compare("eq", length, number(0.0, x)), number(0.0, x), b.div(x, length))


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
