"""Rows that go their own ways through a graph: what is said to be so is held against graphs run with some of the rows,
and whatever mixes rows, or tells their places or number, is refused.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tapeless.ir.graph import Builder, Graph, Value
from tapeless.ir.interpreter import run
from tapeless.ir.row_wise import is_row_wise
from tapeless.ir.types import DType, Rows, Tensor

ROWS, SOME = 5, slice(2, 4)
F, INDEX = DType.F64, DType.I32


def graph_of(make: Callable[[Builder, Value, Value, Value], Value]) -> Graph:
    """A graph of x[batch, 3, 4], y[batch, 4] and w[4, 4], which have rows and have none."""
    b = Builder("body", F)
    shapes = {"x": (Rows(), 3, 4), "y": (Rows(), 4), "w": (4, 4)}
    x, y, w = (b.input(name, Tensor(F, shape), "data") for name, shape in shapes.items())
    b.output("z", make(b, x, y, w), "output")
    return b.graph()


def stacked(b: Builder, x: Value, y: Value, w: Value) -> Value:
    """All steps' products as one, as they are made before a loop: rows lie in three blocks of one axis."""
    steps = b.emit("transpose", x, perm=(1, 0, 2))
    flat = b.emit("reshape", steps, shape=(Rows(3), 4))
    bias = b.emit("broadcast", b.emit("sum", w, axes=(0,)), axes=(1,), shape=(Rows(3), 4))
    made = b.emit("add", b.emit("matmul", flat, w, transpose_a=False, transpose_b=False), bias)
    return b.emit("transpose", b.emit("reshape", made, shape=(3, Rows(), 4)), perm=(1, 0, 2))


def scanned(b: Builder, x: Value, y: Value, w: Value) -> Value:
    inner = Builder("step", F)
    h, now, shared = (inner.input(n, t, "operand") for n, t in (("h", y.type), ("now", y.type), ("w", w.type)))
    h = inner.emit("add", inner.emit("matmul", h, shared, transpose_a=False, transpose_b=False), now)
    inner.output("h", h, "result")
    inner.output("y", h, "result")
    steps = b.emit("transpose", x, perm=(1, 0, 2))
    attrs = {"carries": 1, "sequences": 1, "length": 3, "reverse": False}
    _, stack = b.emit_node("scan", (y, steps, w), attrs, (inner.graph(),), ("last", "stack"))
    return b.emit("transpose", stack, perm=(1, 0, 2))


def rows_of(b: Builder, value: Value, axis: int) -> Value:
    return b.emit("cast", b.emit("iota", axis=axis, shape=value.type.shape, dtype=INDEX), dtype=F)


OWN_WAYS = {
    "pointwise": lambda b, x, y, w: b.emit("mul", y, b.emit("tanh", y)),
    "product": lambda b, x, y, w: b.emit("matmul", y, w, transpose_a=False, transpose_b=True),
    "stack of products": lambda b, x, y, w: b.emit("matmul", x, x, transpose_a=True, transpose_b=False),
    "sum along a row": lambda b, x, y, w: b.emit("sum", x, axes=(1,)),
    "flat rows": lambda b, x, y, w: b.emit("reshape", x, shape=(Rows(3), 4)),
    "slice of a row": lambda b, x, y, w: b.emit("slice", y, start=(0, 1), size=(Rows(), 2), step=(1, 1)),
    "places in a row": lambda b, x, y, w: b.emit("add", y, rows_of(b, y, 1)),
    "blocks of rows": stacked,
    "loop": scanned,
}
MIXED = {
    "sum over rows": lambda b, x, y, w: b.emit("broadcast", b.emit("sum", y, axes=(0,)), axes=(1,), shape=y.type.shape),
    "product over rows": lambda b, x, y, w: b.emit("matmul", y, y, transpose_a=True, transpose_b=False),
    "places of rows": lambda b, x, y, w: b.emit("add", y, rows_of(b, y, 0)),
    "count of rows": lambda b, x, y, w: b.emit(
        "div", y, b.emit("broadcast", b.emit("count", shape=(Rows(),), dtype=F), axes=(), shape=y.type.shape)
    ),
    "cumulative sum": lambda b, x, y, w: b.emit("cumsum", y, axis=0, reverse=False),
    "no rows": lambda b, x, y, w: b.emit("sum", w, axes=(0,)),
    "steps of all rows": lambda b, x, y, w: b.emit(
        "reshape", b.emit("transpose", x, perm=(1, 0, 2)), shape=(Rows(3), 4)
    ),
    "rows in another order": lambda b, x, y, w: b.emit(
        "reshape",
        b.emit("reshape", b.emit("transpose", x, perm=(1, 0, 2)), shape=(Rows(3), 4)),
        shape=(Rows(), 12),
    ),
}


@pytest.mark.parametrize("name", OWN_WAYS)
def test_some_rows_give_those_rows(name: str) -> None:
    graph = graph_of(OWN_WAYS[name])
    assert is_row_wise(graph)
    rng = np.random.default_rng(0)
    inputs = {"x": rng.normal(size=(ROWS, 3, 4)), "y": rng.normal(size=(ROWS, 4)), "w": rng.normal(size=(4, 4))}
    some = inputs | {key: inputs[key][SOME] for key in ("x", "y")}
    whole, part = run(graph, inputs, rows=ROWS)["z"], run(graph, some, rows=SOME.stop - SOME.start)["z"]
    each = len(whole) // ROWS
    np.testing.assert_allclose(part, whole[SOME.start * each : SOME.stop * each], rtol=1e-13)


@pytest.mark.parametrize("name", MIXED)
def test_rows_that_meet(name: str) -> None:
    assert not is_row_wise(graph_of(MIXED[name]))


def test_draws_are_of_places() -> None:
    """A row draws by its place in the batch."""
    b = Builder("body", F)
    seed, step = b.input("seed", Tensor(DType.U32, (2,)), "data"), b.input("step", Tensor(INDEX), "data")
    draw = b.emit("random_uniform", seed, step, shape=(Rows(), 4), dtype=F, site=0)
    b.output("z", draw, "output")
    assert not is_row_wise(b.graph())


def test_rows_in_several_pieces() -> None:
    """Steps of which each has all rows are walked by a loop, and by nothing else."""
    b = Builder("body", F)
    x, w = b.input("x", Tensor(F, (3, Rows(), 4)), "data"), b.input("w", Tensor(F, (4, 4)), "data")
    y = b.input("y", Tensor(F, (Rows(), 4)), "data")
    steps = Builder("step", F)
    h, now, shared = (steps.input(n, t, "operand") for n, t in (("h", y.type), ("now", y.type), ("w", w.type)))
    steps.output("h", steps.emit("add", h, now), "result")
    steps.output("y", steps.emit("matmul", now, shared, transpose_a=False, transpose_b=False), "result")
    attrs = {"carries": 1, "sequences": 1, "length": 3, "reverse": False}
    _, stack = b.emit_node("scan", (y, x, w), attrs, (steps.graph(),), ("last", "stack"))
    b.output("z", stack, "output")
    assert is_row_wise(b.graph())
    b.emit("tanh", stack)
    assert not is_row_wise(b.graph())
