"""The places that a product's writers speak of: the block at hand, and tiles side by side."""

from __future__ import annotations

from dataclasses import dataclass

from tapeless.codegen.loops.language import Operand

__all__ = ["Block", "Ends", "Span"]

Ends = tuple[Operand, Operand]
"""From the first up to the last."""


@dataclass(frozen=True)
class Block:
    """The part of a product now done: all of it, if it is not done in blocks."""

    rows: Ends
    columns: Ends
    steps: Ends


@dataclass(frozen=True)
class Span:
    """Tiles side by side, each of so many rows or columns: a single one, or as many as there are up to `stop`. Unless
    they are `whole`, the last may have fewer; `narrow` is how many columns a single narrower one has.
    """

    start: Operand
    stop: Operand
    size: int
    single: bool = False
    whole: bool = True
    narrow: int = 0
