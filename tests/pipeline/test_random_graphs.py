"""Random graphs through the whole pipeline: native code, for vectors of every width, against the interpreter, value
and gradient.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, seed, settings
from hypothesis import strategies as st

from tapeless.compiler import entries
from tapeless.ir import text
from tapeless.ir.graph import Builder, Graph, Value
from tapeless.ir.interpreter import run
from tapeless.ir.target import Target
from tapeless.ir.types import DType, Rows, Tensor

from ..codegen import kernels
from .harness import Program, check_passes, program_of, run_native

CASES = sorted((Path(__file__).parent / "cases").glob("*.ir"))
WIDTHS = (1, 3, 7, 17)
# Taken of a number between -1 and 1, or of its exponential where they need a positive one.
UNARY = ("neg", "exp", "exp2", "expm1", "tanh", "sigmoid", "softplus", "abs", "square", "sin", "cos", "tan", "atan",
    "sinh", "cosh", "erf", "erfc")  # fmt: skip
POSITIVE = ("log", "log2", "log1p", "sqrt", "rsqrt", "cbrt", "reciprocal", "lgamma")
# Not continuous: rounding to f32 may change which side of a step a number is on.
STEPS = ("floor", "ceil", "trunc", "round", "sign")
BINARY = ("add", "sub", "mul", "strong_product", "maximum", "minimum", "div", "atan2", "pow")
REDUCTIONS = ("sum", "prod", "max", "min", "logsumexp")
RECURRENCES = ("cumsum", "cumprod", "linear_scan", "strong_scan")
KINDS = ("unary", "positive", "binary", "matmul", "reduce", "normalise", "select", "pick", "transpose", "reshape",
    "gather", "arc", "polygamma",
         "cut", "join", "recur", "stack", "factor", "slide", "overlap", "attend")  # fmt: skip
STEPPING = ("step_function", "order", "remainder", "place")


class Grower:
    """Grows a random loss over two inputs and a few parameters, keeping magnitudes small."""

    def __init__(self, draw: st.DrawFn, dtype: DType) -> None:
        self.draw, self.dtype = draw, dtype
        self.b = Builder("forward", dtype)
        self.width = draw(st.sampled_from(WIDTHS))
        self.x = self.b.input("x", Tensor(dtype, (Rows(), self.width)), "data")
        self.k = self.b.input("k", Tensor(DType.I32, (Rows(),)), "data")
        self.count = 0
        self.pool: list[Value] = [self.x, self.param((self.width,), stretch=True)]

    def param(self, shape: tuple[int, ...], stretch: bool = False) -> Value:
        self.count += 1
        value = self.b.input(f"p{self.count}", Tensor(self.dtype, shape), "param")
        return self.b.broadcast_to(value, (Rows(), *shape)) if stretch else value

    def small(self, value: Value) -> Value:
        """tanh keeps what follows in a range where differences are meaningful."""
        return self.b.emit("tanh", value)

    def like(self, value: Value) -> Value:
        """A value of the same shape: one from the pool, or a parameter broadcast to it."""
        same = [other for other in self.pool if other.type.shape == value.type.shape]
        return self.draw(st.sampled_from(same)) if same else value

    def step(self) -> None:
        value = self.draw(st.sampled_from(self.pool))
        kind = self.draw(st.sampled_from(KINDS + (STEPPING if self.dtype is DType.F64 else ())))
        self.pool.append(getattr(self, kind)(value))

    def unary(self, value: Value) -> Value:
        return self.b.emit(self.draw(st.sampled_from(UNARY)), self.small(value))

    def positive(self, value: Value) -> Value:
        return self.b.emit(self.draw(st.sampled_from(POSITIVE)), self.b.emit("exp", self.small(value)))

    def arc(self, value: Value) -> Value:
        half = self.b.emit("mul", self.small(value), self.b.full(0.5, value))
        return self.b.emit(self.draw(st.sampled_from(("asin", "acos"))), half)

    def polygamma(self, value: Value) -> Value:
        order = self.draw(st.integers(0, 2))
        return self.small(self.b.emit("polygamma", self.b.emit("exp", self.small(value)), order=order))

    def step_function(self, value: Value) -> Value:
        wide = self.b.emit("mul", value, self.b.full(3.0, value))
        return self.b.emit("mul", self.b.emit(self.draw(st.sampled_from(STEPS)), wide), self.small(value))

    def remainder(self, value: Value) -> Value:
        return self.b.emit("remainder", value, self.b.emit("exp", self.small(self.like(value))))

    def binary(self, value: Value) -> Value:
        op, other = self.draw(st.sampled_from(BINARY)), self.like(value)
        if op in ("div", "pow", "atan2"):
            small = self.small(other)
            value, other = (
                (self.b.emit("exp", self.small(value)), small) if op == "pow" else (value, self.b.emit("exp", small))
            )
        return self.small(self.b.emit(op, value, other))

    # Along an axis: only those of known size can be cut

    def axis(self, value: Value) -> int:
        return self.draw(st.sampled_from([k for k, dim in enumerate(value.type.shape) if isinstance(dim, int)]))

    def cut(self, value: Value) -> Value:
        """A slice, padded back at other places."""
        axis = self.axis(value)
        size = value.type.shape[axis]
        assert isinstance(size, int)
        step = self.draw(st.sampled_from((1, 2, -1)))
        count = self.draw(st.integers(1, (size + 1) // 2))
        first = self.draw(st.integers(0, size - 1 - (count - 1) * abs(step)))
        start = first if step > 0 else first + count - 1
        shape, rank = value.type.shape, value.type.rank
        part = self.b.emit(
            "slice",
            value,
            start=tuple(start if k == axis else 0 for k in range(rank)),
            size=tuple(count if k == axis else dim for k, dim in enumerate(shape)),
            step=tuple(step if k == axis else 1 for k in range(rank)),
        )
        at = self.draw(st.integers(0, size - count))
        return self.b.emit("pad", self.small(part), axis=axis, size=size, start=at, step=1)

    def join(self, value: Value) -> Value:
        """Two values side by side; half of them is taken, so that the shape stays."""
        axis, other = self.axis(value), self.like(value)
        size, rank = value.type.shape[axis], value.type.rank
        assert isinstance(size, int)
        both = self.b.emit("concat", value, other, axis=axis)
        start = self.draw(st.integers(0, size))
        starts = tuple(start if k == axis else 0 for k in range(rank))
        return self.small(self.b.emit("slice", both, start=starts, size=value.type.shape, step=(1,) * rank))

    def slide(self, value: Value) -> Value:
        """Windows of an axis, weighed or compared, and cut or stretched back to the shape."""
        axis = self.axis(value)
        windows, _, size = self.windows(value, axis)
        rank, kernel = value.type.rank, windows.type.shape[axis + 1]
        if self.draw(st.booleans()):
            weights = self.b.broadcast_to(self.param((kernel,)), windows.type.shape, (axis + 1,))
            windows = self.b.emit("mul", windows, weights)
        if self.draw(st.booleans()):
            order = (*range(axis), axis + 1, axis, *range(axis + 2, rank + 1))
            windows = self.b.emit("transpose", windows, perm=order)
            return self.back(
                self.b.emit(self.draw(st.sampled_from(REDUCTIONS)), self.small(windows), axes=(axis,)), axis, size
            )
        return self.back(
            self.b.emit(self.draw(st.sampled_from(REDUCTIONS)), self.small(windows), axes=(axis + 1,)), axis, size
        )

    def overlap(self, value: Value) -> Value:
        """Windows, changed, and added where they were."""
        axis = self.axis(value)
        windows, steps, size = self.windows(value, axis)
        return self.small(self.b.emit("overlap_add", self.small(windows), axis=axis, size=size, **steps))

    def windows(self, value: Value, axis: int) -> tuple[Value, dict[str, int], int]:
        size = value.type.shape[axis]
        assert isinstance(size, int)
        step, dilation = self.draw(st.sampled_from((1, 2, 3))), self.draw(st.sampled_from((1, 2)))
        kernel = self.draw(st.integers(1, (size - 1) // dilation + 1))
        most = (size - (kernel - 1) * dilation - 1) // step + 1
        steps = {"step": step, "dilation": dilation}
        return (
            self.b.emit("windows", value, axis=axis, size=self.draw(st.integers(1, most)), kernel=kernel, **steps),
            steps,
            size,
        )

    def back(self, value: Value, axis: int, size: int) -> Value:
        return self.small(self.b.emit("pad", self.small(value), axis=axis, size=size, start=0, step=1))

    def recur(self, value: Value) -> Value:
        op, axis = self.draw(st.sampled_from(RECURRENCES)), self.axis(value)
        operands = [self.small(self.like(value)) for _ in range(op.endswith("_scan"))] + [self.small(value)]
        return self.small(self.b.emit(op, *operands, axis=axis, reverse=self.draw(st.booleans())))

    def order(self, value: Value) -> Value:
        """Sorted by another value."""
        axis, keys = self.axis(value), self.like(value)
        places = self.b.emit("argsort", keys, axis=axis, descending=self.draw(st.booleans()))
        return self.small(self.b.emit("take_along", value, places, axis=axis))

    def place(self, value: Value) -> Value:
        if value.type.rank != 2:
            return self.unary(value)
        return self.b.broadcast_to(
            self.b.emit("pick", value, self.b.emit("argmax", self.like(value), axis=1)), value.type.shape, (0,)
        )

    def stack(self, value: Value) -> Value:
        """A product for each row, of a few copies of the row with matrices of its own."""
        if value.type.rank != 2:
            return self.unary(value)
        rows, n = value.type.shape
        assert isinstance(n, int)
        copies, m = self.draw(st.sampled_from((1, 2, 5))), self.draw(st.sampled_from(WIDTHS))
        flip_a, flip_b = self.draw(st.booleans()), self.draw(st.booleans())
        left = self.b.broadcast_to(value, (rows, *((n, copies) if flip_a else (copies, n))), (0, 1 if flip_a else 2))
        matrix = (rows, m, n) if flip_b else (rows, n, m)
        right = self.b.emit(
            "mul",
            self.param(matrix[1:], stretch=True),
            self.b.broadcast_to(self.small(value), matrix, (0, 2 if flip_b else 1)),
        )
        made = self.small(self.b.emit("matmul", left, right, transpose_a=flip_a, transpose_b=flip_b))
        return self.small(self.b.emit("sum", made, axes=(1,)))

    def factor(self, value: Value) -> Value:
        """Whitened by a covariance of parameters: the factor of P P^T + 2, and a system solved with it."""
        if value.type.rank != 2:
            return self.unary(value)
        n, b = value.type.shape[1], self.b
        assert isinstance(n, int)
        weights = self.small(self.param((n, n)))
        row, column = (b.emit("iota", axis=k, shape=(n, n), dtype=DType.I32) for k in (0, 1))
        diagonal = b.emit("select", b.emit("eq", row, column), b.full(2.0, weights), b.full(0.0, weights))
        covariance = b.emit("add", b.emit("matmul", weights, weights, transpose_a=False, transpose_b=True), diagonal)
        turned = b.emit("transpose", value, perm=(1, 0))
        solved = b.emit("triangular_solve", b.emit("cholesky", covariance), turned, transposed=self.draw(st.booleans()))
        return self.small(b.emit("transpose", solved, perm=(1, 0)))

    def matmul(self, value: Value) -> Value:
        if value.type.rank != 2:
            return self.unary(value)
        n, flip = self.draw(st.sampled_from(WIDTHS)), self.draw(st.booleans())
        k = value.type.shape[1]
        assert isinstance(k, int)
        w = self.param((n, k) if flip else (k, n))
        made = self.b.emit("matmul", value, w, transpose_a=False, transpose_b=flip)
        return self.small(self.b.emit("add", made, self.param((n,), stretch=True)))

    def reduce(self, value: Value) -> Value:
        if value.type.rank != 2:
            return self.unary(value)
        reduced = self.b.emit(self.draw(st.sampled_from(REDUCTIONS)), self.small(value), axes=(1,))
        return self.b.broadcast_to(self.small(reduced), value.type.shape, (0,))

    def normalise(self, value: Value) -> Value:
        """Over the batch: mean and deviation, as batch normalisation does.

        Rows are moved apart first: what is left of equal ones is rounding noise about zero, whose sign steps see.
        """
        if value.type.rank != 2:
            return self.unary(value)
        b, shape = self.b, value.type.shape
        apart = b.emit("sin", b.emit("cast", b.emit("iota", axis=0, shape=shape, dtype=DType.I32), dtype=self.dtype))
        value = b.emit("add", value, apart)
        count = b.emit("count", shape=(Rows(),), dtype=self.dtype)
        mean = b.emit("div", b.emit("sum", value, axes=(0,)), b.broadcast_to(count, shape[1:], ()))
        centred = b.emit("sub", value, b.broadcast_to(mean, shape, (1,)))
        variance = b.emit(
            "div", b.emit("sum", b.emit("square", centred), axes=(0,)), b.broadcast_to(count, shape[1:], ())
        )
        scale = b.emit("sqrt", b.emit("add", variance, b.full(0.1, variance)))
        return b.emit("div", centred, b.broadcast_to(scale, shape, (1,)))

    def select(self, value: Value) -> Value:
        other = self.like(value)
        return self.b.emit("select", self.b.emit("lt", value, other), self.small(value), self.b.emit("neg", other))

    def pick(self, value: Value) -> Value:
        if value.type.rank != 2:
            return self.unary(value)
        return self.b.broadcast_to(self.b.emit("pick", value, self.k), value.type.shape, (0,))

    def reshape(self, value: Value) -> Value:
        """All in one row, something on the way, and back; also of what costs nothing to compute."""
        if value.type.rank != 2:
            return self.unary(value)
        width = value.type.shape[1]
        assert isinstance(width, int)
        flat = self.b.emit("reshape", value, shape=(Rows(width),))
        flat = self.unary(flat) if self.draw(st.booleans()) else flat
        return self.b.emit("reshape", flat, shape=value.type.shape)

    def transpose(self, value: Value) -> Value:
        """There, something on the way, and back."""
        if value.type.rank != 2:
            return self.unary(value)
        turned = self.unary(self.b.emit("transpose", value, perm=(1, 0)))
        return self.b.emit("transpose", turned, perm=(1, 0))

    def gather(self, value: Value) -> Value:
        n = value.type.shape[-1]
        assert isinstance(n, int)
        return self.small(self.b.emit("add", self.b.emit("gather", self.param((5, n)), self.k), value))

    def attend(self, value: Value) -> Value:
        """Two heads of queries to one of keys; some rows see fewer keys than there are, or none."""
        if value.type.rank != 2:
            return self.unary(value)
        b, (rows, n) = self.b, value.type.shape
        assert isinstance(n, int)
        queries, m = self.draw(st.integers(1, 3)), self.draw(st.sampled_from(WIDTHS))
        q = b.broadcast_to(self.small(value), (rows, 2, queries, n), (0, 3))
        k, v = self.param((1, n, m), stretch=True), b.broadcast_to(self.small(value), (rows, 1, m, n), (0, 3))
        v = b.emit("add", v, self.param((1, m, n), stretch=True))
        lengths = (self.k,) if self.draw(st.booleans()) else ()
        made = b.emit("attention", q, k, v, *lengths, causal=self.draw(st.booleans()), scale=0.5)
        return self.small(b.emit("sum", made, axes=(1, 2)))

    def graph(self) -> Graph:
        for _ in range(self.draw(st.integers(1, 9))):
            self.step()
        out = self.small(self.pool[-1])
        losses = [self.mean_square(value) for value in (*self.pool[1:], out)]  # all of them: nothing is dead code
        loss = losses[0]
        for other in losses[1:]:
            loss = self.b.emit("add", loss, other)
        self.b.output("loss", loss, "loss")
        self.b.output("out", out, "output")
        return self.b.graph()

    def mean_square(self, value: Value) -> Value:
        value = self.small(value)
        count = self.b.emit("count", shape=value.type.shape, dtype=self.dtype)
        total = self.b.emit("sum", self.b.emit("square", value), axes=tuple(range(value.type.rank)))
        return self.b.emit("div", total, count)


@st.composite
def forward_graphs(draw: st.DrawFn, dtype: DType) -> Graph:
    return Grower(draw, dtype).graph()


def inputs_for(program: Program, rows: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    named = [*((s.name, s.type) for s in program.slots), *((d.name, d.type) for d in program.data)]
    return {
        name: rng.normal(size=type.at(rows)) if type.dtype.is_float else rng.integers(0, 5, type.at(rows))
        for name, type in named
    }


def check(graph: Graph, dtype: DType, rows: int, threads: int, target: Target | None = None) -> None:
    program = program_of(graph, dtype)
    inputs = inputs_for(program, rows, 0)
    both = entries.backward(program)
    check_passes(both, inputs, rows, tolerance(dtype))
    native = run_native(program, both, inputs, rows, capacity=max(rows, 8), threads=threads, target=target)
    exact = run(both, inputs, rows=rows, precision=DType.F64)
    for key, value in exact.items():
        np.testing.assert_allclose(native[key], value, **tolerance(dtype), err_msg=key)


def tolerance(dtype: DType) -> dict[str, float]:
    return {"rtol": 1e-9, "atol": 1e-10} if dtype is DType.F64 else {"rtol": 2e-3, "atol": 2e-4}


COMMON = settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, print_blob=False)
ROWS, FEW_ROWS = st.sampled_from((1, 3, 17, 65)), st.sampled_from((2, 7, 64))
TARGETS = st.sampled_from([*kernels.WIDTHS.values()])


@settings(COMMON, max_examples=7)
@given(forward_graphs(DType.F64), ROWS, st.sampled_from((1, 2)), TARGETS)
def test_float64(graph: Graph, rows: int, threads: int, target: Target) -> None:
    note(text.write(graph))
    check(graph, DType.F64, rows, threads, target)


@settings(COMMON, max_examples=6)
@given(forward_graphs(DType.F32), FEW_ROWS, st.sampled_from((1, 3)), TARGETS)
def test_float32(graph: Graph, rows: int, threads: int, target: Target) -> None:
    note(text.write(graph))
    check(graph, DType.F32, rows, threads, target)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_float64_at_length(part: int) -> None:
    at_length(part, 350, DType.F64, ROWS, st.sampled_from((1, 2)))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(2))
def test_float32_at_length(part: int) -> None:
    at_length(part, 300, DType.F32, FEW_ROWS, st.sampled_from((1, 3)))


def at_length(
    part: int, count: int, dtype: DType, rows: st.SearchStrategy[int], threads: st.SearchStrategy[int]
) -> None:
    """One of the parts, each with programs of its own, that two processes share out: 2,000 programs in all."""

    @seed(part + 1)
    @settings(COMMON, max_examples=count)
    @given(forward_graphs(dtype), rows, threads, TARGETS)
    def each(graph: Graph, rows: int, threads: int, target: Target) -> None:
        note(text.write(graph))
        check(graph, dtype, rows, threads, target)

    each()


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_kept_cases(path: Path) -> None:
    """Graphs on which the pipeline once failed, as hypothesis shrank them."""
    graph = text.read(path.read_text())
    dtype = graph.output("loss").value.type.dtype
    for rows in (1, 2, 17, 65):
        check(graph, dtype, rows, 1)
