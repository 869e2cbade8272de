"""Lines of a tensor along one axis, for kernels that walk an axis in order.

A tensor is seen as outer x axis x inner: elements of a line are `step` apart, neighbouring inner places are adjacent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tapeless.codegen.kernels.planned import OUTER, SharePlan
from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import Buffer, Operand
from tapeless.codegen.nests.analysis import LoweringError
from tapeless.codegen.nests.groups import buffers_of, part_range
from tapeless.codegen.nests.open_loops import OpenLoops
from tapeless.codegen.nests.sizes import Size, dense, product, size_of
from tapeless.ir.graph import Node, Value
from tapeless.ir.target import Target

__all__ = ["Lines", "Single", "each_line"]


@dataclass(frozen=True)
class Lines:
    """Where the lines of one buffer lie: line (outer, inner) begins at outer * pitch + inner."""

    buffer: str
    kind: str
    extent: Operand
    step: Operand
    pitch: Operand


class Single:
    """A kernel of one operation: its buffers, and their strides as operands of the loop IR."""

    def __init__(self, node: Node, target: Target, capacity: int, ops: Sequence[str]) -> None:
        region = node.regions[0]
        if len(region.nodes) != 1 or region.nodes[0].op not in ops:
            raise LoweringError(f"kernel {node.attrs['name']}: one {' or '.join(ops)} and nothing else")
        (self.inner,) = region.nodes
        self.b = Builder(target)
        self.machine, self.capacity = target.machine, capacity
        self.buffers = buffers_of(node)
        self.sizes = OpenLoops(self.b)
        self._leading = node.attrs["leading"]
        self._places = {port.value: place for place, port in enumerate(region.inputs)}
        self._places[self.inner.result] = len(region.inputs)

    def buffer(self, value: Value) -> Buffer:
        return self.buffers[self._places[value]]

    def strides(self, value: Value) -> list[Operand]:
        return [self.sizes.size(s) for s in dense(value.type.shape, self._leading[self._places[value]])]

    def lines(self, value: Value, axis: int) -> Lines:
        strides, shape = self.strides(value), value.type.shape
        buffer = self.buffer(value)
        pitch = strides[axis - 1] if axis else index_constant(0)
        return Lines(buffer.name, buffer.kind, self.sizes.size(size_of(shape[axis])), strides[axis], pitch)

    def outer(self, value: Value, axis: int) -> Size:
        return product(value.type.shape[:axis])

    def inside(self, value: Value, axis: int) -> Size:
        return product(value.type.shape[axis + 1 :])


def each_line(
    kernel: Single, outer: Size, inner: Size, plan: SharePlan, body: Callable[[Operand, Operand, Operand | None], None]
) -> None:
    """Loops over outer and inner places, some inner ones at a time under a mask where they are not all there."""
    b, lanes, parts, by_rows = kernel.b, plan.lanes, plan.parts, plan.along == OUTER
    zero: Operand = index_constant(0)
    ranges = {True: (zero, kernel.sizes.size(outer)), False: (zero, kernel.sizes.size(inner))}
    ranges[by_rows] = part_range(b, ranges[by_rows][1], parts, 1 if by_rows else lanes)
    over_rows = b.open_loop(*ranges[True], 1)
    over_columns = b.open_loop(*ranges[False], lanes)
    with b.inside(over_columns.block):
        mask = None
        if lanes > 1 and not (inner.known and inner.coefficient % lanes == 0):
            mask = b.first(b.arithmetic("sub", ranges[False][1], over_columns.variable), lanes)
        body(over_rows.variable, over_columns.variable, mask)
    with b.inside(over_rows.block):
        b.close_loop(over_columns)
    b.close_loop(over_rows)
