"""Predictions of a few numbers, again and again: calls over places of their own.

Of a small model the numbers take less time than what Python does for a call: finding where arrays lie, filling in what
native code is told. So for the counts of rows that come again, a call is kept whose data and outputs lie in places of
its own. What comes is copied there and looked at, and what comes out is copied from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tapeless.runtime.buffers import Array, aligned
from tapeless.runtime.call import Call, Memory
from tapeless.runtime.image import Image
from tapeless.runtime.manifest import TensorSpec, multiple_of_rows
from tapeless.runtime.pace import count
from tapeless.runtime.ready import in_range

MOST_BYTES = 64 << 10  # of data and outputs: copying more takes longer than finding it where it lies
KEPT = 8  # counts of rows


class Prompts:
    """The calls of an entry that takes inputs alone and adds nothing up, as `predict` does."""

    def __init__(self, image: Image, entry: str, memory: Memory, team_size: int | None) -> None:
        self._image, self._memory, self._team_size = image, memory, team_size
        self._entry = image.manifest.entries[entry]
        self.outputs = tuple(spec.name for spec in self._entry.outputs)
        self._names = [spec.name for spec in self._entry.data]
        factors = [multiple_of_rows(spec.shape[0]) if spec.shape else 0 for spec in self._entry.data]
        self._place = next((place for place, factor in enumerate(factors) if factor), None)  # of what tells the rows
        self._factor = 0 if self._place is None else factors[self._place]
        self._kept: dict[tuple[int, ...], _Prompt | None] = {}
        self._last: tuple[int, ...] | None = None  # the shape that came last and has no call

    def answer(self, inputs: Any) -> list[Array] | None:
        """The outputs, in new arrays, if the inputs are plain arrays of the declared types and shapes and of valid
        numbers, of a size that came before; None if that is not plain to see.
        """
        if self._place is None:
            return None
        names = self._names
        if type(inputs) is dict and len(inputs) == len(names):
            arrays = [inputs.get(name) for name in names]
        elif len(names) == 1:
            arrays = [inputs]
        else:
            return None
        first = arrays[self._place]
        if type(first) is not np.ndarray:
            return None
        shape = first.shape
        if shape not in self._kept:
            self._remember(shape)
            return None
        prompt = self._kept[shape]
        return None if prompt is None else prompt.answer(arrays)

    def _remember(self, shape: tuple[int, ...]) -> None:
        """Makes a call for arrays of a shape that comes for the second time in a row."""
        if shape != self._last:
            self._last = shape
            return
        if len(self._kept) == KEPT:
            del self._kept[next(iter(self._kept))]
        rows = shape[0] // self._factor if shape else 0
        self._kept[shape] = self._prompt(rows) if self._fits(rows) else None

    def _fits(self, rows: int) -> bool:
        """Whether so many rows are few numbers, and work for one thread."""
        entry = self._entry
        bytes = sum(spec.bytes(rows) for spec in (*entry.data, *entry.outputs))
        alone = (
            count(entry.seconds, rows / self._image.manifest.capacity) == 1
            if self._team_size is None
            else self._team_size == 1
        )
        return rows > 0 and alone and bytes <= MOST_BYTES

    def _prompt(self, rows: int) -> _Prompt:
        data, outputs = ([_place(spec, rows) for spec in specs] for specs in (self._entry.data, self._entry.outputs))
        call = Call(self._image, self._entry.name, self._memory, 1, data, outputs)
        return _Prompt(call, rows, list(zip(self._entry.data, data, strict=True)), outputs)


class _Prompt:
    """A call for so many rows, over its places."""

    def __init__(
        self, call: Call, rows: int, data: Sequence[tuple[TensorSpec, Array]], outputs: Sequence[Array]
    ) -> None:
        self._call, self._rows, self._outputs = call, rows, outputs
        self._taken = [(spec, place.shape, place) for spec, place in data]

    def answer(self, arrays: Sequence[Any]) -> list[Array] | None:
        """As `Prompts.answer`."""
        for (spec, shape, place), array in zip(self._taken, arrays, strict=True):
            if type(array) is not np.ndarray or array.dtype != spec.dtype or array.shape != shape:
                return None
            place[...] = array
            if not in_range(spec, place):
                return None
        if not self._call.repeat():
            self._call.run(0, self._rows)
        return [output.copy() for output in self._outputs]


def _place(spec: TensorSpec, rows: int) -> Array:
    return aligned(spec.bytes(rows)).view(spec.dtype).reshape(spec.concrete(rows))
