"""Sums and products of two numbers with what their rounding lost, as loop IR."""

from __future__ import annotations

from tapeless.codegen.loops.builder import Builder
from tapeless.codegen.loops.language import Operand, Value
from tapeless.codegen.vectormath.exponential import number

__all__ = ["left_over", "product_error", "two_sum"]


def two_sum(b: Builder, x: Operand, y: Operand) -> tuple[Value, Value]:
    """Knuth's sum: x + y = total + error, exactly."""
    total = b.add(x, y)
    from_y = b.sub(total, x)
    from_x = b.sub(total, from_y)
    return total, b.add(b.sub(x, from_x), b.sub(y, from_y))


def product_error(b: Builder, x: Operand, y: Operand, product: Operand) -> Value:
    """x y - product, exactly; by Dekker (1971) where there is no fused multiply-add."""
    if b.target.machine.fma:
        return b.fma(x, y, b.unary("neg", product))
    xh, xl = _halves(b, x)
    yh, yl = _halves(b, y)
    error = b.sub(b.mul(xh, yh), product)
    error = b.add(error, b.mul(xh, yl))
    return b.add(b.add(error, b.mul(xl, yh)), b.mul(xl, yl))


def left_over(b: Builder, z: Operand, x: Operand, y: Operand) -> Value:
    """z - x y for a product that is near z, rounded once."""
    if b.target.machine.fma:
        return b.fma(b.unary("neg", x), y, z)
    product = b.mul(x, y)
    return b.sub(b.sub(z, product), product_error(b, x, y, product))


def _halves(b: Builder, x: Operand) -> tuple[Value, Value]:
    """Veltkamp's splitting: x = high + low, each of at most half the bits."""
    digits = x.type.record.mantissa + 1
    scaled = b.mul(x, number(2.0 ** ((digits + 1) // 2) + 1, x))
    high = b.sub(scaled, b.sub(scaled, x))
    return high, b.sub(x, high)
