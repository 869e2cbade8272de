"""How long each stage of a compilation takes, and one run of what it made."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from tapeless.pipeline import Pipeline, target_named
from tapeless.runtime import buffers
from tapeless.runtime.call import Call, Memory
from tapeless.runtime.image import Image
from tapeless.runtime.threads import processors

MEASURED_SECONDS = 0.3


def stage_times(pipeline: Pipeline, entry: str, batch: int | None) -> str:
    """A table: every stage for one entry, made anew, then one run of the entry on rows of zeros, on one thread."""
    passes: list[tuple[str, float]] = []
    made: list[Image] = []
    fresh = pipeline.fresh(lambda step, _: passes.append((step.name, time.perf_counter())))

    def load() -> None:
        image = fresh.image(tuple({"init": None, entry: None}), target_named(None), batch, threads=processors())
        made.append(Image.from_object(image.manifest, image.code))

    stages: tuple[tuple[str, Callable[[], object]], ...] = (
        ("front end", lambda: fresh.model),
        ("entry, differentiated", lambda: fresh.entry(entry)),
        ("simplified", lambda: fresh.simplified(entry)),
        ("fused", lambda: fresh.fused(entry, target_named(None).machine, batch)),
        ("machine code, loaded", load),
    )
    lines = []
    for name, stage in stages:
        passes.clear()
        last = begin = time.perf_counter()
        stage()
        lines.append(f"{name:<24} {(time.perf_counter() - begin) * 1e3:10.1f} ms")
        for within, end in passes:
            lines.append(f"  {within:<22} {(end - last) * 1e3:10.1f} ms")
            last = end
    lines.append(f"{'one run, ' + str(made[0].manifest.capacity) + ' rows':<24} {_run(made[0], entry) * 1e6:10.2f} us")
    return "\n".join(lines) + "\n"


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _run(image: Image, entry: str) -> float:
    """Seconds for one batch of the entry: the least of many runs of several batches each."""
    manifest = image.manifest
    description = manifest.entries[entry]
    state, _ = buffers.block(manifest.state)
    gradients, _ = buffers.block(manifest.gradients)
    memory = Memory(state, gradients)
    Call(image, "init", memory, 1).run(0, 0)
    batches = 16 if description.data else 1
    rows = batches * manifest.capacity
    arrays, outputs = (
        [np.zeros(spec.concrete(rows), spec.dtype) for spec in (*specs, *description.carries)]
        for specs in (description.data, description.outputs)
    )
    call = Call(image, entry, memory, 1, arrays, outputs)
    least, end = np.inf, time.perf_counter() + MEASURED_SECONDS
    while time.perf_counter() < end:
        least = min(least, _seconds(lambda: call.run(0, rows)))
    return float(least) / batches
