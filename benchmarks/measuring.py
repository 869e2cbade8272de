"""Peers in processes of their own, timed by turns: who can do what, what they are given, and whether they agree.

A time counts only where what a peer computes agrees with ours to four digits: the losses of its first steps, or what it
predicts.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.environment import environment, has
from benchmarks.workloads import Workload

PEERS = Path(__file__).parent / "peers"
DIGITS = 1e-4
QUIET = 0.3  # seconds before a turn: by then the threads of the one before no longer spin for more work
DENSE = ("tiny_mlp", "logreg", "mlp", "mlp_large")
SMALL = ("tiny_mlp", "logreg", "mlp", "mlp_large", "elementwise")


@dataclass(frozen=True)
class Way:
    """A peer and a variant of it. `module` is what it needs to be installed; `workloads` those that it can do."""

    name: str
    script: str
    variant: str = ""
    module: str = ""
    workloads: Sequence[str] | None = None
    inference: bool = True

    def can(self, workload: Workload, python: str, rows: int) -> bool:
        """Whether it can do a workload here."""
        if (self.workloads is not None and workload.name not in self.workloads) or (rows and not self.inference):
            return False
        if self.script == "with_c.py":
            return shutil.which("gcc") is not None
        if self.variant == "compile" and shutil.which("gcc") is None:
            return False
        return not self.module or has(python, self.module)


OURS = Way("Tapeless", "with_tapeless.py")
WAYS = (
    Way("PyTorch", "with_torch.py", "eager", "torch"),
    Way("PyTorch channels last", "with_torch.py", "channels_last", "torch", ("cnn",)),
    Way("torch.compile", "with_torch.py", "compile", "torch"),
    Way("JAX", "with_jax.py", "jit", "jax"),
    Way("JAX scan", "with_jax.py", "scan", "jax", SMALL, inference=False),
    Way("NumPy", "with_numpy.py", workloads=DENSE),
    Way("C", "with_c.py", workloads=("tiny_mlp", "logreg", "elementwise"), inference=False),
)


@dataclass
class Row:
    """What one peer took for one workload: seconds of a step (of a prediction, of an epoch)."""

    name: str
    times: list[float] = field(default_factory=list)
    agrees: bool = True
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.times) if self.times else float("nan")


@dataclass
class Measured:
    """A workload's rows, ours first. `rows`: of a prediction, 0 where it trains."""

    workload: str
    threads: int
    rows: int
    unit: str
    flops: float
    bytes: float
    peers: list[Row]

    @property
    def ours(self) -> float:
        return self.peers[0].median

    @property
    def best(self) -> Row | None:
        """The fastest peer that agrees."""
        able = [row for row in self.peers[1:] if row.agrees and row.times]
        return min(able, key=lambda row: row.median) if able else None


def write(workload: Workload, path: Path, forced: bool) -> None:
    """The file from which peers take a workload."""
    parameters, data = workload.parameters(), workload.data()
    optimizer = workload.optimizer
    facts = {
        "name": workload.name, "batch": workload.batch, "steps": workload.steps, "kind": optimizer.kind,
        "rate": optimizer.rate, "momentum": optimizer.momentum, "decay": optimizer.decay, "source": workload.source,
        "predicting": workload.predicting, "names": list(parameters), "inputs": list(data)[:-1], "forced": forced,
    }  # fmt: skip
    arrays = {f"p{k}": value for k, value in enumerate(parameters.values())}
    arrays |= {f"d{k}": value for k, value in enumerate(data.values())}
    np.savez(path, facts=json.dumps(facts), **arrays)  # type: ignore[arg-type]


class Peer:
    """One peer's process for one workload."""

    def __init__(self, way: Way, python: str, path: Path, threads: int, rows: int) -> None:
        self.row = Row(way.name)
        self._errors = path.with_name(f"{way.name}.txt").open("w+")
        self._process = subprocess.Popen(
            [sys.executable if way is OURS else python, "-W", "ignore", str(PEERS / way.script), str(path),
             way.variant or "plain", str(rows)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
            env=environment(threads), cwd=PEERS,
        )  # fmt: skip
        self.shown: list[float] = []

    def begin(self) -> bool:
        """Waits for the first answer. Whether there was one."""
        line = self._read()
        if not line:
            self._errors.seek(0)
            self.row.note = (self._errors.read().strip().splitlines() or ["it ended early"])[-1][:120]
            return False
        self.shown = json.loads(line)
        return True

    def _read(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline()

    def run(self, count: int) -> float:
        """Seconds of one of so many steps."""
        assert self._process.stdin
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        return float(self._read() or "nan")

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()
        self._errors.close()


def agree(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    """To four digits of the largest."""
    scale = max(map(abs, ours), default=1.0)
    return len(ours) == len(theirs) and all(abs(a - b) <= DIGITS * scale for a, b in zip(ours, theirs, strict=True))


def ways(workload: Workload, python: str, rows: int, only: Sequence[str]) -> Iterator[Way]:
    """The peers that can do a workload, of those asked for."""
    for way in WAYS:
        asked = not only or any(way.name.lower().startswith(name.lower()) for name in only)
        if asked and way.can(workload, python, rows):
            yield way


def measure(
    workload: Workload, threads: int, rows: int, repeats: int, python: str, only: Sequence[str], seconds: float = 0.1
) -> Measured:
    """Times a workload, ours and the peers' by turns: in each turn so many steps as take about `seconds`."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "workload.npz"
        write(workload, path, forced=threads > 0)
        processes = []
        for way in (OURS, *ways(workload, python, rows, only)):  # one after the other: compilers want the machine
            peer = Peer(way, python, path, threads or 2, rows)
            processes.append((peer, peer.begin()))
        ours = processes[0][0]
        if not processes[0][1]:
            raise RuntimeError(f"{workload.name}: {ours.row.note}")
        counts: dict[Peer, int] = {}
        for peer, begun in processes:
            peer.row.agrees = begun and agree(ours.shown, peer.shown)
            if begun and not peer.row.agrees:
                peer.row.note = f"differs: {peer.shown[-1]:.6g}, ours {ours.shown[-1]:.6g}"
            if begun:
                counts[peer] = _count(workload, peer, rows, seconds)
        for _ in range(repeats):
            for peer, count in counts.items():
                time.sleep(QUIET)
                peer.row.times.append(peer.run(count) * _unit(workload, rows))
        for peer, _ in processes:
            peer.close()
    flops, size = _work(workload, rows)
    unit = "prediction" if rows else "epoch" if workload.name == "logreg" else "step"
    return Measured(workload.name, threads, rows, unit, flops, size, [peer.row for peer, _ in processes])


def _batches(workload: Workload) -> int:
    return len(next(iter(workload.data().values()))) // workload.batch


def _unit(workload: Workload, rows: int) -> int:
    """Steps in what is told: an epoch of logreg."""
    return _batches(workload) if workload.name == "logreg" and not rows else 1


def _count(workload: Workload, peer: Peer, rows: int, seconds: float) -> int:
    """How many steps a turn takes: whole epochs, never more than the workload says."""
    unit = _unit(workload, rows)
    peer.run(unit)
    once = peer.run(unit) * unit
    most = workload.steps if not rows else 1000
    count = max(1, min(most // unit, int(seconds / max(once, 1e-7)))) * unit
    peer.run(count)  # JAX compiles a loop for each count
    return count


def _work(workload: Workload, rows: int) -> tuple[float, float]:
    """Operations of the products, and bytes that are touched at least once: parameters read (written too where it
    trains, with the optimizer's moments), and the data.
    """
    parameters = sum(value.nbytes for value in workload.parameters().values())
    data = sum(value.nbytes for value in workload.first_batch())
    if rows:
        return workload.flops / 3 * rows / workload.batch, parameters + data * rows / workload.batch
    moments = {"sgd": 1 if workload.optimizer.momentum else 0}.get(workload.optimizer.kind, 2)
    unit = _unit(workload, 0)
    return workload.flops * unit, ((2 + 2 * moments) * parameters + data) * unit
