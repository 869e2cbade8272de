"""The nest family against the reference interpreter: every kind of loop, awkward sizes, both element types."""

from __future__ import annotations

import pytest

from tapeless.ir.graph import Builder
from tapeless.ir.types import DType, Rows, Tensor

from .kernels import check, kernel

SIZES = (0, 1, 3, 7, 17, 64, 65, 129)
BATCH = Rows()


def pointwise(b: Builder, n: int, dtype: DType) -> None:
    x = b.input("x", Tensor(dtype, (BATCH, n)), "operand")
    y = b.input("y", Tensor(dtype, (BATCH, n)), "operand")
    b.output("z", b.emit("add", b.emit("mul", x, y), b.emit("exp", x)), "result")
    b.output("positive", b.emit("lt", b.full(0.0, x), x), "result")


def biased(b: Builder, n: int, dtype: DType) -> None:
    x = b.input("x", Tensor(dtype, (BATCH, n)), "operand")
    bias = b.input("b", Tensor(dtype, (n,)), "operand")
    scale = b.input("s", Tensor(dtype, (BATCH,)), "operand")
    z = b.emit("add", x, b.broadcast_to(bias, (BATCH, n)))
    b.output("z", b.emit("mul", z, b.broadcast_to(scale, (BATCH, n), (0,))), "result")


def cross_entropy(b: Builder, n: int, dtype: DType) -> None:
    x = b.input("x", Tensor(dtype, (BATCH, n)), "operand")
    label = b.input("label", Tensor(DType.I32, (BATCH,)), "operand")
    lse = b.emit("logsumexp", x, axes=(1,))
    loss = b.emit("sub", lse, b.emit("pick", x, label))
    probs = b.emit("exp", b.emit("sub", x, b.broadcast_to(lse, (BATCH, n), (0,))))
    places = b.emit("iota", axis=1, shape=(BATCH, n), dtype=DType.I32)
    hit = b.emit("cast", b.emit("eq", places, b.broadcast_to(label, (BATCH, n), (0,))), dtype=dtype)
    b.output("loss", loss, "result")
    b.output("gradient", b.emit("sub", probs, hit), "result")
    b.output("best", b.emit("argmax", x, axis=1), "result")


def mean_loss(b: Builder, n: int, dtype: DType) -> None:
    x = b.input("x", Tensor(dtype, (BATCH, n)), "operand")
    total = b.emit("sum", b.emit("logsumexp", x, axes=(1,)), axes=(0,))
    b.output("loss", b.emit("div", total, b.emit("count", shape=(BATCH, 3), dtype=dtype)), "result")


def columns(b: Builder, n: int, dtype: DType) -> None:
    x = b.input("x", Tensor(dtype, (BATCH, n)), "operand")
    b.output("s", b.emit("sum", x, axes=(0,)), "result")
    b.output("m", b.emit("max", x, axes=(0,)), "result")
    b.output("best", b.emit("argmax", x, axis=0), "result")


def totals(b: Builder, n: int, dtype: DType) -> None:
    x = b.input("x", Tensor(dtype, (BATCH, n)), "operand")
    bias = b.input("b", Tensor(dtype, (n,)), "operand")
    b.output("s", b.emit("sum", b.emit("square", x), axes=(0, 1)), "result")
    z = b.emit("add", x, b.broadcast_to(bias, (BATCH, n)))
    b.output("low", b.emit("min", z, axes=(0, 1)), "result")


def standardised(b: Builder, n: int, dtype: DType) -> None:
    x = b.input("x", Tensor(dtype, (BATCH, n)), "operand")
    size = b.emit("count", shape=(n,), dtype=dtype)
    mean = b.emit("div", b.emit("sum", x, axes=(1,)), b.broadcast_to(size, (BATCH,)))
    centred = b.emit("sub", x, b.broadcast_to(mean, (BATCH, n), (0,)))
    variance = b.emit("div", b.emit("sum", b.emit("square", centred), axes=(1,)), b.broadcast_to(size, (BATCH,)))
    scale = b.emit("sqrt", b.emit("add", variance, b.full(1e-3, variance)))
    b.output("z", b.emit("div", centred, b.broadcast_to(scale, (BATCH, n), (0,))), "result")


def middle(b: Builder, n: int, dtype: DType) -> None:
    x = b.input("x", Tensor(dtype, (3, n, BATCH)), "operand")
    b.output("s", b.emit("sum", x, axes=(1,)), "result")
    b.output("t", b.emit("sum", x, axes=(0, 2)), "result")


def transposed(b: Builder, n: int, dtype: DType) -> None:
    x = b.input("x", Tensor(dtype, (n, BATCH)), "operand")
    y = b.input("y", Tensor(dtype, (BATCH, n)), "operand")
    z = b.emit("add", b.emit("transpose", x, perm=(1, 0)), y)
    b.output("z", z, "result")
    b.output("w", b.emit("transpose", b.emit("square", z), perm=(1, 0)), "result")


def symmetric(b: Builder, n: int, dtype: DType) -> None:
    x = b.input("x", Tensor(dtype, (n, n)), "operand")
    b.output("z", b.emit("add", x, b.emit("transpose", x, perm=(1, 0))), "result")
    e = b.emit("exp", x)
    b.output("s", b.emit("sub", b.emit("sum", e, axes=(0,)), b.emit("sum", e, axes=(1,))), "result")


def reshaped(b: Builder, n: int, dtype: DType) -> None:
    x = b.input("x", Tensor(dtype, (BATCH, 2 * n)), "operand")
    y = b.input("y", Tensor(dtype, (BATCH, 2, n)), "operand")
    z = b.emit("mul", b.emit("reshape", x, shape=(BATCH, 2, n)), y)
    unit = b.emit("reshape", z, shape=(BATCH, 1, 2, n))
    b.output("z", b.emit("reshape", unit, shape=(BATCH, 1, 2, n)), "result")
    b.output("flat", b.emit("reshape", z, shape=(Rows(2), n)), "result")
    b.output("s", b.emit("sum", z, axes=(2,)), "result")


def dropped(b: Builder, n: int, dtype: DType) -> None:
    x = b.input("x", Tensor(dtype, (BATCH, n)), "operand")
    seed = b.input("seed", Tensor(DType.U32, (2,)), "operand")
    step = b.input("step", Tensor(DType.I32, ()), "operand")
    u = b.emit("random_uniform", seed, step, site=5, shape=(BATCH, n), dtype=dtype)
    b.output("u", u, "result")
    b.output("z", b.emit("select", b.emit("lt", u, b.full(0.3, u)), b.full(0.0, x), x), "result")


def gathered(b: Builder, n: int, dtype: DType) -> None:
    table = b.input("table", Tensor(dtype, (5, n)), "operand")
    index = b.input("index", Tensor(DType.I32, (BATCH,)), "operand")
    b.output("z", b.emit("exp", b.emit("gather", table, index)), "result")
    b.output("w", b.emit("gather", b.emit("reshape", table, shape=(5 * n,)), index), "result")


def scalars(b: Builder, n: int, dtype: DType) -> None:
    x = b.input("x", Tensor(dtype), "operand")
    step = b.input("step", Tensor(DType.I32), "operand")
    t = b.emit("cast", step, dtype=dtype)
    b.output("lr", b.emit("mul", b.emit("cos", b.emit("mul", t, b.constant(0.01, dtype))), x), "result")
    b.output("next", b.emit("add", step, b.constant(1, DType.I32)), "result")
    b.output("correction", b.emit("pow", b.constant(0.9, dtype), t), "result")


def matrix_and_vector(b: Builder, n: int, dtype: DType) -> None:
    x = b.input("x", Tensor(dtype, (BATCH, n)), "operand")
    v = b.input("v", Tensor(dtype, (n,)), "operand")
    b.output("x2", b.emit("square", x), "result")
    b.output("v2", b.emit("square", v), "result")
    b.output("total", b.emit("sum", x, axes=(0, 1)), "result")


BUILDS = (pointwise, biased, cross_entropy, mean_loss, columns, totals, standardised, middle, transposed, symmetric,
          reshaped, dropped, gathered, scalars, matrix_and_vector)


@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.__name__)
@pytest.mark.parametrize("dtype", (DType.F32, DType.F64), ids=str)
def test_against_reference(build, dtype):
    for n in SIZES:
        node = kernel("nest", lambda b, n=n: build(b, n, dtype))
        if n == 0 and build in (cross_entropy, standardised, gathered):
            continue
        for rows in ((0, 1, 7, 65) if n in (1, 17, 65) else (3,)):
            ranges = {"step": (0, 100), "label": (0, max(1, n))}
            check(node, rows, capacity=70, ranges=ranges)
