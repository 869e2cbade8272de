"""Products on both sides of each size from which they are computed another way, for every width of vectors.

A left operand beyond LARGE_OPERAND bytes is taken in blocks of rows, with copies of what tiles read; one with more
than LONG_CHAIN steps of k in blocks of those. The sizes are real ones: a tile has as many rows, and a block as many
tiles, as it has in use.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tapeless.codegen.kernels.lower import lower_kernel
from tapeless.codegen.kernels.matmul import Product, product_shape
from tapeless.codegen.kernels.product_plan import Panels, plan_product
from tapeless.codegen.loops.builder import index_constant
from tapeless.codegen.loops.language import Operand
from tapeless.ir.machine import X86_64_V3
from tapeless.ir.target import Target
from tapeless.ir.types import DType, Rows

from .kernels import WIDTHS, Compiled, check
from .test_matmul import product

MACHINE = X86_64_V3
CUT = MACHINE.cut
LARGE_OPERAND, LONG_CHAIN = 2 * MACHINE.core_cache, MACHINE.core_cache // CUT.panel_row  # as on all of WIDTHS
DTYPES = (DType.F32, DType.F64)
FLIPS = ((False, False), (True, False), (False, True), (True, True))  # of the left operand, and of the right one
TOLERANCE = {DType.F32: 1e-4, DType.F64: 1e-12}  # of sums of up to 3,000 products

Shape = tuple[int, int, int]


def shapes(dtype: DType) -> Iterator[Shape]:
    """Rows, columns and steps about each threshold, most of them no multiple of anything."""
    elements = LARGE_OPERAND // dtype.bytes
    for k in (1100, LONG_CHAIN, LONG_CHAIN + 1):
        yield elements // k, 70, k
        yield elements // k + 1, 70, k
    yield 301, 130, LONG_CHAIN + CUT.chain_steps + 5
    yield 3 * CUT.chain_rows + 1, 129, LONG_CHAIN + 1
    for rows in (CUT.packed_rows - 1, CUT.packed_rows, CUT.packed_rows + 1, 2 * CUT.packed_rows + 77):
        yield rows, 65, 1031
    yield 600, 17, 1031


def checked(shape: Shape, dtype: DType, target: Target, flips: tuple[bool, bool]) -> None:
    m, n, k = shape
    node = product(m, n, k, dtype=dtype, transpose_a=flips[0], transpose_b=flips[1])
    check(node, 1, target=target, tolerance=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("lanes", WIDTHS)
def test_sizes_are_on_both_sides(lanes: int, dtype: DType) -> None:
    """Of whether operands are packed, both or the right one, and of whether the steps are taken in blocks."""
    target = WIDTHS[lanes]
    assert (2 * target.machine.core_cache, target.machine.core_cache // CUT.panel_row) == (LARGE_OPERAND, LONG_CHAIN)
    found = set()
    for m, n, k in shapes(dtype):
        for flip in (False, True):
            node = product(m, n, k, dtype=dtype, transpose_a=flip)
            blocks = plan_product(product_shape(node, 1, target), target.machine).blocks
            found.add((type(blocks).__name__, isinstance(blocks, Panels) and blocks.left))
    assert found == {("NoneType", False), ("Chains", False), ("Panels", False), ("Panels", True)}


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

    def pack_left(self, blocks: Panels, first: Operand, last: Operand) -> None:
        super().pack_left(blocks, first, self.builder.arithmetic("sub", last, index_constant(1)))


def test_one_row_too_few_is_seen() -> None:
    node = product(520, 70, 1031, transpose_a=True)
    for target in WIDTHS.values():
        shape = product_shape(node, 1, target)
        wrong = OneRowTooFew(node, target, shape, plan_product(shape, target.machine)).function()
        with pytest.raises(AssertionError, match="Mismatched elements"):
            check(node, 1, compiled=Compiled(wrong, target), tolerance=TOLERANCE[DType.F32])
