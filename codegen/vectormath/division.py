"""Remainder and quotient rounded down, as loop IR: of floats what Python's `%` and `//` give, of integers exact,
without traps.

A float's remainder is exact (C's fmod), then brought to the divisor's side of zero. One multiply-add does it while
the quotient is below 2**53; where a lane's is not, it is first taken modulo the divisor times falling powers of
2**52, each such step exact. Both types are computed in f64. A division of integers by zero gives 0 and leaves 0, as
NumPy's does; the processor's instruction would trap, and so it would for the least integer divided by -1, whose
quotient wraps around to itself.
"""

from __future__ import annotations

import math

from tapeless.abi.dtypes import Sort
from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import Constant, Instruction, Operand, Value
from tapeless.codegen.vectormath.exact import left_over
from tapeless.codegen.vectormath.exponential import number, with_sign

__all__ = ["floor_divide", "remainder"]

_BITS = 52  # of the quotient, in one step
# The largest quotient is 2**(128 + 149) of f32 and 2**(1024 + 1074) of f64: so many steps leave less than 2**53 for the
# last.
_STEPS = {"f32": 5, "f64": 40}
_HUGE = 2.0**990  # splitting a larger f64 overflows


def remainder(b: Builder, x: Operand, y: Operand) -> Operand:
    """What is left of x / y, with the sign of y."""
    if not x.type.is_float:
        return _integers(b, x, y)[1]
    above, below = b.convert(x, "f64"), b.convert(y, "f64")
    rest, across = _signed_rest(b, above, below, x.type.kind)
    rest = b.select(across, b.add(rest, below), rest)
    return b.convert(b.select(b.compare("eq", rest, 0.0), with_sign(b, number(0.0, rest), below), rest), x.type.kind)


def floor_divide(b: Builder, x: Operand, y: Operand) -> Operand:
    """x / y rounded down; as x - remainder is a multiple of y, that is their quotient's nearest integer."""
    if not x.type.is_float:
        return _integers(b, x, y)[0]
    above, below = b.convert(x, "f64"), b.convert(y, "f64")
    rest, across = _signed_rest(b, above, below, x.type.kind)
    quotient = b.div(b.sub(above, rest), below)
    quotient = b.select(across, b.sub(quotient, number(1.0, quotient)), quotient)
    whole = b.unary("floor", quotient)
    whole = b.select(
        b.compare("lt", number(0.5, whole), b.sub(quotient, whole)), b.add(whole, number(1.0, whole)), whole
    )
    plain = b.div(above, below)
    whole = b.select(b.compare("eq", quotient, 0.0), with_sign(b, number(0.0, plain), plain), whole)
    return b.convert(b.select(b.compare("eq", below, 0.0), plain, whole), x.type.kind)


def _signed_rest(b: Builder, x: Operand, y: Operand, kind: str) -> tuple[Value, Value]:
    """C's fmod(x, y), and whether it lies across zero from y."""
    rest = with_sign(b, _rest(b, b.unary("abs", x), b.unary("abs", y), kind), x)
    beyond = b.bits("xor", b.compare("lt", rest, 0.0), b.compare("lt", y, 0.0))
    return rest, b.bits("and", beyond, b.compare("ne", rest, 0.0))


def _rest(b: Builder, x: Operand, y: Operand, kind: str) -> Value:
    """fmod(x, y) for x, y >= 0."""
    meant = b.bits("and", b.compare("lt", x, math.inf), b.compare("lt", number(0.0, y), y))
    many = b.bits("and", b.compare("le", b.mul(y, number(2.0**53, y)), x), meant)
    block: list[Instruction] = []
    with b.inside(block):
        reduced = _reduced(b, x, y, kind)
    (x,) = b.conditional(b.compute("any", many, type=many.type.scalar), block, (reduced,), (), (x,))
    return b.select(b.compare("lt", x, y), x, _step(b, x, y, kind))  # also by infinity, and where splitting y overflows


def _reduced(b: Builder, x: Operand, y: Operand, kind: str) -> Operand:
    """x modulo a multiple of y that it is less than 2**53 times as large as. Where a multiple overflows, x is below
    it.
    """
    lanes, last = x.type.lanes, _STEPS[kind] - 2
    base = b.mul(y, number(2.0 ** (2 * _BITS), y))
    turns = b.open_loop(index_constant(0), index_constant(last + 1), 1, (x,))
    with b.inside(turns.block):
        left = b.convert(b.arithmetic("sub", index_constant(last), turns.variable), "f64")
        power = b.mul(left, Constant(float(_BITS), left.type))
        multiple = b.compute("scale", base, b.splat(power, lanes), type=x.type)
        yields = (_where_below(b, turns.parameters[0], multiple, kind),)
    (x,) = b.close_loop(turns, yields)
    return _where_below(b, x, b.mul(y, number(2.0**_BITS, y)), kind)


def _where_below(b: Builder, x: Operand, y: Operand, kind: str) -> Operand:
    return b.select(b.compare("le", y, x), _step(b, x, y, kind), x)


def _step(b: Builder, x: Operand, y: Operand, kind: str) -> Value:
    """x - y floor(x / y) for a quotient below 2**53. It may have been rounded up to an integer: then the rest is
    below zero.
    """
    whole = b.unary("floor", b.div(x, y))
    if b.target.machine.fma or kind == "f32":
        rest = left_over(b, x, whole, y)
    else:
        far = b.compare("lt", number(_HUGE, x), x)
        down = b.select(far, number(2.0**-60, x), number(1.0, x))
        up = b.select(far, number(2.0**60, x), number(1.0, x))
        rest = b.mul(left_over(b, b.mul(x, down), whole, b.mul(y, down)), up)
    return b.select(b.compare("lt", rest, 0.0), b.add(rest, y), rest)


def _integers(b: Builder, x: Operand, y: Operand) -> tuple[Operand, Operand]:
    """Quotient and remainder, from those that truncate; the divisors 0 and -1 are kept from the instruction."""
    zero, one = Constant(0, x.type), Constant(1, x.type)
    known = isinstance(y, Constant) and not isinstance(y.value, tuple) and y.value not in (0, -1)
    none, back = b.compare("eq", y, 0), b.compare("eq", y, -1) if x.type.record.sort is Sort.SIGNED else None
    safe = y if known else b.select(none if back is None else b.bits("or", none, back), one, y)
    quotient, rest = b.div(x, safe), b.compute("rem", x, safe, type=x.type)
    if back is not None:
        across = b.bits("and", b.compare("ne", rest, 0), b.compare("lt", b.bits("xor", rest, safe), 0))
        quotient = b.select(across, b.sub(quotient, one), quotient)
        rest = b.select(across, b.add(rest, safe), rest)
        if not known:
            quotient = b.select(back, b.unary("neg", x), quotient)
    return (quotient, rest) if known else (b.select(none, zero, quotient), b.select(none, zero, rest))
