"""The typed builder of LLVM: what it writes is what LLVM takes; what does not fit is refused where it is written."""

from __future__ import annotations

import llvmlite.binding as llvm
import pytest

from tapeless.codegen.llvm.builder import F64, I1, I64, NULL, PTR, FunctionBuilder, Value, integer
from tapeless.codegen.program.barrier import barrier
from tapeless.ir.target import TARGETS

POINTER, COUNT = Value(PTR, "%memory"), Value(I64, "%count")


def function(result: str = "void") -> FunctionBuilder:
    return FunctionBuilder("f", (POINTER, COUNT), result)


def test_a_loop_is_what_llvm_takes():
    f = function(I64)
    f.branch("loop")
    f.begin("loop")
    k = f.phi("k", integer(0), "entry")
    total = f.phi("total", integer(0), "entry")
    held = f.load("held", I64, f.gep("at", POINTER, f.mul("bytes", k.value, integer(8))))
    more = f.add("more", total.value, held)
    following = f.add("next", k.value, integer(1))
    k.add(following, "loop")
    total.add(more, "loop")
    f.branch_if(f.icmp("again", "slt", following, COUNT), "loop", "done")
    f.begin("done")
    f.give(f.larger("least", more, integer(0)))
    assert "  %k = phi i64 [ 0, %entry ], [ %next, %loop ]\n" in f.text()
    assert "  %at = getelementptr i8, ptr %memory, i64 %bytes\n" in f.text()
    llvm.parse_assembly(f.text()).verify()


@pytest.mark.parametrize("name", TARGETS)
def test_the_barrier_is_what_llvm_takes(name):
    text = barrier(TARGETS[name])
    llvm.parse_assembly(text).verify()
    pauses = {"x86": "@llvm.x86.sse2.pause()", "aarch64": "@llvm.aarch64.hint(i32 1)"}
    assert next((pause for begin, pause in pauses.items() if name.startswith(begin)), "ret void") in text


@pytest.mark.parametrize(
    "write",
    [
        lambda f: f.add("x", COUNT, Value(F64, "1.0")),
        lambda f: f.icmp("x", "eq", COUNT, NULL),
        lambda f: f.load("x", I64, COUNT),
        lambda f: f.store(COUNT, COUNT),
        lambda f: f.gep("x", POINTER, Value("i32", "%y")),
        lambda f: f.select("x", COUNT, COUNT, COUNT),
        lambda f: f.select("x", Value(I1, "%y"), COUNT, POINTER),
        lambda f: f.branch_if(COUNT, "a", "b"),
        lambda f: f.phi("x", COUNT, "entry").add(POINTER, "entry"),
        lambda f: f.give(COUNT),
    ],
)
def test_types_that_do_not_fit_are_refused(write):
    with pytest.raises(TypeError):
        write(function())


def test_a_block_has_one_end():
    f = function()
    with pytest.raises(ValueError, match="has no end"):
        f.begin("next")
    with pytest.raises(ValueError, match="has no end"):
        f.text()
    f.give()
    with pytest.raises(ValueError, match="behind the end"):
        f.branch("next")
