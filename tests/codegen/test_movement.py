"""Families that move elements: transposes and padded copies, gather, scatter_add, permutation."""

from __future__ import annotations

import pytest

from tapeless.ir.graph import Builder
from tapeless.ir.types import DType, Rows, Tensor

from .kernels import check, kernel

BATCH = Rows()
SIZES = (0, 1, 3, 7, 17, 64, 65, 129)


@pytest.mark.parametrize("dtype", (DType.F32, DType.F64), ids=str)
def test_transpose(dtype):
    def build(b: Builder) -> None:
        x = b.input("x", Tensor(dtype, shape), "operand")
        b.output("t", b.emit("transpose", x, perm=(1, 0)), "result")

    for m, n in zip(SIZES, (5, 33, 16, 64, 17, 48, 0, 70), strict=True):
        shape = (m, n)
        check(kernel("pack", build), 1)
        check(kernel("pack", build, leading=(n + 3, m + 16)), 1)
    shape = (BATCH, 40)
    for rows in (0, 1, 16, 50):
        check(kernel("pack", build), rows, capacity=64)
    shape = (784, 512)
    check(kernel("pack", build), 1)


def test_padded_copy():
    def build(b: Builder) -> None:
        x = b.input("x", Tensor(DType.F32, (20, 33)), "operand")
        b.output("c", x, "result")

    check(kernel("pack", build, leading=(0, 48)), 1)


@pytest.mark.parametrize("dtype", (DType.F32, DType.F64), ids=str)
def test_scatter_add(dtype):
    def build(b: Builder, rest: tuple[int, ...]) -> None:
        x = b.input("x", Tensor(dtype, (BATCH, *rest)), "operand")
        index = b.input("index", Tensor(DType.I32, (BATCH,)), "operand")
        b.output("s", b.emit("scatter_add", x, index, size=5), "result")

    for rest in ((), (1,), (7,), (64,), (65,), (3, 40), (0,)):
        for rows in (0, 1, 13):
            check(kernel("scatter", lambda b, rest=rest: build(b, rest)), rows, capacity=16, ranges={"index": (-1, 7)})


def test_gather():
    def build(b: Builder) -> None:
        table = b.input("table", Tensor(DType.F32, (9, 40)), "operand")
        index = b.input("index", Tensor(DType.I32, (BATCH,)), "operand")
        b.output("g", b.emit("gather", table, index), "result")

    for rows in (0, 1, 30):
        check(kernel("gather", build), rows, ranges={"index": (-2, 12)})
        check(kernel("gather", build, leading=(48, 0, 64)), rows, ranges={"index": (-2, 12)})


def test_permutation():
    def build(b: Builder) -> None:
        seed = b.input("seed", Tensor(DType.U32, (2,)), "operand")
        epoch = b.input("epoch", Tensor(DType.I32), "operand")
        b.output("order", b.emit("permutation", seed, epoch, shape=(BATCH,)), "result")

    for rows in (0, 1, 2, 17, 1797):
        check(kernel("permutation", build), rows)


def test_random_bits_are_exact():
    for dtype in (DType.F32, DType.F64):
        for shape in ((BATCH, 64), (BATCH, 70), (130,), (3, 5, 7)):

            def build(b: Builder, shape=shape, dtype=dtype) -> None:
                seed = b.input("seed", Tensor(DType.U32, (2,)), "operand")
                step = b.input("step", Tensor(DType.I32), "operand")
                b.output("u", b.emit("random_uniform", seed, step, site=7, shape=shape, dtype=dtype), "result")

            check(kernel("nest", build), 9, tolerance=1e-30)


