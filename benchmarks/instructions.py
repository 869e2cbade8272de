"""Instructions of one training step: python benchmarks/instructions.py [--package FOLDER] [NAME...]

A library is built for x86-64-v3 and driven from C under callgrind (which knows no AVX-512), so that the count is the
same on every machine and under any load. Names are those of the workloads, or of examples as `examples/cnn`;
`--package` takes another tree's interpreter, to compare with.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from workloads import WORKLOADS, named

from tapeless.abi.dtypes import DType

EXAMPLES = ("examples/cnn", "examples/lstm", "examples/gpt")
TARGET = "x86-64-v3"
BUILD = "import sys, tapeless; tapeless.load(sys.argv[1]).build(sys.argv[2], target=sys.argv[3])"
MAIN = """
#include <stdint.h>
#include <stdio.h>
#include "{name}.h"
static _Alignas(64) char state[{NAME}_STATE_BYTES], gradients[{NAME}_GRADIENT_BYTES], workspace[{NAME}_WORKSPACE_BYTES];
static double results[{NAME}_RESULTS];
{arrays}
int main(void) {{
    {name}_memory memory = {{state, gradients, workspace}};
    uint32_t word = 1;
{fills}
    {name}_init(memory, 0);
    {name}_plan(memory, 100);
    int status = {name}_train_step(memory, 0, 0, {NAME}_BATCH, {data}, results);
    printf("%d %.6g\\n", status, results[0]);
    return status;
}}
"""
ARRAY = "static {type} x{place}[{size}LL];"
FILL = "    for (int64_t k = 0; k < {size}LL; k++) word = word * 1664525u + 1013904223u, x{place}[k] = {value};"


def source(name: str) -> str:
    """A model's text."""
    if name.startswith("examples/"):
        return (Path(__file__).parents[1] / name / f"{Path(name).name}.tl").read_text("utf-8")
    return named(name).source


def driver(manifest: dict[str, Any], name: str, batch: int) -> str:
    """A program in C that takes one step on drawn data."""
    arrays, fills = [], []
    for place, data in enumerate(manifest["data"]):
        size = 1
        for dim in data["shape"]:
            size *= batch if dim == "batch" else dim
        value = (
            f"(int32_t)((word >> 8) % {data['bound']}u)"
            if data.get("bound")
            else "(int32_t)(word >> 8) / 8388608.0 - 1"
        )
        arrays.append(ARRAY.format(type=DType(data["dtype"]).record.c, place=place, size=size))
        fills.append(FILL.format(place=place, size=size, value=value))
    given = ", ".join(f"x{place}" for place in range(len(arrays)))
    return MAIN.format(name=name, NAME=name.upper(), arrays="\n".join(arrays), fills="\n".join(fills), data=given)


def count(name: str, python: str) -> tuple[int, str]:
    """Instructions of one step of a model, and what the program printed: its status and its loss."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "model.tl").write_text(source(name), "utf-8")
        subprocess.run([python, "-c", BUILD, str(folder / "model.tl"), made, TARGET], check=True)
        (header,) = folder.glob("*.h")
        stem = header.stem
        rows = int(re.findall(rf"{stem.upper()}_BATCH\D+(\d+)", header.read_text("utf-8"))[0])
        manifest = json.loads((folder / f"{stem}.json").read_text("utf-8"))
        (folder / "main.c").write_text(driver(manifest, stem, rows))
        step = manifest["entries"]["train_step"]["symbol"]
        program = str(folder / "main")
        subprocess.run(["cc", "-O1", "-o", program, f"{program}.c", str(folder / f"{stem}.o")], check=True)
        counted = subprocess.run(
            ["valgrind", "--tool=callgrind", f"--toggle-collect={step}",
                "--callgrind-out-file=/dev/null", program],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    (collected,) = map(int, re.findall(r"Collected : (\d+)", counted.stderr))
    if not collected:
        raise RuntimeError(f"callgrind has not seen {step} being called")
    return collected, counted.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[*(workload.name for workload in WORKLOADS), *EXAMPLES])
    parser.add_argument("--package", help="the Python interpreter of another installation, counted beside this one")
    given = parser.parse_args()
    for name in given.names:
        ours, printed = count(name, sys.executable)
        line = f"{name:<13} {ours:>14,}   status and loss {printed}"
        if given.package:
            other, printed = count(name, given.package)
            line += f"   {other:>14,}   status and loss {printed}   {ours / other - 1:+.3%}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
