"""Calls over data that native code can't read where they lie: rows are converted piece by piece on their way.

That is so for files mapped into memory whose numbers have another type than the program's; as they may be larger than
memory, they are never converted as a whole. Mapped files of the right type are read by native code itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tapeless.abi.calls import OK
from tapeless.runtime.buffers import Array
from tapeless.runtime.call import Call, Memory
from tapeless.runtime.data import Examples, native
from tapeless.runtime.image import Image
from tapeless.runtime.manifest import TensorSpec, multiple_of_rows

STAGED_BYTES = 4 << 20  # of one piece: few enough to stay in a cache, many enough that Python is not felt


class StagedCall:
    """As a `Call`, over arrays of any type and layout: `run` copies the rows of a piece, in order, then calls."""

    def __init__(
        self,
        image: Image,
        entry: str,
        memory: Memory,
        team_size: int | None,
        arrays: Sequence[Array],
        outputs: Sequence[Array] = (),
        order: Array | None = None,
    ) -> None:
        description = image.manifest.entries[entry]
        self._make = (image, entry, memory, team_size)
        self._data = list(zip(description.data, arrays, strict=True))
        self._outputs = list(zip(description.outputs, outputs, strict=True))
        self._order = order
        self.sums = np.zeros(max(len(description.results), 1), np.float64)
        self.status = OK
        row = sum(_bytes_of_row(spec) for spec, _ in self._data)
        capacity = image.manifest.capacity
        self._piece = max(STAGED_BYTES // max(row, 1) // capacity, 1) * capacity

    def run(self, begin: int, end: int) -> int:
        """As `Call.run`. Batches begin where they would without pieces: at `begin` and each capacity further."""
        position, self.status = begin, OK
        while position < end and self.status == OK:
            upto = min(position + self._piece, end)
            arrays = [self._rows(spec, array, position, upto) for spec, array in self._data]
            outputs = [_slice(spec, array, position, upto) for spec, array in self._outputs]
            call = Call(*self._make, arrays, outputs, sums=self.sums)
            position += call.run(0, upto - position)
            self.status = call.status
        return position

    def _rows(self, spec: TensorSpec, array: Array, begin: int, end: int) -> Array:
        return native(
            spec,
            _slice(spec, array, begin, end) if self._order is None else rows_of(spec, array, self._order[begin:end]),
        )


def rows_of(spec: TensorSpec, array: Array, chosen: Array) -> Array:
    """Some rows of an array, in that order; the whole of one that does not go by rows."""
    multiple = multiple_of_rows(spec.shape[0]) if spec.shape else 0
    if not multiple:
        return array
    return array.reshape(-1, multiple, *array.shape[1:])[chosen].reshape(-1, *array.shape[1:])


def _slice(spec: TensorSpec, array: Array, begin: int, end: int) -> Array:
    multiple = multiple_of_rows(spec.shape[0]) if spec.shape else 0
    return array[begin * multiple : end * multiple] if multiple else array


def _bytes_of_row(spec: TensorSpec) -> int:
    if not spec.shape or not multiple_of_rows(spec.shape[0]):
        return 0
    inner = [dim for dim in spec.shape[1:] if isinstance(dim, int)]
    return int(np.prod(inner, dtype=np.int64)) * multiple_of_rows(spec.shape[0]) * spec.dtype.itemsize


def call_over(
    image: Image,
    entry: str,
    memory: Memory,
    team_size: int | None,
    examples: Examples,
    order: Array | None = None,
    outputs: Sequence[Array] = (),
) -> Call | StagedCall:
    """A call over checked data: native throughout where all arrays are as the entry takes them, else by pieces."""
    kind = StagedCall if examples.streamed else Call
    return kind(image, entry, memory, team_size, examples.arrays, outputs, order)
