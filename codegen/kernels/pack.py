"""Copies of matrices into the layout that a product reads well: transposed, or with padded rows.

A transpose goes through square tiles in registers: as many rows as a vector has lanes are loaded, exchanged in
log2(lanes) rounds of shuffles, and stored as rows of the result. A copy that is not a transpose is a nest.
"""

from __future__ import annotations

from tapeless.codegen.kernels.nests import lower_nest
from tapeless.codegen.kernels.planned import Planned, SharePlan, share_out
from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import Function, Instruction, Operand
from tapeless.codegen.loops.register_transpose import transposed
from tapeless.codegen.nests.groups import buffers_of, part_range
from tapeless.codegen.nests.open_loops import OpenLoops
from tapeless.codegen.nests.sizes import dense, size_of
from tapeless.ir.graph import Node
from tapeless.ir.target import Target

__all__ = ["lower_pack"]


def lower_pack(node: Node, target: Target, capacity: int) -> Planned:
    region = node.regions[0]
    value = region.inputs[0].value
    dtype = value.type.dtype
    lanes = target.lanes(dtype.computed.bytes)
    ops = [inner.op for inner in region.nodes]
    # A matrix narrower than a tile would waste most of it, and is as well gathered.
    narrow = any(size_of(dim).at(capacity) < lanes for dim in value.type.shape)
    if ops != ["transpose"] or value.type.rank != 2 or lanes == 1 or dtype.record.is_boolean or narrow:
        return lower_nest(node, target, capacity)
    sizes = [size_of(dim).at(capacity) for dim in value.type.shape]
    rows, columns = (-(-size // lanes) for size in sizes)
    work = rows * columns / target.machine.transposed_tiles
    plan = share_out(work, columns, "columns", lanes, target.machine)
    return Planned(plan, lambda plan: _Transpose(node, target, plan).function())


class _Transpose:
    """result[j, i] = operand[i, j]"""

    def __init__(self, node: Node, target: Target, plan: SharePlan) -> None:
        self.node, self.lanes, self.parts = node, plan.lanes, plan.parts
        self.b = Builder(target)
        self.buffers = buffers_of(node)
        region, leading = node.regions[0], node.attrs["leading"]
        source, result = region.inputs[0].value.type, region.outputs[0].value.type
        self.kind = source.dtype.kind
        sizes = [size_of(dim) for dim in source.shape]
        loops = OpenLoops(self.b)
        self.rows, self.columns = (loops.size(size) for size in sizes)
        self.ld_source = loops.size(dense(source.shape, leading[0])[0])
        self.ld_result = loops.size(dense(result.shape, leading[1])[0])
        self.exact = all(size.known and size.coefficient % self.lanes == 0 for size in sizes)

    def function(self) -> Function:
        b, lanes = self.b, self.lanes
        start, stop = part_range(b, self.columns, self.parts, lanes)
        over_columns = b.open_loop(start, stop, lanes)
        over_rows = b.open_loop(index_constant(0), self.rows, lanes)
        with b.inside(over_rows.block):
            i, j = over_rows.variable, over_columns.variable
            if self.exact:
                self.tile(i, j, None)
            else:
                rows_left, columns_left = b.arithmetic("sub", self.rows, i), b.arithmetic("sub", self.columns, j)
                least = b.arithmetic("min", rows_left, columns_left)
                whole: list[Instruction] = []
                edge: list[Instruction] = []
                with b.inside(whole):
                    self.tile(i, j, None)
                with b.inside(edge):
                    self.tile(i, j, (rows_left, columns_left))
                b.conditional(b.compare("le", index_constant(lanes), least), whole, (), edge)
        with b.inside(over_columns.block):
            b.close_loop(over_rows)
        b.close_loop(over_columns)
        return Function(self.node.attrs["name"], self.buffers, self.parts, tuple(b.block))

    def tile(self, i: Operand, j: Operand, left: tuple[Operand, Operand] | None) -> None:
        """One square; where less than a whole one is `left` of rows and columns, the rest is neither read nor
        written: rows are held at the last one, columns are masked."""
        b, lanes = self.b, self.lanes
        source, result = (buffer.name for buffer in self.buffers)
        mask = None if left is None else b.first(left[1], lanes)
        rows: list[Operand] = []
        for k in range(lanes):
            row: Operand = index_constant(k)
            if left is not None and k:
                row = b.arithmetic("min", row, b.arithmetic("sub", left[0], index_constant(1)))
            index = b.arithmetic("add", b.arithmetic("mul", b.arithmetic("add", i, row), self.ld_source), j)
            rows.append(b.load(source, self.kind, index, lanes, mask))
        rows = transposed(b, rows)
        for k, value in enumerate(rows):
            index = b.arithmetic(
                "add", b.arithmetic("mul", b.arithmetic("add", j, index_constant(k)), self.ld_result), i
            )
            if left is None:
                b.store(result, index, value)
            else:
                there = b.compare("lt", index_constant(k), left[1])
                count = b.select(there, left[0], index_constant(0))
                b.store(result, index, value, b.first(count, lanes))
