"""A model taken one place of a sequence at a time: what places leave for those after them, and the call for one place.

A step may take microseconds, so what does not change from one to the next is kept, by the count of rows.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tapeless.abi import calls
from tapeless.runtime import context, data, threads
from tapeless.runtime.buffers import Array, Bytes, address, aligned
from tapeless.runtime.call import Memory
from tapeless.runtime.data import Data
from tapeless.runtime.errors import DataError, UserError
from tapeless.runtime.image import Image
from tapeless.runtime.manifest import TensorSpec, multiple_of_rows


@dataclass(frozen=True)
class Layout:
    """The carries of so many rows in one block, in the order of the manifest, each from a multiple of 64 bytes on."""

    specs: tuple[TensorSpec, ...]
    rows: int

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each begins, and behind them the size of the whole."""
        return tuple(calls.carry_offsets([spec.bytes(self.rows) for spec in self.specs]))

    def arrays(self, memory: Bytes) -> dict[str, Array]:
        """Views by name."""
        return {
            spec.name: memory[offset : offset + spec.bytes(self.rows)]
            .view(spec.dtype)
            .reshape(spec.concrete(self.rows))
            for spec, offset in zip(self.specs, self.offsets, strict=False)
        }


class Carry(Mapping[str, Array]):
    """What the places of a sequence so far have left for the next one: arrays by name that cannot be written to.

    A step makes a new one and leaves the old as it is: a place to go back to. `position` is how many places are
    behind it,
    `rows` how many sequences it is of.
    """

    def __init__(self, layout: Layout, memory: Bytes, position: int) -> None:
        self.layout, self.memory, self.position = layout, memory, position

    @property
    def rows(self) -> int:
        return self.layout.rows

    @cached_property
    def _arrays(self) -> dict[str, Array]:
        found = self.layout.arrays(self.memory)
        for array in found.values():
            array.flags.writeable = False
        return found

    def take(self, rows: npt.ArrayLike) -> Carry:
        """The carry of some of the sequences, in that order, as often as they are named: `carry.take([0, 0, 2])`."""
        chosen = np.asarray(rows)
        if chosen.ndim != 1 or chosen.dtype.kind not in "iu" or not chosen.size:
            raise DataError(f"rows are a list of whole numbers, not {rows!r}")
        if chosen.min() < -self.rows or chosen.max() >= self.rows:
            raise DataError(
                f"the carry is of {self.rows} rows, from 0 to {self.rows - 1}; {chosen.tolist()} are not all of them"
            )
        layout = Layout(self.layout.specs, len(chosen))
        memory = aligned(layout.offsets[-1], zeroed=False)
        made = layout.arrays(memory)
        for spec in layout.specs:
            array = self[spec.name]
            multiple = multiple_of_rows(spec.shape[0]) if spec.shape else 0
            by_row = array.reshape(self.rows, -1)[chosen] if multiple else array
            made[spec.name][...] = by_row.reshape(made[spec.name].shape)
        return Carry(layout, memory, self.position)

    def __reduce__(self) -> tuple[Callable[..., Carry], tuple[Layout, bytes, int]]:
        return _carry, (self.layout, self.memory.tobytes(), self.position)

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self.layout.specs)

    def __repr__(self) -> str:
        return f"<carry of {self.rows} rows at place {self.position}: {', '.join(self)}>"


def _carry(layout: Layout, content: bytes, position: int) -> Carry:
    """A carry out of a pickle: in memory that native code can read."""
    memory = aligned(len(content), zeroed=False)
    memory[:] = np.frombuffer(content, np.uint8)
    return Carry(layout, memory, position)


class Stepper:
    """The entry `step` of an image, over a program's memory."""

    def __init__(self, image: Image, memory: Memory, team_size: int) -> None:
        entry = self._entry = image.manifest.entries["step"]
        self._declared = image.manifest.data
        self._function, self._image = image.addresses["step"], image
        self._memory, self._team = memory, threads.team(team_size)
        self._barrier = aligned(calls.barrier_bytes(team_size))
        self._contexts = context.with_pointers(
            calls.pointer_count(len(entry.data), len(entry.outputs), len(entry.carries))
        )
        self._sums = np.zeros(1, np.float64)
        self.outputs = tuple(spec.name for spec in entry.outputs)
        self._prepared: dict[int, tuple[Layout, ctypes.Structure, Carry]] = {}

    def step(self, inputs: Data, carry: Carry | None) -> tuple[Sequence[Array], Carry]:
        """The outputs at one place, in the order of the entry, and what it leaves for the next."""
        entry = self._entry
        examples = data.bind(entry.data, inputs, None, self._declared)
        rows = examples.rows
        if rows not in self._prepared:
            self._prepared[rows] = self._prepare(rows)
        layout, context, start = self._prepared[rows]
        before = self._checked(carry, layout) if carry is not None else start
        outputs = [np.empty(spec.concrete(rows), spec.dtype) for spec in entry.outputs]
        after = Carry(layout, aligned(layout.offsets[-1], zeroed=False), before.position + 1)
        old, new = address(before.memory), address(after.memory)
        offsets = layout.offsets[:-1]
        pointers = [
            *(address(array) for array in examples.arrays), *(old + offset for offset in offsets),
            *(address(array) for array in outputs), *(new + offset for offset in offsets),
        ]  # fmt: skip
        context.pointers[:] = pointers
        context.workspace = self._memory.workspace_address(entry.working_memory(self._team.size))
        context.begin, context.status = 0, calls.OK
        self._barrier[:] = 0
        self._team.call(self._function, context)
        return outputs, after

    def _prepare(self, rows: int) -> tuple[Layout, ctypes.Structure, Carry]:
        """What calls with so many rows share: a layout, a context, and the carry before the first place."""
        layout = Layout(self._entry.carries, rows)
        context = self._contexts(
            state=address(self._memory.state),
            gradients=address(self._memory.gradients),
            threads=self._team.size,
            barrier=address(self._barrier),
            yield_=threads.yield_address(),
            end=rows,
            sums=address(self._sums),
        )
        return layout, context, Carry(layout, aligned(layout.offsets[-1]), 0)

    def _checked(self, carry: Carry, layout: Layout) -> Carry:
        if not isinstance(carry, Carry) or carry.layout.specs != layout.specs:
            raise DataError("the carry is not one that this program's `step` has made")
        if carry.rows != layout.rows:
            raise DataError(
                f"the data have {layout.rows} rows, and the carry is of {carry.rows}; `carry.take` chooses rows"
            )
        limit = self._entry.places
        if limit is not None and carry.position >= limit:
            raise UserError(
                f"the carry is at the end: this model goes over {limit} places, and all are taken; begin again "
                "without a carry"
            )
        return carry
