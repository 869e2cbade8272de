"""How many instructions of the loop language an elementary function takes: what a sweep of element-wise work costs
where nothing is bound by memory. A function that grew says so here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pytest

from tapeless.codegen.llvm import functions as llvm
from tapeless.codegen.llvm import native
from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import ROWS, Buffer, Compute, Function, Operand
from tapeless.codegen.nests.pointwise import lower_pointwise
from tapeless.codegen.vectormath import FUNCTIONS
from tapeless.ir.target import TARGETS

V4 = TARGETS["x86-64-v4"]

LENGTHS = {
    # name: of float32, of float64
    "exp": (15, 20),
    "exp2": (15, 20),
    "expm1": (24, 29),
    "log": (31, 37),
    "log1p": (39, 45),
    "tanh": (27, 32),
    "sigmoid": (20, 25),
    "softplus": (57, 68),
    "erf": (41, 59),
    "erfc": (52, 76),
}


def length(name: str, kind: str, lanes: int = 4) -> int:
    b = Builder(V4)
    FUNCTIONS[name](b, b.load("x", kind, index_constant(0), lanes))
    return sum(isinstance(one, Compute) for one in b.block)


@pytest.mark.parametrize("name", LENGTHS)
def test_lengths(name: str) -> None:
    assert (length(name, "f32"), length(name, "f64")) == LENGTHS[name]


def test_avx512_takes_whole_vectors_apart_for_logarithms() -> None:
    assert length("log", "f32", 16) == 17


Write = Callable[[Builder, Operand, Operand], Sequence[Operand]]


def assembly(write: Write, kind: str = "f32") -> str:
    """Machine code of a sweep over `x` and `y` that stores what `write` makes of a vector of each."""
    b, lanes = Builder(V4), V4.lanes(4 if kind == "f32" else 8)
    loop = b.open_loop(index_constant(0), ROWS, lanes)
    with b.inside(loop.block):
        made = write(b, *(b.load(name, kind, loop.variable, lanes) for name in "xy"))
        for name, value in zip("rs", made, strict=False):
            b.store(name, loop.variable, value)
    b.close_loop(loop)
    buffers = (Buffer("x", kind, "operand"), Buffer("y", kind, "operand"), Buffer("r", kind, "result"))
    function = Function("k", (*buffers, Buffer("s", kind, "result")), 1, tuple(b.block))
    return native.assembly(llvm.module_text([llvm.function_text(function, V4, linkage="")], V4), V4)


@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_erf_and_its_slope_have_one_exponential(kind: str) -> None:
    def both(b: Builder, x: Operand, y: Operand) -> Sequence[Operand]:
        falling = lower_pointwise(b, "exp", [b.unary("neg", b.mul(x, x))], kind, None)
        return lower_pointwise(b, "erf", [x], kind, None), falling

    assert len(re.findall("vscalef", assembly(both, kind))) == 1


def test_strong_products_are_masked() -> None:
    """Two comparisons, the second under the first one's mask, and the product under the second's."""

    def product(b: Builder, x: Operand, y: Operand) -> Sequence[Operand]:
        return (lower_pointwise(b, "strong_product", [x, y], "f32", None),)

    text = assembly(product)
    assert len(re.findall("vcmpneq", text)) == 2 and not re.search(r"\t(kor|kand|knot)", text)
