"""The loop IR itself: its text comes back identical, its interpreter agrees with machine code, for every family."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from tapeless.codegen.kernels.lower import FAMILIES, lower_kernel
from tapeless.codegen.llvm import arithmetic as llvm_arithmetic
from tapeless.codegen.llvm import functions as llvm
from tapeless.codegen.llvm import native
from tapeless.codegen.loops import interpreter as loops_interpreter
from tapeless.codegen.loops.language import OPERATIONS
from tapeless.codegen.loops.text import LoopSyntaxError, format_function, parse_function
from tapeless.ir.graph import Builder
from tapeless.ir.target import TARGETS
from tapeless.ir.types import DType, Rows, Tensor

from ..sweep import sweep
from .kernels import HOST, Compiled, interpreted, kernel, run_compiled
from .samples import DTYPES, SAMPLES, samples

BATCH = Rows()


ALL = [pytest.param(sample, id=name) for name, sample in SAMPLES.items()]
HALF = len(ALL) // 2  # of one element type; the other one's follow in the same order
PAIRS = [(ALL[place + HALF], ALL[place])[:: 1 if place % 2 else -1] for place in range(HALF)]


def test_every_family_has_a_sample():
    for dtype in DTYPES:
        assert {sample.family for sample in samples(dtype)} == set(FAMILIES)


@pytest.mark.parametrize("sample", ALL)
def test_text_round_trip(sample):
    function = lower_kernel(sample.node, HOST, sample.capacity)
    text = format_function(function)
    assert parse_function(text) == function
    assert format_function(parse_function(text)) == text


@pytest.mark.parametrize("sample", sweep(itertools.chain(*PAIRS), every=2))
def test_interpreter_agrees_with_machine_code(sample, vectors):
    """Which needs nothing from outside; of wasm32, the linker that makes a module of it sees to that."""
    target = vectors()
    function = lower_kernel(sample.node, target, sample.capacity)
    compiled, arrays = Compiled(function, target), sample.arrays()
    if target.name != "wasm32":
        assert native.undefined_symbols(compiled.object) == []
    ours = run_compiled(sample.node, arrays, sample.rows, compiled=compiled)
    sample.agree(ours, interpreted(function, sample.node, arrays, sample.rows), target)


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
    """Every family becomes code for every target, without a symbol from outside where the object can be read."""
    target = TARGETS[name]
    one_of_each = {sample.family: sample for sample in samples(DType.F32)}
    bodies = []
    for place, sample in enumerate(one_of_each.values()):
        function = lower_kernel(sample.node, target, sample.capacity)
        bodies.append(llvm.function_text(replace(function, name=f"k{place}"), target, linkage=""))
    made = native.compile_object(llvm.module_text(bodies, target), target)
    if made[:6] == b"\x7fELF\x02\x01":
        assert native.undefined_symbols(made) == []
