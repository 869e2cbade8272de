"""sinh and cosh, as loop IR: from e**|x| / 2, which overflows only where they do; near zero from expm1."""

from __future__ import annotations

from tapeless.codegen.loops.builder import Builder
from tapeless.codegen.loops.language import Operand, Value
from tapeless.codegen.vectormath.exponential import half_exp, number, unsigned_expm1, with_sign

__all__ = ["cosh", "sinh"]


def sinh(b: Builder, x: Operand) -> Value:
    """(e + e / (e + 1)) / 2 with e = expm1(|x|) below 1; above, the difference loses nothing."""
    size, one = b.unary("abs", x), number(1.0, x)
    h = half_exp(b, size)
    far = b.sub(h, b.div(number(0.25, x), h))
    e = unsigned_expm1(b, size)
    near = b.mul(number(0.5, x), b.add(e, b.div(e, b.add(e, one))))
    return with_sign(b, b.select(b.compare("lt", size, 1.0), near, far), x)


def cosh(b: Builder, x: Operand) -> Value:
    h = half_exp(b, b.unary("abs", x))
    return b.add(h, b.div(number(0.25, x), h))
