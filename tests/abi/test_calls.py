"""The layout of a context is one in the statement, in ctypes and in the C header, for pointers of 8 bytes and of 4."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import tapeless
from tapeless.abi.calls import CONTEXT, offsets, pointers_at
from tapeless.ir.target import TARGETS
from tapeless.runtime.context import with_pointers

MODEL = (
    "model Sizes:\n    input x: [batch, 2]\n    target y: [batch, 2]\n    param w: [2] = 1\n    loss mean((x * w - "
    "y) ** 2)\n\ntrain Sizes:\n    optimizer SGD(lr = 0.1)\n"
)
# 32-bit machines of today align 64-bit numbers to 8 bytes; x86 is the exception, unless told.
MACHINES = {8: (), 4: ("-m32", "-malign-double", "-ffreestanding")}


def test_ctypes() -> None:
    made = with_pointers(3)
    assert {field.name: getattr(made, field.name).offset for field in CONTEXT} == offsets(8)
    assert made.pointers.offset == pointers_at(8)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler")
@pytest.mark.parametrize("pointer", MACHINES)
def test_the_header(tmp_path: Path, pointer: int) -> None:
    if MACHINES[pointer] and (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        pytest.skip("compiles for 32 bits, as the compilers of x86-64 can")
    tapeless.load(MODEL).build(tmp_path)
    asserted = {
        **{f"tl_context, {field}": at for field, at in offsets(pointer).items()},
        "sizes_call, pointers": pointers_at(pointer),
    }
    lines = [f'_Static_assert(offsetof({place}) == {at}, "{place}");' for place, at in asserted.items()]
    lines += [
        f'_Static_assert(sizeof(((tl_context *)0)->{field.name}) == {pointer if field.is_pointer else 8}, "size '
        f'of {field.name}");'
        for field in CONTEXT
    ]
    (tmp_path / "main.c").write_text('#include "sizes.h"\n' + "\n".join(lines) + "\n")
    subprocess.run(
        ["gcc", "-std=c11", *MACHINES[pointer], "-fsyntax-only", "-I", tmp_path, tmp_path / "main.c"], check=True
    )


@pytest.mark.parametrize("name", TARGETS)
def test_machine_code_reads_the_fields_where_they_lie(name: str) -> None:
    """Of the driver and of the function in which threads meet."""
    pointer = TARGETS[name].pointer_bytes
    assert pointer == (4 if name in ("wasm32", "cortex-m7") else 8)
    text = tapeless.load(MODEL).inspect(target=name).stage("llvm", "train_step")
    read = {
        (field, int(at)) for field, at in re.findall(r"%(\w+)\.at = getelementptr i8, ptr %context, i64 (\d+)", text)
    }
    first = pointers_at(pointer)
    assert read == {(field.rstrip("_"), at) for field, at in offsets(pointer).items()} | {
        ("pointer0", first),
        ("pointer1", first + pointer),
    }
