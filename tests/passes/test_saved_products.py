"""Factors that a scan saves for the one that walks back are multiplied before: fewer stacks, the same gradients."""

from __future__ import annotations

import numpy as np
import pytest

from tapeless.compiler import entries
from tapeless.compiler.model import load
from tapeless.compiler.passes.pipelines import lowered, simplified
from tapeless.compiler.passes.saved_products import saved_products
from tapeless.ir.graph import Graph, Node
from tapeless.ir.interpreter import run
from tapeless.ir.machine import X86_64_V4
from tapeless.ir.types import DType
from tapeless.ir.verifier import verify

TEXT = """model M(t = 5):
    input x: [batch, t, 3]
{body}
    output h
    loss mean(h ** 2)
"""
STEP = "z = Dense(x, 3)\nscan over t with s: [batch, 3] = 1:\n    s = {}\n    yield s\nh = stacked s"
BODIES = {
    "LSTM": ("h = LSTM(x, 4)", 5),
    "GRU, whose gates are wanted more than once": ("h = GRU(x, 4)", 2),
    "a gate": (STEP.format("sigmoid(z[t]) * tanh(s)"), 2),
    "large factors": (STEP.format("softplus(x[t]) * (softplus(x[t] + 1) * s) + z[t]"), 0),
}


def gradients(body: str) -> Graph:
    text = TEXT.format(body="\n".join(f"    {line}" for line in body.split("\n")))
    return simplified(entries.gradients(load(text, "model.tl")))


def scans(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes if node.op == "scan"]


@pytest.mark.parametrize("name", BODIES)
def test_fewer_stacks_and_the_same_gradients(name: str) -> None:
    body, fewer = BODIES[name]
    before = gradients(body)
    after = saved_products(before)
    verify(after)
    count = [sum(node.attrs["sequences"] for node in scans(graph)) for graph in (before, after)]
    assert count[0] - count[1] == fewer
    rng = np.random.default_rng(0)
    data = {port.key: rng.normal(size=port.value.type.at(3)) for port in before.inputs}
    wanted, found = (run(graph, data, rows=3, precision=DType.F64) for graph in (before, after))
    for key, value in wanted.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-12, atol=1e-14)


def test_a_step_of_an_lstm_saves_seven_values() -> None:
    """The cell's gate of what is forgotten, five products of gates and slopes, and the state before."""
    made = lowered(gradients("h = LSTM(x, 4)"), X86_64_V4)
    forth = scans(made)[0]
    assert len(forth.results) - forth.attrs["carries"] == 8  # and what it yields
