"""Matrix products of float32 on one thread, as shares of this machine's multiply-add peak.

python -m benchmarks.matmul [--peers] [--repeats N]

Kernels are called from native code in a loop. The peak is measured around each sample, by a loop of independent
multiply-adds in registers; the best sample over the best peak among them is printed, as other work may share the
processor: it can only slow a sample down. Products are timed by the process's own time. Peers (--peers) run in
processes of their own, with the same peak: NumPy's OpenBLAS as it comes and with OPENBLAS_CORETYPE=SkylakeX,
PyTorch's MKL as it comes and told that the processor is Intel's, and its oneDNN.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tapeless.codegen.kernels.lower import lower_kernel
from tapeless.codegen.llvm import functions as llvm
from tapeless.codegen.llvm import native
from tapeless.codegen.llvm.functions import function_text
from tapeless.compiler.passes.layout import packed_operands
from tapeless.ir.graph import Builder, Graph, Node, Value
from tapeless.ir.target import Target, host
from tapeless.ir.types import DType, Tensor
from tapeless.runtime.buffers import aligned

Array = np.ndarray[Any, np.dtype[Any]]

CUBES = (16, 32, 64, 128, 250, 256, 512, 1024, 2048)
# (M, N, K, transpose A, transpose B) of the workloads' products.
STEPS = (
    (64, 512, 784, False, False), (784, 512, 64, True, False), (64, 256, 512, False, False),
    (64, 512, 256, False, True),
    (256, 2048, 1024, False, False), (1024, 2048, 256, True, False), (256, 1024, 2048, False, True),
    (1024, 512, 128, False, False), (32, 512, 128, False, False),
)  # fmt: skip
CROWDED, PAD = 1024, 16  # elements: rows a multiple of CROWDED apart get PAD more, as the compiler's layout does
SAMPLE = 0.001  # seconds


def product(m: int, n: int, k: int, transpose_a: bool, transpose_b: bool) -> Graph:
    b = Builder("product", DType.F32)
    x = b.input("x", Tensor(DType.F32, (k, m) if transpose_a else (m, k)), "operand")
    y = b.input("y", Tensor(DType.F32, (n, k) if transpose_b else (k, n)), "operand")
    b.output("r", b.emit("matmul", x, y, transpose_a=transpose_a, transpose_b=transpose_b), "result")
    return b.graph()


def kernel(region: Graph, leading: tuple[int, int, int]) -> Node:
    operands = tuple(Value(f"x{i}", port.value.type) for i, port in enumerate(region.inputs))
    results = (Value("y", region.outputs[0].value.type),)
    return Node("kernel", operands, results, {"family": "matmul", "name": "k", "leading": leading}, (region,))


def transposition(rows: int, columns: int, leading: tuple[int, int]) -> Node:
    b = Builder("pack", DType.F32)
    x = b.input("x", Tensor(DType.F32, (rows, columns)), "operand")
    b.output("r", b.emit("transpose", x, perm=(1, 0)), "result")
    region = b.graph()
    values = Value("x", region.inputs[0].value.type), Value("y", region.outputs[0].value.type)
    return Node("kernel", values[:1], values[1:], {"family": "pack", "name": "pack", "leading": leading}, (region,))


def repeated(nodes: list[Node], target: Target) -> Callable[[list[list[int]], int], None]:
    """Native code that runs the kernels, all their parts, one after the other, so many times."""
    functions = [lower_kernel(node, target, 1) for node in nodes]
    texts = [function_text(function, target) for function in functions]
    count = sum(len(function.buffers) for function in functions)
    parameters = ", ".join(f"ptr %p{i}" for i in range(count))
    lines = [f"define void @repeat({parameters}, i64 %n) nounwind {{", "entry:", "  br label %loop", "loop:",
             "  %i = phi i64 [ 0, %entry ], [ %j, %loop ]"]  # fmt: skip
    first = 0
    for function in functions:
        given = ", ".join(f"ptr %p{first + i}" for i in range(len(function.buffers)))
        lines.append(f"  call void @{function.name}({given}, i64 1, i64 0, i64 {function.parts})")
        first += len(function.buffers)
    lines += ["  %j = add i64 %i, 1", "  %more = icmp slt i64 %j, %n", "  br i1 %more, label %loop, label %end",
              "end:", "  ret void", "}"]  # fmt: skip
    text = llvm.module_text([*texts, "\n".join(lines)], target)
    loaded = native.load(native.compile_object(text, target), ["repeat"])
    entry = loaded.function("repeat", *[ctypes.c_void_p] * count, ctypes.c_int64)
    scratch = [np.zeros(max(64, sum(b.bytes for b in f.buffers if b.role == "scratch")), np.uint8) for f in functions]

    def call(pointers: list[list[int]], turns: int) -> None:
        given: list[int] = []
        for function, own, spare in zip(functions, pointers, scratch, strict=True):
            given += own + [spare.ctypes.data] * (len(function.buffers) - len(own))
        entry(*given, turns)

    call.loaded = loaded  # type: ignore[attr-defined]
    return call


def peak(target: Target) -> Callable[[], float]:
    """Measures multiply-adds in registers: GFLOP/s."""
    lanes, chains = target.lanes(4), 12 if target.machine.registers < 32 else 24
    kind = f"<{lanes} x float>"
    lines = ["define void @peak(ptr %out, i64 %n) nounwind {", "entry:", f"  %x = load {kind}, ptr %out, align 4",
        "  br label %loop", "loop:",
             "  %i = phi i64 [ 0, %entry ], [ %j, %loop ]"]  # fmt: skip
    lines += [f"  %a{c} = phi {kind} [ zeroinitializer, %entry ], [ %b{c}, %loop ]" for c in range(chains)]
    lines += [f"  %b{c} = call {kind} @llvm.fma.v{lanes}f32({kind} %a{c}, {kind} %x, {kind} %x)" for c in range(chains)]
    lines += ["  %j = add i64 %i, 1", "  %more = icmp slt i64 %j, %n", "  br i1 %more, label %loop, label %end", "end:"]
    lines += [f"  %s0 = fadd {kind} %b0, %b1"]
    lines += [f"  %s{c} = fadd {kind} %s{c - 1}, %b{c + 1}" for c in range(1, chains - 1)]
    lines += [f"  store {kind} %s{chains - 2}, ptr %out, align 4", "  ret void", "}"]
    loaded = native.load(native.compile_object(llvm.module_text(["\n".join(lines)], target), target), ["peak"])
    entry = loaded.function("peak", ctypes.c_void_p, ctypes.c_int64)
    memory = np.zeros(64, np.float32)
    turns = 20_000

    def measure() -> float:
        best = float("inf")
        for _ in range(10):
            begun = time.perf_counter()
            entry(memory.ctypes.data, turns)
            best = min(best, time.perf_counter() - begun)
        return 2 * lanes * chains * turns / best / 1e9

    measure.loaded = loaded  # type: ignore[attr-defined]
    return measure


def padded(columns: int) -> int:
    return columns + PAD if columns % CROWDED == 0 else columns


def share(case: tuple[int, int, int, bool, bool], measure: Callable[[], float], repeats: int) -> float:
    """The share of the peak. Where the compiler would copy a transposed right operand, it is copied anew in each
    turn, as a step does.
    """
    m, n, k, transpose_a, transpose_b = case
    target, rng = host(), np.random.default_rng(0)
    copied = transpose_b and any(node.op == "transpose" for node in packed_operands(product(*case)).nodes)
    turned = transpose_b and not copied
    lda, ldb, ldc = padded(m if transpose_a else k), padded(k if turned else n), padded(n)

    def matrix(rows: int, columns: int) -> Array:
        made = aligned(rows * columns * 4).view(np.float32).reshape(rows, columns)
        made[...] = rng.normal(size=made.shape)
        return made

    x, y, r = matrix(k if transpose_a else m, lda), matrix(n if turned else k, ldb), matrix(m, ldc)
    made = kernel(product(m, n, k, transpose_a, turned), (lda, ldb, ldc))
    nodes, pointers = [made], [[a.ctypes.data for a in (x, y, r)]]
    if copied:
        z = matrix(n, padded(k))
        nodes, pointers = [transposition(n, k, (padded(k), ldb)), made], [[z.ctypes.data, y.ctypes.data], pointers[0]]
    run = repeated(nodes, target)
    run(pointers, 1)
    left = x[:, :m].T if transpose_a else x[:, :k]
    right = y[:, :k].T if turned else y[:, :n]
    np.testing.assert_allclose(r[:, :n], left @ right, rtol=1e-3, atol=1e-2)
    turns = max(1, int(SAMPLE * 1.5e11 / (2 * m * n * k)))
    best, top = 0.0, measure()
    for _ in range(repeats):
        begun = time.process_time()
        run(pointers, turns)
        best = max(best, 2 * m * n * k * turns / (time.process_time() - begun) / 1e9)
        top = max(top, measure())
    return best / top


PEER = """
import sys, time
import numpy as np
library, sizes = sys.argv[1], [int(s) for s in sys.argv[2].split(",")]
for n in sizes:
    a, b = (np.random.default_rng(s).normal(size=(n, n)).astype(np.float32) for s in (0, 1))
    if library == "numpy":
        c = np.empty((n, n), np.float32)
        call = lambda: np.matmul(a, b, out=c)
    else:
        import torch
        torch.set_num_threads(1)
        torch.set_grad_enabled(False)
        x, y = torch.from_numpy(a), torch.from_numpy(b)
        z = torch.empty(n, n)
        if library == "onednn":
            x, y = x.to_mkldnn(), y.T.contiguous().to_mkldnn()
        call = (lambda: torch.mm(x, y, out=z)) if library == "torch" else (lambda: torch.nn.functional.linear(x, y))
    turns = max(1, int(0.001 * 1.5e11 / (2 * n**3)))
    call()
    best = []
    for _ in range(50):
        t = time.process_time()
        for _ in range(turns):
            call()
        best.append(time.process_time() - t)
    print(2 * n**3 * turns / min(best) / 1e9, flush=True)
"""


def peers(measure: Callable[[], float]) -> Iterator[tuple[str, list[float]]]:
    """Each peer's shares at the cubes."""
    one = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "intel.c", Path(folder) / "intel.so"
        source.write_text("int mkl_serv_intel_cpu_true(void) { return 1; }\n")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
        ways = (
            ("OpenBLAS", "numpy", {}),
            ("OpenBLAS SkylakeX", "numpy", {"OPENBLAS_CORETYPE": "SkylakeX"}),
            ("MKL", "torch", {}),
            ("MKL AVX-512", "torch", {"LD_PRELOAD": str(library)}),
            ("oneDNN", "onednn", {}),
        )
        for name, which, environment in ways:
            top = max(measure() for _ in range(50))
            sizes = ",".join(map(str, CUBES))
            made = subprocess.run([sys.executable, "-c", PEER, which, sizes], env=os.environ | one | environment,
                                  capture_output=True, text=True, check=False)  # fmt: skip
            if made.returncode == 0:
                top = max(top, *(measure() for _ in range(50)))
                yield name, [float(line) / top for line in made.stdout.split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--repeats", type=int, default=50)
    options = parser.parse_args()
    measure = peak(host())
    print(f"peak {max(measure() for _ in range(50)):.0f} GFLOP/s, one thread; shares of it\n")
    columns: dict[str, list[Any]] = {
        "Tapeless": [share((n, n, n, False, False), measure, options.repeats) for n in CUBES]
    }
    columns["A transposed"] = [share((n, n, n, True, False), measure, options.repeats) for n in CUBES]
    columns["B transposed"] = [share((n, n, n, False, True), measure, options.repeats) for n in CUBES]
    if options.peers:
        columns |= dict(peers(measure))
    print("| cube | " + " | ".join(columns) + " |\n|---" + "|---" * len(columns) + "|")
    for place, n in enumerate(CUBES):
        print(f"| {n} | " + " | ".join(f"{column[place]:.2f}" for column in columns.values()) + " |")
    print("\n| M, N, K | A | B | share |\n|---|---|---|---|")
    for case in STEPS:
        m, n, k, *flips = case
        print(
            (
                f"| {m}, {n}, {k} | {' | '.join('transposed' if flip else '' for flip in flips)} | "
                f"{share(case, measure, options.repeats):.2f} |"
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
