"""Sorting by merging, and reading and adding at places along an axis: one line at a time, element by element.

The places of a line are merged from runs of 1, 2, 4, ... in two halves of scratch that take turns. The count of rounds
is that of the longest line there can be: rounds beyond a shorter line's end only copy it.
"""

from __future__ import annotations

import math

from tapeless.abi.dtypes import INDEX, INTEGER
from tapeless.codegen.kernels.axis_walk import Lines, Single, each_line
from tapeless.codegen.kernels.planned import Planned, SharePlan, share_lines
from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import Buffer, Constant, Function, Operand, Value, vector
from tapeless.ir.graph import Node
from tapeless.ir.target import Target

__all__ = ["lower_along", "lower_argsort"]

I32 = vector(INTEGER, 1)


def lower_argsort(node: Node, target: Target, capacity: int) -> Planned:
    kernel = Single(node, target, capacity, ("argsort",))
    b, inner, axis = kernel.b, kernel.inner, kernel.inner.attrs["axis"]
    (x,) = inner.operands
    values, order = kernel.lines(x, axis), kernel.lines(inner.result, axis)
    longest = max(1, x.type.at(capacity)[axis])
    rounds = max(0, math.ceil(math.log2(longest)))
    outer, inside = kernel.outer(x, axis), kernel.inside(x, axis)
    scratch = Buffer("scratch", INTEGER, "scratch", -(-2 * longest * I32.bytes // 64) * 64)

    def line(row: Operand, column: Operand, mask: Operand | None) -> None:
        start = b.arithmetic("add", b.arithmetic("mul", row, values.pitch), column)
        into = b.arithmetic("add", b.arithmetic("mul", row, order.pitch), column)
        fill = b.open_loop(index_constant(0), values.extent, 1)
        with b.inside(fill.block):
            b.store("scratch", fill.variable, b.convert(fill.variable, INTEGER))
        b.close_loop(fill)
        merger = _Merger(b, values, start, longest, inner.attrs["descending"])
        turn = b.open_loop(index_constant(0), index_constant(rounds), 1)
        with b.inside(turn.block):
            merger.round(turn.variable)
        if rounds:
            b.close_loop(turn)
        copy = b.open_loop(index_constant(0), values.extent, 1)
        with b.inside(copy.block):
            place = b.load("scratch", INTEGER, b.arithmetic("add", copy.variable, index_constant(rounds % 2 * longest)))
            b.store(order.buffer, b.arithmetic("add", into, b.arithmetic("mul", copy.variable, order.step)), place)
        b.close_loop(copy)

    def write(plan: SharePlan) -> Function:
        each_line(kernel, outer, inside, plan, line)
        return Function(node.attrs["name"], (*kernel.buffers, scratch), plan.parts, tuple(b.block))

    work = outer.at(capacity) * inside.at(capacity) * longest * (rounds + 1) / target.machine.merges
    return Planned(share_lines(outer, inside, capacity, work, 1, target.machine), write)


class _Merger:
    """Merges neighbouring runs of one line's places."""

    def __init__(self, b: Builder, values: Lines, start: Operand, longest: int, descending: bool) -> None:
        self.b, self.values, self.start = b, values, start
        self.longest, self.descending = longest, descending

    def round(self, number: Operand) -> None:
        """Runs of 2**number become runs of twice that."""
        b, n = self.b, self.values.extent
        width = b.bits("shl", index_constant(1), number)
        source = b.arithmetic("mul", b.bits("and", number, 1), index_constant(self.longest))
        target = b.arithmetic("sub", index_constant(self.longest), source)
        twice = b.add(width, width)
        runs = b.bits("shr", b.sub(b.add(n, twice), index_constant(1)), b.arithmetic("add", number, index_constant(1)))
        run = b.open_loop(index_constant(0), runs, 1)
        with b.inside(run.block):
            low = b.mul(run.variable, twice)
            middle = b.arithmetic("min", b.add(low, width), n)
            high = b.arithmetic("min", b.add(low, twice), n)
            step = b.open_loop(low, high, 1, (low, middle))
            with b.inside(step.block):
                left, right = step.parameters
                here, x = self.element(source, left)
                there, y = self.element(source, right)
                spent = b.compare("le", middle, left)
                remains = b.compare("lt", right, high)
                takes = b.bits("or", spent, b.bits("and", remains, self.before(y, x)))
                b.store("scratch", b.arithmetic("add", target, step.variable), b.select(takes, there, here))
                one, zero = index_constant(1), index_constant(0)
                yields = (b.add(left, b.select(takes, zero, one)), b.add(right, b.select(takes, one, zero)))
            b.close_loop(step, yields)
        b.close_loop(run)

    def element(self, source: Operand, place: Operand) -> tuple[Value, Value]:
        """The place in the line that stands at `place` of the half of scratch, and its value; held at the last one."""
        b = self.b
        last = b.arithmetic("sub", self.values.extent, index_constant(1))
        index = b.load("scratch", INTEGER, b.arithmetic("add", source, b.arithmetic("min", place, last)))
        wide = b.convert(index, INDEX)
        at = b.arithmetic("add", self.start, b.arithmetic("mul", wide, self.values.step))
        return index, b.load(self.values.buffer, self.values.kind, at)

    def before(self, y: Operand, x: Operand) -> Value:
        """Whether y, which stands after x, goes before it: NaN goes last."""
        b = self.b
        less = b.compare("lt", x, y) if self.descending else b.compare("lt", y, x)
        return b.bits("or", less, b.bits("and", b.compare("ne", x, x), b.compare("eq", y, y)))


def lower_along(node: Node, target: Target, capacity: int) -> Planned:
    """take_along: result[k] = x[index[k]]; put_along: result[index[k]] += updates[k], from zeros."""
    kernel = Single(node, target, capacity, ("take_along", "put_along"))
    b, inner, axis = kernel.b, kernel.inner, kernel.inner.attrs["axis"]
    taking = inner.op == "take_along"
    x, index = inner.operands
    source, places, into = (kernel.lines(value, axis) for value in (x, index, inner.result))
    outer, inside = kernel.outer(index, axis), kernel.inside(index, axis)
    table = source if taking else into

    def line(row: Operand, column: Operand, mask: Operand | None) -> None:
        def at(lines: Lines, k: Operand) -> Operand:
            start = b.arithmetic("add", b.arithmetic("mul", row, lines.pitch), column)
            return b.arithmetic("add", start, b.arithmetic("mul", k, lines.step))

        if not taking:
            clear = b.open_loop(index_constant(0), into.extent, 1)
            with b.inside(clear.block):
                b.store(into.buffer, at(into, clear.variable), Constant(0.0, vector(into.kind, 1)))
            b.close_loop(clear)
        last = b.arithmetic("sub", table.extent, index_constant(1))
        turn = b.open_loop(index_constant(0), places.extent, 1)
        with b.inside(turn.block):
            k = turn.variable
            found = b.convert(b.load(places.buffer, INTEGER, at(places, k)), INDEX)
            found = b.arithmetic("max", b.arithmetic("min", found, last), index_constant(0))
            if taking:
                b.store(into.buffer, at(into, k), b.load(source.buffer, source.kind, at(source, found)))
            else:
                update = b.load(source.buffer, source.kind, at(source, k))
                known = b.load(into.buffer, into.kind, at(into, found))
                b.store(into.buffer, at(into, found), b.add(known, update))
        b.close_loop(turn)

    def write(plan: SharePlan) -> Function:
        each_line(kernel, outer, inside, plan, line)
        return Function(node.attrs["name"], kernel.buffers, plan.parts, tuple(b.block))

    moves = index.type.at(capacity)[axis] + inner.result.type.at(capacity)[axis]
    work = outer.at(capacity) * inside.at(capacity) * moves / target.machine.merges
    return Planned(share_lines(outer, inside, capacity, work, 1, target.machine), write)
