"""Denormals as zeros: the same bits on x86-64 and Arm, but for the one case that their hardware tells apart."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import numpy as np
import pytest

from tapeless.codegen.kernels.lower import lower_kernel
from tapeless.codegen.llvm import native
from tapeless.codegen.llvm.builder import I64, PTR, FunctionBuilder, Value, integer
from tapeless.codegen.llvm.functions import function_text, module_text
from tapeless.codegen.program.denormals import flush, mode, restore
from tapeless.ir.graph import Builder
from tapeless.ir.target import Target, host
from tapeless.ir.types import DType, Rows, Tensor

from ..codegen.kernels import kernel
from .executable import Executable
from .machines import MACHINES

FLOAT = np.float32
SMALL, LEAST = FLOAT(1e-40), FLOAT(2.0**-126)  # denormal, and the smallest normal number
X = np.array([SMALL, -SMALL, 1e-30, -LEAST, LEAST, 1.0, SMALL, -1.0], FLOAT)
Y = np.array([1.0, 1.0, 1e-12, 0.5, 1.5, SMALL, -SMALL, SMALL], FLOAT)
# below the smallest normal number, and rounded to it
ROUNDED_UP = np.array([1 - 2.0**-13], FLOAT), np.array([(1 + 2.0**-13) * 2.0**-126], FLOAT)


def build(b: Builder) -> None:
    type = Tensor(DType.F32, (Rows(),))
    x, y = b.input("x", type, "operand"), b.input("y", type, "operand")
    made = {
        "product": b.emit("mul", x, y),
        "sum": b.emit("add", x, y),
        "quotient": b.emit("div", x, y),
        "root": b.emit("sqrt", b.emit("abs", x)),
        "smaller": b.emit("minimum", x, y),
        "above": b.emit("cast", b.emit("lt", y, x), dtype=DType.F32),
    }
    for name, value in made.items():
        b.output(name, value, "result")


NAMES = ("product", "sum", "quotient", "root", "smaller", "above")


def expected(x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """As the kernel's outputs, on numbers of which denormals are zeros before and after each operation."""

    def flushed(values: np.ndarray) -> np.ndarray:
        return np.where(np.abs(values) < LEAST, np.copysign(FLOAT(0), values), values).astype(FLOAT)

    x, y = flushed(x), flushed(y)
    with np.errstate(all="ignore"):
        made = [x * y, x + y, x / y, np.sqrt(np.abs(x)), np.minimum(x, y), (y < x).astype(FLOAT)]
    return [flushed(one) for one in made]


def around(calls: str, target: Target, parameters: tuple[Value, ...] = ()) -> str:
    """A function `run` that flushes denormals around `calls`."""
    f, known = FunctionBuilder("run", parameters), mode(target)
    assert known is not None
    before = flush(f, known)
    f.call(calls, (*parameters, integer(0)) if parameters else ())
    restore(f, known, before)
    f.give()
    return f.text()


class Flushing(Executable):
    """A program for another processor that flushes denormals."""

    def around(self) -> Iterator[str]:
        for text in super().around():
            yield text.replace("define void @run()", "define internal void @calls()")
        yield around("@calls", self.machine.target)


def results(name: str, x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """The kernel's outputs on a machine of the table, or here."""
    target = MACHINES[name].target if name in MACHINES else host()
    function, made = lower_kernel(kernel("nest", build), target, 8), [np.full_like(x, 7) for _ in NAMES]
    if name in MACHINES:
        Flushing([function], MACHINES[name])([([x.copy(), y.copy(), *made], len(x))])
        return made
    parameters = (*(Value(PTR, f"%p{k}") for k in range(2 + len(made))), Value(I64, "%rows"))
    texts = [function_text(function, target), around(f"@{function.name}", target, parameters)]
    loaded = native.load(native.compile_object(module_text(texts, target), target), ["run"])
    kinds = [ctypes.c_void_p] * (2 + len(made)) + [ctypes.c_int64]
    loaded.function("run", *kinds)(*(array.ctypes.data for array in (x, y, *made)), len(x))
    return made


HERE = pytest.mark.skipif(mode(host()) is None, reason="this processor has no such mode")


@pytest.mark.parametrize("name", [pytest.param("host", marks=HERE), "aarch64-linux-gnu"])
def test_operands_and_results_are_zeros(name: str) -> None:
    for output, made, wanted in zip(NAMES, results(name, X, Y), expected(X, Y), strict=True):
        if output == "smaller":  # Arm hands it on as it is, and of two zeros it is either
            made = np.where(np.abs(made) < LEAST, FLOAT(0), made)
        np.testing.assert_array_equal(made, wanted, err_msg=output)
        if output != "smaller":
            signs = ~np.isnan(wanted)
            np.testing.assert_array_equal(np.signbit(made[signs]), np.signbit(wanted[signs]), err_msg=output)


def test_what_is_rounded_to_the_smallest_normal_number() -> None:
    """x86-64 looks at the number that is rounded, Arm at the one before."""
    assert results("aarch64-linux-gnu", *ROUNDED_UP)[0] == 0
    if host().triple.startswith("x86_64"):
        assert results("host", *ROUNDED_UP)[0] == LEAST


def test_the_mode_is_restored() -> None:
    results("host", X, Y)
    assert SMALL * FLOAT(0.5) != 0
