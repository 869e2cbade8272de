"""Cumulative sums and products and linear recurrences: one after the other along the axis, many lines at a time.

Lines that lie side by side are the lanes of vectors; along the last axis there is one line at a time.
"""

from __future__ import annotations

from tapeless.codegen.kernels.axis_walk import Single, each_line
from tapeless.codegen.kernels.planned import Planned, SharePlan, share_lines
from tapeless.codegen.loops.builder import index_constant
from tapeless.codegen.loops.language import Constant, Function, Operand, vector
from tapeless.ir.graph import Node
from tapeless.ir.ops.recurrence import RECURRENCES
from tapeless.ir.target import Target

__all__ = ["lower_recurrence"]


def lower_recurrence(node: Node, target: Target, capacity: int) -> Planned:
    kernel = Single(node, target, capacity, RECURRENCES)
    b, inner, axis = kernel.b, kernel.inner, kernel.inner.attrs["axis"]
    result = inner.result
    outer, inside = kernel.outer(result, axis), kernel.inside(result, axis)
    lanes = 1 if inside.known and inside.coefficient == 1 else target.lanes(result.type.dtype.computed.bytes)
    sources = [kernel.lines(operand, axis) for operand in inner.operands]
    into = kernel.lines(result, axis)
    type = vector(result.type.dtype.kind, lanes)
    turns = outer.at(capacity) * -(-inside.at(capacity) // lanes) * result.type.at(capacity)[axis]

    def line(row: Operand, column: Operand, mask: Operand | None) -> None:
        starts = [b.arithmetic("add", b.arithmetic("mul", row, lines.pitch), column) for lines in (*sources, into)]
        begin = Constant(type.record.number(inner.op == "cumprod"), type)
        loop = b.open_loop(index_constant(0), into.extent, 1, (begin,))
        with b.inside(loop.block):
            k: Operand = loop.variable
            if inner.attrs["reverse"]:
                k = b.arithmetic("sub", b.arithmetic("sub", into.extent, index_constant(1)), k)
            places = [
                b.arithmetic("add", start, b.arithmetic("mul", k, lines.step))
                for start, lines in zip(starts, (*sources, into), strict=True)
            ]
            taken = [
                b.load(lines.buffer, lines.kind, place, lanes, mask)
                for place, lines in zip(places, sources, strict=False)
            ]
            (known,) = loop.parameters
            if inner.op == "linear_scan":
                made = b.fma(taken[0], known, taken[1])
            elif inner.op == "strong_scan":
                zero = b.bits("or", b.compare("eq", taken[0], 0.0), b.compare("eq", known, 0.0))
                made = b.select(zero, taken[1], b.fma(taken[0], known, taken[1]))
            else:
                made = b.compute("add" if inner.op == "cumsum" else "mul", known, taken[0], type=type)
            b.store(into.buffer, places[-1], made, mask)
        b.close_loop(loop, (made,))

    def write(plan: SharePlan) -> Function:
        each_line(kernel, outer, inside, plan, line)
        return Function(node.attrs["name"], kernel.buffers, plan.parts, tuple(b.block))

    work = turns / target.machine.recurrences
    return Planned(share_lines(outer, inside, capacity, work, lanes, target.machine), write)
