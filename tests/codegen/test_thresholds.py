"""Products on both sides of each size from which they are computed another way, for every width of vectors.

Operands that go beyond the nearest caches are taken in blocks of steps, rows and columns; those whose steps lie on
pages of their own are copied. The sizes are real ones: a tile has as many rows, and a block as many tiles, as it has
in use.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tapeless.codegen.kernels.lower import lower_kernel
from tapeless.codegen.kernels.matmul import Product
from tapeless.codegen.kernels.product_blocks import Block, Ends
from tapeless.codegen.kernels.product_plan import plan_product
from tapeless.codegen.kernels.product_shape import product_shape
from tapeless.codegen.loops.builder import index_constant
from tapeless.ir.machine import X86_64_V3
from tapeless.ir.target import Target
from tapeless.ir.types import DType, Rows

from .kernels import WIDTHS, Compiled, check
from .test_matmul import product

MACHINE = X86_64_V3  # as all of WIDTHS
DTYPES = (DType.F32, DType.F64)
FLIPS = ((False, False), (True, False), (False, True), (True, True))  # of the left operand, and of the right one
TOLERANCE = {DType.F32: 1e-4, DType.F64: 1e-12}  # of sums of up to 3,300 products

Shape = tuple[int, int, int]


def shapes(dtype: DType) -> Iterator[Shape]:
    """Rows, columns and steps about each threshold, most of them no multiple of anything."""
    page = MACHINE.page // dtype.bytes
    for k in (250, 700, 1031):  # within one block of steps, in two, in several; and rows of A far apart
        yield 37, 70, k
        yield page, page // 2 + 1, k // 12
    for n in (page - 1, page, page + 1):  # rows of B far apart, read by few tiles and by many
        yield 7, n, 65
        yield 131, n, 65
    yield page, page, 65  # both far apart
    yield 601, 33, 3300  # several blocks of rows and of steps
    yield 270, page + 300, 700  # several blocks of columns
    yield 1, 17, 2100


def checked(shape: Shape, dtype: DType, target: Target, flips: tuple[bool, bool]) -> None:
    m, n, k = shape
    node = product(m, n, k, dtype=dtype, transpose_a=flips[0], transpose_b=flips[1])
    check(node, 1, target=target, tolerance=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("lanes", WIDTHS)
def test_sizes_are_on_both_sides(lanes: int, dtype: DType) -> None:
    """Of what is copied, and of whether rows, columns and steps are taken in blocks."""
    copied, blocked = set(), set()
    for shape in shapes(dtype):
        m, n, k = shape
        for flip in (False, True):
            node = product(m, n, k, dtype=dtype, transpose_a=flip)
            plan = plan_product(product_shape(node, 1, WIDTHS[lanes]), WIDTHS[lanes].machine)
            blocks = plan.blocks
            copied.add((False, False) if blocks is None else (blocks.left, blocks.right))
            sizes = (blocks.rows, blocks.columns, blocks.steps) if blocks else shape
            blocked |= {axis for axis, size, extent in zip("mnk", sizes, shape, strict=True) if size < extent}
    assert copied == {(False, False), (True, False), (False, True), (True, True)}
    # Narrow panels are short enough for many steps, and then there are no unfinished tiles.
    assert blocked >= {1: {*"m"}, 4: {*"m"}, 8: {*"mk"}, 16: {*"mnk"}}[lanes]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("lanes", WIDTHS)
def test_thresholds(lanes: int, dtype: DType) -> None:
    """Each shape for some of the ways that operands lie; all of them at length below."""
    for place, shape in enumerate(list(shapes(dtype))[lanes % 2 :: 2]):
        checked(shape, dtype, WIDTHS[lanes], FLIPS[(place + lanes) % 2 if place % 4 else 2])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("lanes", WIDTHS)
def test_thresholds_at_length(lanes: int, dtype: DType) -> None:
    for shape in shapes(dtype):
        for flips in FLIPS:
            checked(shape, dtype, WIDTHS[lanes], flips)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("lanes", WIDTHS)
def test_gradient_of_weights(lanes: int, dtype: DType) -> None:
    """x^T d for a batch whose size is known at run time only: some rows, most, all, and one more than a block packs."""
    node = product(256, 70, Rows(), dtype=dtype, transpose_a=True)
    compiled = Compiled(lower_kernel(node, WIDTHS[lanes], 1100), WIDTHS[lanes])
    for rows in (0, 1, 513, 1100):
        check(node, rows, compiled=compiled, tolerance=TOLERANCE[dtype])


class OneRowTooFew(Product):
    """Packs all rows of a block of A but the last."""

    def blocks(self, rows: Ends, columns: Ends) -> None:
        packed = self.left.pack

        def pack(block: Block) -> None:
            first, last = block.rows
            packed(replace(block, rows=(first, self.builder.arithmetic("sub", last, index_constant(1)))))

        self.left.pack = pack  # type: ignore[method-assign]
        super().blocks(rows, columns)


def test_one_row_too_few_is_seen() -> None:
    node = product(1024, 520, 65, transpose_a=True)
    for target in WIDTHS.values():
        shape = product_shape(node, 1, target)
        wrong = OneRowTooFew(node, target, shape, plan_product(shape, target.machine)).function()
        with pytest.raises(AssertionError, match="Mismatched elements"):
            check(node, 1, compiled=Compiled(wrong, target), tolerance=TOLERANCE[DType.F32])
