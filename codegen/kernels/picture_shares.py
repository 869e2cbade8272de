"""The pictures of each share of a sum over pictures: a part is one share, however many of them a call does."""

from __future__ import annotations

from collections.abc import Callable

from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import PART, UNTIL, Operand
from tapeless.codegen.nests.open_loops import OpenLoops
from tapeless.codegen.nests.sizes import Size

__all__ = ["over_shares"]


def over_shares(b: Builder, count: Size, shares: int, share: Callable[[Operand, Operand, Operand], None]) -> None:
    """Writes a share for each part of a call: its number, and the pictures that it begins with and ends before."""
    images = OpenLoops(b).size(count)
    each = b.arithmetic("div", b.arithmetic("add", images, index_constant(shares - 1)), index_constant(shares))
    turn = b.open_loop(PART, UNTIL, 1)
    with b.inside(turn.block):
        start = b.arithmetic("min", b.arithmetic("mul", turn.variable, each), images)
        share(turn.variable, start, b.arithmetic("min", b.arithmetic("add", start, each), images))
    b.close_loop(turn)
