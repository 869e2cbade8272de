"""The nest family against the reference interpreter: every kind of loop, awkward sizes, both element types."""

from __future__ import annotations

import numpy as np
import pytest

from tapeless.codegen.kernels.lower import lower_kernel
from tapeless.codegen.nests.analysis import LoweringError
from tapeless.ir.graph import Builder
from tapeless.ir.types import DType, Rows, Tensor

from ..sweep import sweep
from .kernels import HOST, WIDTHS, Compiled, arrays_for, check, expected, kernel, run_compiled

pytestmark = pytest.mark.usefixtures("vectors")
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


def of_broadcasts(b: Builder, n: int, dtype: DType) -> None:
    """Reductions of what does not vary along all axes."""
    p = b.input("p", Tensor(dtype, (n,)), "operand")
    rows = b.emit("sum", b.emit("tanh", b.broadcast_to(p, (BATCH, n))), axes=(1,))
    again = b.emit("tanh", b.broadcast_to(b.emit("tanh", rows), (BATCH, n), (0,)))
    b.output("rows", rows, "result")
    b.output("out", again, "result")
    b.output("total", b.emit("sum", b.emit("square", again), axes=(0, 1)), "result")
    b.output("columns", b.emit("max", again, axes=(0,)), "result")


def nested(b: Builder, n: int, dtype: DType) -> None:
    """Reductions over an axis whose loop is open already, for something else."""
    x = b.input("x", Tensor(dtype, (BATCH, n)), "operand")
    top = b.emit("max", x, axes=(0,))
    raised = b.emit("add", x, b.broadcast_to(top, (BATCH, n)))
    b.output("top", top, "result")
    b.output("low", b.emit("min", raised, axes=(0, 1)), "result")
    b.output("rows", b.emit("sum", raised, axes=(1,)), "result")


def str_or_name(one):
    return getattr(one, "__name__", str(one))


BUILDS = (
    pointwise,
    biased,
    cross_entropy,
    mean_loss,
    columns,
    totals,
    standardised,
    middle,
    transposed,
    symmetric,
    reshaped,
    dropped,
    gathered,
    scalars,
    matrix_and_vector,
    of_broadcasts,
    nested,
)


@pytest.mark.parametrize(("dtype", "build"), sweep((DType.F32, DType.F64), BUILDS, every=2), ids=str_or_name)
def test_against_reference(dtype, build):
    for n in SIZES:
        node = kernel("nest", lambda b, n=n: build(b, n, dtype))
        if n == 0 and build in (cross_entropy, standardised, gathered):
            continue
        for rows in (0, 1, 7, 65) if n in (1, 17, 65) else (3,):
            ranges = {"step": (0, 100), "label": (0, max(1, n))}
            check(node, rows, capacity=70, ranges=ranges)


@pytest.mark.parametrize(
    "build",
    (pointwise, biased, cross_entropy, columns, standardised, transposed, dropped, middle, matrix_and_vector),
    ids=lambda build: build.__name__,
)
def test_parts_cover_everything(build):
    for n in (700, 128):
        node = kernel("nest", lambda b, n=n: build(b, n, DType.F32))
        assert lower_kernel(node, HOST, 3000).parts > 1 or (build is columns and n == 128)
        for rows in (1, 333):
            check(node, rows, capacity=3000, ranges={"label": (0, n)}, tolerance=1e-4)


@pytest.mark.parametrize("build", (biased, cross_entropy, standardised), ids=lambda build: build.__name__)
@pytest.mark.parametrize("n", (3, 17, 200))
def test_rows_do_not_depend_on_their_count(build, n, vectors):
    for dtype in (DType.F32, DType.F64):
        node = kernel("nest", lambda b, dtype=dtype: build(b, n, dtype))
        target = vectors()
        compiled = Compiled(lower_kernel(node, target, 64), target)
        arrays = arrays_for(node.regions[0], 64, ranges={"label": (0, n)})
        whole = run_compiled(node, arrays, 64, compiled=compiled)
        for rows in (1, 7, 16, 63):
            cut = {name: array[:rows] if name != "b" else array for name, array in arrays.items()}
            some = run_compiled(node, cut, rows, compiled=compiled)
            for name in some:
                assert some[name].tobytes() == whole[name][:rows].tobytes()


def test_results_in_place(vectors):
    """An optimizer's update: three results over three of the operands."""

    def build(b: Builder) -> None:
        w, m, g = (b.input(name, Tensor(DType.F32, (33, 40)), "operand") for name in "wmg")
        moment = b.emit("add", b.emit("mul", m, b.full(0.9, m)), b.emit("square", g))
        b.output("m2", moment, "result")
        b.output(
            "w2", b.emit("sub", w, b.emit("div", m, b.emit("sqrt", b.emit("add", moment, b.full(1.0, m))))), "result"
        )

    node = kernel("nest", build)
    arrays = arrays_for(node.regions[0], 1)
    wanted = expected(node, arrays, 1)
    for _ in WIDTHS:
        w, m, g = (arrays[name].copy() for name in "wmg")
        target = vectors()
        Compiled(lower_kernel(node, target, 1), target)([w, m, g, m, w], 1)
        np.testing.assert_allclose(m, wanted["m2"], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(w, wanted["w2"], rtol=1e-5, atol=1e-6)


def test_not_a_number_is_kept():
    def build(b: Builder) -> None:
        x = b.input("x", Tensor(DType.F32, (BATCH, 37)), "operand")
        y = b.input("y", Tensor(DType.F32, (BATCH, 37)), "operand")
        b.output("relu", b.emit("maximum", x, b.full(0.0, x)), "result")
        b.output("max", b.emit("maximum", x, y), "result")
        b.output("min", b.emit("minimum", x, y), "result")
        b.output("top", b.emit("max", x, axes=(1,)), "result")
        b.output("low", b.emit("min", x, axes=(0,)), "result")
        b.output("place", b.emit("argmax", x, axis=1), "result")
        b.output("first", b.emit("argmax", x, axis=0), "result")

    node = kernel("nest", build)
    rng = np.random.default_rng(0)
    x, y = (rng.integers(-3, 3, (9, 37)).astype(np.float32) for _ in range(2))
    x[2, 30], x[2, 11], x[5, 36], y[7, 3] = np.nan, np.nan, np.nan, np.nan
    x[6] = -np.inf
    arrays = {"x": x, "y": y}
    wanted = expected(node, arrays, 9)
    for _ in WIDTHS:
        for name, made in run_compiled(node, arrays, 9).items():
            np.testing.assert_array_equal(made, wanted[name], err_msg=name)


def test_log_sum_exp_of_extremes():
    def build(b: Builder) -> None:
        x = b.input("x", Tensor(DType.F32, (4, 20)), "operand")
        b.output("r", b.emit("logsumexp", x, axes=(1,)), "result")

    x = np.zeros((4, 20), np.float32)
    x[0], x[1], x[2, 3], x[3] = -np.inf, -1e30, np.inf, 1e30
    for _ in WIDTHS:
        made = run_compiled(kernel("nest", build), {"x": x}, 4)["r"]
        np.testing.assert_array_equal(made, np.array([-np.inf, -1e30, np.inf, 1e30], np.float32))


@pytest.mark.own_width
def test_what_cannot_be_a_nest_is_refused():
    def build(b: Builder) -> None:
        x = b.input("x", Tensor(DType.F32, (6, 4)), "operand")
        b.output("s", b.emit("sum", b.emit("reshape", b.emit("exp", x), shape=(3, 8)), axes=(1,)), "result")

    with pytest.raises(LoweringError):
        lower_kernel(kernel("nest", build), HOST, 1)
