"""Families that walk an axis in order: recurrences, sorting, places along an axis, factors of matrices."""

from __future__ import annotations

import numpy as np
import pytest

from tapeless.ir.graph import Builder
from tapeless.ir.interpreter import run
from tapeless.ir.types import DType, Rows, Tensor

from ..sweep import sweep
from .kernels import arrays_for, check, kernel, run_compiled

pytestmark = pytest.mark.usefixtures("vectors")
BATCH = Rows()
SIZES = (0, 1, 3, 7, 17, 64, 65, 129)
KINDS = pytest.mark.parametrize("dtype", (DType.F32, DType.F64), ids=str)


@pytest.mark.parametrize(
    ("op", "reverse", "dtype"),
    sweep(("cumsum", "cumprod", "linear_scan", "strong_scan"), (False, True), (DType.F32, DType.F64), every=3),
    ids=str,
)
def test_recurrences(op, reverse, dtype):
    for size in SIZES:
        for shape, axis in (
            ((3, size), 1),
            ((size, 5), 0),
            ((size, 33), 0),
            ((2, size, 20), 1),
            ((BATCH, size), 1),
            ((BATCH,), 0),
        ):

            def build(b: Builder, shape: object = shape, axis: int = axis) -> None:
                inputs = [b.input(f"x{k}", Tensor(dtype, shape), "operand") for k in range(1 + op.endswith("_scan"))]
                b.output("s", b.emit(op, *inputs, axis=axis, reverse=reverse), "result")

            ranges = {"x0": (-1.1, 1.1)} if op != "cumsum" else None
            check(
                kernel("recurrence", build), 13, capacity=16, ranges=ranges, tolerance=1e-4 if dtype is DType.F32 else 0
            )


@KINDS
@pytest.mark.parametrize("descending", (False, True))
def test_argsort(dtype, descending):
    for size in SIZES:
        for shape, axis in (((3, size), 1), ((size, 3), 0), ((BATCH, size), 1), ((BATCH,), 0)):

            def build(b: Builder, shape: object = shape, axis: int = axis) -> None:
                x = b.input("x", Tensor(dtype, shape), "operand")
                b.output("order", b.emit("argsort", x, axis=axis, descending=descending), "result")

            node = kernel("argsort", build)
            for rows in (0, 1, 13):
                arrays = arrays_for(node.regions[0], rows)
                x = arrays["x"]
                x[...] = np.round(x)  # equal elements keep their order
                x.ravel()[::5] = np.nan
                check(node, rows, capacity=16, arrays=arrays)


@KINDS
def test_places_along_an_axis(dtype):
    for n, k in ((5, 0), (1, 1), (7, 3), (17, 64), (64, 7)):
        for shape, places, axis in (((3, n), (3, k), 1), ((n, 4), (k, 4), 0), ((BATCH, n, 2), (BATCH, k, 2), 1)):

            def take(b: Builder, shape: object = shape, places: object = places, axis: int = axis) -> None:
                x, index = (
                    b.input("x", Tensor(dtype, shape), "operand"),
                    b.input("index", Tensor(DType.I32, places), "operand"),
                )
                b.output("t", b.emit("take_along", x, index, axis=axis), "result")

            def put(b: Builder, places: object = places, axis: int = axis, n: int = n) -> None:
                x, index = (
                    b.input("x", Tensor(dtype, places), "operand"),
                    b.input("index", Tensor(DType.I32, places), "operand"),
                )
                b.output("t", b.emit("put_along", x, index, axis=axis, size=n), "result")

            for build in (take, put):
                check(kernel("along", build), 6, capacity=8, ranges={"index": (-2, n + 2)})


def definite(rng: np.random.Generator, n: int) -> np.ndarray:
    x = rng.normal(size=(n, n))
    return x @ x.T + n * np.eye(n)


@KINDS
@pytest.mark.parametrize("n", SIZES)
def test_factors(n, dtype):
    def factor(b: Builder) -> None:
        b.output("l", b.emit("cholesky", b.input("a", Tensor(dtype, (n, n)), "operand")), "result")

    rng, tolerance = np.random.default_rng(n), 1e-4 if dtype is DType.F32 else 1e-11
    a = definite(rng, n).astype(dtype.numpy)
    lower = run_compiled(kernel("cholesky", factor), {"a": a}, 1)["l"]
    np.testing.assert_allclose(lower @ lower.T, a, rtol=tolerance, atol=tolerance * max(1, n))
    assert (np.triu(lower, 1) == 0).all()
    for width in (1, 5, 40):
        right = rng.normal(size=(n, width)).astype(dtype.numpy)
        for transposed in (False, True):

            def solve(b: Builder, width: int = width, transposed: bool = transposed) -> None:
                x, y = (
                    b.input(name, Tensor(dtype, shape), "operand") for name, shape in (("l", (n, n)), ("r", (n, width)))
                )
                b.output("x", b.emit("triangular_solve", x, y, transposed=transposed), "result")

            x = run_compiled(kernel("triangular_solve", solve, leading=(0, 0, width + 3)), {"l": lower, "r": right}, 1)[
                "x"
            ]
            np.testing.assert_allclose((lower.T if transposed else lower) @ x, right, rtol=tolerance, atol=tolerance)


def test_a_matrix_that_is_not_definite_has_no_factor():
    def factor(b: Builder) -> None:
        b.output("l", b.emit("cholesky", b.input("a", Tensor(DType.F64, (2, 2)), "operand")), "result")

    lower = run_compiled(kernel("cholesky", factor), {"a": np.array([[1.0, 0], [2, 1]])}, 1)["l"]
    assert np.isnan(lower[1, 1])


@pytest.mark.own_width
@pytest.mark.parametrize("n", (1, 2, 5, 9))
def test_derivative_of_the_factor(n):
    from tapeless.ir.ops import OPERATIONS

    b = Builder("factor", DType.F64)
    a, w = (b.input(name, Tensor(DType.F64, (n, n)), "data") for name in "aw")
    lower = b.emit("cholesky", a)
    b.output("l", lower, "output")
    (gradient,) = OPERATIONS["cholesky"].derivative(b, b._nodes[-1], w)
    assert gradient is not None
    b.output("g", gradient, "output")
    graph, rng = b.graph(), np.random.default_rng(n)
    inputs = {"a": definite(rng, n), "w": rng.normal(size=(n, n))}
    direction = rng.normal(size=(n, n))

    def value(shift: float) -> float:
        return float(np.sum(run(graph, inputs | {"a": inputs["a"] + shift * direction}, rows=1)["l"] * inputs["w"]))

    difference = (value(1e-6) - value(-1e-6)) / 2e-6
    assert np.sum(run(graph, inputs, rows=1)["g"] * direction) == pytest.approx(difference, rel=1e-6, abs=1e-8)
