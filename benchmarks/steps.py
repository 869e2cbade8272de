"""Training steps against peers: python benchmarks/steps.py [--threads 1] [--repeats 15] [PEER...]

Every peer runs in a process of its own, from the same starting values on the same batch, and its losses must agree with
ours to four digits before a time counts. Timed repeats of all peers interleave; medians of one run are compared, as
ratios. Peers that are not installed are left out, and C where nobody has written the workload in it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from workloads import WORKLOADS, Workload

HERE = Path(__file__).parent
PEERS = ("c", "numpy", "jax", "torch")
# Fair to peers on any processor: OpenBLAS takes its AVX-512 kernels, glibc keeps large blocks instead of returning
# them.
ENVIRONMENT = {
    "OPENBLAS_CORETYPE": "SkylakeX",
    "MALLOC_MMAP_THRESHOLD_": "1000000000",
    "MALLOC_TRIM_THRESHOLD_": "2000000000",
    "MALLOC_TOP_PAD_": "200000000",
}


def available(name: str, workload: Workload) -> bool:
    """Whether a peer is installed and can write the workload; for C, whether there is a compiler and a program for
    it.
    """
    if workload.dense is None:
        return False
    if name == "c":
        return shutil.which("gcc") is not None and (HERE / "peers" / f"{workload.name}.c").exists()
    return importlib.util.find_spec(name) is not None


class Peer:
    """One peer's process for one workload."""

    def __init__(self, name: str, workload: Workload, threads: int) -> None:
        environment = {**os.environ, **ENVIRONMENT, "THREADS": str(threads), "PYTHONPATH": str(HERE)}
        environment |= {"OPENBLAS_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
        if threads == 1:
            environment["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
        script = HERE / "peers" / f"with_{name}.py"
        self.name, self.steps, self.times = name, workload.steps, list[float]()
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [sys.executable, str(script), workload.name], stdin=pipe, stdout=pipe, text=True, env=environment
        )
        self.losses: list[float] = json.loads(self.answer())

    def answer(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended early")
        return line

    def run(self, keep: bool) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{self.steps}\n")
        self.process.stdin.flush()
        seconds = float(self.answer())
        if keep:
            self.times.append(seconds)

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def measure(workload: Workload, names: list[str], threads: int, repeats: int) -> None:
    """Print one row for each peer: the median step, the ratio to ours, and whether its losses agree."""
    peers = [Peer(name, workload, threads) for name in names]
    for peer in peers:
        peer.run(keep=False)
    for _ in range(repeats):
        for peer in peers:
            peer.run(keep=True)
    ours = statistics.median(peers[0].times)
    print(f"{workload.name}: {workload.flops / 1e6:.3g} MFLOP a step")
    for peer in peers:
        median = statistics.median(peer.times)
        agrees = abs(peer.losses[10] - peers[0].losses[10]) <= 1e-4 * abs(peers[0].losses[10])
        note = "" if agrees else f"   LOSSES DIFFER: {peer.losses[10]:.6g}, ours {peers[0].losses[10]:.6g}"
        rate = workload.flops / median / 1e9
        print(f"  {peer.name:<10} {median * 1e6:10.2f} us  {rate:7.1f} GFLOP/s  {median / ours:7.2f} x ours{note}")
        peer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", nargs="*", default=PEERS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--workload", choices=[workload.name for workload in WORKLOADS])
    options = parser.parse_args()
    for workload in WORKLOADS:
        if options.workload in (None, workload.name):
            names = ["tapeless", *(name for name in options.peers if available(name, workload))]
            measure(workload, names, options.threads, options.repeats)


if __name__ == "__main__":
    main()
