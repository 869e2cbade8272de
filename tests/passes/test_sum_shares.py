"""Long sums that leave little are cut into shares, by the shape alone, and only those."""

from __future__ import annotations

import numpy as np
import pytest

from tapeless.compiler.passes.sum_shares import sums_in_shares
from tapeless.ir.graph import Builder, Graph
from tapeless.ir.interpreter import run
from tapeless.ir.machine import X86_64_V3, X86_64_V4
from tapeless.ir.types import DType, Rows, Tensor

BATCH = Rows()


def total(shape: tuple[object, ...], axes: tuple[int, ...], dtype: DType = DType.F32) -> Graph:
    b = Builder("total", dtype)
    x = b.input("x", Tensor(dtype, shape), "operand")
    b.output("y", b.emit("sum", b.emit("square", x), axes=axes), "result")
    return b.graph()


@pytest.mark.parametrize(
    ("shape", "axes", "cut"),
    [
        ((BATCH, 1_000_000), (0, 1), (1, 10)),  # of whole vectors
        ((BATCH, 28, 28, 32), (0, 1, 2), (1, 14)),  # of equals the first
        ((500_000, 7), (0,), (0, 16)),
        ((1_000_003,), (0,), None),  # a prime
        ((BATCH, 1000), (0, 1), None),  # short
        ((4096, 512), (0,), None),  # leaves enough to share out
        ((BATCH, 1_000_000), (0,), None),
        ((100_000 * 3, 4), (1,), None),
    ],
    ids=str,
)
def test_which_are_cut(shape, axes, cut):
    graph = total(shape, axes)
    made = sums_in_shares(graph, X86_64_V4)
    found = [(node.attrs["shared"], node.attrs["shares"]) for node in made.nodes if node.op == "sum_shares"]
    assert found == ([cut] if cut else [])
    assert cut or made == graph


def test_values_stay():
    graph = total((BATCH, 3, 65_536), (0, 2), DType.F64)
    made = sums_in_shares(graph, X86_64_V3)
    assert made != graph
    x = np.random.default_rng(0).normal(size=(2, 3, 65_536))
    np.testing.assert_allclose(run(made, {"x": x}, rows=2)["y"], run(graph, {"x": x}, rows=2)["y"], rtol=1e-12)
