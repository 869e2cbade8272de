"""Fusion where it went wrong once: small programs whose kernels were ill-formed."""

from __future__ import annotations

import numpy as np
import pytest

import tapeless
from tapeless.compiler.entries import ENTRIES
from tapeless.compiler.model import load
from tapeless.compiler.passes.pipelines import lowered, simplified
from tapeless.ir.machine import X86_64_V4


@pytest.mark.parametrize("shape", [(4, 4), (1, 3), (3, 1), (16, 5), (5, 16)])
def test_what_a_repeated_chain_leaves_behind_still_hangs_together(shape: tuple[int, int]) -> None:
    """`products + shift * trace(products)` is repeated by the factor's kernel; its mask is no epilogue by itself."""
    rows, columns = shape
    text = (
        f"model M:\n    input x: [batch, {rows}]\n    param W: [{rows}, {columns}] ~ orthogonal\n    output y = x @ W\n"
    )
    w = np.array(tapeless.load(text).compile(batch=4, dtype="float64", cache=False).parameters["W"])
    products = w @ w.T if rows <= columns else w.T @ w
    np.testing.assert_allclose(products, np.eye(min(shape)), atol=1e-14)


def test_a_norm_is_one_kernel_that_stores_two_numbers_a_row() -> None:
    """And its result: what the backward half asks for besides is made again from the input and those."""
    text = (
        "model M:\n    input x: [batch, 9, 64]\n    a = Dense(x, 64)\n    b = LayerNorm(a)\n"
        "    output y = Dense(b, 3)\n"
        "    loss mean(y ** 3)\n\ntrain M:\n    optimizer SGD(lr = 0.1)\n    batch 8\n"
    )
    graph = lowered(simplified(ENTRIES["train_step"](load(text), None)), X86_64_V4)
    (norm,) = (node for node in graph.nodes if any(value.name == "b" for value in node.results))
    ranks = [value.type.rank for value in norm.results]
    assert any(inner.op == "sum" for inner in norm.regions[0].nodes)
    assert [value.name for value in norm.results if value.type.rank > 1] == ["b"] and ranks.count(1) >= 2
