"""scatter_add: rows added into a table at computed places.

Updates are taken one after the other, so that equal indices add in their order; parts and vectors divide the columns.
An index outside the table is clamped into it.
"""

from __future__ import annotations

from tapeless.abi.dtypes import INDEX, INTEGER
from tapeless.codegen.kernels.planned import Planned, SharePlan, share_out
from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import Constant, Function, Operand, vector
from tapeless.codegen.nests.analysis import LoweringError
from tapeless.codegen.nests.groups import buffers_of, part_range
from tapeless.codegen.nests.open_loops import OpenLoops
from tapeless.codegen.nests.sizes import Size, dense, product, size_of
from tapeless.ir.graph import Node
from tapeless.ir.target import Target

__all__ = ["lower_scatter"]


def lower_scatter(node: Node, target: Target, capacity: int) -> Planned:
    region, leading = node.regions[0], node.attrs["leading"]
    if [inner.op for inner in region.nodes] != ["scatter_add"]:
        raise LoweringError(f"kernel {node.attrs['name']}: one scatter_add and nothing else")
    scatter = region.nodes[0]
    updates, index = scatter.operands
    result = scatter.result
    b = Builder(target)
    buffers = buffers_of(node)
    places = {port.value: place for place, port in enumerate(region.inputs)}
    columns, count = product(result.type.shape[1:]), product(index.type.shape)
    lanes = target.lanes(result.type.dtype.computed.bytes) if columns != Size(1) else 1
    kind = result.type.dtype.kind
    loops = OpenLoops(b)
    update_leading, result_leading = leading[places[updates]], leading[-1]
    from_step = loops.size(Size(update_leading) if update_leading and updates.type.rank == 2 else columns)
    to_step = loops.size(dense(result.type.shape, result_leading)[0])
    rows, total, width = loops.size(size_of(result.type.shape[0])), loops.size(count), loops.size(columns)
    vectors = -(-columns.at(capacity) // lanes)
    table_rows = result.type.shape[0] if isinstance(result.type.shape[0], int) else 0
    work = vectors * (count.at(capacity) + table_rows) / target.machine.scattered
    names = [buffer.name for buffer in buffers]
    source, where, into = names[places[updates]], names[places[index]], names[-1]

    def write(plan: SharePlan) -> Function:
        start, stop = part_range(b, width, plan.parts, lanes)
        chunk = b.open_loop(start, stop, lanes)
        with b.inside(chunk.block):
            j = chunk.variable
            mask: Operand | None = None
            if lanes > 1 and not (columns.known and columns.coefficient % lanes == 0):
                mask = b.first(b.arithmetic("sub", stop, j), lanes)
            clear = b.open_loop(index_constant(0), rows, 1)
            with b.inside(clear.block):
                place = b.arithmetic("add", b.arithmetic("mul", clear.variable, to_step), j)
                b.store(into, place, Constant(0.0, vector(kind, lanes)), mask)
            b.close_loop(clear)
            last = b.arithmetic("sub", rows, index_constant(1))
            turn = b.open_loop(index_constant(0), total, 1)
            with b.inside(turn.block):
                row = b.convert(b.load(where, INTEGER, turn.variable), INDEX)
                row = b.arithmetic("max", b.arithmetic("min", row, last), index_constant(0))
                place = b.arithmetic("add", b.arithmetic("mul", row, to_step), j)
                update = b.load(
                    source, kind, b.arithmetic("add", b.arithmetic("mul", turn.variable, from_step), j), lanes, mask
                )
                b.store(into, place, b.add(b.load(into, kind, place, lanes, mask), update), mask)
            b.close_loop(turn)
        b.close_loop(chunk)
        return Function(node.attrs["name"], buffers, plan.parts, tuple(b.block))

    return Planned(share_out(work, vectors, "columns", lanes, target.machine), write)
