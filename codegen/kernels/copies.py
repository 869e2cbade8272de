"""Copies of what a product reads, into its scratch: rows as they are, and squares of registers transposed."""

from __future__ import annotations

from collections.abc import Callable

from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import Operand
from tapeless.codegen.loops.register_transpose import transposed

__all__ = ["Reader", "copy_row", "copy_transposed"]

Reader = Callable[[Operand, Operand | None], Operand]
"""The vector from an index on, under a mask."""
Ends = tuple[Operand, Operand]


def _vectors(b: Builder, ends: Ends, lanes: int, whole: bool, copy: Callable[[Operand, Operand | None], None]) -> None:
    """A vector at a time from the first index up to the last, the rest under a mask unless all are `whole`."""
    first, last = ends
    middle = last
    if not whole and lanes > 1:
        count = b.arithmetic("sub", last, first)
        vectors = b.arithmetic("div", count, index_constant(lanes))
        middle = b.arithmetic("add", first, b.arithmetic("mul", vectors, index_constant(lanes)))
    loop = b.open_loop(first, middle, lanes)
    with b.inside(loop.block):
        copy(loop.variable, None)
    b.close_loop(loop)
    if middle != last:
        rest = b.open_loop(middle, last, lanes)
        with b.inside(rest.block):
            copy(rest.variable, b.first(b.arithmetic("sub", last, rest.variable), lanes))
        b.close_loop(rest)


def copy_row(b: Builder, read: Reader, into: Operand, ends: Ends, lanes: int, whole: bool) -> None:
    """Elements from the first up to the last, each to `into` plus its index."""

    def copy(k: Operand, mask: Operand | None) -> None:
        b.store("scratch", b.arithmetic("add", into, k), read(k, mask), mask)

    _vectors(b, ends, lanes, whole, copy)


def copy_transposed(
    b: Builder,
    read: Callable[[int, Operand, Operand | None], Operand],
    into: Operand,
    ends: Ends,
    lanes: int,
    apart: int,
    whole: bool,
) -> None:
    """As many rows as there are lanes, from the first element up to the last, as columns: a vector for each element,
    `apart` from each other. What lies behind the last one, up to a whole square, is overwritten.
    """

    def copy(k: Operand, mask: Operand | None) -> None:
        columns = transposed(b, [read(lane, k, mask) for lane in range(lanes)])
        start = b.arithmetic("add", into, b.arithmetic("mul", b.arithmetic("sub", k, ends[0]), index_constant(apart)))
        for step, column in enumerate(columns):
            b.store("scratch", b.arithmetic("add", start, index_constant(step * apart)), column)

    _vectors(b, ends, lanes, whole, copy)
