"""The axis of a batch that has one row is left out, where all is element-wise work and sums; the values stay."""

from __future__ import annotations

import numpy as np
import pytest

from tapeless.compiler.passes.one_row import one_row
from tapeless.ir.graph import Builder, Graph, Value
from tapeless.ir.interpreter import run
from tapeless.ir.text import read, write
from tapeless.ir.types import DType, Rows, Tensor
from tapeless.ir.verifier import verify

BATCH = Rows()


def graph_of(case: str) -> Graph:
    b = Builder("entry", DType.F64)
    x = b.input("x", Tensor(DType.F64, (BATCH, 6)), "data")
    w = b.input("w", Tensor(DType.F64, (6,)), "param")
    spread = b.emit("broadcast", w, shape=(BATCH, 6), axes=(1,))
    made = b.emit("mul", x, spread)

    def mean() -> Value:
        each = b.emit("sum", b.emit("square", made), axes=(1,))
        again = b.emit("broadcast", each, shape=(BATCH, 6), axes=(0,))
        total = b.emit("sum", b.emit("mul", again, made), axes=(0, 1))
        return b.emit("div", total, b.emit("count", shape=(BATCH, 6), dtype=DType.F64))

    results = {
        "sums": lambda: [mean(), b.emit("sum", made, axes=(0,)), b.emit("max", made, axes=(0,))],
        "shares": lambda: [b.emit("sum_shares", made, axes=(0, 1), shared=1, shares=3)],
        "ones": lambda: [
            b.emit(
                "sum", b.emit("add", made, b.emit("constant", value=1.0, dtype=DType.F64, shape=(BATCH, 6))), axes=(0,)
            )
        ],
        "an output of rows": lambda: [made],
        "a product": lambda: [b.emit("sum", b.emit("matmul", x, x, transpose_a=True, transpose_b=False), axes=(0,))],
        "places of rows": lambda: [
            b.emit("sum", b.emit("iota", axis=0, dtype=DType.F64, shape=(BATCH, 6)), axes=(0, 1))
        ],
    }[case]()
    for k, value in enumerate(results):
        b.output(f"y{k}", value, "output")
    return b.graph()


@pytest.mark.parametrize("case", ["sums", "shares", "ones"])
def test_values_stay(case: str) -> None:
    graph = graph_of(case)
    made = one_row(graph)
    verify(made)
    assert read(write(made)) == made
    ranked = [node.result for node in made.nodes if BATCH in node.result.type.shape]
    assert not ranked
    rng = np.random.default_rng(0)
    given = {"x": rng.normal(size=(1, 6)), "w": rng.normal(size=6)}
    expected = run(graph, given, rows=1)
    for key, value in run(made, given, rows=1).items():
        np.testing.assert_array_equal(value, expected[key])


@pytest.mark.parametrize("case", ["an output of rows", "a product", "places of rows"])
def test_what_needs_the_axis_keeps_it(case: str) -> None:
    graph = graph_of(case)
    assert one_row(graph) is graph
