"""Work behind a product over sequences is the product's epilogue, and what is cheap to make again is not stored."""

from __future__ import annotations

import numpy as np
import pytest

from tapeless.compiler import entries
from tapeless.compiler.model import load
from tapeless.compiler.passes.pipelines import lowered, simplified
from tapeless.compiler.passes.rows_flat import rows_flat
from tapeless.ir.graph import Graph
from tapeless.ir.machine import X86_64_V4
from tapeless.ir.types import DType

from .harness import check_passes

MODEL = """
model M:
    input x: [batch, 5, 7]
    target y: [batch, 5, 3]
    {body}
    loss mean((z - y) ** 2)

train M:
    optimizer SGD(lr = 0.1)
    batch 4
"""
BODIES = {
    "bias and activation": "z = Dense(Dense(x, {width}, act), 3)",
    "residual": "h = Dense(x, 7)\n    z = Dense(x + h, 3)",
    "norm": "z = Dense(LayerNorm(Dense(x, {width})), 3)",
    "softmax": "z = softmax(Dense(x, 3))",
    "mask of places": "h = Dense(x, {width})\n    z = Dense(h * expand_dims(x[:, :, 0], 2), 3)",
    "of each place": "param p: [5, {width}] = 0.5\n    z = Dense(tanh(Dense(x, {width}) * p), 3)",
    "dropout": "z = Dense(dropout(Dense(x, {width}, tanh), 0.3), 3)",
    "heads": "h = reshape(Dense(x, 8), [batch, 5, 2, 4])\n    z = Dense(reshape(tanh(h), [batch, 5, 8]), 3)",
    "most and product": "h = Dense(x, {width})\n    z = Dense(h - max(h, axis = 2, keepdims = true), 3)",
}


def gradients(name: str, width: int = 8, act: str = "gelu") -> Graph:
    body = BODIES[name].replace("{width}", str(width)).replace("act)", f"{act})")
    return entries.backward(load(MODEL.replace("{body}", body), "m.tl", dtype=DType.F64))


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("name", BODIES)
def test_values_stay(name: str, rows: int) -> None:
    graph = gradients(name)
    rng = np.random.default_rng(0)
    inputs = {
        port.key: rng.normal(size=port.value.type.at(rows))
        if port.value.type.dtype.is_float
        else np.ones(port.value.type.at(rows), port.value.type.dtype.numpy)
        for port in graph.inputs
    }
    check_passes(graph, inputs, rows, {"rtol": 1e-10, "atol": 1e-12})


def kernels(graph: Graph) -> list[str]:
    return [str(node.attrs["family"]) for node in lowered(graph, X86_64_V4).nodes if node.op == "kernel"]


def test_bias_and_activation_are_the_products() -> None:
    """Two products forward, two for the weights and one for the input of the second; sums of biases, and the loss."""
    graph = simplified(gradients("bias and activation", act="tanh"))
    assert kernels(graph).count("matmul") == 5
    flat = rows_flat(graph)
    assert not any(node.op in ("tanh", "add") and node.result.type.rank > 2 for node in flat.nodes)


def test_what_stands_for_each_place_keeps_its_axes() -> None:
    flat = rows_flat(simplified(gradients("of each place")))
    assert any(node.op == "tanh" and node.result.type.rank == 3 for node in flat.nodes)


@pytest.mark.parametrize(("width", "stored"), [(8192, 2), (16, 4)])
def test_slopes_are_made_again_where_they_would_leave_the_cache(width: int, stored: int) -> None:
    """Of a * sigmoid(a) the product stores a and the result, if reading the logistic function and its slope again is
    slower than making them."""
    graph = simplified(gradients("bias and activation", width, "silu"))
    first = next(node for node in lowered(graph, X86_64_V4).nodes if node.attrs.get("family") == "matmul")
    assert len(first.regions[0].outputs) == stored
