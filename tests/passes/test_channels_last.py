"""Chains of convolutions have channels last from end to end, forward and in the gradient, with the same values."""

from __future__ import annotations

import numpy as np
import pytest

from tapeless.compiler import entries
from tapeless.compiler.model import load
from tapeless.compiler.passes.channels_last import channels_last, grouped
from tapeless.compiler.passes.pipelines import simplified
from tapeless.compiler.passes.rewriter import rewrite
from tapeless.compiler.passes.rules import RULES
from tapeless.ir.graph import Graph
from tapeless.ir.interpreter import run
from tapeless.ir.types import DType, Rows
from tapeless.ir.verifier import verify

# What stands between two convolutions, and how many transposes of pictures it leaves between them.
BETWEEN = {
    "relu(h)": 0,
    "max_pool(swish(h), 2)": 0,
    "max_pool(h, 3, stride = 1)": 0,
    "avg_pool(h, 2, padding = 1)": 0,
    "pad(h, [[0, 0], [0, 0], [1, 0], [2, 1]])": 0,
    "h * reshape(mean(h, axis = [0, 2, 3]), [4, 1, 1])": 0,
    "h + max(h, axis = 1, keepdims = true)": 0,
    "h[:, :, 1:, ::2]": 0,
    "reshape(h, [batch, 6, 4, 6])": 2,
    "cumsum(h, axis = 2)": 2,
}


def model(between: str):
    return load(
        "model M:\n    input x: [batch, 3, 6, 6]\n    h = Conv(x, 4, padding = 1)\n"
        f"    g = {between}\n    z = Conv(g, 5, padding = 1)\n    output z\n    loss mean(z ** 2)\n",
        "model.tl",
    )


def transposes(graph: Graph) -> int:
    """Transposes of pictures with more than one channel, not counting those of what comes in and goes out."""
    ends = {port.value for port in graph.inputs} | graph.output_values
    return sum(
        node.op == "transpose"
        and isinstance(node.result.type.shape[0], Rows)
        and not ends & {node.result, *node.operands}
        for node in graph.nodes
    )


@pytest.mark.parametrize("between", BETWEEN)
def test_what_moves_along(between: str) -> None:
    source = rewrite(entries.predict(model(between)), RULES)
    moved = channels_last(source)
    verify(moved)
    assert sum(node.op == "convolution" for node in moved.nodes) == 2
    assert transposes(rewrite(moved, RULES)) == BETWEEN[between]
    rng = np.random.default_rng(0)
    data = {port.key: rng.normal(size=port.value.type.at(3)) for port in source.inputs}
    for key, value in run(source, data, rows=3, precision=DType.F64).items():
        np.testing.assert_allclose(run(moved, data, rows=3, precision=DType.F64)[key], value, atol=1e-12)


def test_no_transposes_in_a_step() -> None:
    """Stated derivatives, of `relu`, move along, so that the gradient of a chain has none either."""
    graph = simplified(entries.gradients(model("max_pool(relu(h), 2)")))
    verify(graph)
    assert transposes(graph) == 0
    assert sum(node.op == "convolution" for node in graph.nodes) == 3
    assert sum(node.op == "convolution_weights" for node in graph.nodes) == 2


def test_one_by_one_in_a_chain() -> None:
    """A convolution of single places behind another one takes channels last as well; alone, it is a product."""
    chain = load(
        "model M:\n    input x: [batch, 3, 6, 6]\n    h = relu(Conv(x, 4, padding = 1))\n"
        "    h = relu(Conv(h, 5, kernel = 1))\n    output z = Conv(h, 6)\n    loss mean(z ** 2)\n",
        "model.tl",
    )
    graph = simplified(entries.gradients(chain))
    assert transposes(graph) == 0
    assert not any(node.op == "matmul" for node in graph.nodes)
    alone = load("model M:\n    input x: [batch, 3, 6, 6]\n    output z = Conv(x, 4, kernel = 1)\n", "model.tl")
    assert not any(node.op == "convolution" for node in simplified(entries.predict(alone)).nodes)


def test_nothing_changes_without_convolutions() -> None:
    source = entries.predict(
        load("model M:\n    input x: [batch, 3, 4]\n    output y = transpose(x, [0, 2, 1])\n", "m.tl")
    )
    assert channels_last(source) is source


@pytest.mark.parametrize(
    ("old", "new", "groups"),
    [
        ((Rows(), 4, 6), (Rows(), 4, 2, 3), [((0,), (0,)), ((1,), (1,)), ((2,), (2, 3))]),
        ((4, 6), (2, 12), [((0, 1), (0, 1))]),
        ((4, 1, 6), (4, 6), [((0,), (0,)), ((1, 2), (1,))]),
        ((4, 6, 1), (4, 6), [((0,), (0,)), ((1, 2), (1,))]),
        ((Rows(), 3), (Rows(3),), None),
    ],
)
def test_which_axes_become_which(old, new, groups) -> None:
    assert grouped(old, new) == groups
