"""A digest of the weights after 100 steps of every workload and example: python benchmarks/weights.py [--threads N...]
[--tuned] [--package PYTHON] [NAME...]

Results are the same bytes on one machine whatever the load, so two trees compute the same where the digests agree.
Workloads start from their fixed values; examples, named as `examples/cnn`, from their own with seed 0, on drawn
data. `--package` takes another tree's interpreter, to compare with; how long the steps took stands beside. With
several counts of threads, and with plans found by tuning too, all must agree: the exit code is 1 where they do not.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from workloads import WORKLOADS

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples"
SCRIPT = """
import hashlib, re, sys, time
import numpy as np
import tapeless
from workloads import WORKLOADS

name, path, threads, tuned = sys.argv[1:]
workload = next((one for one in WORKLOADS if one.name == name), None)
models = re.findall(r"^model (\\w+)", open(path).read(), re.MULTILINE)
program = tapeless.load(path, model=models[0]).compile(threads=int(threads), seed=0, tune=tuned == "tuned")
specs = program.image("train").manifest.entries["train_step"].data
rng = np.random.default_rng(1)
rows = 256
if workload:
    for key, value in workload.parameters().items():
        program.parameters[key][...] = value
    data = workload.data()
else:
    data = {
        one.name: rng.uniform(0, 1, one.concrete(rows))
        if one.dtype.kind == "f"
        else rng.integers(0, one.bound or 2, one.concrete(rows))
        for one in specs
    }
begin = time.perf_counter()
try:
    program.fit(data, epochs=10**6, max_steps=100, validation=0.0, patience=0, progress=False)
except tapeless.TrainingStopped:
    pass
seconds = time.perf_counter() - begin
made = hashlib.sha256()
for key, value in sorted(program.parameters.items()):
    made.update(key.encode() + np.ascontiguousarray(value).tobytes())
print(made.hexdigest()[:16], f"{seconds:.2f}")
"""


def digest(python: str, name: str, path: Path, threads: int, tuned: bool = False) -> tuple[str, str]:
    """The digest of one model's weights, and how many seconds the steps took."""
    words = [name, str(path), str(threads), "tuned" if tuned else "plain"]
    line = [python, "-W", "ignore", "-c", SCRIPT, *words]
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True, cwd=HERE)
    made, seconds = done.stdout.split()[-2:]
    return made, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--threads", nargs="+", type=int, default=[2])
    parser.add_argument("--tuned", action="store_true", help="once more, with plans measured on this machine")
    parser.add_argument("--package", help="the Python interpreter of another installation")
    given = parser.parse_args()
    models = {workload.name: HERE / "models" / f"{workload.name}.tl" for workload in WORKLOADS}
    models |= {f"examples/{path.stem}": path for path in sorted(EXAMPLES.glob("*/*.tl"))}
    agree = True
    for name, path in models.items():
        if given.names and name not in given.names:
            continue
        runs = [(f"{threads} threads", sys.executable, threads, False) for threads in given.threads]
        if given.tuned:
            runs.append(("tuned", sys.executable, given.threads[-1], True))
        if given.package:
            runs.append(("the other", given.package, given.threads[-1], False))
        found = set()
        for what, python, threads, tuned in runs:
            made, seconds = digest(python, name, path, threads, tuned)
            found.add(made)
            print(f"{name:<28} {what:<10} {made} {seconds:>7} s", flush=True)
        if len(found) > 1:
            agree = False
            print(f"{name:<28} OTHERS", flush=True)
    sys.exit(0 if agree else 1)


if __name__ == "__main__":
    main()
