"""A digest of the weights after 100 steps of every workload and example: python benchmarks/weights.py [--package
PYTHON] [NAME...]

Results are the same bytes on one machine whatever the load, so two trees compute the same where the digests agree.
Workloads start from their fixed values; examples, named as `examples/cnn`, from their own with seed 0, on drawn
data. `--package` takes another tree's interpreter, to compare with; how long the steps took stands beside.
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

name, path = sys.argv[1:]
workload = next((one for one in WORKLOADS if one.name == name), None)
models = re.findall(r"^model (\\w+)", open(path).read(), re.MULTILINE)
program = tapeless.load(path, model=models[0]).compile(threads=2, seed=0)
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


def digest(python: str, name: str, path: Path) -> tuple[str, str]:
    """The digest of one model's weights, and how many seconds the steps took."""
    done = subprocess.run(
        [python, "-W", "ignore", "-c", SCRIPT, name, str(path)], stdout=subprocess.PIPE, text=True, check=True, cwd=HERE
    )
    made, seconds = done.stdout.split()[-2:]
    return made, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--package", help="the Python interpreter of another installation")
    given = parser.parse_args()
    models = {workload.name: HERE / "models" / f"{workload.name}.tl" for workload in WORKLOADS}
    models |= {f"examples/{path.stem}": path for path in sorted(EXAMPLES.glob("*/*.tl"))}
    for name, path in models.items():
        if given.names and name not in given.names:
            continue
        made, seconds = digest(sys.executable, name, path)
        line = f"{name:<28} {made} {seconds:>7} s"
        if given.package:
            other, before = digest(given.package, name, path)
            line += f"   {other} {before:>7} s   {'the same' if other == made else 'OTHERS'}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
