"""The inner loop of products and of attention's: a tile of sums in registers, one step of k after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import Operand

__all__ = ["multiply"]


def multiply(
    b: Builder,
    steps: tuple[Operand, Operand],
    known: Sequence[Operand],
    left: Callable[[Operand], Iterable[Operand]],
    right: Callable[[Operand], Sequence[Operand]],
    meanwhile: Callable[[Operand], None] | None = None,
    every: int = 1,
) -> tuple[Operand, ...]:
    """The sums, row by row, after the steps of k from the first up to the last, on top of what is known.

    A step gives the vectors of a row of the right matrix, and then, one row of the tile after the other, the element of
    the left one in all lanes; each pair is a multiply-add. Something may be done `meanwhile`, before `every` so many
    steps: in a loop of its own, as the inner one is to hold nothing but what it multiplies.
    """
    if meanwhile is not None:
        outer = b.open_loop(*steps, every, known)
        with b.inside(outer.block):
            meanwhile(outer.variable)
            stop = b.arithmetic("min", b.arithmetic("add", outer.variable, index_constant(every)), steps[1])
            made = multiply(b, (outer.variable, stop), outer.parameters, left, right)
        return tuple(b.close_loop(outer, made))
    loop = b.open_loop(*steps, 1, known)
    with b.inside(loop.block):
        vectors = right(loop.variable)
        sums: list[Operand] = []
        for element in left(loop.variable):
            for vector in vectors:
                sums.append(b.fma(element, vector, loop.parameters[len(sums)]))
    return tuple(b.close_loop(loop, sums))
