"""Streamed attention against the reference, where rows, blocks of keys and vectors end."""

from __future__ import annotations

import numpy as np
import pytest

from tapeless.codegen.kernels.lower import lower_kernel
from tapeless.codegen.llvm import functions as llvm
from tapeless.codegen.llvm import native
from tapeless.codegen.loops.interpreter import run as interpret
from tapeless.ir.graph import Builder, Node
from tapeless.ir.target import TARGETS
from tapeless.ir.types import DType, Rows

from .kernels import WIDTHS, arrays_for, check, expected, kernel, run_compiled, tensor

pytestmark = pytest.mark.usefixtures("vectors")


def attention(
    heads: int, groups: int, n: int, m: int, d: int, e: int, causal: bool, lengths: bool, dtype: DType
) -> Node:
    def build(b: Builder) -> None:
        q = b.input("q", tensor(Rows(), heads, n, d, dtype=dtype), "operand")
        k = b.input("k", tensor(Rows(), groups, d, m, dtype=dtype), "operand")
        v = b.input("v", tensor(Rows(), groups, m, e, dtype=dtype), "operand")
        counts = [b.input("lengths", tensor(Rows(), dtype=DType.I32), "operand")] if lengths else []
        b.output("y", b.emit("attention", q, k, v, *counts, causal=causal, scale=0.7), "result")

    return kernel("attention", build, dtype=dtype)


def gradient(
    heads: int, groups: int, n: int, m: int, d: int, e: int, causal: bool, lengths: bool, dtype: DType
) -> Node:
    def build(b: Builder) -> None:
        shapes = ((heads, n, d), (groups, d, m), (groups, m, e), (heads, n, e), (heads, n))
        values = [b.input(f"x{k}", tensor(Rows(), *shape, dtype=dtype), "operand") for k, shape in enumerate(shapes)]
        counts = [b.input("lengths", tensor(Rows(), dtype=DType.I32), "operand")] if lengths else []
        b.output("y", b.emit("attention_gradient", *values, *counts, causal=causal, scale=0.7), "result")

    return kernel("attention_gradient", build, dtype=dtype)


@pytest.mark.parametrize("size", (1, 3, 7, 17, 64, 65, 129))
@pytest.mark.parametrize("causal", (False, True))
def test_sizes(size: int, causal: bool) -> None:
    check(attention(1, 1, size, size, 5, 4, causal, False, DType.F32), 2)


@pytest.mark.parametrize(
    ("n", "m", "d", "e"),
    ((1, 1, 1, 1), (3, 129, 16, 33), (17, 64, 33, 4), (65, 65, 5, 17), (129, 7, 1, 1), (8, 97, 64, 65)),
)
@pytest.mark.parametrize("causal", (False, True))
def test_sizes_of_the_gradient(n: int, m: int, d: int, e: int, causal: bool) -> None:
    check(gradient(4, 2, n, m, d, e, causal, causal, DType.F64), 3)


@pytest.mark.own_width
@pytest.mark.parametrize("name", list(TARGETS))
def test_code_for_every_target(name: str) -> None:
    """Also without vectors: there is machine code, and the loops run in their interpreter."""
    for node in (attention(2, 1, 5, 9, 3, 2, True, True, DType.F32), gradient(2, 1, 5, 9, 3, 2, True, True, DType.F32)):
        function, arrays = lower_kernel(node, TARGETS[name], 4), arrays_for(node.regions[0], 2)
        wanted = expected(node, arrays, 2)["y"]
        made, scratch = (
            np.full(wanted.size, 99, np.float32),
            np.full(function.buffers[-1].bytes // 4, np.nan, np.float32),
        )
        assert function.parts == 1
        assert native.compile_object(
            llvm.module_text([llvm.function_text(function, TARGETS[name], linkage="")], TARGETS[name]), TARGETS[name]
        )
        interpret(function, [*(array.reshape(-1) for array in arrays.values()), made, scratch], 2)
        np.testing.assert_allclose(made, wanted.reshape(-1), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(("n", "m"), ((1, 129), (17, 3), (3, 65), (129, 7)))
def test_queries_and_keys_of_different_counts(n: int, m: int) -> None:
    check(attention(2, 1, n, m, 3, 17, True, True, DType.F64), 3)


@pytest.mark.parametrize("e", (1, 16, 33, 65))
def test_sizes_of_values(e: int) -> None:
    check(attention(6, 2, 17, 65, 1, e, True, False, DType.F32), 2)


def test_some_heads_share_keys() -> None:
    for _ in WIDTHS:
        check(attention(2, 2, 17, 65, 4, 9, True, True, DType.F32), 3)
        check(gradient(2, 2, 17, 65, 4, 9, True, True, DType.F32), 3)


def test_no_rows() -> None:
    check(attention(2, 2, 7, 7, 4, 4, True, False, DType.F32), 0, capacity=4)


def test_lengths_beyond_the_keys_and_below_zero() -> None:
    check(attention(1, 1, 5, 7, 4, 4, False, True, DType.F32), 40, ranges={"lengths": (-3, 12)})


@pytest.mark.parametrize("offset", (-200.0, 200.0))
def test_large_scores_keep_their_differences(offset: float) -> None:
    """Greatest scores that grow from block to block, and shrink: nothing overflows, and no weight is lost."""
    node = attention(1, 1, 1, 129, 1, 3, False, False, DType.F64)
    arrays = arrays_for(node.regions[0], 1)
    arrays["q"][...] = 1
    arrays["k"][...] = np.linspace(offset, -offset, 129)
    wanted = expected(node, arrays, 1)["y"]
    assert np.isfinite(wanted).all() and np.abs(wanted).max() > 0
    np.testing.assert_allclose(run_compiled(node, arrays, 1)["y"], wanted, rtol=1e-11)
