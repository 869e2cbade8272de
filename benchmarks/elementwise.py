"""Work that memory bounds, on one thread, over 10**7 elements: bytes that must move a second, as a share of a copy's.

python -m benchmarks.elementwise

Softmax, layer normalisation, cross-entropy with its gradient and Adam's update, as the compiler fuses them. The bytes
are those of what goes in and comes out, once; a kernel that reads a row twice finds it in a cache. A copy of 10**7
elements is measured around each sample; medians are printed.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.matmul import repeated
from tapeless.compiler.passes import fuse, simplify
from tapeless.ir.graph import Builder, Graph, Value
from tapeless.ir.target import host
from tapeless.ir.types import DType, Tensor

Array = np.ndarray[Any, np.dtype[Any]]
ROWS, COLUMNS = 10_000, 1_000
SIZE = ROWS * COLUMNS
WHOLE = Tensor(DType.F32, (ROWS, COLUMNS))


def _spread(b: Builder, row: Value) -> Value:
    return b.broadcast_to(row, WHOLE.shape, (0,))


def softmax(b: Builder) -> None:
    x = b.input("x", WHOLE, "data")
    total = b.emit("logsumexp", x, axes=(1,))
    b.output("y", b.emit("exp", b.emit("sub", x, _spread(b, total))), "output")


def layer_norm(b: Builder) -> None:
    x = b.input("x", WHOLE, "data")
    count = b.constant(1.0 / COLUMNS, DType.F32)

    def mean(value: Value) -> Value:
        total = b.emit("sum", value, axes=(1,))
        return b.emit("mul", total, b.broadcast_to(count, total.type.shape, ()))

    centred = b.emit("sub", x, _spread(b, mean(x)))
    variance = mean(b.emit("square", centred))
    scale = b.emit("rsqrt", b.emit("add", variance, b.full(1e-5, variance)))
    b.output("y", b.emit("mul", centred, _spread(b, scale)), "output")


def cross_entropy(b: Builder) -> None:
    x = b.input("x", WHOLE, "data")
    label = b.input("label", Tensor(DType.I32, (ROWS,)), "data")
    total = b.emit("logsumexp", x, axes=(1,))
    b.output("loss", b.emit("sub", total, b.emit("pick", x, label)), "output")
    places = b.emit("iota", axis=1, shape=WHOLE.shape, dtype=DType.I32)
    one = b.emit("cast", b.emit("eq", places, _spread(b, label)), dtype=DType.F32)
    b.output("d_x", b.emit("sub", b.emit("exp", b.emit("sub", x, _spread(b, total))), one), "output")


def adam(b: Builder) -> None:
    w, g, m, v = (b.input(name, Tensor(DType.F32, (SIZE,)), "data") for name in "wgmv")

    def blend(old: Value, new: Value, rate: float) -> Value:
        return b.emit("add", b.emit("mul", old, b.full(rate, old)), b.emit("mul", new, b.full(1 - rate, new)))

    m1, v1 = blend(m, g, 0.9), blend(v, b.emit("square", g), 0.999)
    step = b.emit("div", b.emit("mul", m1, b.full(1e-3, m1)), b.emit("add", b.emit("sqrt", v1), b.full(1e-8, v1)))
    for name, value in (("w1", b.emit("sub", w, step)), ("m1", m1), ("v1", v1)):
        b.output(name, value, "output")


CASES: dict[str, tuple[Callable[[Builder], None], int]] = {  # bytes an element
    "softmax": (softmax, 8),
    "layer norm": (layer_norm, 8),
    "cross-entropy and gradient": (cross_entropy, 8),
    "Adam": (adam, 28),
}


class Program:
    """A graph's kernels over arrays of their own."""

    def __init__(self, graph: Graph) -> None:
        fused = fuse(simplify(graph))
        nodes = [node for node in fused.nodes if node.op == "kernel"]
        rng = np.random.default_rng(0)
        self.arrays: dict[Value, Array] = {}
        for port in fused.inputs:
            shape, real = port.value.type.at(1), port.value.type.dtype.is_float
            made = rng.uniform(0, 1, shape) if real else rng.integers(0, COLUMNS, shape)
            self.arrays[port.value] = made.astype(port.value.type.dtype.numpy)
        for node in nodes:
            self.arrays.update((v, np.zeros(v.type.at(1), v.type.dtype.numpy)) for v in node.results)
        named = [dataclasses.replace(node, attrs={**node.attrs, "name": f"k{k}"}) for k, node in enumerate(nodes)]
        self.pointers = [[self.arrays[v].ctypes.data for v in (*node.operands, *node.results)] for node in nodes]
        self.call = repeated(named, host())
        self.kernels = len(nodes)
        self.outputs = {port.key: self.arrays[port.value] for port in fused.outputs}
        self.inputs = {port.key: self.arrays[port.value] for port in fused.inputs}

    def run(self) -> None:
        self.call(self.pointers, 1)


def built(build: Callable[[Builder], None]) -> Program:
    b = Builder("case", DType.F32)
    build(b)
    return Program(b.graph())


def seconds(run: Callable[[], object]) -> float:
    begun = time.process_time()
    run()
    return time.process_time() - begun


def bandwidth() -> None:
    source, target = np.ones(SIZE, np.float32), np.zeros(SIZE, np.float32)

    def copy() -> None:
        np.copyto(target, source)

    copy()
    print("| work | kernels | share of a copy's bytes a second |\n|---|---|---|")
    for name, (build, width) in CASES.items():
        program = built(build)
        program.run()
        shares = []
        for _ in range(7):
            before = seconds(copy)
            own = seconds(program.run)
            rate = 8 * SIZE / min(before, seconds(copy))
            shares.append(width * SIZE / own / rate)
        print(f"| {name} | {program.kernels} | {statistics.median(shares):.2f} |", flush=True)


if __name__ == "__main__":
    bandwidth()
