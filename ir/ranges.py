"""Ranges: between which bounds a value lies, and whether it can be infinite or NaN. Each operation declares its rule
with these.

The question behind them is where a product of derivatives could be 0 * inf, so inputs and parameters are taken to be
finite numbers of moderate size: sums and products of such are finite, however many; poles, logarithms of 0 and
exponentials of what has no upper bound are not. `range_analysis` applies the rules to graphs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tapeless.ir.graph import Node, Value

INFINITY = math.inf


@dataclass(frozen=True)
class Comparison:
    """left < right, or left <= right, of values with these ranges."""

    left: Value
    right: Value
    of_left: Range
    of_right: Range


@dataclass(frozen=True)
class Range:
    """What is known of all elements of a value.

    `low` and `high` bound those that are numbers; a bound without end means no more than that: `infinite` says
    whether an element can be an infinity (at an end that has no bound), `nan` whether it can be NaN. `above` is a
    value that this one, a maximum of some kind, is nowhere below, and the axes of that value which this one has
    kept; `holds` what a boolean says of two values.
    """

    low: float = -INFINITY
    high: float = INFINITY
    infinite: bool = False
    nan: bool = False
    above: tuple[Value, tuple[int, ...]] | None = None
    holds: Comparison | None = None

    @property
    def special(self) -> bool:
        return self.infinite or self.nan

    @property
    def has_zero(self) -> bool:
        return self.low <= 0 <= self.high

    def reaches(self, infinity: float) -> bool:
        """Whether an element can be that infinity."""
        return self.infinite and (self.low if infinity < 0 else self.high) == infinity


Rule = Callable[["Node", Sequence[Range]], Range]
FINITE, UNKNOWN = Range(), Range(infinite=True, nan=True)


def union(*ranges: Range) -> Range:
    """What holds of elements of any of them."""
    return Range(
        min(one.low for one in ranges),
        max(one.high for one in ranges),
        any(one.infinite for one in ranges),
        any(one.nan for one in ranges),
    )


def covers(wide: Range, narrow: Range) -> bool:
    """Whether what is known of `wide` is known of `narrow`, too."""
    flags = narrow.infinite <= wide.infinite and narrow.nan <= wide.nan
    return flags and wide.low <= narrow.low and narrow.high <= wide.high


# Rules


def unknown(node: Node, operands: Sequence[Range]) -> Range:
    """The rule of operations that say nothing."""
    return UNKNOWN


def between(low: float, high: float) -> Rule:
    """Bounds that hold whatever the operands are, unless they are NaN."""
    return lambda node, operands: Range(low, high, nan=any(one.nan for one in operands))


def chosen(node: Node, operands: Sequence[Range]) -> Range:
    """Elements of the first operand."""
    return replace(operands[0], above=None)


def chosen_or_zero(node: Node, operands: Sequence[Range]) -> Range:
    """Elements of the first operand, and zeros."""
    return union(operands[0], Range(0.0, 0.0))


def any_of(first: int) -> Rule:
    """Elements of the operands from place `first` on."""
    return lambda node, operands: union(*operands[first:])


def compared(node: Node, operands: Sequence[Range]) -> Range:
    """A comparison by size, which is a bound for what it chooses."""
    (left, right), (of_left, of_right) = node.operands, operands
    return Range(0.0, 1.0, holds=Comparison(left, right, of_left, of_right))


def selected(node: Node, operands: Sequence[Range]) -> Range:
    """The second or the third operand, each within what the condition says of it where it is chosen."""
    condition, *branches = operands
    if condition.holds is None:
        return union(*branches)
    return union(
        *(
            _within(one, value, condition.holds, first)
            for one, value, first in zip(branches, node.operands[1:], (True, False), strict=True)
        )
    )


def _within(range: Range, value: Value, said: Comparison, true: bool) -> Range:
    low, high = range.low, range.high
    if value == said.left:
        low, high = (low, min(high, said.of_right.high)) if true else (max(low, said.of_right.low), high)
    if value == said.right:
        low, high = (max(low, said.of_left.low), high) if true else (low, min(high, said.of_left.high))
    unending = math.isinf(low) or math.isinf(high)
    return Range(low, high, range.infinite and unending, range.nan) if low <= high else range


def sums(node: Node, operands: Sequence[Range]) -> Range:
    """Sums of elements, how many of them nobody asks; numbers of one sign stay so."""
    whole = union(*operands)
    low = whole.low if whole.low >= 0 else -INFINITY
    high = whole.high if whole.high <= 0 else INFINITY
    return Range(low, high, whole.infinite, whole.nan or (whole.reaches(-INFINITY) and whole.reaches(INFINITY)))


def scattered(node: Node, operands: Sequence[Range]) -> Range:
    """Sums of elements of the first operand, and zeros where there are none."""
    return union(sums(node, operands[:1]), Range(0.0, 0.0))


def unbounded(node: Node, operands: Sequence[Range]) -> Range:
    """Sums, products and differences of all kinds: finite where all operands are."""
    special = any(one.special for one in operands)
    return Range(infinite=special, nan=special)


def products(node: Node, operands: Sequence[Range]) -> Range:
    """Products of elements, and sums of products."""
    whole = union(*operands)
    nan = whole.nan or (whole.infinite and whole.has_zero) or (whole.reaches(-INFINITY) and whole.reaches(INFINITY))
    return Range(0.0 if whole.low >= 0 else -INFINITY, INFINITY, whole.infinite, nan)


def strong_products(node: Node, operands: Sequence[Range]) -> Range:
    """The same with strong products."""
    whole = union(*operands)
    nan = whole.nan or (whole.reaches(-INFINITY) and whole.reaches(INFINITY)) or (whole.infinite and whole.low < 0)
    return Range(0.0 if whole.low >= 0 else -INFINITY, INFINITY, whole.infinite, nan)


def rising(
    function: Callable[..., Any], explodes: bool = False, domain: tuple[float, float] = (-INFINITY, INFINITY)
) -> Rule:
    """A function that rises all over its domain; `explodes`: so fast that a moderate number can give an infinite
    one.
    """

    def at(x: float) -> float:
        with np.errstate(all="ignore"):
            return float(function(np.float64(x)))

    def rule(node: Node, operands: Sequence[Range]) -> Range:
        (x,) = operands
        left, right = max(x.low, domain[0]), min(x.high, domain[1])
        if left > right:
            return UNKNOWN
        low, high = at(left), at(right)
        # An infinite result of a bound that is none itself is a pole, or too large a number.
        infinite = any(
            math.isinf(made) and (explodes or x.infinite or math.isfinite(end))
            for made, end in ((low, left), (high, right))
        )
        return Range(low, high, infinite, x.nan or x.low < domain[0] or x.high > domain[1])

    return rule


def falling(
    function: Callable[..., Any], explodes: bool = False, domain: tuple[float, float] = (-INFINITY, INFINITY)
) -> Rule:
    """The same of a function that falls."""
    negative = rising(lambda x: -function(x), explodes, domain)
    return lambda node, operands: negated(node, [negative(node, operands)])


def negated(node: Node, operands: Sequence[Range]) -> Range:
    (x,) = operands
    return Range(-x.high, -x.low, x.infinite, x.nan)


def size(node: Node, operands: Sequence[Range]) -> Range:
    """The absolute value."""
    (x,) = operands
    return Range(0.0 if x.has_zero else min(abs(x.low), abs(x.high)), max(abs(x.low), abs(x.high)), x.infinite, x.nan)


def square(node: Node, operands: Sequence[Range]) -> Range:
    x = size(node, operands)
    return Range(_times(x.low, x.low), _times(x.high, x.high), x.infinite, x.nan)


def distance(node: Node, operands: Sequence[Range]) -> Range:
    """The length of the vector of two operands."""
    x, y = (size(node, [one]) for one in operands)
    return Range(max(x.low, y.low), math.hypot(x.high, y.high), x.infinite or y.infinite, x.nan or y.nan)


def lengths(node: Node, operands: Sequence[Range]) -> Range:
    """Norms of elements."""
    return Range(0.0, INFINITY, any(one.infinite for one in operands), any(one.nan for one in operands))


def total(node: Node, operands: Sequence[Range]) -> Range:
    x, y = operands
    opposite = any(x.reaches(end) and y.reaches(-end) for end in (-INFINITY, INFINITY))
    return Range(
        _plus(x.low, y.low, -INFINITY),
        _plus(x.high, y.high, INFINITY),
        x.infinite or y.infinite,
        x.nan or y.nan or opposite,
    )


def difference(node: Node, operands: Sequence[Range]) -> Range:
    """x - y; never positive where y is known to be nowhere below x, as a maximum or a logsumexp is."""
    made = total(node, [operands[0], negated(node, operands[1:])])
    below = operands[1].above is not None and operands[1].above[0] == node.operands[0]
    return replace(made, high=min(made.high, 0.0)) if below else made


def product(node: Node, operands: Sequence[Range]) -> Range:
    x, y = operands
    corners = [_times(a, b) for a in (x.low, x.high) for b in (y.low, y.high)]
    unclear = (x.infinite and y.has_zero) or (y.infinite and x.has_zero)
    return Range(min(corners), max(corners), x.infinite or y.infinite, x.nan or y.nan or unclear)


def strong_product(node: Node, operands: Sequence[Range]) -> Range:
    """Like a product; 0 beside an infinity is 0, so only NaN makes NaN, and then a zero beside it is 0 as well."""
    made = union(product(node, operands), *(Range(0.0, 0.0) for one in operands if one.nan))
    return replace(made, nan=any(one.nan for one in operands))


def reciprocal(node: Node, operands: Sequence[Range]) -> Range:
    """-0 is a zero, so the pole has both infinities."""
    (x,) = operands
    return Range(infinite=True, nan=x.nan) if x.has_zero else Range(1 / x.high, 1 / x.low, nan=x.nan)


def quotient(node: Node, operands: Sequence[Range]) -> Range:
    x, y = operands
    made = product(node, [x, reciprocal(node, [y])])
    unclear = (x.infinite and y.infinite) or (x.has_zero and y.has_zero)
    return Range(made.low, made.high, x.infinite or y.has_zero, x.nan or y.nan or unclear)


def whole_quotient(node: Node, operands: Sequence[Range]) -> Range:
    """The floor of a quotient; of an infinite operand it is NaN, or by an infinite one 0 or -1."""
    made = quotient(node, operands)
    low, high = (end if math.isinf(end) else float(math.floor(end)) for end in (made.low, made.high))
    return Range(min(low, -1.0), max(high, 0.0), made.infinite, made.nan or operands[0].infinite)


def power(node: Node, operands: Sequence[Range]) -> Range:
    x, y = operands
    if x.special or y.special:
        return UNKNOWN
    whole = y.low == y.high and y.low.is_integer()
    if whole and y.low >= 0 and x.low < 0:
        even = y.low % 2 == 0
        return Range(low=0.0) if even else FINITE
    if x.low >= 0 and y.low >= 0 and (y.low == y.high or x.high <= 1):
        return Range(0.0, 1.0 if x.high <= 1 else INFINITY)
    if x.low > 0 and math.isfinite(max(x.high, -y.low, y.high)):
        corners = [_power(a, b) for a in (x.low, x.high) for b in (y.low, y.high)]
        return Range(min(corners), max(corners), infinite=max(corners) == INFINITY)
    if x.low > 0 and y.high <= 0 and math.isfinite(y.low):
        return Range(0.0, max(1.0, _power(x.low, y.low)), infinite=_power(x.low, y.low) == INFINITY)
    return Range(0.0, INFINITY, infinite=True) if x.low > 0 else UNKNOWN


def greater(node: Node, operands: Sequence[Range]) -> Range:
    x, y = operands
    return Range(max(x.low, y.low), max(x.high, y.high), x.infinite or y.infinite, x.nan or y.nan)


def smaller(node: Node, operands: Sequence[Range]) -> Range:
    x, y = operands
    return Range(min(x.low, y.low), min(x.high, y.high), x.infinite or y.infinite, x.nan or y.nan)


def periodic(node: Node, operands: Sequence[Range]) -> Range:
    """Sines and cosines."""
    return Range(-1.0, 1.0, nan=operands[0].special)


def remainder(node: Node, operands: Sequence[Range]) -> Range:
    x, y = operands
    return Range(min(y.low, 0.0), max(y.high, 0.0), y.infinite, x.special or y.nan or y.has_zero)


def without_poles(function: Callable[..., Any], low: float, high: float) -> Rule:
    """A rising function where the operand keeps between two bounds; nothing is known of it elsewhere."""
    inside = rising(function)
    return lambda node, operands: (
        inside(node, operands) if low <= operands[0].low and operands[0].high <= high else UNKNOWN
    )


def finite_above(low: float) -> Rule:
    """A function without bounds that has its last pole at `low`."""

    def rule(node: Node, operands: Sequence[Range]) -> Range:
        return UNKNOWN if operands[0].low <= low or operands[0].special else FINITE

    return rule


def reshaped(node: Node, operands: Sequence[Range]) -> Range:
    return operands[0]


def stretched(node: Node, operands: Sequence[Range]) -> Range:
    """A broadcast: a maximum of x, stretched again over the axes of x that were reduced, is above x."""
    (x,), above = operands, operands[0].above
    if above is not None and (tuple(node.attrs["shape"]), tuple(node.attrs["axes"])) != (above[0].type.shape, above[1]):
        return replace(x, above=None)
    return x


def maximum_over_axes(node: Node, operands: Sequence[Range]) -> Range:
    return _above(node, operands[0])


def logsumexp(node: Node, operands: Sequence[Range]) -> Range:
    return _above(node, Range(operands[0].low, INFINITY, operands[0].infinite, operands[0].nan))


def _above(node: Node, range: Range) -> Range:
    (x,) = node.operands
    return replace(range, above=(x, tuple(k for k, _ in enumerate(x.type.shape) if k not in node.attrs["axes"])))


def _plus(a: float, b: float, unclear: float) -> float:
    return unclear if math.isinf(a) and a == -b else a + b


def _times(a: float, b: float) -> float:
    return 0.0 if a == 0 or b == 0 else a * b


def _power(a: float, b: float) -> float:
    try:
        return float(a**b)
    except OverflowError:
        return INFINITY
