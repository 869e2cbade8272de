"""Remainders and quotients rounded down: floats as Python's own, to the last bit and the sign of zero; ints exact,
without traps.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tapeless.ir.graph import Builder
from tapeless.ir.interpreter import run
from tapeless.ir.target import named
from tapeless.ir.types import DType, Tensor

from .kernels import kernel, run_compiled

OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {"remainder": operator.mod, "floor_divide": operator.floordiv}
NUMBERS = [
    0.0,
    -0.0,
    1,
    -1,
    0.1,
    0.5,
    3,
    7,
    10,
    5,
    -5,
    math.pi,
    2 * math.pi,
    1e7,
    1e8,
    1e9,
    1e17,
    math.inf,
    -math.inf,
    math.nan,
]
WHOLE = [0, 1, -1, 2, -2, 7, -10, 16777217, 123456789, 2**31 - 1, -(2**31)]


def pairs(dtype: DType) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of all sizes, quotients of all sizes, and every special number by every other."""
    rng, count = np.random.default_rng(0), 1000
    if not dtype.is_float:
        x, y = rng.integers(-(2**31), 2**31, count), rng.integers(-20, 20, count)
        special = np.array(WHOLE)
    else:
        limits = np.finfo(dtype.numpy)
        least, most = int(limits.minexp) - int(limits.nmant), int(limits.maxexp)

        def any_size() -> np.ndarray:
            return np.ldexp(rng.uniform(0.5, 1, count), rng.integers(least, most, count)) * rng.choice([-1, 1], count)

        x, y = any_size(), any_size()
        y[::2] = np.ldexp(x[::2], -rng.integers(0, 60, count)[::2]) * rng.uniform(0.9, 1, count)[::2]
        special = np.array([*NUMBERS, limits.max, limits.tiny, limits.smallest_subnormal])
    grid = [part.ravel() for part in np.meshgrid(special, special)]
    return np.concatenate([x, grid[0]]).astype(dtype.numpy), np.concatenate([y, grid[1]]).astype(dtype.numpy)


def python(name: str, x: Any, y: Any) -> float:
    """Python's result; by zero, which it refuses, that of IEEE's division; of ints wrapped into 32 bits, and 0 by
    zero.
    """
    if isinstance(x, int):
        return 0 if y == 0 else (OPERATIONS[name](x, y) + 2**31) % 2**32 - 2**31
    if y == 0:
        with np.errstate(all="ignore"):
            return math.nan if name == "remainder" else float(np.float64(x) / np.float64(y))
    return float(OPERATIONS[name](x, y))


@pytest.mark.parametrize("target", ["host", "x86-64"])
@pytest.mark.parametrize("dtype", [DType.F32, DType.F64, DType.I32], ids=str)
@pytest.mark.parametrize("name", OPERATIONS)
def test_as_python(name: str, dtype: DType, target: str) -> None:
    x, y = pairs(dtype)
    type = Tensor(dtype, x.shape)

    def build(b: Builder) -> None:
        b.output("z", b.emit(name, b.input("x", type, "operand"), b.input("y", type, "operand")), "result")

    node = kernel("nest", build, dtype=dtype)
    with np.errstate(over="ignore"):
        wanted = np.array([python(name, a, b) for a, b in zip(x.tolist(), y.tolist(), strict=True)]).astype(dtype.numpy)
    made = run_compiled(node, {"x": x, "y": y}, 1, target=named(target))["z"]
    with np.errstate(over="ignore"):
        reference = run(node.regions[0], {"x": x, "y": y}, rows=1)["z"]
    for found in (made, reference):
        np.testing.assert_array_equal(found, wanted)
        if dtype.is_float:
            numbers = ~np.isnan(wanted)
            np.testing.assert_array_equal(np.signbit(found[numbers]), np.signbit(wanted[numbers]))


@pytest.mark.parametrize("divisor", [2, -2, 4, 10, -1, 0])
def test_ints_by_a_known_divisor(divisor: int) -> None:
    x = np.array([*WHOLE, *range(-30, 30)], np.int32)

    def build(b: Builder) -> None:
        values = b.input("x", Tensor(DType.I32, x.shape), "operand")
        known = b.broadcast_to(b.constant(divisor, DType.I32), x.shape, ())
        for name in OPERATIONS:
            b.output(name, b.emit(name, values, known), "result")

    node = kernel("nest", build)
    for name, found in run_compiled(node, {"x": x}, 1).items():
        np.testing.assert_array_equal(found, [python(name, value, divisor) for value in x.tolist()])
