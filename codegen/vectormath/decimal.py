"""exp10 and log10, as loop IR: right to the last digit where the power of ten and the exponent are both floats."""

from __future__ import annotations

from tapeless.codegen.loops.builder import Builder
from tapeless.codegen.loops.language import Operand, Value
from tapeless.codegen.vectormath.exact import product_error
from tapeless.codegen.vectormath.exponential import exp, keep_max, keep_min, log_edges, log_tail, number, split

__all__ = ["exp10", "log10"]

# 10**x rounds to 0 below, to infinity above.
_RANGE = {"f32": (-46.0, 39.0), "f64": (-324.0, 309.0)}
# log(10) in two parts.
_LOG10 = {"f32": (2.3025851249694824, -3.1975435632602967e-08), "f64": (2.302585092994046, -2.1707562233822494e-16)}
# log10(2) in two parts, the first with so few bits that its products with an exponent are exact; 1 / log(10) in two
# parts.
_LOG10_2 = {"f32": (0.301025390625, 4.605039066518657e-06), "f64": (0.30102999566383914, 1.42050232272661e-13)}
_INVERSE = {"f32": (0.4342944920063019, -1.0103049952192578e-08), "f64": (0.4342944819032518, 1.098319650216765e-17)}


def exp10(b: Builder, x: Operand) -> Value:
    """e**(x log(10)), the product with what its rounding loses."""
    low, high = _RANGE[x.type.kind]
    x = keep_min(b, keep_max(b, x, number(low, x)), number(high, x))
    first, second = (number(part, x) for part in _LOG10[x.type.kind])
    whole = b.mul(x, first)
    return exp(b, whole, b.fma(x, second, product_error(b, x, first, whole)))


def log10(b: Builder, x: Operand) -> Value:
    """e log10(2) + log(1 + f) / log(10), the first product exact."""
    kind = x.type.kind
    e, f = split(b, x)
    tail = log_tail(b, f)
    high, low = _INVERSE[kind]
    rest = b.fma(e, number(_LOG10_2[kind][1], x), b.mul(f, number(low, x)))
    rest = b.fma(f, number(high, x), b.fma(tail, number(high, x), rest))
    return log_edges(b, x, b.fma(e, number(_LOG10_2[kind][0], x), rest))
