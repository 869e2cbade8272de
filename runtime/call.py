"""Native calls: an entry of an image bound to memory and data, to be run over any range of the examples."""

from __future__ import annotations

import ctypes
import math
import time
import weakref
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tapeless.abi import calls
from tapeless.runtime import context, threads
from tapeless.runtime.buffers import Array, Bytes, address, aligned
from tapeless.runtime.errors import UserError
from tapeless.runtime.image import Image
from tapeless.runtime.pace import Pace


class Memory:
    """What a program's calls share: the state, the gradients, and a workspace that grows to what the largest needs.

    They all write to it, so one runs at a time: a program sees to that, see `turns`.
    """

    def __init__(self, state: Bytes, gradients: Bytes) -> None:
        self.state = state
        self.gradients = gradients
        self._workspace = aligned(0)
        self._located = self._workspace, address(self._workspace)
        self._paces: dict[tuple[str, int, int], Pace] = {}

    def pace(self, image: Image, entry: str) -> Pace:
        """What calls of an entry have shown of the number of threads: each goes on where the last one ended."""
        processors, capacity = threads.processors(), image.manifest.capacity
        key = entry, capacity, processors
        if key not in self._paces:
            self._paces[key] = Pace(image.manifest.entries[entry].seconds[:processors])
        return self._paces[key]

    def workspace(self, count: int) -> Bytes:
        if len(self._workspace) < count:
            try:
                self._workspace = aligned(count)
            except MemoryError:
                raise UserError(f"there is no memory for the {count:,} bytes of a step; take a smaller batch") from None
        return self._workspace

    def workspace_address(self, count: int) -> int:
        """Where `workspace` is, which is not looked up again while it stays there."""
        workspace = self.workspace(count)
        if self._located[0] is not workspace:
            self._located = workspace, address(workspace)
        return self._located[1]


class Call:
    """One entry with its data bound. `sums` grows from run to run, one number for each result of the entry.

    `team_size` None leaves the number of threads to what the call costs, and to how it goes: see `pace`.
    """

    def __init__(
        self,
        image: Image,
        entry: str,
        memory: Memory,
        team_size: int | None = None,
        arrays: Sequence[Array] = (),
        outputs: Sequence[Array] = (),
        order: Array | None = None,
        seed: tuple[int, int] = (0, 0),
        epoch: int = 0,
        sums: npt.NDArray[np.float64] | None = None,
    ) -> None:
        self._description = image.manifest.entries[entry]
        self._capacity = image.manifest.capacity
        pace = memory.pace(image, entry)
        self._pace = pace if team_size is None else None
        self._most = pace.most if team_size is None else team_size
        self._function = image.addresses[entry]
        self._memory = memory
        self._kept: tuple[object, ...] = (image, *arrays, *outputs, order)  # native code holds only addresses
        self._barrier = aligned(calls.barrier_bytes(self._most))
        self._counts = bool(self._description.results)
        self.sums = np.zeros(max(len(self._description.results), 1), np.float64) if sums is None else sums
        self._arguments = context.Arguments((ctypes.c_uint32 * 2)(*seed), epoch, 0)
        pointers = [address(array) for array in (*arrays, *outputs)]
        self._context = context.with_pointers(len(pointers))(
            state=address(memory.state),
            gradients=address(memory.gradients),
            barrier=address(self._barrier),
            yield_=threads.yield_address(),
            order=None if order is None else address(order),
            sums=address(self.sums),
            arguments=ctypes.addressof(self._arguments),
        )
        for k, pointer in enumerate(pointers):
            self._context.pointers[k] = pointer
        self._ran_in: weakref.ref[Bytes] | None = None  # the workspace that one thread ran in last

    def over(self, arrays: Sequence[Array], outputs: Sequence[Array] = ()) -> Call:
        """The same call over other arrays, from a context of its own and with sums that start from zero: what does not
        depend on the arrays is not made again.
        """
        made = Call.__new__(Call)
        made.__dict__.update(self.__dict__)
        made._kept, made._ran_in = (self._kept, arrays, outputs), None
        made._context = type(self._context).from_buffer_copy(self._context)
        if self._counts:
            made.sums = np.zeros(len(self.sums), np.float64)
            made._context.sums = address(made.sums)
        for place, array in enumerate((*arrays, *outputs)):
            made._context.pointers[place] = address(array)
        return made

    def run(self, begin: int, end: int) -> int:
        """Runs examples [begin, end); the position up to which they were done, `end` unless `status` is not OK."""
        if self._pace is None or self._most == 1:
            return self._run(begin, end, self._most)
        while True:  # once also where there are no examples to take
            left = (end - begin) / self._capacity if end > begin else 1.0
            size, batches = self._pace.piece(left)
            upto = min(begin + math.ceil(batches * self._capacity), end)
            started = time.perf_counter()
            done = self._run(begin, upto, size)
            self._pace.record(size, batches, time.perf_counter() - started)
            if upto >= end or self.status != calls.OK:
                return done
            begin = upto

    def repeat(self) -> bool:
        """The last run once more, if that was on one thread and the workspace is still where it was: nothing is told
        again. Whether it was done.
        """
        workspace = self._memory.workspace(0)
        if self._ran_in is None or self._ran_in() is not workspace:
            return False
        threads.native_entry(self._function)(ctypes.addressof(self._context), 0)
        return True

    def _run(self, begin: int, end: int, size: int) -> int:
        """As `run`, on so many threads."""
        self._context.workspace = self._memory.workspace_address(self._description.working_memory(size))
        self._context.threads = size
        self._context.begin, self._context.end = begin, end
        self._context.status, self._context.done = calls.OK, begin
        if size > 1:
            self._barrier[:] = 0
        threads.team(size).call(self._function, self._context)
        self._ran_in = weakref.ref(self._memory.workspace(0)) if size == 1 else None
        return int(self._context.done)

    @property
    def status(self) -> int:
        return int(self._context.status)
