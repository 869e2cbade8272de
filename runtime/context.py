"""The argument of every native entry: `tl_context`, a row of eight-byte fields, then the pointers of the data.

The layout is shared with the code generator and with the C header that `tapeless build` writes; all three state it.
"""

from __future__ import annotations

import ctypes
from functools import cache

from tapeless.runtime.arguments import whole

OK = 0
NOT_FINITE = 1


class Context(ctypes.Structure):
    """The fixed part; `with_pointers(n)` makes the whole."""

    _fields_ = (
        ("state", ctypes.c_void_p),
        ("gradients", ctypes.c_void_p),
        ("workspace", ctypes.c_void_p),
        ("threads", ctypes.c_int64),
        ("barrier", ctypes.c_void_p),  # zeroed; 64 bytes for each thread and 64 more
        ("yield_", ctypes.c_void_p),  # void (*)(void), called by a thread that has waited long; may be null
        ("begin", ctypes.c_int64),
        ("end", ctypes.c_int64),
        ("order", ctypes.c_void_p),  # int32 row numbers; null: rows as they lie
        ("sums", ctypes.c_void_p),  # double for each result: values times rows are added
        ("arguments", ctypes.c_void_p),
        ("status", ctypes.c_int64),
        ("done", ctypes.c_int64),  # absolute position up to which examples are finished
    )


class Arguments(ctypes.Structure):
    """What `init` and `permutation` are asked for."""

    _fields_ = (("seed", ctypes.c_uint32 * 2), ("epoch", ctypes.c_int32), ("padding", ctypes.c_int32))


@cache
def with_pointers(count: int) -> type[Context]:
    """The context's type for an entry with `count` data and output pointers (at least one is kept, as C wants)."""
    fields = (("pointers", ctypes.c_void_p * max(count, 1)),)
    return type(f"Context{count}", (Context,), {"_fields_": fields})


def seed_words(seed: int) -> tuple[int, int]:
    """A seed of up to 64 bits as the two words of the random generator's key, the low one first."""
    seed = whole("seed", seed, 0, (1 << 64) - 1)
    return seed & 0xFFFFFFFF, seed >> 32
