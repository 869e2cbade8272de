"""Derivatives of scans against central differences, first and second, in the reference interpreter."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tapeless.compiler.differentiate import differentiate
from tapeless.compiler.passes.scans import merge_scans
from tapeless.ir import text
from tapeless.ir.graph import Builder, Graph, Value
from tapeless.ir.interpreter import run
from tapeless.ir.types import DType, Rows, Tensor
from tapeless.ir.verifier import verify

F, T, N, I = DType.F64, 5, 3, 2  # noqa: E741
ROWS = 4


def tensor(*shape: int | Rows) -> Tensor:
    return Tensor(F, shape)


def body(name: str, carries: list[Tensor], elements: list[Tensor], invariants: list[Tensor],
         make: Callable[..., tuple[list[Value], list[Value]]]) -> Graph:  # fmt: skip
    b = Builder(name, F)
    inputs = [b.input(f"{name}{k}", type, "operand") for k, type in enumerate([*carries, *elements, *invariants])]
    after, yields = make(b, *inputs)
    for k, value in enumerate([*after, *yields]):
        b.output(f"r{k}", value, "result")
    return b.graph()


def matmul(b: Builder, x: Value, w: Value) -> Value:
    return b.emit("matmul", x, w, transpose_a=False, transpose_b=False)


def recurrent(reverse: bool) -> Graph:
    """h = tanh(x_t W + h U + bias), every h yielded; U also scales a second carry."""

    def step(b: Builder, h: Value, s: Value, x: Value, w: Value, u: Value, bias: Value):
        z = b.emit("add", matmul(b, x, w), matmul(b, h, u))
        after = b.emit("tanh", b.emit("add", z, b.broadcast_to(bias, z.type.shape, (1,))))
        total = b.emit("add", b.emit("mul", s, b.emit("sum", b.emit("square", u), axes=(0,))), b.emit("sum", after, axes=(0,)))
        return [after, total], [after]

    b = Builder("forward", F)
    x = b.input("x", tensor(T, Rows(), I), "data")
    h, s, w, u, bias = (b.input(name, type, "param") for name, type in (
        ("h", tensor(N)), ("s", tensor(N)), ("W", tensor(I, N)), ("U", tensor(N, N)), ("bias", tensor(N))))  # fmt: skip
    rows = b.broadcast_to(h, (Rows(), N), (1,))
    region = body("a", [tensor(Rows(), N), tensor(N)], [tensor(Rows(), I)], [w.type, u.type, bias.type], step)
    attrs = {"carries": 2, "sequences": 1, "length": T, "reverse": reverse}
    last, total, all_ = b.emit_node("scan", (rows, s, x, w, u, bias), attrs, (region,))
    loss = b.emit("sum", b.emit("square", all_), axes=(0, 1, 2))
    for value in (last, total):
        loss = b.emit("add", loss, b.emit("sum", b.emit("sin", value), axes=tuple(range(value.type.rank))))
    b.output("loss", loss, "loss")
    return b.graph()


def nested() -> Graph:
    """A scan inside a scan: h decays through the inner steps, and each outer step takes the inner carries' product."""

    def inner(b: Builder, s: Value, x: Value, w: Value):
        after = b.emit("mul", b.emit("sin", b.emit("add", s, x)), w)
        return [after], [b.emit("square", after)]

    def outer(b: Builder, s: Value, x: Value, w: Value):
        region = body("b", [tensor(N)], [tensor(N)], [tensor(N)], inner)
        attrs = {"carries": 1, "sequences": 1, "length": I, "reverse": False}
        last, all_ = b.emit_node("scan", (s, x, w), attrs, (region,))
        return [b.emit("tanh", last)], [b.emit("sum", all_, axes=(0,))]

    b = Builder("forward", F)
    x, s, w = (b.input(name, type, "param") for name, type in (("x", tensor(T, I, N)), ("s", tensor(N)), ("w", tensor(N))))
    attrs = {"carries": 1, "sequences": 1, "length": T, "reverse": False}
    last, all_ = b.emit_node("scan", (s, x, w), attrs, (body("a", [tensor(N)], [tensor(I, N)], [tensor(N)], outer),))
    loss = b.emit("add", b.emit("sum", last, axes=(0,)), b.emit("sum", b.emit("exp", all_), axes=(0, 1)))
    b.output("loss", loss, "loss")
    return b.graph()


GRAPHS = {"recurrent": recurrent(False), "reverse": recurrent(True), "nested": nested()}


def with_gradient(graph: Graph, along: bool) -> Graph:
    """The gradient by each parameter; `along` also sums it times directions, as a loss to differentiate again."""
    b = Builder("gradient", F)
    seen = {p.value: b.input(p.label, p.value.type, p.role) for p in graph.inputs}
    b.copy_nodes(graph.nodes, seen)
    parameters = [p for p in graph.inputs if p.role == "param"]
    loss = graph.output("loss").value
    adjoints = differentiate(b, graph, seen, loss, [p.value for p in parameters])
    if not along:
        b.output("loss", seen[loss], "loss")
        for p in parameters:
            b.output(p.label, adjoints[p.value], "gradient")
        return b.graph()
    total = b.constant(0.0)
    for p in parameters:
        direction = b.input(f"along.{p.label}", p.value.type, "data")
        product = b.emit("mul", adjoints[p.value], direction)
        total = b.emit("add", total, b.emit("sum", product, axes=tuple(range(p.value.type.rank))))
    b.output("loss", total, "loss")
    return b.graph()


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("name", GRAPHS)
def test_against_central_differences(name: str, second: bool) -> None:
    forward = with_gradient(GRAPHS[name], along=True) if second else GRAPHS[name]
    both = with_gradient(forward, along=False)
    verify(both)
    merged = merge_scans(both)
    verify(merged)
    assert text.read(text.write(merged)) == merged
    rng = np.random.default_rng(0)
    inputs = {p.key: rng.normal(size=p.value.type.at(ROWS)) * 0.7 for p in both.inputs}
    exact, same = run(both, inputs, rows=ROWS), run(merged, inputs, rows=ROWS)
    for key, value in exact.items():
        np.testing.assert_allclose(same[key], value, rtol=1e-12, atol=1e-13)
    for p in forward.inputs:
        if p.role != "param":
            continue
        along, step = rng.normal(size=p.value.type.at(ROWS)), 1e-6
        ends = [run(forward, {**inputs, p.key: inputs[p.key] + sign * step * along}, rows=ROWS)["loss"] for sign in (1, -1)]
        expected = float(ends[0] - ends[1]) / (2 * step)
        assert np.sum(exact[f"grad({p.label})"] * along) == pytest.approx(expected, rel=2e-6, abs=1e-8)


def test_weights_are_summed_in_one_product_outside_of_the_loop() -> None:
    both = merge_scans(with_gradient(GRAPHS["recurrent"], along=False))
    assert [node.op for node in both.nodes].count("scan") == 2
    weights = {port.label: both.producers[port.value] for port in both.outputs if port.role == "gradient"}
    assert weights["W"].op == "matmul" and weights["bias"].op == "sum"
