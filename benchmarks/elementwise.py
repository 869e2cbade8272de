"""Work that memory bounds, on one thread: bytes that must move a second, as a share of a copy's, and nanoseconds an
element.

python -m benchmarks.elementwise

Softmax, layer normalisation and their gradients, cross-entropy with its gradient and Adam's update, as the compiler
fuses them. The bytes are those of what goes in and comes out, once; a kernel that reads a row twice finds it in a
cache. A copy of as many elements is measured around each sample; medians are printed.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.matmul import repeated
from tapeless.compiler.passes.pipelines import lowered, simplified
from tapeless.ir.graph import Builder, Graph, Value
from tapeless.ir.target import host
from tapeless.ir.types import DType, Tensor

Array = np.ndarray[Any, np.dtype[Any]]
Shape = tuple[int, int]
SIZE = 10**7
# in the second and third cache, memory; short rows
SHAPES = ((100, 1000), (1000, 1000), (10_000, 1000), (1_000_000, 10))
SAMPLES = 9


def _given(b: Builder, name: str, shape: Shape) -> Value:
    return b.input(name, Tensor(DType.F32, shape), "data")


def _spread(b: Builder, row: Value, shape: Shape) -> Value:
    return b.broadcast_to(row, shape, (0,))


def _mean(b: Builder, value: Value, shape: Shape) -> Value:
    total = b.emit("sum", value, axes=(1,))
    return b.emit("mul", total, b.broadcast_to(b.constant(1.0 / shape[1], DType.F32), total.type.shape, ()))


def softmax(b: Builder, shape: Shape) -> None:
    x = _given(b, "x", shape)
    b.output("y", b.emit("exp", b.emit("sub", x, _spread(b, b.emit("logsumexp", x, axes=(1,)), shape))), "output")


def softmax_gradient(b: Builder, shape: Shape) -> None:
    y, d = _given(b, "y", shape), _given(b, "d", shape)
    common = b.emit("sum", b.emit("mul", y, d), axes=(1,))
    b.output("d_x", b.emit("mul", y, b.emit("sub", d, _spread(b, common, shape))), "output")


def _standardised(b: Builder, x: Value, shape: Shape) -> tuple[Value, Value]:
    centred = b.emit("sub", x, _spread(b, _mean(b, x, shape), shape))
    variance = _mean(b, b.emit("square", centred), shape)
    scale = _spread(b, b.emit("rsqrt", b.emit("add", variance, b.full(1e-5, variance))), shape)
    return b.emit("mul", centred, scale), scale


def layer_norm(b: Builder, shape: Shape) -> None:
    b.output("y", _standardised(b, _given(b, "x", shape), shape)[0], "output")


def layer_norm_gradient(b: Builder, shape: Shape) -> None:
    x, d = _given(b, "x", shape), _given(b, "d", shape)
    y, scale = _standardised(b, x, shape)
    along = b.emit("mul", y, _spread(b, _mean(b, b.emit("mul", d, y), shape), shape))
    left = b.emit("sub", b.emit("sub", d, _spread(b, _mean(b, d, shape), shape)), along)
    b.output("d_x", b.emit("mul", left, scale), "output")


def cross_entropy(b: Builder, shape: Shape) -> None:
    x, label = _given(b, "x", shape), b.input("label", Tensor(DType.I32, shape[:1]), "data")
    total = b.emit("logsumexp", x, axes=(1,))
    b.output("loss", b.emit("sub", total, b.emit("pick", x, label)), "output")
    places = b.emit("iota", axis=1, shape=shape, dtype=DType.I32)
    one = b.emit("cast", b.emit("eq", places, _spread(b, label, shape)), dtype=DType.F32)
    b.output("d_x", b.emit("sub", b.emit("exp", b.emit("sub", x, _spread(b, total, shape))), one), "output")


def adam(b: Builder, shape: Shape) -> None:
    w, g, m, v = (_given(b, name, shape) for name in "wgmv")

    def blend(old: Value, new: Value, rate: float) -> Value:
        return b.emit("add", b.emit("mul", old, b.full(rate, old)), b.emit("mul", new, b.full(1 - rate, new)))

    m1, v1 = blend(m, g, 0.9), blend(v, b.emit("square", g), 0.999)
    step = b.emit("div", b.emit("mul", m1, b.full(1e-3, m1)), b.emit("add", b.emit("sqrt", v1), b.full(1e-8, v1)))
    for name, value in (("w1", b.emit("sub", w, step)), ("m1", m1), ("v1", v1)):
        b.output(name, value, "output")


CASES: dict[str, tuple[Callable[[Builder, Shape], None], int]] = {  # bytes an element
    "softmax": (softmax, 8),
    "its gradient": (softmax_gradient, 12),
    "layer norm": (layer_norm, 8),
    "its gradient, values made again": (layer_norm_gradient, 12),
    "cross-entropy and gradient": (cross_entropy, 8),
    "Adam": (adam, 28),
}


class CompiledGraph:
    """A graph's kernels over arrays of their own."""

    def __init__(self, graph: Graph) -> None:
        fused = lowered(simplified(graph), host().machine)
        nodes = [node for node in fused.nodes if node.op == "kernel"]
        rng = np.random.default_rng(0)
        self.arrays: dict[Value, Array] = {}
        for port in fused.inputs:
            shape, real = port.value.type.at(1), port.value.type.dtype.is_float
            made = rng.uniform(0, 1, shape) if real else rng.integers(0, 10, shape)
            self.arrays[port.value] = made.astype(port.value.type.dtype.numpy)
        for node in nodes:
            self.arrays.update((v, np.zeros(v.type.at(1), v.type.dtype.numpy)) for v in node.results)
        named = [dataclasses.replace(node, attrs={**node.attrs, "name": f"k{k}"}) for k, node in enumerate(nodes)]
        self.pointers = [[self.arrays[v].ctypes.data for v in (*node.operands, *node.results)] for node in nodes]
        self.call = repeated(named, host())
        self.kernels = len(nodes)
        self.outputs = {port.key: self.arrays[port.value] for port in fused.outputs}
        self.inputs = {port.key: self.arrays[port.value] for port in fused.inputs}

    def run(self, turns: int = 1) -> None:
        self.call(self.pointers, turns)


def built(build: Callable[[Builder], None]) -> CompiledGraph:
    b = Builder("case", DType.F32)
    build(b)
    return CompiledGraph(b.graph())


def seconds(run: Callable[[], object]) -> float:
    begun = time.process_time()
    run()
    return time.process_time() - begun


def share(build: Callable[[Builder, Shape], None], width: int, shape: Shape) -> tuple[float, float]:
    """The median share of a copy's bytes a second, and nanoseconds an element in the best sample."""
    size = shape[0] * shape[1]
    source, target = np.ones(size, np.float32), np.zeros(size, np.float32)
    turns = max(1, SIZE // size)
    program = built(lambda b: build(b, shape))

    def copy() -> None:
        for _ in range(turns):
            np.copyto(target, source)

    copy()
    program.run(turns)
    shares, best = [], float("inf")
    for _ in range(SAMPLES):
        before = seconds(copy)
        own = seconds(lambda: program.run(turns))
        shares.append(width / 8 * min(before, seconds(copy)) / own)
        best = min(best, own / (size * turns))
    return statistics.median(shares), best * 1e9


def bandwidth() -> None:
    print(
        "| work | "
        + " | ".join(f"{rows:,} x {columns:,}" for rows, columns in SHAPES)
        + " |\n|---"
        + "|---" * len(SHAPES)
        + "|"
    )
    for name, (build, width) in CASES.items():
        cells = ["{:.2f} ({:.2f} ns)".format(*share(build, width, shape)) for shape in SHAPES]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    bandwidth()
