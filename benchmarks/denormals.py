"""What denormal numbers cost a training step: python benchmarks/denormals.py [--repeats 15] [--steps 1500]

The mlp is trained on one batch until it has converged and its optimizer's moments have died away, with and without
`denormals keep`. At the rate taken here denormals come within a few steps, so one that is kept is slow from the start.
The times are medians of a step from the start and from there, all interleaved, beside the share of the state's numbers
that are denormal.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from workloads import named

import tapeless
from tapeless.runtime.staging import call_over

SETTINGS = {"flushed": "", "kept": "    denormals keep\n"}
RATE = "lr = 3e-2"  # the model's own is too small for it to converge
TIMED = 10  # steps in one time


class Trained:
    """One program, at its start and converged."""

    def __init__(self, text: str, arrays: dict[str, np.ndarray], steps: int, threads: int) -> None:
        program = tapeless.load(text).compile(threads=threads, seed=0)
        self.rows = len(arrays["x"])
        self.memory = program.memory()
        order = np.tile(np.arange(self.rows, dtype=np.int32), max(steps, TIMED))
        examples = program.bind("train_step", arrays)
        self.call = call_over(program.image("train"), "train_step", self.memory, threads, examples, order)
        fresh = self.memory.state.copy()
        self.call.run(0, steps * self.rows)
        self.states = {"fresh": fresh, "converged": self.memory.state.copy()}
        self.times: dict[str, list[float]] = {kind: [] for kind in self.states}

    def time(self) -> None:
        """One time of each kind."""
        for kind, state in self.states.items():
            np.copyto(self.memory.state, state)
            self.call.run(0, self.rows)
            begun = time.perf_counter()
            self.call.run(0, TIMED * self.rows)
            self.times[kind].append((time.perf_counter() - begun) / TIMED)

    def line(self) -> str:
        """The medians, their ratio, and the share of denormal numbers."""
        first, last = (float(np.median(found)) for found in self.times.values())
        numbers = self.states["converged"].view(np.float32)
        denormal = (numbers != 0) & (np.abs(numbers) < np.finfo(np.float32).smallest_normal)
        return f"{first * 1e3:6.3f} ms {last * 1e3:7.3f} ms {last / first:6.2f}  {denormal.mean():.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--steps", type=int, default=1500, help="until the model has converged")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    workload = named("mlp")
    text = workload.source.replace("lr = 1e-5", RATE)
    if text == workload.source:
        raise SystemExit("the mlp's text no longer gives its rate as this expects")
    arrays = {name: array[: workload.batch] for name, array in workload.data().items()}
    programs = {
        name: Trained(text + setting, arrays, options.steps, options.threads) for name, setting in SETTINGS.items()
    }
    for _ in range(options.repeats):
        for program in programs.values():
            program.time()
    print(f"{'denormals':10} {'fresh':>9} {'converged':>10} {'ratio':>6}  of the state denormal")
    for name, program in programs.items():
        print(f"{name:10} {program.line()}")


if __name__ == "__main__":
    main()
