"""Peak memory of a training process: python -m benchmarks.memory [NAME...]

A process of its own loads a program from the cache and trains some steps; its peak resident memory stands beside state,
gradients, workspace and data, and beside the bound of 1.1 times these and 60 MB.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.workloads import WORKLOADS

SCRIPT = """
import resource, sys
from benchmarks.stepping import Steps
steps = Steps(open(sys.argv[1]).read())
steps.seconds(3)
print(steps.bytes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""
ROOT = Path(__file__).parents[1]
SHARE, BESIDE = 1.1, 60e6


def peak(path: Path) -> tuple[int, int]:
    """Bytes of what training needs, and the peak of a process that has the program from the cache."""
    for _ in range(2):  # the first may compile
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", SCRIPT, str(path)], cwd=ROOT, check=True,
                              stdout=subprocess.PIPE, text=True)  # fmt: skip
    needed, most = map(int, done.stdout.split())
    return needed, most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[workload.name for workload in WORKLOADS])
    options = parser.parse_args()
    print("| workload | needed, MB | peak, MB | bound, MB | |\n|---|---|---|---|---|")
    for name in options.names:
        needed, most = peak(Path(__file__).parent / "models" / f"{name}.tl")
        bound = SHARE * needed + BESIDE
        print(f"| {name} | {needed / 1e6:.1f} | {most / 1e6:.1f} | {bound / 1e6:.1f} | "
              f"{'met' if most <= bound else 'MISSED'} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
