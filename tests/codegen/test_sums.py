"""Long sums against exact arithmetic: the error grows with the logarithm of the length."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tapeless.ir.graph import Builder
from tapeless.ir.types import DType, Rows, Tensor

from .kernels import kernel, run_compiled

pytestmark = pytest.mark.usefixtures("vectors")
BATCH = Rows()
EPS = float(np.finfo(np.float32).eps)


def total(shape: tuple[object, ...], axes: tuple[int, ...], square: bool = False):
    def build(b: Builder) -> None:
        x = b.input("x", Tensor(DType.F32, shape), "operand")
        b.output("s", b.emit("sum", b.emit("square", x) if square else x, axes=axes), "result")

    return kernel("nest", build)


@pytest.mark.parametrize("count", (1000, 65_537, pytest.param(3_000_000, marks=pytest.mark.slow)))
def test_sum_of_all(count):
    rng = np.random.default_rng(0)
    for x in (rng.uniform(0, 1, count), rng.normal(size=count), 1e4 + rng.normal(size=count)):
        x = x.astype(np.float32)
        for node, rows in ((total((count,), (0,)), 1), (total((BATCH,), (0,)), count)):
            made = run_compiled(node, {"x": x}, rows, capacity=count)["s"].item()
            # 1.3 one number at a time, 0.6 with vectors
            assert abs(made - math.fsum(x)) <= 2 * EPS * math.fsum(np.abs(x))


@pytest.mark.parametrize(("shape", "axes"), (((200_000, 3), (0,)), ((3, 200_000), (1,)), ((300, 5, 400), (0, 2))))
def test_sums_along_axes(shape, axes):
    x = np.random.default_rng(1).uniform(1, 2, shape).astype(np.float32)
    made = run_compiled(total(shape, axes), {"x": x}, 1)["s"]
    exact = np.sum(x.astype(np.float64), axis=axes)
    assert (np.abs(made - exact) <= 8 * EPS * exact).all()


def test_ill_conditioned_sum():
    """Large terms that cancel: the error is one of the terms' size, and not of their count times that."""
    rng = np.random.default_rng(2)
    half = (rng.normal(size=1_000_000) * 1e6).astype(np.float32)
    x = np.concatenate([half, -half])[rng.permutation(2_000_000)]
    made = run_compiled(total((2_000_000,), (0,)), {"x": x}, 1)["s"].item()
    assert abs(made) <= 8 * EPS * float(np.sqrt(np.sum(x.astype(float) ** 2)) * math.log2(x.size))
