"""Cholesky's factor and triangular systems: each row from those before it.

The factor's inner loops are products of two of its rows, which lie densely. A system's right sides are the lanes. Of
a stack of matrices each is a problem by itself, and parts share the stack.
"""

from __future__ import annotations

from tapeless.codegen.kernels.axis_walk import Single
from tapeless.codegen.kernels.planned import Planned, SharePlan, share_out
from tapeless.codegen.loops.builder import index_constant
from tapeless.codegen.loops.language import Constant, Function, Operand, vector
from tapeless.codegen.nests.accumulators import accumulator_of
from tapeless.codegen.nests.groups import part_range
from tapeless.codegen.nests.sizes import size_of
from tapeless.ir.graph import Node, Value
from tapeless.ir.target import Target

__all__ = ["lower_cholesky", "lower_triangular_solve"]


def share_stack(kernel: Single, result: Value, lanes: int, multiply_adds: float) -> SharePlan:
    """Parts of the stack, if there is one."""
    if result.type.rank == 2:
        return SharePlan(lanes)
    matrices = kernel.outer(result, result.type.rank - 2).at(kernel.capacity)
    work = matrices * multiply_adds / kernel.machine.eliminations
    return share_out(work, matrices, "stack", lanes, kernel.machine)


class Stack:
    """A loop over the matrices of a stack, cut into parts; none where there is one matrix. It is open from the
    start.
    """

    def __init__(self, kernel: Single, result: Value, plan: SharePlan) -> None:
        self.kernel, self.stacked = kernel, result.type.rank > 2
        if self.stacked:
            count, b = kernel.outer(result, result.type.rank - 2), kernel.b
            self.loop = b.open_loop(*part_range(b, kernel.sizes.size(count), plan.parts, 1), 1)
            self.outside, b.block = b.block, self.loop.block

    def start(self, value: Value) -> Operand:
        """Where the matrix at hand begins."""
        return (
            self.kernel.b.arithmetic("mul", self.loop.variable, self.kernel.strides(value)[-3])
            if self.stacked
            else index_constant(0)
        )

    def close(self) -> None:
        if self.stacked:
            self.kernel.b.block = self.outside
            self.kernel.b.close_loop(self.loop)


def lower_cholesky(node: Node, target: Target, capacity: int) -> Planned:
    """L[i, j] = (A[i, j] - sum_k<j L[i, k] L[j, k]) / L[j, j]; the diagonal is the root of what is left."""
    kernel = Single(node, target, capacity, ("cholesky",))
    result = kernel.inner.result
    lanes = target.lanes(result.type.dtype.computed.bytes)
    size = result.type.at(capacity)[-1]
    plan = share_stack(kernel, result, lanes, size**3 / 3)
    return Planned(plan, lambda plan: _write_cholesky(node, kernel, plan))


def _write_cholesky(node: Node, kernel: Single, plan: SharePlan) -> Function:
    b, (a,), result, lanes = kernel.b, kernel.inner.operands, kernel.inner.result, plan.lanes
    kind, n = result.type.dtype.kind, index_constant(result.type.at(kernel.capacity)[-1])
    source, into = kernel.buffer(a).name, kernel.buffer(result).name
    stack = Stack(kernel, result, plan)
    from_row, to_row = kernel.strides(a)[-2], kernel.strides(result)[-2]
    from_start, to_start = stack.start(a), stack.start(result)

    def place(row: Operand, column: Operand, step: Operand) -> Operand:
        start = to_start if step is to_row else from_start
        return b.arithmetic("add", start, b.arithmetic("add", b.arithmetic("mul", row, step), column))

    rows = b.open_loop(index_constant(0), n, 1)
    with b.inside(rows.block):
        i = rows.variable
        clear = b.open_loop(index_constant(0), n, lanes)
        with b.inside(clear.block):
            mask = b.first(b.arithmetic("sub", n, clear.variable), lanes) if lanes > 1 else None
            b.store(into, place(i, clear.variable, to_row), Constant(0.0, vector(kind, lanes)), mask)
        b.close_loop(clear)
        columns = b.open_loop(index_constant(0), b.arithmetic("add", i, index_constant(1)), 1)
        with b.inside(columns.block):
            j = columns.variable
            total = accumulator_of(b, "sum", vector(kind, lanes), 1)
            inner = b.open_loop(index_constant(0), j, lanes, total.initial())
            with b.inside(inner.block):
                k = inner.variable
                mask = b.first(b.arithmetic("sub", j, k), lanes) if lanes > 1 else None
                left, right = (b.load(into, kind, place(row, k, to_row), lanes, mask) for row in (i, j))
                yields = (b.fma(left, right, inner.parameters[0]),)
            known = total.across(b.close_loop(inner, yields))
            rest = b.sub(b.load(source, kind, place(i, j, from_row)), known)
            diagonal = b.load(into, kind, place(j, j, to_row))
            on = b.compare("eq", i, j)
            b.store(into, place(i, j, to_row), b.select(on, b.unary("sqrt", rest), b.div(rest, diagonal)))
        b.close_loop(columns)
    b.close_loop(rows)
    stack.close()
    return Function(node.attrs["name"], kernel.buffers, plan.parts, tuple(b.block))


def lower_triangular_solve(node: Node, target: Target, capacity: int) -> Planned:
    """Forward substitution, or backward where the factor is taken transposed; vectors run over the right sides."""
    kernel = Single(node, target, capacity, ("triangular_solve",))
    (_, right), result = kernel.inner.operands, kernel.inner.result
    size, width = right.type.at(capacity)[-2:]
    lanes = 1 if right.type.shape[-1] == 1 else target.lanes(result.type.dtype.computed.bytes)
    vectors = -(-width // lanes)
    multiply_adds = vectors * size * size / 2
    if result.type.rank > 2:
        plan = share_stack(kernel, result, lanes, multiply_adds)
    else:
        work = multiply_adds / kernel.machine.eliminations
        plan = share_out(work, vectors, "right sides", lanes, kernel.machine)
    return Planned(plan, lambda plan: _write_solve(node, kernel, plan))


def _write_solve(node: Node, kernel: Single, plan: SharePlan) -> Function:
    b, (factor, right), result, lanes = kernel.b, kernel.inner.operands, kernel.inner.result, plan.lanes
    transposed, kind = kernel.inner.attrs["transposed"], result.type.dtype.kind
    size = right.type.at(kernel.capacity)[-2]
    n, columns = index_constant(size), kernel.sizes.size(size_of(right.type.shape[-1]))
    factor_row, from_row, to_row = (kernel.strides(value)[-2] for value in (factor, right, result))
    source, into, lower = (kernel.buffer(value).name for value in (right, result, factor))
    stack = Stack(kernel, result, plan)
    factor_start, from_start, to_start = (stack.start(value) for value in (factor, right, result))
    start: Operand = index_constant(0)
    stop: Operand = columns
    if not stack.stacked:
        start, stop = part_range(b, columns, plan.parts, lanes)

    def at(base: Operand, row: Operand, step: Operand, column: Operand) -> Operand:
        return b.arithmetic("add", base, b.arithmetic("add", b.arithmetic("mul", row, step), column))

    chunk = b.open_loop(start, stop, lanes)
    with b.inside(chunk.block):
        j = chunk.variable
        mask = b.first(b.arithmetic("sub", stop, j), lanes) if lanes > 1 else None
        turn = b.open_loop(index_constant(0), n, 1)
        with b.inside(turn.block):
            row: Operand = turn.variable
            if transposed:
                row = b.arithmetic("sub", index_constant(size - 1), row)
            here = b.load(source, kind, at(from_start, row, from_row, j), lanes, mask)
            first = b.arithmetic("add", row, index_constant(1)) if transposed else index_constant(0)
            known = b.open_loop(first, n if transposed else row, 1, (here,))
            with b.inside(known.block):
                k = known.variable
                pair = (k, row) if transposed else (row, k)
                element = b.load(lower, kind, at(factor_start, pair[0], factor_row, pair[1]))
                solved = b.load(into, kind, at(to_start, k, to_row, j), lanes, mask)
                less = b.fma(b.unary("neg", b.splat(element, lanes)), solved, known.parameters[0])
            (rest,) = b.close_loop(known, (less,))
            diagonal = b.load(lower, kind, at(factor_start, row, factor_row, row))
            made = b.div(rest, b.splat(diagonal, lanes))
            b.store(into, at(to_start, row, to_row, j), made, mask)
        b.close_loop(turn)
    b.close_loop(chunk)
    stack.close()
    return Function(node.attrs["name"], kernel.buffers, plan.parts, tuple(b.block))
