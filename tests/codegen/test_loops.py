"""The loop IR itself: its text comes back identical, its interpreter agrees with machine code, for every family."""

from __future__ import annotations

import numpy as np
import pytest

from tapeless.codegen.kernels.lower import lower_kernel
from tapeless.codegen.llvm import arithmetic as llvm_arithmetic
from tapeless.codegen.llvm import functions as llvm
from tapeless.codegen.llvm import native
from tapeless.codegen.loops import interpreter as loops_interpreter
from tapeless.codegen.loops.language import OPERATIONS
from tapeless.codegen.loops.text import LoopSyntaxError, format_function, parse_function
from tapeless.ir.graph import Builder
from tapeless.ir.target import TARGETS
from tapeless.ir.types import DType, Rows, Tensor

from . import test_matmul, test_nest
from .kernels import HOST, Compiled, arrays_for, kernel, padded

BATCH = Rows()


def transpose(b: Builder, n: int, dtype: DType) -> None:
    x = b.input("x", Tensor(dtype, (BATCH, n)), "operand")
    b.output("t", b.emit("transpose", x, perm=(1, 0)), "result")


def scatter(b: Builder, n: int, dtype: DType) -> None:
    x = b.input("x", Tensor(dtype, (BATCH, n)), "operand")
    index = b.input("index", Tensor(DType.I32, (BATCH,)), "operand")
    b.output("s", b.emit("scatter_add", x, index, size=5), "result")


def permutation(b: Builder, n: int, dtype: DType) -> None:
    seed = b.input("seed", Tensor(DType.U32, (2,)), "operand")
    epoch = b.input("epoch", Tensor(DType.I32), "operand")
    b.output("order", b.emit("permutation", seed, epoch, shape=(BATCH,)), "result")


def every_kernel(dtype: DType, n: int = 17):
    """One kernel of each kind, by name."""
    for build in test_nest.BUILDS:
        yield build.__name__, kernel("nest", lambda b, build=build: build(b, n, dtype))
    for family, build in (("pack", transpose), ("scatter", scatter), ("permutation", permutation)):
        yield family, kernel(family, lambda b, build=build: build(b, n, dtype))
    for epilogue in (test_matmul.swish, test_matmul.masked, test_matmul.dropped):
        yield epilogue.__name__, test_matmul.product(BATCH, n, 5, dtype=dtype, epilogue=epilogue)


KERNELS = [(f"{name}-{dtype}", node) for dtype in (DType.F32, DType.F64) for name, node in every_kernel(dtype)]
by_kernel = pytest.mark.parametrize("node", [node for _, node in KERNELS], ids=[name for name, _ in KERNELS])


@by_kernel
def test_text_round_trip(node):
    function = lower_kernel(node, HOST, 64)
    text = format_function(function)
    assert parse_function(text) == function
    assert format_function(parse_function(text)) == text


@by_kernel
def test_interpreter_agrees_with_machine_code(node, vectors):
    target = vectors()
    function = lower_kernel(node, target, 64)
    compiled = Compiled(function, target)
    region = node.regions[0]
    rows = 5
    arrays = arrays_for(region, rows, ranges={"label": (0, 17), "step": (0, 50)})
    memory = [padded(arrays[port.key], 0) for port in region.inputs]
    mine, theirs = (
        [
            *[array.copy() for array in memory],
            *[np.zeros(port.value.type.at(rows), port.value.type.dtype.numpy) for port in region.outputs],
        ]
        for _ in range(2)
    )
    compiled(mine, rows)
    flat = [array.reshape(-1) for array in theirs]
    for part in range(function.parts):
        loops_interpreter.run(function, flat, rows, part)
    for ours, interpreted, port in zip(mine[len(memory) :], flat[len(memory) :], region.outputs, strict=True):
        dtype = port.value.type.dtype
        if dtype.is_float:
            bound = (1e-6 if dtype is DType.F32 else 1e-14) * (1 if target.fma else 10)
            np.testing.assert_allclose(ours.reshape(-1), interpreted, rtol=bound, atol=bound)
        else:
            np.testing.assert_array_equal(ours.reshape(-1), interpreted)


@by_kernel
def test_nothing_from_outside(node, vectors):
    target = vectors()
    assert native.undefined_symbols(Compiled(lower_kernel(node, target, 64), target).object) == []


def test_equal_kernels_are_equal_text():
    def build(b: Builder, name: str) -> None:
        x = b.input(name, Tensor(DType.F32, (BATCH, 40)), "operand")
        b.output(f"{name}.out", b.emit("exp", x, name=f"{name}.exp"), "result")

    first, second = (lower_kernel(kernel("nest", lambda b, name=name: build(b, name)), HOST, 64) for name in ("p", "q"))
    assert first == second


def test_every_operation_is_interpreted_and_written():
    assert set(OPERATIONS) == set(loops_interpreter._COMPUTE) == set(llvm_arithmetic.COMPUTE)


@pytest.mark.parametrize(
    "text",
    (
        "kernel k parts 1\n{\n  v1: f32 = add v0, v0\n}\n",
        "kernel k parts 1\n{\n  v1: f33 = add rows, rows\n}\n",
        "kernel k parts 1\n{\n",
    ),
)
def test_bad_text_is_refused(text):
    with pytest.raises(LoopSyntaxError):
        parse_function(text)


@pytest.mark.parametrize("name", list(TARGETS))
def test_other_machines(name):
    """Every kernel becomes code for every target, without a symbol from outside where the object can be read."""
    target = TARGETS[name]
    wanted = {"pointwise", "cross_entropy", "columns", "dropped", "swish", "pack", "scatter", "permutation"}
    bodies = []
    for place, (kind, node) in enumerate(every_kernel(DType.F32)):
        if kind in wanted:
            function = lower_kernel(node, target, 64)
            bodies.append(llvm.function_text(function, target, linkage="").replace("@k(", f"@k{place}("))
    made = native.compile_object(llvm.module_text(bodies, target), target)
    if made[:6] == b"\x7fELF\x02\x01":
        assert native.undefined_symbols(made) == []
