"""The workloads against peers and against what the machine can do.

python -m benchmarks.suite [--only NAME...] [--threads 1 2] [--inference] [--peers NAME...] [--python PYTHON]
    [--repeats 7] [--json FILE] [--plot FILE]

Run in the repository's root. PYTHON is an interpreter with NumPy and the peers that are to be compared (PyTorch, JAX);
those that it lacks are left out. Every peer runs in a process of its own from the same values on the same data, and a
time counts where its first losses, or what it predicts, agree with ours to four digits. Timed repeats interleave,
medians are told. `--threads 0` leaves the number of threads to Tapeless; peers have two. Peak and bandwidths are
measured in the same run. `--inference` times predictions of 1 and 64 rows.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import limits as machine
from benchmarks import report
from benchmarks.environment import processor
from benchmarks.measuring import measure
from benchmarks.workloads import WORKLOADS, named

ROWS = (1, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [workload.name for workload in WORKLOADS]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--inference", action="store_true")
    parser.add_argument("--peers", nargs="*", default=[], metavar="NAME", help="only those with such a name")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.1, help="about how long a repeat takes")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    limits = {threads: machine.measured(threads or 2) for threads in options.threads}
    print(f"{processor()}\n\n{machine.table(list(limits.values()))}\n", flush=True)
    found = []
    for name in options.only:
        for threads in options.threads:
            for rows in ROWS if options.inference else (0,):
                made = measure(named(name), threads, rows, options.repeats, options.python, options.peers,
                               options.seconds)  # fmt: skip
                found.append(made)
                print("\n".join(report.lines(made, limits[threads])), flush=True)
    print(f"\n{report.table(found, limits)}\n\ngeometric mean, best peer / ours: {report.mean(found):.2f}")
    if options.json:
        report.write_json(options.json, found, limits)
    if options.plot:
        report.draw(options.plot, found, limits)


if __name__ == "__main__":
    main()
