"""What this machine can do, measured: multiply-adds in registers, and bytes from each level of its memory.

The peak is a loop of independent multiply-adds in registers. A bandwidth is that of an array of half a level's size
(of the last level and of memory: four times what lies nearer), swept again and again: read, and read and written in
place. With several threads each has an array of its own. Best of several samples: other work can only slow one down.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from tapeless.codegen.llvm import native
from tapeless.codegen.llvm.functions import module_text
from tapeless.ir.target import Target, host
from tapeless.runtime.buffers import aligned

CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
MEMORY = 256 << 20  # bytes: an array in memory, unless the last cache is so large that even this would lie there
STREAMS = 8


def cache_sizes() -> dict[str, int]:
    """Bytes of each level of data caches, as the system tells them; as usual ones are where it does not."""
    found = {}
    for index in sorted(CACHES.glob("index*")):
        try:
            kind, level, size = ((index / name).read_text().strip() for name in ("type", "level", "size"))
        except OSError:
            continue
        if kind != "Instruction":
            found[f"L{level}"] = int(size.rstrip("KMG")) * UNITS.get(size[-1], 1)
    return found or {"L1": 32 << 10, "L2": 1 << 20, "L3": 32 << 20}


def working_sets() -> dict[str, int]:
    """Bytes of an array that lies in each level: half of a cache, for the last one four times what lies nearer."""
    sizes = cache_sizes()
    near = {name: size // 2 for name, size in sizes.items()}
    if "L3" in sizes:
        near["L3"] = min(sizes["L3"] // 2, 4 * sizes["L2"])
    return near | {"memory": MEMORY}


def peak(target: Target, element_bytes: int = 4) -> Callable[[], float]:
    """Measures multiply-adds in registers of one thread: GFLOP/s."""
    lanes, chains = target.lanes(element_bytes), 12 if target.machine.registers < 32 else 24
    element = "float" if element_bytes == 4 else "double"
    kind, suffix = f"<{lanes} x {element}>", f"v{lanes}f{8 * element_bytes}"
    lines = ["define void @peak(ptr %out, i64 %n) nounwind {", "entry:", f"  %x = load {kind}, ptr %out, align 4",
        "  br label %loop", "loop:",
             "  %i = phi i64 [ 0, %entry ], [ %j, %loop ]"]  # fmt: skip
    lines += [f"  %a{c} = phi {kind} [ zeroinitializer, %entry ], [ %b{c}, %loop ]" for c in range(chains)]
    lines += [f"  %b{c} = call {kind} @llvm.fma.{suffix}({kind} %a{c}, {kind} %x, {kind} %x)" for c in range(chains)]
    lines += ["  %j = add i64 %i, 1", "  %more = icmp slt i64 %j, %n", "  br i1 %more, label %loop, label %end", "end:"]
    lines += [f"  %s0 = fadd {kind} %b0, %b1"]
    lines += [f"  %s{c} = fadd {kind} %s{c - 1}, %b{c + 1}" for c in range(1, chains - 1)]
    lines += [f"  store {kind} %s{chains - 2}, ptr %out, align 4", "  ret void", "}"]
    loaded = native.load(native.compile_object(module_text(["\n".join(lines)], target), target), ["peak"])
    entry = loaded.function("peak", ctypes.c_void_p, ctypes.c_int64)
    memory = np.zeros(64, np.float64)
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


def _sweep_text(name: str, writes: bool, target: Target) -> str:
    """A function that sweeps an array so many times: it adds up what it reads, or adds one to each element."""
    lanes = target.lanes(4)
    kind, step = f"<{lanes} x float>", 4 * lanes
    lines = [f"define void @{name}(ptr %p, i64 %bytes, i64 %turns) nounwind {{", "entry:", "  br label %outer",
             "outer:", "  %t = phi i64 [ 0, %entry ], [ %u, %done ]"]  # fmt: skip
    lines += [f"  %k{c} = phi {kind} [ zeroinitializer, %entry ], [ %s{c}, %done ]" for c in range(STREAMS)]
    lines += ["  br label %loop", "loop:", "  %i = phi i64 [ 0, %outer ], [ %j, %loop ]"]
    lines += [f"  %a{c} = phi {kind} [ %k{c}, %outer ], [ %s{c}, %loop ]" for c in range(STREAMS)]
    for c in range(STREAMS):
        lines += [f"  %o{c} = add i64 %i, {c * step}", f"  %q{c} = getelementptr i8, ptr %p, i64 %o{c}",
                  f"  %v{c} = load {kind}, ptr %q{c}, align 4"]  # fmt: skip
    ones = "<" + ", ".join(["float 1.0"] * lanes) + ">" if lanes > 1 else "1.0"
    for c in range(STREAMS):
        lines.append(f"  %s{c} = fadd {kind} %v{c}, {ones if writes else f'%a{c}'}")
    if writes:
        lines += [f"  store {kind} %s{c}, ptr %q{c}, align 4" for c in range(STREAMS)]
    lines += [f"  %j = add i64 %i, {STREAMS * step}", "  %more = icmp slt i64 %j, %bytes",
              "  br i1 %more, label %loop, label %done", "done:", "  %u = add i64 %t, 1",
              "  %again = icmp slt i64 %u, %turns", "  br i1 %again, label %outer, label %end", "end:"]  # fmt: skip
    if not writes:
        lines += [f"  %r0 = fadd {kind} %s0, %s1"]
        lines += [f"  %r{c} = fadd {kind} %r{c - 1}, %s{c + 1}" for c in range(1, STREAMS - 1)]
        lines += [f"  store {kind} %r{STREAMS - 2}, ptr %p, align 4"]
    return "\n".join([*lines, "  ret void", "}"])


def _together(work: Callable[[int], None], threads: int) -> float:
    """Seconds in which so many threads have all done their work, from when all have begun."""
    ready = threading.Barrier(threads)
    spans: list[tuple[float, float]] = []

    def run(place: int) -> None:
        ready.wait()
        begun = time.perf_counter()
        work(place)
        spans.append((begun, time.perf_counter()))

    others = [threading.Thread(target=run, args=(place,)) for place in range(1, threads)]
    for other in others:
        other.start()
    run(0)
    for other in others:
        other.join()
    return max(end for _, end in spans) - min(begun for begun, _ in spans)


@dataclass(frozen=True)
class Limits:
    """A machine's measured limits with one count of threads: GFLOP/s, and GB/s by level."""

    threads: int
    peak: float
    peak_f64: float
    read: dict[str, float]
    update: dict[str, float]

    def level(self, size: float) -> str:
        """The level that holds a working set of so many bytes."""
        for name, capacity in cache_sizes().items():
            if size <= capacity * (self.threads if name in ("L1", "L2") else 1):
                return name
        return "memory"

    def bandwidth(self, size: float) -> float:
        """GB/s from the level that holds so many bytes, the better of reading and updating."""
        level = self.level(size)
        return max(self.read[level], self.update[level])

    def floor(self, flops: float, size: float, element_bytes: int = 4) -> float:
        """Seconds below which nothing goes that computes so much and touches so many bytes once."""
        peak = self.peak if element_bytes == 4 else self.peak_f64
        return max(flops / (peak * 1e9), size / (self.bandwidth(size) * 1e9))


@lru_cache(maxsize=4)
def measured(threads: int = 1, samples: int = 5) -> Limits:
    """The limits of this machine, in about two seconds."""
    target = host()
    texts = [_sweep_text("read", False, target), _sweep_text("update", True, target)]
    loaded = native.load(native.compile_object(module_text(texts, target), target), ["read", "update"])
    sweeps = {
        name: loaded.function(name, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64) for name in ("read", "update")
    }
    blocks = [aligned(MEMORY // threads) for _ in range(threads)]
    for block in blocks:
        block[...] = 0
    unit = STREAMS * 4 * target.lanes(4)
    found: dict[str, dict[str, float]] = {"read": {}, "update": {}}
    for name, sweep in sweeps.items():
        for level, size in working_sets().items():
            each = (size // threads if level in ("L3", "memory") else size) // unit * unit
            turns = max(1, (64 << 20) // each)

            def work(place: int, sweep: Callable[..., None] = sweep, each: int = each, turns: int = turns) -> None:
                sweep(blocks[place].ctypes.data, each, turns)

            best = min(_together(work, threads) for _ in range(samples))
            found[name][level] = each * threads * turns * (2 if name == "update" else 1) / best / 1e9
    peaks = [_peak(target, element_bytes, threads, samples) for element_bytes in (4, 8)]
    return Limits(threads, peaks[0], peaks[1], found["read"], found["update"])


def _peak(target: Target, element_bytes: int, threads: int, samples: int) -> float:
    ways = [peak(target, element_bytes) for _ in range(threads)]
    best: list[float] = [0.0] * threads

    def work(place: int) -> None:
        best[place] = max(best[place], ways[place]())

    for _ in range(samples):
        _together(work, threads)
    return sum(best)


def table(all_limits: Sequence[Limits]) -> str:
    """The limits as a table in markdown."""
    levels = list(all_limits[0].read)
    lines = ["| threads | GFLOP/s f32 | f64 | " + " | ".join(f"{level}, GB/s" for level in levels) + " |"]
    lines.append("|---" * (3 + len(levels)) + "|")
    for one in all_limits:
        cells = [f"{one.read[level]:.0f} (update {one.update[level]:.0f})" for level in levels]
        lines.append(f"| {one.threads} | {one.peak:.0f} | {one.peak_f64:.0f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table([measured(1), measured(2)]))
