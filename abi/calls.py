"""The calling convention of native entries.

    int32_t entry(tl_context *context, int32_t thread)

A context is a row of fields, behind which the pointers follow that an entry takes: of its data and of the carries
that come in, then of its outputs and of the carries that go out. Pointers have the size of the machine's; numbers
are 64 bits, and aligned so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# bytes, a cache line and the widest vector: what blocks are aligned to, what lies between the barrier's flags, and
# between two carries in a block
LINE = 64
NUMBER = 8  # bytes of a field that is no pointer


@dataclass(frozen=True)
class Field:
    """A field: its name and type as C writes them, and what it is for."""

    name: str
    type: str
    meaning: str = ""

    @property
    def is_pointer(self) -> bool:
        return "*" in self.type


CONTEXT = (
    Field("state", "void *"),
    Field("gradients", "void *"),
    Field("workspace", "void *"),
    Field("threads", "int64_t"),
    Field("barrier", "void *", f"zeroed, aligned to {LINE} bytes, {LINE} bytes for each thread and {LINE} more"),
    Field("yield_", "void (*)(void)", "called by a thread that has waited long; may be null"),
    Field("begin", "int64_t"),
    Field("end", "int64_t", "examples [begin, end), in batches"),
    Field("order", "const int32_t *", "row numbers; null: rows as they lie"),
    Field("sums", "double *", "for each result, value times rows is added"),
    Field("arguments", "void *", "uint32_t seed[2]; int32_t epoch; int32_t unused"),
    Field("status", "int64_t", "0, or 1: the loss was not finite"),
    Field("done", "int64_t", "examples up to this one are finished"),
)
ARGUMENTS = {"seed": 0, "epoch": 8}  # bytes from the start of what `arguments` points to
ARGUMENT_BYTES = 16
OK, NOT_FINITE = 0, 1  # what `status` says


def offsets(pointer: int) -> dict[str, int]:
    """Where each field lies, in bytes, on a machine whose pointers have so many."""
    made, at = {}, 0
    for field in CONTEXT:
        size = pointer if field.is_pointer else NUMBER
        at = -(-at // size) * size
        made[field.name] = at
        at += size
    return made


def pointers_at(pointer: int) -> int:
    """Where the pointers of data and outputs begin: behind the last field."""
    return -(-(offsets(pointer)[CONTEXT[-1].name] + NUMBER) // NUMBER) * NUMBER


def pointer_count(data: int, outputs: int, carries: int) -> int:
    """How many pointers an entry takes: a carry comes in and goes out."""
    return data + outputs + 2 * carries


def barrier_bytes(threads: int) -> int:
    """The size of the block that `barrier` points to."""
    return LINE * (threads + 1)


def carry_offsets(sizes: Sequence[int]) -> list[int]:
    """Where carries of these sizes lie in their block, and its size."""
    made = [0]
    for size in sizes:
        made.append(made[-1] + -(-size // LINE) * LINE)
    return made
