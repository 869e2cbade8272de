"""Every operation of the registry becomes machine code that agrees with its reference, on all of its samples."""

from __future__ import annotations

import numpy as np
import pytest

from tapeless.ir.graph import Builder, Graph
from tapeless.ir.interpreter import run
from tapeless.ir.ops import OPERATIONS, Sample
from tapeless.ir.types import DType, Tensor

from ..sweep import sweep
from .harness import image_of, program_of, run_image, run_native

ROWS = 5
CASES = [
    pytest.param(name, sample, dtype, id=f"{name}-{index}-{dtype}")
    for name, op in OPERATIONS.items()
    for index, sample in enumerate(op.samples)
    for dtype in (DType.F32, DType.F64)
]


def test_only_the_operations_with_regions_have_no_samples() -> None:
    assert {name for name, op in OPERATIONS.items() if not op.samples} == {
        "scan",
        "loop",
        "kernel",
        "task",
        "with_derivative",
    }


def graph_of(name: str, sample: Sample, dtype: DType) -> Graph:
    """The operation on inputs x0, x1, ..., its real element type replaced by `dtype`."""

    def real(type: Tensor) -> Tensor:
        return type.with_dtype(dtype) if type.dtype is DType.F64 else type

    b = Builder("sample", dtype)
    inputs = [b.input(f"x{k}", real(type), "data") for k, type in enumerate(sample.operands)]
    attrs = {key: dtype if value is DType.F64 else value for key, value in (sample.attrs or {}).items()}
    b.output("y", b.emit(name, *inputs, name="y", **attrs), "output")
    return b.graph()


@pytest.mark.parametrize(("name", "sample", "dtype"), CASES)
def test_machine_code_agrees_with_the_reference(name: str, sample: Sample, dtype: DType) -> None:
    graph, rng = graph_of(name, sample, dtype), np.random.default_rng(0)
    inputs = {}
    for port in graph.inputs:
        shape = port.value.type.at(ROWS)
        real = rng.uniform(sample.low, sample.high, shape).astype(dtype.numpy)
        inputs[port.key] = real if port.value.type.dtype.is_float else rng.integers(0, 2, shape)
    expected = run(graph, inputs, rows=ROWS)["y"]
    made = run_native(program_of(graph, dtype), graph, inputs, ROWS, capacity=8)["y"]
    tolerance = 1e-5 if dtype is DType.F32 else 1e-13
    np.testing.assert_allclose(made, expected, rtol=tolerance, atol=tolerance)


EXTREMES = (0.0, -0.0, 100, -100, 1e30, -1e30, "denormal", np.inf, -np.inf, np.nan)


@pytest.mark.parametrize(
    ("name", "sample", "dtype"),
    sweep(
        (case for case in CASES if OPERATIONS[case.values[0]].family in ("reduction", "recurrence", "product")), every=3
    ),
)
def test_extremes_among_plain_numbers(name: str, sample: Sample, dtype: DType) -> None:
    """One number of an operand is extreme; pointwise operations have a test of their own, of all pairs of extremes."""
    graph, rng = graph_of(name, sample, dtype), np.random.default_rng(0)
    image = image_of(program_of(graph, dtype), graph, 8)
    for extreme in EXTREMES:
        number = float(np.finfo(dtype.numpy).smallest_subnormal) if extreme == "denormal" else extreme
        inputs = {
            port.key: rng.uniform(sample.low, sample.high, port.value.type.at(ROWS)).astype(dtype.numpy)
            for port in graph.inputs
        }
        first = next(iter(inputs.values())).reshape(-1)
        first[first.size // 2] = number
        with np.errstate(all="ignore"):
            expected = run(graph, inputs, rows=ROWS)["y"]
        made = run_image(image, graph, inputs, ROWS)["y"]
        tolerance = 1e-5 if dtype is DType.F32 else 1e-12
        np.testing.assert_allclose(made, expected, rtol=tolerance, atol=tolerance, err_msg=str(extreme))
