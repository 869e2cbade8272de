"""Random graphs through the whole pipeline: native code against the interpreter, value and gradient."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from tapeless.compiler import entries
from tapeless.compiler.passes import PASSES
from tapeless.ir import text
from tapeless.ir.graph import Builder, Graph, Value
from tapeless.ir.interpreter import run
from tapeless.ir.types import DType, Rows, Tensor
from tapeless.ir.verifier import verify

from .harness import Program, program_of, run_native

WIDTHS = (1, 3, 7, 17)
UNARY = ("neg", "exp", "tanh", "sigmoid", "softplus", "abs", "square", "sin", "cos", "log1p")
BINARY = ("add", "sub", "mul", "maximum", "minimum", "div")
REDUCTIONS = ("sum", "max", "min", "logsumexp")


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
        kind = self.draw(st.sampled_from(("unary", "binary", "matmul", "reduce", "normalise", "select", "pick", "transpose", "gather")))
        self.pool.append(getattr(self, kind)(value))

    def unary(self, value: Value) -> Value:
        op = self.draw(st.sampled_from(UNARY))
        return self.b.emit(op, self.b.emit("square", value) if op == "log1p" else self.small(value))

    def binary(self, value: Value) -> Value:
        op, other = self.draw(st.sampled_from(BINARY)), self.like(value)
        return self.small(self.b.emit(op, value, self.b.emit("exp", self.small(other)) if op == "div" else other))

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
        """Over the batch: mean and deviation, as batch normalisation does."""
        if value.type.rank != 2:
            return self.unary(value)
        b, shape = self.b, value.type.shape
        count = b.emit("count", shape=(Rows(),), dtype=self.dtype)
        mean = b.emit("div", b.emit("sum", value, axes=(0,)), b.broadcast_to(count, shape[1:], ()))
        centred = b.emit("sub", value, b.broadcast_to(mean, shape, (1,)))
        variance = b.emit("div", b.emit("sum", b.emit("square", centred), axes=(0,)), b.broadcast_to(count, shape[1:], ()))
        scale = b.emit("sqrt", b.emit("add", variance, b.full(0.1, variance)))
        return b.emit("div", centred, b.broadcast_to(scale, shape, (1,)))

    def select(self, value: Value) -> Value:
        other = self.like(value)
        return self.b.emit("select", self.b.emit("lt", value, other), self.small(value), self.b.emit("neg", other))

    def pick(self, value: Value) -> Value:
        if value.type.rank != 2:
            return self.unary(value)
        return self.b.broadcast_to(self.b.emit("pick", value, self.k), value.type.shape, (0,))

    def transpose(self, value: Value) -> Value:
        return self.unary(value)

    def gather(self, value: Value) -> Value:
        n = value.type.shape[-1]
        assert isinstance(n, int)
        return self.small(self.b.emit("add", self.b.emit("gather", self.param((5, n)), self.k), value))

    def graph(self) -> Graph:
        for _ in range(self.draw(st.integers(1, 9))):
            self.step()
        out = self.small(self.pool[-1])
        count = self.b.emit("count", shape=out.type.shape, dtype=self.dtype)
        total = self.b.emit("sum", self.b.emit("square", out), axes=tuple(range(out.type.rank)))
        self.b.output("loss", self.b.emit("div", total, count, name="loss"), "loss")
        self.b.output("out", out, "output")
        return self.b.graph()


@st.composite
def forward_graphs(draw: st.DrawFn, dtype: DType) -> Graph:
    return Grower(draw, dtype).graph()


def inputs_for(program: Program, rows: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    named = [*((s.name, s.type) for s in program.slots), *((d.name, d.type) for d in program.data)]
    return {
        name: rng.normal(size=type.at(rows)) if type.dtype.is_float else rng.integers(0, 5, type.at(rows)) for name, type in named
    }


def check(graph: Graph, dtype: DType, rows: int, threads: int) -> None:
    note(text.write(graph))
    program = program_of(graph, dtype)
    inputs = inputs_for(program, rows, 0)
    both = entries.backward(program)
    reference = run(both, inputs, rows=rows)
    current = both
    for step in PASSES:
        current = step.apply(current)
        verify(current)
        assert text.read(text.write(current)) == current
        after = run(current, inputs, rows=rows)
        for key, value in reference.items():
            np.testing.assert_allclose(after[key], value, **tolerance(dtype), err_msg=f"{step.name}: {key}")
    native = run_native(program, both, inputs, rows, capacity=max(rows, 8), threads=threads)
    exact = run(both, inputs, rows=rows, precision=DType.F64)
    for key, value in exact.items():
        np.testing.assert_allclose(native[key], value, **tolerance(dtype), err_msg=key)


def tolerance(dtype: DType) -> dict[str, float]:
    return {"rtol": 1e-9, "atol": 1e-10} if dtype is DType.F64 else {"rtol": 2e-3, "atol": 2e-4}


COMMON = settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, print_blob=False)


@settings(COMMON, max_examples=60)
@given(forward_graphs(DType.F64), st.sampled_from((1, 3, 17, 65)), st.sampled_from((1, 2)))
def test_float64(graph: Graph, rows: int, threads: int) -> None:
    check(graph, DType.F64, rows, threads)


@settings(COMMON, max_examples=30)
@given(forward_graphs(DType.F32), st.sampled_from((2, 7, 64)), st.sampled_from((1, 3)))
def test_float32(graph: Graph, rows: int, threads: int) -> None:
    check(graph, DType.F32, rows, threads)
