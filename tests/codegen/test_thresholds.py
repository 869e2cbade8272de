"""Products on both sides of each size from which they are computed another way, for every width of vectors.

A left operand beyond LARGE_OPERAND bytes is taken in blocks of rows, with copies of what tiles read; one with more
than LONG_CHAIN steps of k in blocks of those. The sizes are real ones: a tile has as many rows, and a block as many
tiles, as it has in use.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tapeless.codegen.kernels import lower
from tapeless.codegen.kernels.matmul import CHAIN_BLOCK, LARGE_OPERAND, LONG_CHAIN, PACKED_ROWS, PARTIAL_ROWS, Product
from tapeless.codegen.loops.builder import index_constant
from tapeless.codegen.loops.language import Operand
from tapeless.ir.target import Target
from tapeless.ir.types import DType, Rows

from .kernels import WIDTHS, Compiled, check
from .test_matmul import product

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
    yield 301, 130, LONG_CHAIN + CHAIN_BLOCK + 5
    yield 3 * PARTIAL_ROWS + 1, 129, LONG_CHAIN + 1
    for rows in (PACKED_ROWS - 1, PACKED_ROWS, PACKED_ROWS + 1, 2 * PACKED_ROWS + 77):
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
    made = [
        Product(product(m, n, k, dtype=dtype, transpose_a=flip), WIDTHS[lanes], 1)
        for m, n, k in shapes(dtype)
        for flip in (False, True)
    ]
    assert {(it.long, it.packs, it.packs_left) for it in made} == {
        (False, False, False), (True, False, False), (False, True, False), (False, True, True)}  # fmt: skip


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
    compiled = Compiled(lower.lower_kernel(node, WIDTHS[lanes], 1100), WIDTHS[lanes])
    for rows in (0, 1, 513, 1100):
        check(node, rows, compiled=compiled, tolerance=TOLERANCE[dtype])


class OneRowTooFew(Product):
    """Packs all rows of a block of A but the last."""

    def pack_left(self, first: Operand, last: Operand) -> None:
        super().pack_left(first, self.builder.arithmetic("sub", last, index_constant(1)))


def test_one_row_too_few_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lower, "Product", OneRowTooFew)
    for target in WIDTHS.values():
        with pytest.raises(AssertionError, match="Mismatched elements"):
            checked((520, 70, 1031), DType.F32, target, (True, False))
