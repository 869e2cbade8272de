"""The derivatives that are kept are those that sympy finds; what is compiled needs no sympy: its import takes long."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys

import pytest

from tapeless.ir.ops import OPERATIONS, slopes
from tapeless.ir.ops.formula import NAMES

SCALARS = [
    op
    for op in OPERATIONS.values()
    if op.formula and op.derivative is not None and "stated" in inspect.getclosurevars(op.derivative).nonlocals
]


def found(op) -> dict[str, slopes.Slope]:
    stated = inspect.getclosurevars(op.derivative).nonlocals["stated"]
    places = range(sum(name in op.formula for name in NAMES))
    return {slopes.key(op.formula, stated, k): slopes.derived(op.formula, stated, k) for k in places}


@pytest.mark.parametrize("op", SCALARS, ids=lambda op: op.name)
def test_what_is_kept_is_what_sympy_finds(op) -> None:
    assert found(op) == {key: slopes.kept().get(key) for key in found(op)}, "python -m tests.ir.test_slopes"


def test_a_program_needs_neither_sympy_nor_networkx() -> None:
    text = "model M:\n    input x: [batch, 3]\n    loss mean(tanh(Dense(x, 2, gelu)) ** 2)\n"
    program = (
        "import sys, tapeless\nfrom tapeless.ir.target import named\n"
        f"tapeless.load({text!r}).pipeline('float32').fused('train_step', named('x86-64-v3').machine)\n"
        "assert not {'sympy', 'networkx'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)


def write() -> None:
    lines = {}
    for op in SCALARS:
        for key, slope in found(op).items():
            steps = [[name, *taken] for name, taken in slope.steps]
            lines[key] = f"{json.dumps(key)}: {json.dumps(steps if slope.trivial is None else slope.trivial)}"
    slopes.KEPT.write_text("{\n" + ",\n".join(lines[key] for key in sorted(lines)) + "\n}\n")


if __name__ == "__main__":
    write()
