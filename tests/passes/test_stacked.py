"""A graph mapped over a stack gives what single runs give, for each operation and each operand that may be a stack."""

from __future__ import annotations

import numpy as np
import pytest

from tapeless.compiler.passes.stacked import stacked
from tapeless.ir.graph import Builder
from tapeless.ir.interpreter import run
from tapeless.ir.ops import OPERATIONS, POINTWISE
from tapeless.ir.types import DType
from tapeless.ir.verifier import verify

ROWS, COUNT = 5, 3
SAMPLES = [
    (name, index, operand)
    for name, op in OPERATIONS.items()
    if op.family != "structure"
    for index, sample in enumerate(op.samples)
    for operand in (*range(len(sample.operands)), None)
    if sample.operands
]


@pytest.mark.parametrize(("name", "index", "operand"), SAMPLES)
def test_a_stack_is_what_single_runs_give(name: str, index: int, operand: int | None) -> None:
    """One operand is a stack, or (None) all of one type are: they are the same input."""
    sample = OPERATIONS[name].samples[index]
    builder = Builder("sample", DType.F64)
    varied = sample.operands[operand or 0]
    among = [operand] if operand is not None else [k for k, type in enumerate(sample.operands) if type == varied]
    x = builder.input("x", varied, "data")
    others = {k: builder.input(f"x{k}", t, "data") for k, t in enumerate(sample.operands) if k not in among}
    values = [others.get(k, x) for k in range(len(sample.operands))]
    builder.output("y", builder.emit(name, *values, **dict(sample.attrs or {})), "output")
    graph = builder.graph()
    many = stacked(graph, "x", COUNT)
    verify(many)
    if name in POINTWISE or name in ("matmul", "sum", "concat", "pad", "slice"):
        assert sum(node.op == name for node in many.nodes) <= 1
    rng = np.random.default_rng(index)
    drawn = {}
    for port in graph.inputs:
        type = port.value.type
        shape = (COUNT, *type.at(ROWS)) if port.label == "x" else type.at(ROWS)
        low, high = (sample.low, sample.high) if type.dtype.is_float else (0, 2 if type.dtype is DType.BOOL else 4)
        drawn[port.label] = rng.uniform(low, high, shape) if type.dtype.is_float else rng.integers(low, high, shape)
        drawn[port.label] = drawn[port.label].astype(type.dtype.numpy)
    (found,) = run(many, drawn, rows=ROWS).values()
    for place in range(COUNT):
        (single,) = run(graph, {**drawn, "x": drawn["x"][place]}, rows=ROWS).values()
        np.testing.assert_allclose(found[place], single, rtol=1e-12, atol=1e-13, err_msg=f"{name} at {place}")
