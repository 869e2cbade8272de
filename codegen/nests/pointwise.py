"""How each pointwise operation of the graph becomes loop IR, on operands of equal lanes.

POINTWISE is the table; an operation is lowered by the entry of its name and by nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tapeless.abi.dtypes import TYPES
from tapeless.codegen.loops.builder import Builder
from tapeless.codegen.loops.language import Constant, Operand
from tapeless.codegen.vectormath import FAMILIES, FUNCTIONS, PAIRS
from tapeless.codegen.vectormath.exponential import keep_max, keep_min, with_sign

__all__ = ["POINTWISE", "lower_pointwise", "maximum", "minimum"]

Rule = Callable[[Builder, Sequence[Operand], str], Operand]


def _plain(op: str) -> Rule:
    return lambda b, operands, kind: b.compute(op, *operands, type=operands[0].type)


def _unary(op: str) -> Rule:
    return lambda b, operands, kind: b.unary(op, operands[0])


def _comparison(op: str) -> Rule:
    return lambda b, operands, kind: b.compare(op, operands[0], operands[1])


def _function(name: str) -> Rule:
    return lambda b, operands, kind: FUNCTIONS[name](b, operands[0])


def _pair(name: str) -> Rule:
    return lambda b, operands, kind: PAIRS[name](b, *operands)


def _never_nan(x: Operand) -> bool:
    return not x.type.is_float or (isinstance(x, Constant) and x.value == x.value)


def _extremum(
    b: Builder, x: Operand, y: Operand, keep: Callable[[Builder, Operand, Operand], Operand], integer: str
) -> Operand:
    """NaN where either operand is: `keep` keeps its first operand's, and a known number needs no test."""
    if not x.type.is_float:
        return b.compute(integer, x, y, type=x.type)
    if _never_nan(y):
        return keep(b, x, y)
    if _never_nan(x):
        return keep(b, y, x)
    return b.select(b.compare("ne", y, y), y, keep(b, x, y))


def maximum(b: Builder, x: Operand, y: Operand) -> Operand:
    return _extremum(b, x, y, keep_max, "max")


def minimum(b: Builder, x: Operand, y: Operand) -> Operand:
    return _extremum(b, x, y, keep_min, "min")


def _sign(b: Builder, operands: Sequence[Operand], kind: str) -> Operand:
    (x,) = operands
    below = b.select(b.compare("lt", x, 0), Constant(-1, x.type), x)
    return b.select(b.compare("lt", Constant(0, x.type), x), Constant(1, x.type), below)


def _round(b: Builder, operands: Sequence[Operand], kind: str) -> Operand:
    """To the nearest integer, ties to the even one: adding 2**(bits of the mantissa) leaves no bits for a fraction."""
    (x,) = operands
    whole = 2.0**x.type.record.mantissa
    size = b.compute("abs", x, type=x.type)
    near = b.sub(b.add(size, Constant(whole, x.type)), Constant(whole, x.type))
    signed = b.select(b.compare("lt", x, 0), b.compute("neg", near, type=x.type), near)
    return b.select(b.compare("lt", size, whole), signed, x)


def _ceil(b: Builder, operands: Sequence[Operand], kind: str) -> Operand:
    return b.unary("neg", b.unary("floor", b.unary("neg", operands[0])))


def _trunc(b: Builder, operands: Sequence[Operand], kind: str) -> Operand:
    (x,) = operands
    return with_sign(b, b.unary("floor", b.unary("abs", x)), x)


def _strong_product(b: Builder, operands: Sequence[Operand], kind: str) -> Operand:
    """x * y, and 0 where either is 0: compared with both, as an infinity or NaN may stand on either side.

    The product's mask is that neither is: three instructions where lanes have masks, of which one is the product.
    """
    x, y = operands
    neither = b.bits("and", b.compare("ne", x, 0.0), b.compare("ne", y, 0.0))
    return b.select(neither, b.mul(x, y), Constant(0.0, x.type))


POINTWISE: dict[str, Rule] = {
    **{op: _plain(op) for op in ("add", "sub", "div", "sqrt", "floor")},
    **{op: _unary(op) for op in ("neg", "abs")},
    "mul": lambda b, operands, kind: b.mul(*operands),
    **{op: _comparison(op) for op in ("lt", "le", "eq", "ne")},
    **{op: _function(op) for op in FUNCTIONS},
    **{op: _pair(op) for op in PAIRS},
    "ceil": _ceil,
    "trunc": _trunc,
    "maximum": lambda b, operands, kind: maximum(b, *operands),
    "minimum": lambda b, operands, kind: minimum(b, *operands),
    "square": lambda b, operands, kind: b.mul(operands[0], operands[0]),
    "reciprocal": lambda b, operands, kind: b.div(Constant(1.0, operands[0].type), operands[0]),
    "strong_product": _strong_product,
    "sign": _sign,
    "round": _round,
    "logical_and": _plain("and"),
    "logical_or": _plain("or"),
    "logical_not": lambda b, operands, kind: b.bits("xor", operands[0], True),
    "one_less_square": lambda b, operands, kind: b.mul(
        *(b.compute(op, Constant(1.0, operands[0].type), operands[0], type=operands[0].type) for op in ("sub", "add"))
    ),
    "select": lambda b, operands, kind: b.select(*operands),
    "cast": lambda b, operands, kind: b.convert(operands[0], kind),
}


def lower_pointwise(b: Builder, op: str, operands: Sequence[Operand], kind: str, order: int | None) -> Operand:
    """`order` is that of a family of functions."""
    if op in FAMILIES:
        return FAMILIES[op](b, operands[0], order=order)
    folded = _fold(op, operands, kind)
    return folded if folded is not None else POINTWISE[op](b, operands, kind)


def _fold(op: str, operands: Sequence[Operand], kind: str) -> Operand | None:
    """A cast of a constant is a constant: common enough to be worth saving the instruction."""
    if op == "cast" and isinstance(operands[0], Constant) and not isinstance(operands[0].value, tuple):
        value = operands[0].value
        if isinstance(value, float) and not math.isfinite(value):
            return None
        return Constant(TYPES[kind].number(value), operands[0].type.of(kind))
    return None
