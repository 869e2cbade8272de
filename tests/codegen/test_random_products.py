"""Products at random: any transposes, stacks, epilogues, padded rows and dimensions known at run time, sizes about
every threshold.
"""

from __future__ import annotations

import math
import random

import pytest

from tapeless.ir.graph import Builder, Node
from tapeless.ir.types import DType, Rows, Tensor

from .kernels import WIDTHS, check, kernel
from .test_matmul import dropped, masked, plain, relu, swish
from .test_thresholds import MACHINE

CAPACITY = 70
SMALL = (0, 1, 2, 3, 7, 16, 17, 33, 64, 65, 129)
MOST = 40_000_000  # multiply-adds of one product


def near(rng: random.Random, size: float) -> int:
    return max(0, int(size) + rng.choice((-1, 0, 1, 5)))


def large(rng: random.Random, dtype: DType) -> tuple[int, int, int]:
    """About where operands begin to be copied, or to be taken in blocks."""
    page = MACHINE.page // dtype.bytes
    k = near(rng, rng.choice((64, 256, 700, 1700)))
    m, n = (near(rng, rng.choice((17, 65, 130, page))) for _ in range(2))
    return m, max(1, min(n, MOST // max(1, m * k))), k


def drawn(rng: random.Random) -> tuple[Node, int, float]:
    """A product, the count of rows to run it with, and how near its elements come to their exact values."""
    dtype = rng.choice((DType.F32, DType.F64))
    sizes: list[object] = list(large(rng, dtype)) if rng.random() < 0.4 else [rng.choice(SMALL) for _ in range(3)]
    lead = rng.choice(((), (), (2,), (3, 2))) if max(sizes) <= 129 else ()  # type: ignore[type-var]
    steps = sizes[2]
    rows = rng.choice((0, 1, 5, 64, CAPACITY))
    if (place := rng.randrange(5)) < 3 and sizes[place] <= CAPACITY:  # type: ignore[operator]
        sizes[place], steps = Rows(), CAPACITY if place == 2 else steps
    m, n, k = sizes
    flip_a, flip_b, epilogue = rng.random() < 0.5, rng.random() < 0.3, rng.choice((plain, swish, relu, masked, dropped))
    if lead and epilogue in (swish, masked):
        epilogue = plain

    def build(b: Builder) -> None:
        x = b.input("x", Tensor(dtype, (*lead, *((k, m) if flip_a else (m, k)))), "operand")
        w = b.input("w", Tensor(dtype, (*lead, *((n, k) if flip_b else (k, n)))), "operand")
        epilogue(b, b.emit("matmul", x, w, transpose_a=flip_a, transpose_b=flip_b), dtype)

    tolerance = (2e-7 if dtype is DType.F32 else 4e-16) * (20 + 4 * math.sqrt(steps))  # type: ignore[arg-type]
    return kernel("matmul", build, dtype=dtype), rows, tolerance


def products(seed: int, count: int) -> None:
    rng = random.Random(seed)
    for _ in range(count):
        node, rows, tolerance = drawn(rng)
        check(
            node,
            rows,
            capacity=CAPACITY,
            tolerance=tolerance,
            target=rng.choice(list(WIDTHS.values())),
            ranges={"x": (-1, 1), "w": (-1, 1)},
        )


def test_random_products() -> None:
    products(0, 30)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 9))
def test_random_products_at_length(seed: int) -> None:
    products(seed, 250)
