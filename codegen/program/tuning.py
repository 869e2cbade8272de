"""Choosing plans by measuring: every plan that is possible for a kernel is timed on this machine, and the best is kept.

All plans of a kernel compute the same bits, so what is measured changes how long a step takes and nothing else. Kernels
are told apart by their structure, as equal ones are one function (see `structure.py`).
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from tapeless.codegen.kernels.lower import planned
from tapeless.codegen.kernels.planned import Planned
from tapeless.codegen.llvm import native
from tapeless.codegen.llvm.functions import function_text, module_text
from tapeless.codegen.loops.language import Function
from tapeless.codegen.program.structure import kernel_key
from tapeless.ir.graph import Graph, Node
from tapeless.ir.target import Target
from tapeless.ir.types import Tensor

__all__ = ["Plans", "Tuned", "chosen", "tune"]

Plans = Mapping[str, str]
"""By `kernel_key`: the plan, as it prints."""

LONGEST = 0.003  # seconds of one sample
SAMPLES = 5
GAIN = 0.97  # a plan is taken in place of the expected one if it takes less than this share of its time


@dataclass(frozen=True)
class Tuned:
    """What was found for a kernel: seconds of a call by the expected plan, and by the best one."""

    name: str
    key: str
    expected: str
    best: str
    before: float
    after: float


def chosen(made: Planned, key: str, plans: Plans) -> Any:
    """The plan that was kept for a kernel, if it is still one that is possible; else the expected one."""
    wanted = plans.get(key)
    return next((plan for plan in made.alternatives() if str(plan) == wanted), made.plan) if wanted else made.plan


def tune(graphs: Sequence[Graph], target: Target, capacity: int) -> Iterator[Tuned]:
    """Measures the kernels of fused graphs, one after the other, each structure once. `target` is this machine."""
    seen = set()
    for graph in graphs:
        for node in graph.walk():
            if node.op != "kernel" or (key := kernel_key(node)) in seen:
                continue
            seen.add(key)
            made = planned(node, target, capacity)
            plans = {str(plan): plan for plan in (made.plan, *made.alternatives())}
            if len(plans) == 1:
                continue
            functions = [made.write(plan) for plan in plans.values()]
            seconds = dict(zip(plans, _measured(node, functions, target, capacity), strict=True))
            expected, best = str(made.plan), min(seconds, key=lambda plan: seconds[plan])
            if seconds[best] > GAIN * seconds[expected]:
                best = expected
            yield Tuned(node.attrs["name"], key, expected, best, seconds[expected], seconds[best])


def _measured(node: Node, functions: Sequence[Function], target: Target, capacity: int) -> list[float]:
    """Seconds of a call of each function on one thread, the least of several samples that take turns."""
    named = [replace(function, name=f"k{place}") for place, function in enumerate(functions)]
    names = [f"run{place}" for place in range(len(named))]
    texts = [function_text(function, target) for function in named]
    texts += [_repeated(name, function, capacity) for name, function in zip(names, named, strict=True)]
    loaded = native.load(native.compile_object(module_text(texts, target), target), names)
    scratch = max((buffer.bytes for function in named for buffer in function.buffers), default=0)
    memory = [*_memory(node, capacity), _aligned(scratch)]
    pointers = [array.ctypes.data for array in memory]
    calls = []
    for name, function in zip(names, named, strict=True):
        entry = loaded.function(name, *[ctypes.c_void_p] * len(function.buffers), ctypes.c_int64)
        calls.append(partial(_timed, entry, *pointers[: len(function.buffers)]))
    turns = [max(1, int(LONGEST / max(min(call(1), call(1)), 1e-9))) for call in calls]
    best = [float("inf")] * len(calls)
    for _ in range(SAMPLES):
        for place, call in enumerate(calls):
            best[place] = min(best[place], call(turns[place]) / turns[place])
    return best


def _timed(entry: Callable[..., object], *given: int) -> float:
    begun = time.perf_counter()
    entry(*given)
    return time.perf_counter() - begun


def _repeated(name: str, function: Function, rows: int) -> str:
    """A definition that calls a function so many times, for all its parts."""
    parameters = ", ".join(f"ptr %p{place}" for place in range(len(function.buffers)))
    return "\n".join(
        [
            f"define void @{name}({parameters}, i64 %n) nounwind {{",
            "entry:",
            "  br label %loop",
            "loop:",
            "  %i = phi i64 [ 0, %entry ], [ %j, %loop ]",
            f"  call void @{function.name}({parameters}, i64 {rows}, i64 0, i64 {function.parts})",
            "  %j = add i64 %i, 1",
            "  %more = icmp slt i64 %j, %n",
            "  br i1 %more, label %loop, label %end",
            "end:",
            "  ret void",
            "}\n",
        ]
    )


def _memory(node: Node, capacity: int) -> list[Any]:
    """What the kernel reads and writes: numbers between a tenth and one, and zeros where they may be places."""
    (region,), leading = node.regions, node.attrs["leading"]
    ports = (*region.inputs, *region.outputs)
    made = []
    for place, port in enumerate(ports):
        type: Tensor = port.value.type
        ld = leading[place] if place < len(leading) else 0
        size = type.at(capacity)[0] * ld * type.dtype.bytes if ld else type.bytes(capacity)
        array = _aligned(size)
        if type.dtype.is_float:
            count = size // type.dtype.bytes
            values = np.random.default_rng(place).uniform(0.1, 1, count)
            array[: count * type.dtype.bytes].view(type.dtype.numpy)[...] = values
        made.append(array)
    return made


def _aligned(size: int) -> Any:
    """So many bytes of zeros and a little more, on a boundary of 64."""
    raw = np.zeros(size + 192, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size + 64]
