"""Memory for programs: 64-byte-aligned blocks held by NumPy, and named views into them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeless.abi.calls import LINE
from tapeless.runtime.errors import UserError
from tapeless.runtime.manifest import Block, Slot

Bytes = npt.NDArray[np.uint8]
Array = npt.NDArray[Any]


def aligned(count: int, zeroed: bool = True) -> Bytes:
    """`count` bytes that begin at a multiple of 64; NumPy itself promises only 16. `zeroed`, or as they happen to
    be.
    """
    raw = (np.zeros if zeroed else np.empty)(count + LINE, np.uint8)
    start = -raw.ctypes.data % LINE
    return raw[start : start + count]


def address(array: Array) -> int:
    return int(array.ctypes.data)


class Views(Mapping[str, Array]):
    """Live views of a block by slot name: writing to `views["h.W"][...]` writes to the program's memory."""

    def __init__(self, memory: Bytes, slots: tuple[Slot, ...]) -> None:
        self._views = {
            slot.name: memory[slot.offset : slot.offset + slot.size * slot.dtype.itemsize]
            .view(slot.dtype)
            .reshape(slot.shape)
            for slot in slots
        }

    def __getitem__(self, name: str) -> Array:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {view.dtype} {list(view.shape)}" for name, view in self._views.items())


def block(description: Block) -> tuple[Bytes, Views]:
    """Memory for a block, zeroed, and all its slots by name. Raises UserError where there is not so much."""
    try:
        memory = aligned(description.bytes)
    except MemoryError:
        raise UserError(
            f"there is no memory for the {description.bytes:,} bytes of the parameters and what goes with them"
        ) from None
    return memory, Views(memory, description.slots)
