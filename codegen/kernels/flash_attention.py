"""Attention without its scores, and its derivative: a block of queries meets the keys block by block.

Forward, the softmax goes on from one block to the next: the weights exp(score - greatest so far) times the values
are added to what was gathered before, which shrinks as the greatest score grows; at the end rows are divided by
their total. Backward, a first pass over the keys finds the greatest scores and totals again, a second one the
weights and their adjoints.
"""

from __future__ import annotations

from tapeless.abi.dtypes import INTEGER
from tapeless.codegen.kernels.attention_plan import AttentionPlan, plan_attention
from tapeless.codegen.kernels.flash_blocks import Blocks, Matrix
from tapeless.codegen.kernels.planned import Planned
from tapeless.codegen.loops.builder import index_constant
from tapeless.codegen.loops.language import Constant, Function, Operand, vector
from tapeless.codegen.vectormath import FUNCTIONS
from tapeless.ir.graph import Node
from tapeless.ir.target import Target

__all__ = ["lower_attention", "lower_attention_gradient"]


def lower_attention(node: Node, target: Target, capacity: int) -> Planned:
    return Planned(
        plan_attention(node, target.machine, capacity), lambda plan: _write_attention(node, target, capacity, plan)
    )


def lower_attention_gradient(node: Node, target: Target, capacity: int) -> Planned:
    return Planned(
        plan_attention(node, target.machine, capacity), lambda plan: _write_gradient(node, target, capacity, plan)
    )


def _write_attention(node: Node, target: Target, capacity: int, plan: AttentionPlan) -> Function:
    x = Blocks(node, target, capacity, "attention", plan)
    rows = x.rows
    scratch = {
        "scores": rows * x.block,
        "gathered": rows * x.vectors_of(x.e) * x.lanes,
        "totals": rows * x.lanes,
        "greatest": rows,
        "factor": rows,
    }
    result = x.kernel.buffer(x.inner.result).name

    def group(serving: Operand) -> None:
        keys = Matrix(x.source(1), x.at(0, (serving, x.d * x.m)), x.m)
        values = Matrix(x.source(2), x.at(0, (serving, x.m * x.e)), x.e)

        def head(turn: Operand) -> None:
            head = x.at(turn, (serving, x.shared))
            queries = Matrix(x.source(0), x.at(0, (head, x.n * x.d)), x.d)
            into = Matrix(result, x.at(0, (head, x.n * x.e)), x.e)
            counted = x.keys_of(head, 3)

            def block(i: Operand) -> None:
                x.begin()
                x.clear("scratch", index_constant(x.places["gathered"]), scratch["gathered"])

                def step(j: Operand, count: Operand) -> None:
                    x.product(queries, keys, x.d, i, j, "scores")
                    x.go_on(i, j, count, keep=True)
                    x.gather("scores", values, x.e, j, count, shrinks=True)

                x.over_keys(i, counted, step)
                x.write(i, into, x.e, x.inverse_total)

            x.over_queries(block)

        x.over_rows(x.shared, head)

    return x.function(scratch, group)


def _write_gradient(node: Node, target: Target, capacity: int, plan: AttentionPlan) -> Function:
    x = Blocks(node, target, capacity, "attention_gradient", plan)
    b, rows, wide = x.b, x.rows, x.vectors_of(x.d) * x.lanes
    scratch = {
        "scores": rows * x.block, "slopes": rows * x.block, "gathered": rows * wide, "totals": rows * x.lanes,
        "greatest": rows,
        "inverse": rows, "keys": x.m * x.d, "values": x.e * x.m,
    }  # fmt: skip
    result = x.kernel.buffer(x.inner.result).name
    queries_size = x.shared * x.n * x.d
    size = queries_size + (x.d + x.e) * x.m

    def group(serving: Operand) -> None:
        start = x.at(0, (serving, size))
        d_keys = Matrix(result, x.at(start, (1, queries_size)), x.m)
        d_values = Matrix(result, x.at(start, (1, queries_size + x.d * x.m)), x.m)
        keys = Matrix(x.source(1), x.at(0, (serving, x.d * x.m)), x.m)
        values = Matrix(x.source(2), x.at(0, (serving, x.m * x.e)), x.e)
        x.clear(result, d_keys.start, (x.d + x.e) * x.m)
        _transpose(x, keys, x.d, x.m, x.kept("keys", x.d))
        _transpose(x, values, x.m, x.e, x.kept("values", x.m))

        def head(turn: Operand) -> None:
            head = x.at(turn, (serving, x.shared))
            queries = Matrix(x.source(0), x.at(0, (head, x.n * x.d)), x.d)
            adjoint = Matrix(x.source(3), x.at(0, (head, x.n * x.e)), x.e)
            d_queries = Matrix(result, x.at(start, (turn, x.n * x.d)), x.d)
            counted = x.keys_of(head, 5)

            def block(i: Operand) -> None:
                def first(j: Operand, count: Operand) -> None:
                    x.product(queries, keys, x.d, i, j, "scores")
                    x.go_on(i, j, count, keep=False)

                def second(j: Operand, count: Operand) -> None:
                    x.product(queries, keys, x.d, i, j, "scores")
                    x.product(adjoint, x.kept("values", x.m), x.e, i, j, "slopes")
                    x.over_rows(rows, lambda row: slopes(row, j, count))
                    _accumulate(x, queries, x.d, "slopes", d_keys, i, j)
                    _accumulate(x, adjoint, x.e, "scores", d_values, i, j)
                    x.gather("slopes", x.kept("keys", x.d), x.d, j, count, shrinks=False)

                def slopes(row: Operand, j: Operand, count: Operand) -> None:
                    """Weights in the place of scores, and the scores' adjoints; zeros for rows that do not exist."""
                    query = b.arithmetic("add", i, row)
                    there = b.compare("lt", query, index_constant(x.n))
                    seen = b.select(there, x.seen(i, j, row, count), index_constant(0))
                    shift = b.splat(b.load("scratch", x.kind, x.at(x.places["greatest"], (row, 1))), x.lanes)
                    inverse = b.splat(b.load("scratch", x.kind, x.at(x.places["inverse"], (row, 1))), x.lanes)
                    held = b.arithmetic("min", query, index_constant(x.n - 1))
                    common = b.splat(b.load(x.source(4), x.kind, x.at(held, (head, x.n))), x.lanes)
                    scores, others = x.row_places("scores", row), x.row_places("slopes", row)
                    for place, other, score in zip(scores, others, x.scores_of(row, seen), strict=True):
                        weight = b.mul(FUNCTIONS["exp"](b, b.sub(score, shift)), inverse)
                        slope = b.sub(b.load("scratch", x.kind, other, x.lanes), common)
                        b.store("scratch", place, weight)
                        b.store("scratch", other, b.mul(b.mul(weight, Constant(x.scale, x.type)), slope))

                x.begin()
                x.over_keys(i, counted, first)
                x.over_rows(
                    rows, lambda row: b.store("scratch", x.at(x.places["inverse"], (row, 1)), x.inverse_total(row))
                )
                x.clear("scratch", index_constant(x.places["gathered"]), rows * wide)
                x.over_keys(i, counted, second)
                x.write(i, d_queries, x.d)

            x.over_queries(block)

        x.over_rows(x.shared, head)

    return x.function(scratch, group)


def _accumulate(x: Blocks, left: Matrix, length: int, tile: str, into: Matrix, i: Operand, j: Operand) -> None:
    """into[c, keys] += sum over the rows r of left[i + r, c] * tile[r, keys]: a tile at a time in registers."""
    b, lanes = x.b, x.lanes
    starts = [x.at(left.start, (row, left.step)) for row in x.held(i)]
    for chunk in range(x.plan.tiles):
        first = b.arithmetic("add", j, index_constant(chunk * x.tile))
        masks = x.key_masks(first)
        held = [
            [
                b.load("scratch", x.kind, x.at(x.places[tile] + r * x.block + chunk * x.tile + v * lanes), lanes)
                for v in range(x.vectors)
            ]
            for r in range(x.rows)
        ]
        over = b.open_loop(index_constant(0), index_constant(length), 1)
        with b.inside(over.block):
            base = b.arithmetic("add", x.at(into.start, (over.variable, into.step)), first)
            places = [x.at(base, (v, lanes)) for v in range(x.vectors)]
            known: list[Operand] = [
                b.load(into.buffer, x.kind, place, lanes, mask) for place, mask in zip(places, masks, strict=True)
            ]
            for r, start in enumerate(starts):
                element = b.splat(b.load(left.buffer, x.kind, b.arithmetic("add", start, over.variable)), lanes)
                known = [b.fma(element, held[r][v], value) for v, value in enumerate(known)]
            for place, value, mask in zip(places, known, masks, strict=True):
                b.store(into.buffer, place, value, mask)
        b.close_loop(over)


def _transpose(x: Blocks, source: Matrix, rows: int, columns: int, into: Matrix) -> None:
    """into[c, r] = source[r, c]."""
    b, lanes = x.b, x.lanes
    offsets = Constant(tuple(lane * source.step for lane in range(lanes)) if lanes > 1 else 0, vector(INTEGER, lanes))
    outer = b.open_loop(index_constant(0), index_constant(columns), 1)
    with b.inside(outer.block):
        inner = b.open_loop(index_constant(0), index_constant(rows), lanes)
        with b.inside(inner.block):
            mask = b.first(b.arithmetic("sub", index_constant(rows), inner.variable), lanes) if rows % lanes else None
            place = b.arithmetic("add", x.at(source.start, (inner.variable, source.step)), outer.variable)
            value = (
                b.gather(source.buffer, x.kind, place, offsets, mask)
                if lanes > 1
                else b.load(source.buffer, x.kind, place)
            )
            b.store(
                into.buffer,
                b.arithmetic("add", x.at(into.start, (outer.variable, into.step)), inner.variable),
                value,
                mask,
            )
        b.close_loop(inner)
    b.close_loop(outer)
