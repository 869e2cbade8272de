"""Nests that sweep each row more than once: what they keep of a row, and sweeps that run a row ahead."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tapeless.codegen.kernels.lower import lower_kernel
from tapeless.codegen.loops import interpreter as loops_interpreter
from tapeless.codegen.loops.text import format_function, parse_function
from tapeless.compiler.passes.pipelines import lowered, simplified
from tapeless.ir.graph import Builder, Graph, Node, Value
from tapeless.ir.machine import X86_64_V3
from tapeless.ir.target import TARGETS, Target
from tapeless.ir.types import DType, Rows, Tensor

from .kernels import WIDTHS, Compiled, Vectors, arrays_for, check, node_of, run_compiled

pytestmark = pytest.mark.usefixtures("vectors")
BATCH = Rows()
COLUMNS = (1, 3, 7, 16, 17, 64, 65, 129, 1000, 1023)
CAPACITY = 200  # enough for sweeps to run ahead
Build = Callable[[Builder, int, DType], None]


def over_columns(b: Builder, row: Value, like: Value) -> Value:
    return b.broadcast_to(row, like.type.shape, (0,))


def mean(b: Builder, value: Value) -> Value:
    total = b.emit("sum", value, axes=(1,))
    return b.emit(
        "div",
        total,
        b.broadcast_to(b.emit("count", shape=value.type.shape[1:], dtype=value.type.dtype), total.type.shape),
    )


def given(b: Builder, name: str, n: int, dtype: DType) -> Value:
    return b.input(name, Tensor(dtype, (BATCH, n)), "operand")


def softmax(b: Builder, n: int, dtype: DType) -> None:
    x = given(b, "x", n, dtype)
    b.output("y", b.emit("exp", b.emit("sub", x, over_columns(b, b.emit("logsumexp", x, axes=(1,)), x))), "result")


def cross_entropy(b: Builder, n: int, dtype: DType) -> None:
    x, label = given(b, "x", n, dtype), b.input("label", Tensor(DType.I32, (BATCH,)), "operand")
    total = b.emit("logsumexp", x, axes=(1,))
    b.output("loss", b.emit("sub", total, b.emit("pick", x, label)), "result")
    hit = b.emit("eq", b.emit("iota", axis=1, shape=x.type.shape, dtype=DType.I32), over_columns(b, label, x))
    probability = b.emit("exp", b.emit("sub", x, over_columns(b, total, x)))
    b.output("slope", b.emit("sub", probability, b.emit("cast", hit, dtype=dtype)), "result")


def layer_norm(b: Builder, n: int, dtype: DType) -> None:
    x, d = given(b, "x", n, dtype), given(b, "d", n, dtype)
    centred = b.emit("sub", x, over_columns(b, mean(b, x), x))
    variance = mean(b, b.emit("square", centred))
    scale = over_columns(b, b.emit("rsqrt", b.emit("add", variance, b.full(1e-3, variance))), x)
    y = b.emit("mul", centred, scale)
    inner = b.emit("sub", d, over_columns(b, mean(b, d), d))
    inner = b.emit("sub", inner, b.emit("mul", y, over_columns(b, mean(b, b.emit("mul", d, y)), d)))
    b.output("y", y, "result")
    b.output("slope", b.emit("mul", inner, scale), "result")


def dear(b: Builder, n: int, dtype: DType) -> None:
    """Something dear from memory alone is summed and used again, and so is something made of the sum."""
    wave = b.emit("sin", given(b, "x", n, dtype))
    centred = b.emit("tanh", b.emit("sub", wave, over_columns(b, mean(b, wave), wave)))
    b.output("y", b.emit("mul", centred, over_columns(b, mean(b, centred), wave)), "result")


def down_columns(b: Builder, n: int, dtype: DType) -> None:
    """As a batch norm of something dear: sums run over the rows."""
    wave = b.emit("sin", given(b, "x", n, dtype))
    top = b.emit("max", wave, axes=(0,))
    spread = b.emit("sub", wave, b.broadcast_to(top, wave.type.shape, (1,)))
    total = b.emit("sum", b.emit("square", spread), axes=(0,))
    b.output("y", b.emit("mul", spread, b.broadcast_to(total, wave.type.shape, (1,))), "result")


BUILDS = (softmax, cross_entropy, layer_norm, dear, down_columns)


def region(build: Build, n: int, dtype: DType) -> Graph:
    """As the compiler makes it: a softmax is its exponentials over their sum."""
    b = Builder("rows", dtype)
    build(b, n, dtype)
    return simplified(b.graph())


def node(build: Build, n: int, dtype: DType) -> Node:
    return node_of("nest", region(build, n, dtype))


@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.__name__)
@pytest.mark.parametrize("dtype", (DType.F32, DType.F64), ids=str)
def test_against_reference(build: Build, dtype: DType) -> None:
    for n in COLUMNS:
        made = node(build, n, dtype)
        for rows in (0, 1, 33) if n in (3, 65) else (5,):
            tolerance = 1e-4 if dtype is DType.F32 else 0.0
            check(made, rows, capacity=CAPACITY, ranges={"label": (0, n)}, tolerance=tolerance)


@pytest.mark.parametrize("build", (softmax, cross_entropy, layer_norm, dear), ids=lambda build: build.__name__)
@pytest.mark.parametrize("n", (10, 65, 1000))
def test_rows_are_the_same_bytes_whatever_their_count(build: Build, n: int, vectors: Vectors) -> None:
    """So is every part's share, and with it the work of any number of threads."""
    made, target = node(build, n, DType.F32), vectors()
    arrays = arrays_for(made.regions[0], 1000, ranges={"label": (0, n)})
    whole = run_compiled(made, arrays, 1000, compiled=Compiled(lower_kernel(made, target, 1000), target))
    for rows, capacity in ((1, 1000), (77, 1000), (33, 40)):
        compiled = Compiled(lower_kernel(made, target, capacity), target)
        some = run_compiled(made, {name: array[:rows] for name, array in arrays.items()}, rows, compiled=compiled)
        for name, value in some.items():
            assert value.tobytes() == whole[name][:rows].tobytes(), (name, rows, capacity)


CACHED = [target for target in WIDTHS.values() if target.machine.streamed]  # those that know stores past the caches


def streaming(target: Target) -> Target:
    """As if no cache held what a kernel moves."""
    return replace(target, machine=replace(target.machine, last_cache=1))


@pytest.mark.own_width
@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.__name__)
@pytest.mark.skipif(not CACHED, reason="stores go through the caches here")
def test_past_the_caches(build: Build) -> None:
    """To the same bytes as through them, wherever a result begins: never aligned by chance, nor written beyond its
    end.
    """
    pairs = itertools.product((DType.F32, DType.F64), CACHED)
    for n, (dtype, target) in zip((3, 17, 65, 129, 1000), itertools.cycle(pairs), strict=False):
        made = node(build, n, dtype)
        arrays = arrays_for(made.regions[0], 9, ranges={"label": (0, n)})
        near, far = (Compiled(lower_kernel(made, target, CAPACITY), target) for target in (target, streaming(target)))
        whole = run_compiled(made, arrays, 9, compiled=near)
        for name, value in run_compiled(made, arrays, 9, compiled=far).items():
            assert value.tobytes() == whole[name].tobytes(), (name, n)
        for shift in (0, 1, 7, 15):
            memory = [arrays[port.key] for port in made.regions[0].inputs]
            results = [np.full(9 * n + 40, 7, port.value.type.dtype.numpy)[shift:] for port in made.regions[0].outputs]
            far([*memory, *results], 9)
            for port, result in zip(made.regions[0].outputs, results, strict=True):
                size = whole[port.key].size
                assert result[:size].tobytes() == whole[port.key].tobytes() and (result[size:] == 7).all()


@pytest.mark.parametrize("where", (lambda target: target, streaming), ids=("near", "far"))
@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.__name__)
def test_interpreter_agrees(build: Build, where: Callable[[Target], Target], vectors: Vectors) -> None:
    for n in (10, 65):
        made, target = node(build, n, DType.F32), where(vectors())
        function = lower_kernel(made, target, CAPACITY)
        assert parse_function(format_function(function)) == function
        arrays = arrays_for(made.regions[0], 9, ranges={"label": (0, n)})
        native = run_compiled(made, arrays, 9, compiled=Compiled(function, target))
        results = [
            np.zeros(port.value.type.at(9), port.value.type.dtype.numpy).reshape(-1) for port in made.regions[0].outputs
        ]
        memory = [arrays[port.key].reshape(-1) for port in made.regions[0].inputs]
        for part in range(function.parts):
            loops_interpreter.run(function, [*memory, *results], 9, part)
        for port, result in zip(made.regions[0].outputs, results, strict=True):
            np.testing.assert_allclose(result, native[port.key].reshape(-1), rtol=1e-5, atol=1e-6)


def loops(build: Build, n: int) -> str:
    return format_function(lower_kernel(node(build, n, DType.F32), TARGETS["x86-64-v4"], CAPACITY))


@pytest.mark.own_width
def test_exponentials_are_made_once() -> None:
    """The loop of four vectors and two of the tail, each exponential scaled once; the result's row keeps them."""
    text = loops(softmax, 1000 - 8)
    assert text.count(" = scale ") == 4 + 2
    assert text.count("load r0[") == text.count(" = scale ")
    assert "load r0[" not in loops(layer_norm, 992)  # a difference is made again: that is cheaper


@pytest.mark.own_width
def test_first_sweeps_run_a_row_ahead() -> None:
    """The loop over rows carries the next row's maximum, where two rows of everything fit the nearest cache."""
    carrying = re.compile(r"^  (v\d+ = )?for .* carrying", re.MULTILINE)  # a loop that is in no other
    assert carrying.search(loops(softmax, 1000))
    assert not carrying.search(loops(softmax, 5000))


@pytest.mark.parametrize("dtype", (DType.F32, DType.F64), ids=str)
def test_extremes(dtype: DType) -> None:
    x = np.zeros((6, 70), dtype.numpy)
    x[0], x[1], x[2, 3], x[3], x[4, 69], x[5, :2] = -np.inf, -1e30, np.inf, 1e30, np.nan, (88, -88)
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64)
        wanted = np.exp(wide - wide.max(1, keepdims=True))
        wanted /= wanted.sum(1, keepdims=True)
    wanted[2] = np.where(np.isinf(x[2]), np.nan, 0)
    for _ in WIDTHS:
        np.testing.assert_allclose(
            run_compiled(node(softmax, 70, dtype), {"x": x}, 6)["y"], wanted, rtol=1e-5, atol=1e-37
        )


@pytest.mark.own_width
def test_the_compiler_makes_one_kernel_of_each() -> None:
    for build in (softmax, cross_entropy, layer_norm, dear):
        made = lowered(region(build, 65, DType.F32), X86_64_V3).nodes
        assert [node.op for node in made].count("kernel") == 1, build
