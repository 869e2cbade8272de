"""Arithmetic that needs no graph: operators between numbers known when compiling, between lists of them and between
sizes, and comparisons of ints with numbers that are none.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

from tapeless.compiler.elaborate.values import Computed, shape_text
from tapeless.ir.types import Dim, DType, Rows

Operand = Computed | int | float | bool | Rows | tuple[Any, ...]


class Mismatch(Exception):
    """Operands do not fit: a diagnostic's code, message and hint, still without a place."""

    def __init__(self, code: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint


FOLDED: dict[str, Callable[..., Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "//": operator.floordiv,
    "%": operator.mod, "**": lambda x, y: float(x) ** y if abs(y) > 64 else x**y, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge,
    "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
LEAST, GREATEST = -(2**31), 2**31 - 1  # of an int


def fold(symbol: str, left: Any, right: Any) -> Any:
    """An operator between two numbers known when compiling. Raises Mismatch where there is no result."""
    try:
        result = FOLDED[symbol](left, right)
    except ZeroDivisionError:
        raise Mismatch("E0406", f"`{left} {symbol} {right}` divides by zero") from None
    except (OverflowError, ValueError):
        raise Mismatch("E0406", f"`{left} {symbol} {right}` has no result") from None
    if isinstance(result, complex) or (
        isinstance(result, float) and not math.isfinite(result) and math.isfinite(left) and math.isfinite(right)
    ):
        raise Mismatch("E0406", f"`{left} {symbol} {right}` has no real result")
    if isinstance(result, int) and abs(result) > 2**53:
        raise Mismatch("E0406", f"`{left} {symbol} {right}` is too large")
    return result


def fold_list(symbol: str, left: Any, right: Any) -> tuple[Any, ...]:
    """An operator between two lists of numbers known when compiling, item by item, or between one and a number.
    Raises Mismatch.
    """
    if isinstance(left, tuple) and isinstance(right, tuple) and len(left) != len(right):
        raise Mismatch("E0201", f"`{symbol}` goes item by item, and these lists have {len(left)} and {len(right)}")
    pairs = ([(one, right) for one in left] if not isinstance(right, tuple)
             else [(left, one) for one in right] if not isinstance(left,
             tuple) else list(zip(left, right, strict=True)))  # fmt: skip
    return tuple(
        fold_list(symbol, a, b) if isinstance(a, tuple) or isinstance(b, tuple) else fold(symbol, a, b)
        for a, b in pairs
    )


def size_of(symbol: str, left: Operand, right: Operand) -> Rows | bool | None:
    """Arithmetic on sizes that stays a size: `3 * batch`; comparing two of them; None where it must be a number at
    run time.
    """
    if symbol in ("==", "!=") and isinstance(left, Rows) and isinstance(right, Rows):
        return (left == right) is (symbol == "==")
    if symbol == "*" and isinstance(left, Rows) and type(right) is int and right > 0:
        return Rows(left.multiple * right)
    if symbol == "*" and isinstance(right, Rows) and type(left) is int and left > 0:
        return Rows(right.multiple * left)
    if symbol == "//" and isinstance(left, Rows) and type(right) is int and right > 0 and left.multiple % right == 0:
        return Rows(left.multiple // right)
    return None


def in_whole_numbers(symbol: str, left: Operand, right: Operand) -> tuple[str, Operand, Operand]:
    """A comparison of an int tensor with a number that is no int, as one with an int: an int as a real may have been
    rounded.
    """
    if isinstance(left, (int, float)) and isinstance(right, Computed):
        turned = _TURNED.get(symbol, symbol)
        found = in_whole_numbers(turned, right, left)
        return found if found[2] is not left else (symbol, left, right)
    if not isinstance(left, Computed) or left.dtype is not DType.I32 or not isinstance(right, (int, float)):
        return symbol, left, right
    if not math.isfinite(right) or (isinstance(right, int) and LEAST <= right <= GREATEST):
        return symbol, left, right
    if symbol in ("==", "!=") and right == math.floor(right) and LEAST <= right <= GREATEST:
        return symbol, left, int(right)
    always = ("<=", left, GREATEST)
    never = ("<", left, LEAST)
    if symbol in ("==", "!="):
        return never if symbol == "==" else always
    if symbol in ("<", "<="):
        most = math.ceil(right) - 1 if symbol == "<" else math.floor(right)
        return always if most >= GREATEST else never if most < LEAST else ("<=", left, most)
    least = math.floor(right) + 1 if symbol == ">" else math.ceil(right)
    return always if least <= LEAST else never if least > GREATEST else (">=", left, least)


def dims_product(dims: Sequence[Dim]) -> Dim:
    """The product of sizes. Raises Mismatch where `batch` occurs twice."""
    constant = 1
    rows = 0
    for dim in dims:
        if isinstance(dim, Rows):
            rows += 1
            constant *= dim.multiple
        else:
            constant *= dim
    if rows > 1:
        raise Mismatch("E0207", f"the sizes {shape_text(dims)} cannot be multiplied: `batch` occurs twice")
    return Rows(constant) if rows else constant


def rows_in(shape: Sequence[Dim]) -> int:
    """How often `batch` stands in a shape."""
    return sum(isinstance(dim, Rows) for dim in shape)
