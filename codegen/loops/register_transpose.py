"""The transpose of a square of registers, as many vectors as they have lanes, in log2(lanes) rounds of shuffles."""

from __future__ import annotations

from tapeless.codegen.loops.builder import Builder
from tapeless.codegen.loops.language import Operand

__all__ = ["exchange", "transposed"]


def exchange(lanes: int, step: int) -> tuple[list[int], list[int]]:
    """The choices among the lanes of two vectors that exchange their off-diagonal blocks of `step` lanes."""
    low = [k if not k & step else lanes + k - step for k in range(lanes)]
    high = [k + step if not k & step else lanes + k for k in range(lanes)]
    return low, high


def transposed(b: Builder, rows: list[Operand]) -> list[Operand]:
    """The transpose of a square of registers: round s exchanges the off-diagonal blocks of size s."""
    lanes = len(rows)
    rows = list(rows)
    step = 1
    while step < lanes:
        low, high = exchange(lanes, step)
        for k in range(lanes):
            if not k & step:
                rows[k], rows[k + step] = (
                    b.shuffle(rows[k], rows[k + step], low),
                    b.shuffle(rows[k], rows[k + step], high),
                )
        step *= 2
    return rows
