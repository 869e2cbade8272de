"""Arrays that are already what an entry takes, known at a glance.

Whoever asks for predictions again and again gives plain arrays of the right type and shape, and waits longer for the
checks than for the numbers. These pass here in a microsecond or two; what is anything else, or seems wrong in any
way, goes to `data.bind`, which converts it or says what does not fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tapeless.runtime.data import PIECE_BYTES, Data, Examples
from tapeless.runtime.manifest import TensorSpec, multiple_of_rows


class Ready:
    """What an entry takes: `specs`, in their order."""

    def __init__(self, specs: Sequence[TensorSpec]) -> None:
        self._specs = tuple((spec, multiple_of_rows(spec.shape[0]) if spec.shape else 0) for spec in specs)
        self._names = {role: [spec.name for spec in specs if spec.role == role] for role in ("input", "target")}
        self._rows_of = next(((place, multiple) for place, (_, multiple) in enumerate(self._specs) if multiple), None)
        self._shapes: tuple[int, list[tuple[int, ...]]] = -1, []  # of the rows that came last

    def examples(self, inputs: Data, targets: Data) -> Examples | None:
        """The arrays as they are, if they are contiguous, of the declared types and shapes, of one row at least and
        of valid numbers; None if that is not plain to see.
        """
        if self._rows_of is None:
            return None
        given: dict[str, Any] = {}
        for names, value in ((self._names["input"], inputs), (self._names["target"], targets)):
            if type(value) is dict and len(value) == len(names):
                given |= value
            elif value is not None and len(names) == 1:
                given[names[0]] = value
            elif value is not None or names:
                return None
        arrays: list[Any] = [given.get(spec.name) for spec, _ in self._specs]
        place, multiple = self._rows_of
        first = arrays[place]
        if type(first) is not np.ndarray or not first.ndim:
            return None
        rows = first.shape[0] // multiple
        known, shapes = self._shapes
        if known != rows:
            shapes = [spec.concrete(rows) for spec, _ in self._specs]
            self._shapes = rows, shapes
        for (spec, _), array, shape in zip(self._specs, arrays, shapes, strict=True):
            if type(array) is not np.ndarray or array.shape != shape or not _valid(spec, array):
                return None
        return Examples(tuple(arrays), rows)


def _valid(spec: TensorSpec, array: np.ndarray[Any, Any]) -> bool:
    """Whether native code may read the array where it lies: a few megabytes at most, and none of its numbers needs a
    second look.
    """
    flags = array.flags
    if array.dtype != spec.dtype or not (flags.c_contiguous and flags.aligned and 0 < array.nbytes <= PIECE_BYTES):
        return False
    return in_range(spec, array)


def in_range(spec: TensorSpec, array: np.ndarray[Any, Any]) -> bool:
    """Whether none of the numbers needs a second look: finite ones, integers within their bound."""
    if array.dtype.kind == "f":
        return bool(np.count_nonzero(np.isfinite(array)) == array.size)
    if array.dtype.kind in "iu" and spec.bound is not None:
        return bool(np.minimum.reduce(array, None) >= 0 and np.maximum.reduce(array, None) < spec.bound)
    return True
