"""Axes as products of parts, so that the places of a sequence are found again where an axis holds more than them.

A reshape makes the axes of `batch` and of 64 places one axis of 64 * batch; its parts are still the two. A part may be
marked; parts that are not are cut and joined freely. Knows neither operations nor what a mark means.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tapeless.ir.types import Dim, Rows, Shape, product


@dataclass(frozen=True)
class Part:
    """One factor of an axis, from the outside to the inside."""

    size: Dim
    mark: Any = None


Axis = tuple[Part, ...]
Axes = tuple[Axis, ...]
Site = tuple[int, Dim]
"""Where a marked part is: the axis, and the product of what lies inside of the part."""


def plain(shape: Sequence[Dim]) -> Axes:
    """The axes of a shape, nothing marked."""
    return tuple(tidy([Part(dim)]) for dim in shape)


def tidy(parts: Iterable[Part]) -> Axis:
    """The same axis with as few parts as there can be."""
    found: list[Part] = []
    for part in parts:
        if part.mark is None and part.size == 1:
            continue
        if found and part.mark is None and found[-1].mark is None:
            found[-1] = Part(product((found[-1].size, part.size)))
        else:
            found.append(part)
    return tuple(found)


def unmarked(axis: Axis) -> Axis:
    return tidy(Part(part.size) for part in axis)


def left(axis: Axis) -> Dim:
    """The size of an axis of which each marked part is taken at one place."""
    return product([part.size for part in axis if part.mark is None])


def shape_at(axes: Axes) -> Shape:
    """The shape of a tensor of which each marked part is taken at one place, with size 1."""
    return tuple(left(axis) for axis in axes)


def marks(axes: Axes) -> dict[Site, Part]:
    """The marked parts, in order."""
    return {
        (k, product([inner.size for inner in axis[place + 1 :]])): part
        for k, axis in enumerate(axes)
        for place, part in enumerate(axis)
        if part.mark is not None
    }


def is_marked(axis: Axis) -> bool:
    return any(part.mark is not None for part in axis)


def is_whole(axis: Axis) -> bool:
    """Whether an axis is one marked part and nothing else."""
    return len(axis) == 1 and axis[0].mark is not None


def regroup(axes: Axes, shape: Sequence[Dim]) -> Axes | None:
    """The parts of axes as the axes of another shape of as many elements, None if that would cut a marked one."""
    pending = [part for axis in axes for part in axis][::-1]
    made: list[Axis] = []
    for dim in shape:
        axis: list[Part] = []
        wanted, rows = _factors(dim)
        while wanted != 1 or rows:
            if not pending:
                return None
            part = pending.pop()
            count, has = _factors(part.size)
            if wanted % count == 0 and (rows or not has):
                axis.append(part)
                wanted, rows = wanted // count, rows and not has
            elif count % wanted == 0 and (has or not rows) and part.mark is None:
                axis.append(Part(dim_of(wanted, rows)))
                pending.append(Part(dim_of(count // wanted, has and not rows)))
                wanted, rows = 1, False
            else:
                return None
        made.append(tidy(axis))
    return tuple(made)


def _factors(dim: Dim) -> tuple[int, bool]:
    return (dim.multiple, True) if isinstance(dim, Rows) else (dim, False)


def dim_of(count: int, rows: bool) -> Dim:
    return Rows(count) if rows else count


def every_part(axes: Axes) -> list[tuple[Site, Part]]:
    """All parts, each with its site."""
    sites = marks(tuple(tuple(Part(part.size, part) for part in axis) for axis in axes))
    return [(site, marked.mark) for site, marked in sites.items()]
