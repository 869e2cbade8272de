"""The argument of every native entry as ctypes has it; what lies where is told by `tapeless.abi.calls`."""

from __future__ import annotations

import ctypes
from functools import cache

from tapeless.abi.calls import ARGUMENT_BYTES, CONTEXT
from tapeless.runtime.arguments import whole


class Context(ctypes.Structure):
    """The fixed part; `with_pointers(n)` makes the whole."""

    _fields_ = tuple((field.name, ctypes.c_void_p if field.is_pointer else ctypes.c_int64) for field in CONTEXT)


class Arguments(ctypes.Structure):
    """What `init` and `permutation` are asked for."""

    _fields_ = (("seed", ctypes.c_uint32 * 2), ("epoch", ctypes.c_int32), ("unused", ctypes.c_int32))


assert ctypes.sizeof(Arguments) == ARGUMENT_BYTES


@cache
def with_pointers(count: int) -> type[Context]:
    """The context's type for an entry with `count` data and output pointers (at least one is kept, as C wants)."""
    fields = (("pointers", ctypes.c_void_p * max(count, 1)),)
    return type(f"Context{count}", (Context,), {"_fields_": fields})


def seed_words(seed: int) -> tuple[int, int]:
    """A seed of up to 64 bits as the two words of the random generator's key, the low one first."""
    seed = whole("seed", seed, 0, (1 << 64) - 1)
    return seed & 0xFFFFFFFF, seed >> 32
