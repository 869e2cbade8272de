"""From process start to the first finished step, with an empty cache: python -m benchmarks.start [NAME...]
[--repeats 3]

Each start is a process of its own: digits, the gpt of the workloads, dense networks of 32 and 64 layers, and a chain of
22 small matrices with the Jacobian's square in its loss. The least of the repeats is told.

Modules have their bytecode, as those of an installed package do: an uncounted start writes it into a folder of its own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.workloads import named

ROOT = Path(__file__).parents[1]
SCRIPT = """
import sys
from benchmarks.stepping import Steps
Steps(sys.stdin.read(), cache=False).seconds(1)
"""
DEEP = """
model Deep:
    input  x: [batch, 64]
    target y: int[batch] < 10
    h = x
    for k in 0..{layers}:
        h = Dense(h, 64, relu)
    loss cross_entropy(Dense(h, 10), y)

train Deep:
    optimizer Adam(lr = 1e-3)
    batch 32
"""
CHAIN = """
model Chain:
    input  x: [batch, 26]
    target y: [batch, 26]
    h = x
    for k in 0..22:
        h = Dense(h, 26, tanh)
    J = jacobian(h, x)
    loss mean((h - y) ** 2) + 1e-3 * mean(J ** 2)

train Chain:
    optimizer SGD(lr = 1e-3)
    batch 8
"""
CASES: dict[str, Callable[[], str]] = {
    "digits": lambda: (ROOT / "examples" / "digits" / "digits.tl").read_text("utf-8"),
    "gpt": lambda: named("gpt").source,
    "32 layers": lambda: DEEP.format(layers=32),
    "64 layers": lambda: DEEP.format(layers=64),
    "22 matrices": lambda: CHAIN,
}


def start(text: str, bytecode: str) -> float:
    """Seconds of a process that compiles a model and takes a step, with a folder of bytecode."""
    settings = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    settings["PYTHONPYCACHEPREFIX"] = bytecode
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    begun = time.perf_counter()
    subprocess.run(command, input=text, text=True, check=True, cwd=ROOT, env=settings)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(CASES))
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as bytecode:
        start(CASES["digits"](), bytecode)
        for name in options.names:
            text = CASES[name]()
            found[name] = min(start(text, bytecode) for _ in range(options.repeats))
            print(f"{name:<12} {found[name]:6.2f} s", flush=True)
    if {"32 layers", "64 layers"} <= found.keys():
        print(f"64 layers / 32: {found['64 layers'] / found['32 layers']:.2f}")


if __name__ == "__main__":
    main()
