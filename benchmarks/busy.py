"""Steps beside other work: python -m benchmarks.busy [NAME...] [--repeats 7]

Times each workload on one thread, on two, and as Tapeless chooses, by turns: on the machine as it is, and with a loop
that keeps one core busy. Told are two threads' gain, and how the default does beside one thread in both cases.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.stepping import Steps
from benchmarks.workloads import WORKLOADS, named

WAYS = {"one": 1, "two": 2, "default": None}


@contextmanager
def loop(busy: bool) -> Iterator[None]:
    """A process that does nothing, all the time."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
    try:
        yield
    finally:
        if process:
            process.kill()
            process.wait()


def medians(programs: dict[str, Steps], repeats: int, busy: bool) -> dict[str, float]:
    counts = {name: max(1, min(20_000, int(0.05 / max(steps.seconds(1), 1e-7)))) for name, steps in programs.items()}
    times: dict[str, list[float]] = {name: [] for name in programs}
    with loop(busy):
        for _ in range(repeats):
            for name, steps in programs.items():
                times[name].append(steps.seconds(counts[name]))
    return {name: statistics.median(found) for name, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[workload.name for workload in WORKLOADS])
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    print("| workload | two threads' gain | default / one thread | the same, a core busy |\n|---|---|---|---|")
    for name in options.names:
        programs = {way: Steps(named(name).source, threads) for way, threads in WAYS.items()}
        for steps in programs.values():
            steps.seconds(1)
        free, taken = (medians(programs, options.repeats, busy) for busy in (False, True))
        print(f"| {name} | {free['one'] / free['two']:.2f} | {free['default'] / free['one']:.2f} | "
              f"{taken['default'] / taken['one']:.2f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
