"""Rows that would crowd a cache are laid apart, and nothing but speed changes."""

from __future__ import annotations

import numpy as np
import pytest

from tapeless.compiler.passes.pipelines import lowered, simplified
from tapeless.ir.graph import Builder, Graph
from tapeless.ir.interpreter import run
from tapeless.ir.machine import X86_64_V3
from tapeless.ir.types import DType, Rows, Tensor

from .harness import program_of, run_native


def two_products(width: int) -> Graph:
    b = Builder("forward", DType.F32)
    x = b.input("x", Tensor(DType.F32, (Rows(), 70)), "data")
    for k, shape in enumerate(((70, width), (width, width), (width, 3))):
        w = b.input(f"w{k}", Tensor(DType.F32, shape), "param")
        x = b.emit("tanh", b.emit("matmul", x, w, transpose_a=False, transpose_b=False))
    b.output("y", x, "output")
    return b.graph()


@pytest.mark.parametrize(("width", "leading"), [(1024, 1040), (1000, 0)])
def test_crowded_rows_are_padded(width: int, leading: int) -> None:
    graph = two_products(width)
    used = {ld for node in lowered(simplified(graph), X86_64_V3).nodes for ld in node.attrs["leading"]}
    assert used == ({0, leading} if leading else {0})
    rng = np.random.default_rng(0)
    inputs = {p.key: rng.normal(size=p.value.type.at(5)).astype(np.float32) * 0.1 for p in graph.inputs}
    made = run_native(program_of(graph, DType.F32), graph, inputs, rows=5, capacity=8, threads=2)
    np.testing.assert_allclose(made["y"], run(graph, inputs)["y"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("width", "families"), [(2000, {"gather", "nest"}), (20, {"nest"})])
def test_equal_rows_are_not_written_out_to_be_picked_from(width: int, families: set[str]) -> None:
    b = Builder("forward", DType.F32)
    k = b.input("k", Tensor(DType.I32, (Rows(),)), "data")
    w = b.input("w", Tensor(DType.F32, (width,)), "param")
    b.output("y", b.emit("exp", b.emit("pick", b.broadcast_to(w, (Rows(), width), (1,)), k)), "output")
    graph = b.graph()
    assert {node.attrs["family"] for node in lowered(simplified(graph), X86_64_V3).nodes} == families
    inputs = {"k": np.array([3, 0, width + 7, -1, 5], np.int32), "w": np.linspace(-1, 1, width, dtype=np.float32)}
    made = run_native(program_of(graph, DType.F32), graph, inputs, rows=5, capacity=8, threads=2)
    np.testing.assert_allclose(made["y"], run(graph, inputs)["y"], rtol=1e-6)
