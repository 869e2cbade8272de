"""How far the index variables of a line run: each from 0 over the largest range that stays inside every axis it is
used on.

A range comes from where it is written (`u: 2`), then from the axes that a variable walks by itself (`x[i]`, `x[2 * i
+ 1]`), then from sums (`x[i + u]`): the one variable in it that is still free, else the one on the left, gets what
the others leave. Nothing here knows tensors or syntax.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tapeless.ir.graph import Span
from tapeless.ir.types import Dim, Rows


@dataclass(eq=False)
class Variable:
    """An index variable; `place` is its axis in the tensors of its line, `left` that it stands to the left of `=`."""

    name: str
    span: Span
    place: int
    left: bool
    size: Dim | None = None
    stated: bool = False

    @property
    def last(self) -> int:
        """The largest value of a variable whose range is a fixed number."""
        assert isinstance(self.size, int)
        return self.size - 1


@dataclass(frozen=True)
class Use:
    """One axis walked by an index: `first` plus each variable times its step. `written` is the index, `tensor` what
    it picks from.
    """

    extent: Dim
    first: int
    steps: tuple[tuple[Variable, int], ...]
    span: Span
    written: str
    tensor: str

    @property
    def plain(self) -> bool:
        """Whether the index is a variable alone."""
        return self.first == 0 and len(self.steps) == 1 and self.steps[0][1] == 1


class OutOfRange(Exception):
    """Ranges do not fit: a diagnostic's code, message, place and hint, and the uses that meet in it."""

    def __init__(self, code: str, message: str, span: Span, hint: str | None = None, uses: Sequence[Use] = ()) -> None:
        super().__init__(message)
        self.code, self.span, self.hint, self.uses = code, span, hint, uses


def infer(variables: Sequence[Variable], uses: Sequence[Use]) -> None:
    """Give every variable its range. Raises OutOfRange."""
    first: dict[Variable, Use] = {}
    for use in uses:
        if isinstance(use.extent, Rows) and not use.plain:
            raise OutOfRange("E0214", f"the rows of `batch` stay together: `{use.written}` would shift them", use.span,
                             "On this axis the index is a variable alone.")  # fmt: skip
        if use.plain:
            known = first.setdefault(use.steps[0][0], use)
            if known.extent != use.extent:
                name = use.written
                raise OutOfRange("E1003", f"`{name}` runs over {_axis(known.extent)} and over {_axis(use.extent)}",
                    use.span,
                                 "One index is one range: pad or slice one of them, or use two indices.",
                                 (known, use))  # fmt: skip
    for variable, use in first.items():
        _bound(variable, use.extent, use)
    single = [use for use in uses if len(use.steps) == 1 and not use.plain]
    several = [use for use in uses if len(use.steps) > 1]
    for use in single:
        _bound(use.steps[0][0], _room(use, use.steps[0][0]), use)
    waiting = several
    while waiting:
        ready = [use for use in waiting if sum(variable.size is None for variable, _ in use.steps) <= 1]
        if not ready:
            break
        for use in ready:
            _share(use)
        waiting = [use for use in waiting if use not in ready]
    for variable in variables:
        if variable.size is None:
            example = f"{variable.name}: 2"
            where = f"Write how far it goes where it stands: `[{example}]`."
            raise OutOfRange("E1002", f"nothing says how far `{variable.name}` goes", variable.span, where)
    for use in (*single, *several):
        if any(isinstance(variable.size, Rows) for variable, _ in use.steps):
            raise OutOfRange(
                "E1003", f"`{use.written}` walks the rows of `batch` over an axis of {use.extent}", use.span
            )
        _check(use)


def _axis(extent: Dim) -> str:
    return "the rows of `batch`" if isinstance(extent, Rows) else f"an axis of {extent}"


def _room(use: Use, variable: Variable) -> int:
    """How many values a variable may take, whatever else is in the index being at its ends."""
    if any(isinstance(other.size, Rows) for other, _ in use.steps):
        raise OutOfRange("E1003", f"`{use.written}` walks the rows of `batch` over an axis of {use.extent}", use.span)
    assert isinstance(use.extent, int)
    step = next(step for other, step in use.steps if other is variable)
    low = use.first + sum(s * v.last for v, s in use.steps if v is not variable and s < 0)
    high = use.first + sum(s * v.last for v, s in use.steps if v is not variable and s > 0)
    if low < 0:
        raise _negative(use, low)
    if high >= use.extent:
        raise _beyond(use, high)
    return (use.extent - 1 - high) // step + 1 if step > 0 else low // -step + 1


def _share(use: Use) -> None:
    """The free variable of a sum, or the only one on the left, gets what the others leave."""
    free = [variable for variable, _ in use.steps if variable.size is None]
    left = [variable for variable, _ in use.steps if variable.left and not variable.stated]
    chosen = free or (left if len(left) == 1 else [])
    if chosen:
        _bound(chosen[0], _room(use, chosen[0]), use)


def _bound(variable: Variable, size: Dim, use: Use) -> None:
    """At most so many values; a stated range must fit."""
    if variable.size is None:
        variable.size = size
    elif variable.stated and (isinstance(size, Rows) or isinstance(variable.size, Rows) or variable.size > size):
        raise OutOfRange(
            "E1004",
            f"`{variable.name}` goes up to {variable.size} places, but `{use.tensor}` has room for {size}",
            use.span,
        )
    elif isinstance(size, Rows) != isinstance(variable.size, Rows):
        raise OutOfRange(
            "E1003", f"`{variable.name}` runs over {_axis(variable.size)} and over {_axis(use.extent)}", use.span
        )
    elif isinstance(size, int) and isinstance(variable.size, int) and not variable.stated:
        variable.size = min(variable.size, size)


def _check(use: Use) -> None:
    """An index stays inside its axis, at both ends."""
    low = use.first + sum(step * variable.last for variable, step in use.steps if step < 0)
    high = use.first + sum(step * variable.last for variable, step in use.steps if step > 0)
    if low < 0:
        raise _negative(use, low)
    if isinstance(use.extent, int) and high >= use.extent:
        raise _beyond(use, high)


def _negative(use: Use, low: int) -> OutOfRange:
    return OutOfRange("E1004", f"`{use.written}` can be negative: it starts at {low}", use.span,
                      (f"Pad `{use.tensor}` first, so that the place {low} exists, and add {-low} "
                          "to the index."))  # fmt: skip


def _beyond(use: Use, high: int) -> OutOfRange:
    return OutOfRange("E1004", f"`{use.written}` goes up to {high}, but the axis has {use.extent} places", use.span,
                      f"Pad `{use.tensor}` first, or state a shorter range.")  # fmt: skip
