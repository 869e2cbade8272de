"""What integers stay below: an exclusive upper bound of tensors whose elements are never negative, so that they can
index.

A bound follows through arithmetic where it can. `None` says that nothing is known: an element may be negative, or of
any size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tapeless.compiler.elaborate.values import Computed

__all__ = ["UNBOUNDED", "bound_after", "bound_of", "power_bound"]

UNBOUNDED = 2**31  # of ints that are known not to be negative, and no more: all of 32 bits


def bound_of(value: Any) -> int | None:
    """The bound of a tensor, or of a whole number."""
    if isinstance(value, Computed):
        return value.bound
    return value + 1 if type(value) is int and value >= 0 else None


def _both(rule: Callable[[int, int], int]) -> Callable[[Any, Any], int | None]:
    """A rule of two bounds that are both known."""

    def bound(left: Any, right: Any) -> int | None:
        a, b = bound_of(left), bound_of(right)
        return None if a is None or b is None else rule(a, b)

    return bound


def _less(left: Any, right: Any) -> int | None:
    """A number less something that is never above it."""
    bound = bound_of(right)
    return left + 1 if type(left) is int and bound is not None and bound <= left + 1 else None


def _quotient(left: Any, right: Any) -> int | None:
    bound = bound_of(left)
    return None if bound is None or type(right) is not int or right < 1 else (bound - 1) // right + 1


def _rest(left: Any, right: Any) -> int | None:
    """That of a positive divisor is never negative, whatever is divided."""
    if type(right) is not int or right < 1:
        return None
    bound = bound_of(left)
    return right if bound is None else min(bound, right)


def _maximum(left: Any, right: Any) -> int | None:
    """One side that is not negative is enough for the larger of both not to be."""
    a, b = bound_of(left), bound_of(right)
    return max(a, b) if a is not None and b is not None else None if a is b is None else UNBOUNDED


_RULES: dict[str, Callable[[Any, Any], int | None]] = {
    "add": _both(lambda a, b: a + b - 1),
    "sub": _less,
    "mul": _both(lambda a, b: (a - 1) * (b - 1) + 1),
    "floor_divide": _quotient,
    "remainder": _rest,
    "minimum": _both(min),
    "maximum": _maximum,
    "select": _both(max),
}


def bound_after(op: str, operands: Sequence[Any]) -> int | None:
    """The bound of an operation's result, of ints; none where it may wrap around."""
    rule = _RULES.get(op)
    bound = rule(*operands) if rule and len(operands) == 2 else None
    return bound if bound is not None and bound <= UNBOUNDED else None


def power_bound(base: Any, times: int) -> int | None:
    bound = bound_of(base)
    return None if bound is None or (bound - 1) ** times >= UNBOUNDED else (bound - 1) ** times + 1
