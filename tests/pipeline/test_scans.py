"""Scans: derivatives against central differences in the interpreter, first and second; machine code against the
interpreter."""

from __future__ import annotations

import numpy as np
import pytest

from tapeless.compiler import entries
from tapeless.compiler.passes.differentiate import differentiate
from tapeless.compiler.passes.scan_rules import merge_scans
from tapeless.ir import text
from tapeless.ir.graph import Builder, Graph
from tapeless.ir.interpreter import run
from tapeless.ir.types import DType
from tapeless.ir.verifier import verify

from .harness import check_passes, image_of, program_of, run_image
from .scan_graphs import GRAPHS

F = DType.F64

ROWS = 4


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
        ends = [
            run(forward, {**inputs, p.key: inputs[p.key] + sign * step * along}, rows=ROWS)["loss"] for sign in (1, -1)
        ]
        expected = float(ends[0] - ends[1]) / (2 * step)
        assert np.sum(exact[f"grad({p.label})"] * along) == pytest.approx(expected, rel=2e-6, abs=1e-8)


def test_weights_are_summed_in_one_product_outside_of_the_loop() -> None:
    both = merge_scans(with_gradient(GRAPHS["recurrent"], along=False))
    assert [node.op for node in both.nodes].count("scan") == 2
    weights = {port.label: both.producers[port.value] for port in both.outputs if port.role == "gradient"}
    assert weights["W"].op == "matmul" and weights["bias"].op == "sum"


TOLERANCE = {"rtol": 1e-10, "atol": 1e-12}


def inputs_of(graph: Graph, rows: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(rows)
    return {p.key: rng.normal(size=p.value.type.at(rows)) * 0.7 for p in graph.inputs}


@pytest.mark.parametrize("rows", [1, 17])
@pytest.mark.parametrize("name", GRAPHS)
def test_passes(name: str, rows: int) -> None:
    check_passes(entries.backward(program_of(GRAPHS[name], F)), inputs_of(GRAPHS[name], rows), rows, TOLERANCE)


@pytest.mark.parametrize("name", GRAPHS)
def test_machine_code(name: str) -> None:
    program = program_of(GRAPHS[name], F)
    both = entries.backward(program)
    images = {capacity: image_of(program, both, capacity) for capacity in (64, 65)}
    for rows in (1, 3, 7, 17, 65):
        inputs = inputs_of(GRAPHS[name], rows)
        expected = run(both, inputs, rows=rows)
        for threads in (1, 3):
            native = run_image(images[64 if rows < 64 else 65], both, inputs, rows, threads)
            for key, value in expected.items():
                np.testing.assert_allclose(native[key], value, **TOLERANCE, err_msg=key)
