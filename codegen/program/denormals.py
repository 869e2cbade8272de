"""Denormal numbers as zeros: how a processor is told to flush them, and told again what it did before.

Arithmetic on numbers below the smallest normal one takes a hundred cycles on most x86-64 processors, and training
makes them by the thousand once a model has converged: moments of what no longer has a gradient halve until nothing is
left. So entries that train flush: a denormal result becomes a zero of its sign, and a denormal operand counts as one.
The mode belongs to a thread; an entry sets it when it begins and restores the whole word on its one way out, so the
caller's own arithmetic is as before. WebAssembly and RISC-V have no such mode, and keep denormals.
"""

from __future__ import annotations

from dataclasses import dataclass

from tapeless.codegen.llvm.builder import FunctionBuilder, Value
from tapeless.ir.target import Target

__all__ = ["FLUSHING", "Mode", "flush", "mode", "restore"]

FLUSHING = ("train_step", "gradients", "apply")
"""Entries that flush, unless the program keeps denormals: those that training runs. Predictions are the same from
`predict`, `step` and `evaluate`, none of which does."""


@dataclass(frozen=True)
class Mode:
    """A processor's word of modes, `bits` wide: what reads and writes it, and the `flush` bits in it. `by_memory`: the
    instructions move it to and from memory."""

    read: str
    write: str
    bits: int
    flush: int
    by_memory: bool = False


MODES = {
    # MXCSR: bit 15 flushes results (FTZ), bit 6 operands (DAZ)
    ("x86_64",): Mode("@llvm.x86.sse.stmxcsr", "@llvm.x86.sse.ldmxcsr", 32, 1 << 15 | 1 << 6, by_memory=True),
    # FPCR.FZ: operands and results of single and double precision
    ("aarch64", "arm64"): Mode("@llvm.aarch64.get.fpcr", "@llvm.aarch64.set.fpcr", 64, 1 << 24),
    # FPSCR.FZ
    ("thumb", "armv7"): Mode("@llvm.arm.get.fpscr", "@llvm.arm.set.fpscr", 32, 1 << 24),
}


def mode(target: Target) -> Mode | None:
    """How a target's processor is told; None where it can't be."""
    return next((found for prefixes, found in MODES.items() if target.triple.startswith(prefixes)), None)


def flush(f: FunctionBuilder, mode: Mode) -> Value:
    """Denormals are zeros from here on; what is to be restored."""
    integer = f"i{mode.bits}"
    if not mode.by_memory:
        before = f.result("modes", integer, mode.read)
        f.call(mode.write, (f.either("modes.flushing", before, Value(integer, str(mode.flush))),))
        return before
    kept, flushing = f.alloca("modes.kept", integer), f.alloca("modes.set", integer)
    f.call(mode.read, (kept,))
    before = f.load("modes", integer, kept)
    f.store(f.either("modes.flushing", before, Value(integer, str(mode.flush))), flushing)
    f.call(mode.write, (flushing,))
    return kept


def restore(f: FunctionBuilder, mode: Mode, before: Value) -> None:
    """What was before `flush`."""
    f.call(mode.write, (before,))
