"""Families that move elements: transposes and padded copies, gather, scatter_add, permutation."""

from __future__ import annotations

import pytest

from tapeless.ir.graph import Builder
from tapeless.ir.types import DType, Rows, Tensor

from ..sweep import sweep
from .kernels import check, kernel

pytestmark = pytest.mark.usefixtures("vectors")
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
    node = kernel("pack", build)
    for rows in (0, 1, 16, 50):
        check(node, rows, capacity=64)
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
        node = kernel("scatter", lambda b, rest=rest: build(b, rest))
        for rows in (0, 1, 13):
            check(node, rows, capacity=16, ranges={"index": (-1, 7)})


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


def sliced(extent: int) -> list[tuple[int, int, int]]:
    """Starts, sizes and steps that an axis of this extent allows."""
    cases = [(0, extent, 1)]
    if extent:
        cases += [
            (extent - 1, extent, -1),
            (0, -(-extent // 2), 2),
            (extent - 1, -(-extent // 3), -3),
            (extent // 2, 1, 1),
        ]
    return cases


@pytest.mark.parametrize("dtype", (DType.F32, DType.F64, DType.I32), ids=str)
def test_slice(dtype):
    for extent in SIZES:
        for start, size, step in sliced(extent):

            def columns(b: Builder, extent=extent, start=start, size=size, step=step) -> None:
                x = b.input("x", Tensor(dtype, (BATCH, extent)), "operand")
                made = b.emit("slice", x, start=(0, start), size=(BATCH, size), step=(1, step))
                b.output("s", b.emit("mul", made, made), "result")

            def rows(b: Builder, extent=extent, start=start, size=size, step=step) -> None:
                x = b.input("x", Tensor(dtype, (extent, 5)), "operand")
                b.output("s", b.emit("slice", x, start=(start, 4), size=(size, 2), step=(step, -3)), "result")

            check(kernel("nest", columns), 3)
            check(kernel("nest", rows), 1)
            if extent == 17:
                check(kernel("nest", columns, leading=(20, 0)), 3)


@pytest.mark.parametrize("dtype", (DType.F32, DType.F64, DType.I32), ids=str)
@pytest.mark.parametrize("extent", sweep(SIZES, every=2))
def test_pad(extent, dtype):
    for axis in (0, 1):
        for start, step in ((0, 1), (2, 1), (1, 3), (3 * extent + 1, -3), (extent, -1)):

            def build(b: Builder, extent=extent, axis=axis, start=start, step=step) -> None:
                x = b.input("x", Tensor(dtype, (extent, 6) if axis == 0 else (6, extent)), "operand")
                b.output("p", b.emit("pad", x, axis=axis, size=3 * extent + 4, start=start, step=step), "result")

            check(kernel("nest", build), 1)


def test_pad_of_rows_and_booleans():
    def build(b: Builder) -> None:
        x = b.input("x", Tensor(DType.BOOL, (BATCH, 7)), "operand")
        b.output("p", b.emit("pad", x, axis=1, size=20, start=5, step=2), "result")

    node = kernel("nest", build)
    for rows in SIZES:
        check(node, rows, capacity=129)


@pytest.mark.parametrize("dtype", (DType.F32, DType.F64), ids=str)
def test_slices_inside_a_reduction(dtype):
    """A slice is a load like any other: its axes may be summed, and other slices of the same tensor stand beside it."""

    def build(b: Builder, extent: int) -> None:
        x = b.input("x", Tensor(dtype, (BATCH, extent + 1)), "operand")
        parts = [b.emit("slice", x, start=(0, k), size=(BATCH, extent), step=(1, 1)) for k in (0, 1)]
        b.output("s", b.emit("sum", b.emit("square", b.emit("sub", *parts)), axes=(1,)), "result")

    for extent in SIZES:
        check(kernel("nest", lambda b, extent=extent: build(b, extent)), 5)


@pytest.mark.parametrize("dtype", (DType.F32, DType.F64), ids=str)
def test_product_over_axes(dtype):
    def build(b: Builder, extent: int, axes: tuple[int, ...]) -> None:
        x = b.input("x", Tensor(dtype, (3, extent)), "operand")
        b.output("p", b.emit("prod", x, axes=axes), "result")

    for extent in SIZES:
        for axes in ((0,), (1,), (0, 1)):
            check(
                kernel("nest", lambda b, extent=extent, axes=axes: build(b, extent, axes)), 1, ranges={"x": (0.9, 1.1)}
            )
