"""Instructions of a training step, counted under callgrind, stay as they are kept in `instructions.json`.

A library for x86-64-v3 is driven from C, so the count is the same on every machine. What LLVM makes of the same loops
differs from version to version: counts hold for the one that they were made with.

    python -m tests.decisions.test_instructions [NAME...]

writes them anew.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import llvmlite.binding
import pytest

HERE = Path(__file__).parent
KEPT = HERE / "instructions.json"
REPOSITORY = HERE.parents[1]
LLVM = ".".join(map(str, llvmlite.binding.llvm_version_info[:2]))
WITHIN = 0.01


def counted(name: str) -> int:
    sys.path.insert(0, str(REPOSITORY / "benchmarks"))
    try:
        from instructions import count  # type: ignore[import-not-found]
    finally:
        sys.path.pop(0)
    instructions, printed = count(name, sys.executable)
    assert printed.startswith("0 "), printed
    return int(instructions)


@pytest.mark.slow
@pytest.mark.parametrize("name", json.loads(KEPT.read_text("utf-8"))["instructions"])
def test_instructions(name: str) -> None:
    if shutil.which("valgrind") is None:
        assert os.environ.get("TAPELESS_EMULATORS") != "required", "valgrind is missing"
        pytest.skip("valgrind is missing")
    kept = json.loads(KEPT.read_text("utf-8"))
    if kept["llvm"] != LLVM:
        pytest.skip(f"counts are kept for LLVM {kept['llvm']}, and this is {LLVM}")
    assert counted(name) == pytest.approx(kept["instructions"][name], rel=WITHIN)


if __name__ == "__main__":
    before = json.loads(KEPT.read_text("utf-8"))["instructions"]
    made = before | {name: counted(name) for name in sys.argv[1:] or before}
    KEPT.write_text(json.dumps({"llvm": LLVM, "instructions": made}, indent=1) + "\n", "utf-8")
