"""Matrix products of float32 on one thread, as shares of what this machine can do.

python -m benchmarks.matmul [--quick] [--shapes 512 64x512x784 256x1024x2048tp] [--peers] [--python PYTHON]
    [--target x86-64-v3] [--repeats N] [--workloads NAME...]

Cubes in every transposition, with rows padded and a power of two apart, hot in a cache and (`r`, from 512 on) rotating
through 64 MB, and the products of the workloads' training steps. A share is of the limit: the time that multiply-adds
take at the peak with the lanes that do something useful, or that the bytes take from the level that holds them, the
longer of the two. Kernels are called from native code in a loop. Peak and peers are measured around each sample, by
turns: the best sample over the best peak is printed, as other work may share the processor and can only slow a sample
down. Products are timed by the process's own time.

Peers (--peers) run in processes of their own: NumPy's OpenBLAS, PyTorch's MKL and its oneDNN. `--target` makes
kernels for another target that this machine runs, with the peak of that target's vectors.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environment import environment, has, processor
from benchmarks.limits import Limits, measured, peak
from benchmarks.product_cases import CUBES, TRANSPOSITIONS, Case, cubes, of_workloads, parsed
from benchmarks.workloads import WORKLOADS
from tapeless.codegen.kernels.lower import lower_kernel
from tapeless.codegen.llvm import functions as llvm
from tapeless.codegen.llvm import native
from tapeless.codegen.llvm.functions import function_text
from tapeless.compiler.passes.layout import packed_operands
from tapeless.ir.graph import Builder, Graph, Node, Value
from tapeless.ir.target import Target, named
from tapeless.ir.types import DType, Tensor
from tapeless.runtime.buffers import aligned

Array = np.ndarray[Any, np.dtype[Any]]
SAMPLE = 0.001  # seconds
SAMPLES = 3  # in a row; peers take as many
LIBRARIES = {"OpenBLAS": ("numpy", "numpy"), "MKL": ("torch", "torch"), "oneDNN": ("onednn", "torch")}


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


class Ours:
    """A case's kernels over operands of their own. Where the compiler would copy a transposed right operand, it is
    copied anew in each turn, as a step does.
    """

    def __init__(self, case: Case, target: Target) -> None:
        region = product(case.m, case.n, case.k, case.transpose_a, case.transpose_b)
        copied = case.transpose_b and any(
            node.op == "transpose" for node in packed_operands(region, target.machine).nodes
        )
        (ka, la), (kb, lb), (kc, lc) = case.shapes
        if copied:
            region = product(case.m, case.n, case.k, case.transpose_a, False)
        self.case, self.copied = case, copied
        right = case.n if copied else lb
        leading = (case.leading(la), case.leading(right), case.leading(lc))
        nodes = [kernel(region, leading)]
        if copied:
            nodes.insert(0, transposition(case.n, case.k, (case.leading(lb), leading[1])))
        self._run = repeated(nodes, target)
        self._sets: list[list[Array]] = []
        for place in range(case.sets):
            stored = ((ka, leading[0]), (kb, case.leading(lb)), (kc, leading[2]))
            arrays = [matrix(rows, columns, place) for rows, columns in stored]
            self._sets.append([*arrays, matrix(case.k, leading[1], place)] if copied else arrays)
        self._check()

    def _pointers(self, arrays: list[Array]) -> list[list[int]]:
        a, b, c, *copy = (array.ctypes.data for array in arrays)
        return [[b, copy[0]], [a, copy[0], c]] if copy else [[a, b, c]]

    def _check(self) -> None:
        case, (a, b, c, *_) = self.case, self._sets[0]
        self._run(self._pointers(self._sets[0]), 1)
        (_, la), (_, lb), (_, lc) = case.shapes
        left, right = a[:, :la], b[:, :lb]
        made = (left.T if case.transpose_a else left) @ (right.T if case.transpose_b else right)
        np.testing.assert_allclose(c[:, :lc], made, rtol=1e-3, atol=1e-2)

    def seconds(self, turns: int) -> float:
        """Of one product, by the process's own time: the best of some samples, of which the first fills the caches."""
        pointers = [self._pointers(arrays) for arrays in self._sets]
        best = float("inf")
        for _ in range(SAMPLES):
            begun = time.process_time()
            if len(pointers) == 1:
                self._run(pointers[0], turns)
            else:
                for turn in range(turns):
                    self._run(pointers[turn % len(pointers)], 1)
            best = min(best, time.process_time() - begun)
        return best / turns


def matrix(rows: int, columns: int, seed: int) -> Array:
    made = aligned(rows * columns * 4).view(np.float32).reshape(rows, columns)
    made[...] = np.random.default_rng(seed).random(made.shape, np.float32) - np.float32(0.5)
    return made


class Library:
    """A peer's process."""

    def __init__(self, name: str, python: str) -> None:
        self.name = name
        script = Path(__file__).parent / "peers" / "products.py"
        self._process = subprocess.Popen(
            [python, "-W", "ignore", str(script), LIBRARIES[name][0]],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(1),
        )  # fmt: skip

    def ask(self, line: str) -> str:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.name} ended early")
        return answer.strip()

    def take(self, case: Case, turns: int) -> None:
        self.ask(json.dumps(asdict(case) | {"shapes": case.shapes, "sets": case.sets, "turns": turns}))

    def seconds(self) -> float:
        return float(self.ask("time"))

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


@dataclass
class Result:
    """A case's best times, and the limit's."""

    case: Case
    ours: float
    limit: float
    peers: dict[str, float] = field(default_factory=dict)

    @property
    def share(self) -> float:
        return self.limit / self.ours

    @property
    def behind(self) -> float:
        """Our time over the best peer's, less one."""
        return self.ours / min(self.peers.values()) - 1 if self.peers else 0.0


def limit(case: Case, target: Target, top: float, limits: Limits) -> float:
    """Seconds below which no product goes, at a peak of `top` GFLOP/s."""
    size = case.bytes * case.sets
    computing = case.flops / (top * 1e9 * case.vectors(target.lanes(4)))
    return max(computing, case.bytes / (limits.bandwidth(size) * 1e9))


def timed(
    case: Case, target: Target, measure: Callable[[], float], limits: Limits, libraries: Iterable[Library], repeats: int
) -> Result:
    """The best times of a case, ours and the peers' by turns."""
    ours = Ours(case, target)
    turns = max(1, int(SAMPLE * 1.5e11 / case.flops))
    turns = max(turns, case.sets)
    best, top, theirs = float("inf"), measure(), {}
    for library in libraries:
        library.take(case, turns)
        theirs[library] = float("inf")
    for _ in range(repeats):
        best = min(best, ours.seconds(turns))
        top = max(top, measure())
        for library in theirs:
            theirs[library] = min(theirs[library], library.seconds())
    peers = {library.name: seconds for library, seconds in theirs.items()}
    return Result(case, best, limit(case, target, top, limits), peers)


def row(result: Result, names: Iterable[str]) -> str:
    case = result.case
    cells = [str(case), f"+{case.pad}" if case.pad else "", "rotating" if case.rotating else "hot", case.origin]
    cells += [f"{case.flops / result.ours / 1e9:.0f}", f"{result.share:.3f}"]
    cells += [f"{result.peers[name] / result.ours:.2f}" for name in names]
    return "| " + " | ".join(cells) + " |"


def summary(results: list[Result], asked: float) -> str:
    """The worst cases, by share of the limit and by how far peers are ahead."""
    lines = [f"\n{sum(r.share >= asked for r in results)} of {len(results)} cases reach {asked:.0%} of the limit"]
    lines += [f"  {r.share:.3f}  {r.case}{' padded' * bool(r.case.pad)}{' rotating' * r.case.rotating}"
              for r in sorted(results, key=lambda r: r.share)[:8]]  # fmt: skip
    if results and results[0].peers:
        late = [r for r in results if r.behind > 0.03]
        lines.append(f"{len(results) - len(late)} of {len(results)} cases are at most 3% behind the best peer")
        lines += [f"  {r.behind:+.0%}  {r.case}{' padded' * bool(r.case.pad)}{' rotating' * r.case.rotating}, "
                  f"{min(r.peers, key=lambda name: r.peers[name])}"
                  for r in sorted(late, key=lambda r: -r.behind)[:8]]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", action="store_true", help="time OpenBLAS, MKL and oneDNN beside")
    parser.add_argument("--python", default=sys.executable, help="an interpreter with NumPy and PyTorch")
    parser.add_argument("--target", default="host")
    parser.add_argument("--shapes", nargs="+", help="only these: 512, 64x512x784, 784tx512x64 (A transposed), p, r")
    parser.add_argument("--workloads", nargs="*", help="only the products of these workloads; of all if none is named")
    parser.add_argument("--quick", action="store_true", help="cubes to 1024 as they are, few repeats")
    parser.add_argument("--repeats", type=int)
    options = parser.parse_args()
    target, measure = named(options.target), peak(named(options.target))
    limits = measured(1)
    if options.shapes:
        cases = [parsed(text) for text in options.shapes]
    elif options.workloads is not None:
        cases = list(of_workloads(options.workloads or [workload.name for workload in WORKLOADS]))
    elif options.quick:
        cases = list(cubes([n for n in CUBES if n <= 1024], TRANSPOSITIONS[:1]))
    else:
        cases = [*cubes(CUBES), *of_workloads()]
    repeats = options.repeats or (5 if options.quick else 20)
    asked = ["OpenBLAS", "MKL", "oneDNN"] if options.peers else []
    libraries = [Library(name, options.python) for name in asked if has(options.python, LIBRARIES[name][1])]
    names = [library.name for library in libraries]
    print(f"{processor()}; one thread, {target.name}; peak {max(measure() for _ in range(20)):.0f} GFLOP/s\n")
    print(
        "| product | rows | | of | GFLOP/s | share of the limit | "
        + "".join(f"{name}, time / ours | " for name in names)
    )
    print("|---" * (6 + len(names)) + "|")
    results = []
    for case in cases:
        results.append(timed(case, target, measure, limits, libraries, repeats))
        print(row(results[-1], names), flush=True)
    print(summary(results, 0.92 if options.target == "host" else 0.88))
    for library in libraries:
        library.close()


if __name__ == "__main__":
    main()
