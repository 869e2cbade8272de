"""The memory plan: where every tensor of an entry lies.

State and gradients are blocks whose layout all entries share (`StateLayout`). Everything else is workspace: tensors
whose lifetimes, counted in phases, do not overlap share memory. Nothing is allocated while a step runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tapeless.abi.calls import LINE
from tapeless.ir.graph import Value
from tapeless.ir.types import Tensor


@dataclass(frozen=True)
class Place:
    """A base (state, gradients, workspace, scratch, arguments, or the name of data or an output after a dot) and an
    offset.
    """

    base: str
    offset: int = 0

    @staticmethod
    def parse(text: str) -> Place:
        base, _, offset = text.rpartition("+")
        return Place(base, int(offset))

    def __str__(self) -> str:
        return f"{self.base}+{self.offset}"


@dataclass(frozen=True)
class Layout:
    """One block of named tensors, each at a multiple of 64 bytes."""

    offsets: Mapping[str, int]
    bytes: int


def layout(tensors: Sequence[tuple[str, Tensor]]) -> Layout:
    """Tensors of constant shape, one after another."""
    offsets, end = {}, 0
    for name, type in tensors:
        offsets[name] = end
        end = align(end + type.bytes(0))
    return Layout(offsets, end)


def align(count: int) -> int:
    return -(-count // LINE) * LINE


@dataclass(frozen=True)
class Lifetime:
    """A piece of workspace, for a value or for what a loop needs for itself: its size in bytes, and the
    first and last phase in which it must hold.
    """

    key: tuple[Value, str]
    bytes: int
    first: int
    last: int


def place_workspace(lifetimes: Sequence[Lifetime]) -> tuple[dict[tuple[Value, str], int], int]:
    """Offsets for pieces of workspace, and the size of the whole.

    Largest first, each at the lowest offset that is free during its whole lifetime (first-fit decreasing).
    """
    placed: list[tuple[int, Lifetime]] = []
    offsets: dict[tuple[Value, str], int] = {}
    size = 0
    for piece in sorted(lifetimes, key=lambda piece: -piece.bytes):
        offset = 0
        for start, other in sorted(placed, key=lambda item: item[0]):
            apart = other.last < piece.first or piece.last < other.first
            if apart or start + other.bytes <= offset:
                continue
            if start >= offset + piece.bytes:
                break
            offset = align(start + other.bytes)
        placed.append((offset, piece))
        offsets[piece.key] = offset
        size = max(size, align(offset + piece.bytes))
    return offsets, size
