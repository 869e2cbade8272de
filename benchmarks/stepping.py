"""A compiled model whose training steps are timed: on drawn data, the one batch again and again."""

from __future__ import annotations

import time

import numpy as np

import tapeless
from tapeless.runtime.call import Call

MOST = 20_000  # steps in one call


class Steps:
    """Training steps of a model's text. `threads`: None leaves their number to Tapeless."""

    def __init__(self, text: str, threads: int | None = None, cache: bool = True, batch: int | None = None) -> None:
        self.program = tapeless.load(text).compile(threads=threads, cache=cache, batch=batch)
        self.image = self.program.image("train")
        entry = self.image.manifest.entries["train_step"]
        self.rows = self.image.manifest.capacity
        rng = np.random.default_rng(1)
        self.data = [
            rng.normal(size=one.concrete(self.rows)).astype(one.dtype)
            if one.dtype.kind == "f"
            else rng.integers(0, one.bound or 2, one.concrete(self.rows)).astype(one.dtype)
            for one in entry.data
        ]
        self._memory = self.program.memory()

    @property
    def bytes(self) -> int:
        """Of state, gradients, workspace and data."""
        manifest = self.image.manifest
        data = sum(array.nbytes for array in self.data)
        workspace = manifest.entries["train_step"].working_memory(self.program.threads or 2)
        return manifest.state.bytes + manifest.gradients.bytes + workspace + data

    def seconds(self, count: int) -> float:
        """Of one of so many steps."""
        order = np.tile(np.arange(self.rows, dtype=np.int32), count)
        call = Call(self.image, "train_step", self._memory, self.program.threads, self.data, order=order)
        begun = time.perf_counter()
        call.run(0, count * self.rows)
        return (time.perf_counter() - begun) / count

    def best(self, repeats: int = 5, span: float = 0.02) -> float:
        """The least of some repeats that take about `span` seconds each, after one step."""
        count = max(1, min(MOST // self.rows + 1, int(span / max(self.seconds(1), 1e-7))))
        return min(self.seconds(count) for _ in range(repeats))
