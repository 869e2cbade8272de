"""The processors that tests run machine code for in an emulator, and what has to be installed for it.

Without it a test is skipped; where TAPELESS_EMULATORS is `required`, as in CI, it fails.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tapeless.ir.target import TARGETS, Target

__all__ = ["MACHINES", "Linux", "Machine", "needed"]

SCRIPT = Path(__file__).parent / "wasm.mjs"


@dataclass(frozen=True)
class Linux:
    """How a program asks Linux for something. `enter` is a function of the number of a call and its three arguments,
    as machine words of so many bits: they move to the registers that the kernel looks in, and it is asked.
    """

    enter: tuple[int, ...]
    bits: int
    read: int
    write: int
    exit: int


@dataclass(frozen=True)
class Machine:
    """A target, its linker with options, what runs a linked file, and the kernel there; None for WebAssembly."""

    target: Target
    linker: tuple[str, ...]
    emulator: tuple[str, ...]
    linux: Linux | None = None


MACHINES: dict[str, Machine] = {
    machine.target.name: machine
    for machine in (
        Machine(
            TARGETS["aarch64-linux-gnu"],
            ("ld.lld", "--static", "--threads=1"),
            ("qemu-aarch64",),
            # mov x8, x0; mov x0, x1; mov x1, x2; mov x2, x3; svc #0; ret
            Linux((0xAA0003E8, 0xAA0103E0, 0xAA0203E1, 0xAA0303E2, 0xD4000001, 0xD65F03C0), 32, 63, 64, 93),
        ),
        Machine(
            TARGETS["riscv64-linux-gnu"],
            ("ld.lld", "--static", "--threads=1"),
            ("qemu-riscv64",),
            # mv a7, a0; mv a0, a1; mv a1, a2; mv a2, a3; ecall; ret
            Linux((0x00050893, 0x00058513, 0x00060593, 0x00068613, 0x00000073, 0x00008067), 32, 63, 64, 93),
        ),
        Machine(TARGETS["wasm32"], ("wasm-ld", "--no-entry", "--threads=1"), ("node", str(SCRIPT))),
    )
}
"""By the name of the target."""


def needed(machine: Machine) -> None:
    """Ends the test if the linker or the emulator is missing."""
    missing = [program for program in (machine.linker[0], machine.emulator[0]) if not shutil.which(program)]
    if missing:
        reason = f"{' and '.join(missing)} missing: apt-get install lld qemu-user nodejs"
        (pytest.fail if os.environ.get("TAPELESS_EMULATORS") == "required" else pytest.skip)(reason)
