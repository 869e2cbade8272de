"""Gradients in float64 on one thread, as GradBench asks for them, against JAX: python -m benchmarks.gradbench
[--only NAME...] [--python PYTHON] [--repeats 7]

Mixtures of Gaussians, k-means, an LSTM with diagonal gates, bundle adjustment, an ODE, least squares, and gradients
through a loop of 1,000 steps, from the models of `models/gradbench/`. JAX is given the same values, in a process of its
own; a time counts where its gradient agrees with ours to eight digits of the largest element. Repeats interleave.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import tapeless
from benchmarks.environment import environment, has, processor
from tapeless.runtime.call import Call

Array = np.ndarray[Any, np.dtype[Any]]
HERE = Path(__file__).parent
DIGITS = 1e-8


@dataclass(frozen=True)
class Case:
    """A model of `models/gradbench/` at some sizes, over so many rows."""

    model: str
    rows: int
    sizes: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return " ".join([self.model, *(f"{name}={size}" for name, size in self.sizes.items())])

    @cached_property
    def path(self) -> Path:
        return HERE / "models" / "gradbench" / f"{self.model}.tl"


CASES = (
    *(Case("gmm", 1000, {"d": d, "k": k}) for d, k in ((2, 5), (10, 50), (64, 25))),
    Case("kmeans", 10_000, {"k": 100}),
    Case("lstm", 1, {"l": 2}),
    Case("ba", 10_000),
    Case("ode", 1),
    Case("llsq", 4096),
    *(Case("scan", 1, {"width": width}) for width in (10, 32)),
)


class Ours:
    """A case's gradient by Tapeless, at drawn values."""

    def __init__(self, case: Case, cache: bool = True) -> None:
        self.case = case
        loaded = tapeless.load(case.path, **case.sizes)
        self.program = loaded.compile(dtype="float64", threads=1, batch=case.rows, cache=cache)
        image = self.program.image("gradients")
        rng = np.random.default_rng(0)
        for value in self.program.parameters.values():
            value += rng.normal(scale=0.1, size=value.shape)
        self.data: dict[str, Array] = {
            one.name: rng.integers(0, one.bound or 2, one.concrete(case.rows)).astype(one.dtype)
            if one.dtype.kind != "f"
            else rng.uniform(-1, 1, one.concrete(case.rows))
            for one in image.manifest.entries["gradients"].data
        }
        self._call = Call(image, "gradients", self.program.memory(), 1, list(self.data.values()))

    def gradients(self) -> dict[str, Array]:
        return self.program.gradients(self.data)

    def seconds(self, count: int) -> float:
        begun = time.perf_counter()
        for _ in range(count):
            self._call.run(0, self.case.rows)
        return (time.perf_counter() - begun) / count


def measure(case: Case, python: str, repeats: int) -> str:
    """A row of the table."""
    ours = Ours(case)
    found = ours.gradients()
    count = max(1, min(1000, int(0.05 / max(ours.seconds(1), 1e-7))))
    if not has(python, "jax"):
        return f"| {case.name} | {min(ours.seconds(count) for _ in range(repeats)) * 1e6:.1f} | no JAX |"
    with TemporaryDirectory() as folder:
        path = Path(folder) / "case.npz"
        facts = json.dumps({"model": case.model, "parameters": list(found), "data": list(ours.data), **case.sizes})
        parameters = {f"p{k}": ours.program.parameters[name] for k, name in enumerate(found)}
        data = {f"d{k}": value for k, value in enumerate(ours.data.values())}
        np.savez(path, facts=facts, **parameters, **data)  # type: ignore[arg-type]
        peer = subprocess.Popen(
            [python, "-W", "ignore", str(HERE / "peers" / "gradients.py"), str(path)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(1), cwd=HERE / "peers",
        )  # fmt: skip
        assert peer.stdin and peer.stdout
        if not peer.stdout.readline():
            raise RuntimeError(f"{case.name}: JAX ended early")
        with np.load(path.with_suffix(".out.npz")) as held:
            theirs = [held[f"g{k}"] for k in range(len(found))]
        scale = max(float(np.abs(one).max()) for one in theirs)
        pairs = zip(found.values(), theirs, strict=True)
        error = max(float(np.abs(a.reshape(b.shape) - b).max()) for a, b in pairs) / scale
        own, other = [], []
        for _ in range(repeats):
            own.append(ours.seconds(count))
            peer.stdin.write(f"{count}\n")
            peer.stdin.flush()
            other.append(float(peer.stdout.readline()))
        peer.stdin.close()
        peer.wait()
    ratio = f"{statistics.median(other) / statistics.median(own):.2f}" if error <= DIGITS else f"differs: {error:.1e}"
    return f"| {case.name} | {statistics.median(own) * 1e6:.1f} | {ratio} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="models of models/gradbench/")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    print(f"{processor()}, one thread, float64\n\n| gradient | ours, us | JAX / ours |\n|---|---|---|")
    for case in CASES:
        if not options.only or case.model in options.only:
            print(measure(case, options.python, options.repeats), flush=True)


if __name__ == "__main__":
    main()
