"""Native calls: an entry of an image bound to memory and data, to be run over any range of the examples."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tapeless.abi import calls
from tapeless.runtime import context, threads
from tapeless.runtime.buffers import Array, Bytes, address, aligned
from tapeless.runtime.errors import UserError
from tapeless.runtime.image import Image


class Memory:
    """What a program's calls share: the state, the gradients, and a workspace that grows to what the largest needs.

    They all write to it, so one runs at a time: a program sees to that, see `turns`.
    """

    def __init__(self, state: Bytes, gradients: Bytes) -> None:
        self.state = state
        self.gradients = gradients
        self._workspace = aligned(0)

    def workspace(self, count: int) -> Bytes:
        if len(self._workspace) < count:
            try:
                self._workspace = aligned(count)
            except MemoryError:
                raise UserError(f"there is no memory for the {count:,} bytes of a step; take a smaller batch") from None
        return self._workspace


class Call:
    """One entry with its data bound. `sums` grows from run to run, one number for each result of the entry."""

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
        description = image.manifest.entries[entry]
        if team_size is None:
            team_size = threads.processors() if description.parallel else 1
        self._function = image.addresses[entry]
        self._team = threads.team(team_size)
        self._memory = memory
        self._workspace_bytes = description.working_memory(team_size)
        self._kept = (image, *arrays, *outputs, order)  # native code holds only addresses
        self._barrier = aligned(calls.barrier_bytes(team_size))
        self.sums = np.zeros(max(len(description.results), 1), np.float64) if sums is None else sums
        self._arguments = context.Arguments((ctypes.c_uint32 * 2)(*seed), epoch, 0)
        pointers = [address(array) for array in (*arrays, *outputs)]
        self._context = context.with_pointers(len(pointers))(
            state=address(memory.state),
            gradients=address(memory.gradients),
            threads=team_size,
            barrier=address(self._barrier),
            yield_=threads.yield_address(),
            order=None if order is None else address(order),
            sums=address(self.sums),
            arguments=ctypes.addressof(self._arguments),
        )
        for k, pointer in enumerate(pointers):
            self._context.pointers[k] = pointer

    def run(self, begin: int, end: int) -> int:
        """Runs examples [begin, end); the position up to which they were done, `end` unless `status` is not OK."""
        self._context.workspace = address(self._memory.workspace(self._workspace_bytes))
        self._context.begin, self._context.end = begin, end
        self._context.status, self._context.done = calls.OK, begin
        self._barrier[:] = 0
        self._team.call(self._function, self._context)
        return int(self._context.done)

    @property
    def status(self) -> int:
        return int(self._context.status)
