"""The machines that code is made for.

A target is a plain value: LLVM's triple, CPU and feature string, and the kind of processor that passes and plans reckon
with (`machine`). Nothing here knows how code is made; `host` asks llvmlite which machine this is, and only then imports
it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tapeless.ir import machine
from tapeless.ir.machine import Machine

__all__ = ["TARGETS", "Target", "host", "named", "runnable"]


@dataclass(frozen=True)
class Target:
    """What code is made for."""

    name: str
    triple: str
    cpu: str
    features: str
    machine: Machine

    def lanes(self, element_bytes: int) -> int:
        """How many elements of the given size one vector holds (1 where there are no vectors)."""
        return self.machine.lanes(element_bytes)

    @property
    def pointer_bytes(self) -> int:
        """The size of an address."""
        return 4 if self.triple.startswith(("wasm32", "thumb", "arm-", "armv7", "riscv32", "i686")) else 8

    @property
    def avx512(self) -> bool:
        return self.machine.vector_bytes == 64 and self.triple.startswith("x86_64")


_LINUX = "x86_64-unknown-linux-gnu"

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("x86-64-v4", _LINUX, "x86-64-v4", "", machine.X86_64_V4),
        Target("x86-64-v3", _LINUX, "x86-64-v3", "", machine.X86_64_V3),
        Target("x86-64", _LINUX, "x86-64", "", machine.X86_64),
        Target("aarch64-linux-gnu", "aarch64-unknown-linux-gnu", "generic", "+neon", machine.AARCH64),
        Target("aarch64-apple-darwin", "arm64-apple-macosx", "apple-m1", "", machine.APPLE),
        Target("wasm32", "wasm32-unknown-unknown", "generic", "+simd128", machine.WASM),
        Target(
            "riscv64-linux-gnu",
            "riscv64-unknown-linux-gnu",
            "generic-rv64",
            "+m,+a,+f,+d,+c",
            machine.RISCV64,
        ),
        Target("cortex-m7", "thumbv7em-none-eabihf", "cortex-m7", "", machine.CORTEX_M7),
    )
}
"""The machines known by name. A name is what `--target` takes."""


# Widest first: the row of the table whose instructions a processor has gives its facts.
_X86_64 = (
    ("x86-64-v4", ("avx512f", "avx512dq", "avx512bw", "avx512vl")),
    ("x86-64-v3", ("avx2", "fma")),
    ("x86-64", ()),
)


def named(name: str) -> Target:
    """The target called `name`; "host" is this machine. Raises KeyError for a name that is not in the table."""
    return host() if name == "host" else TARGETS[name]


def host() -> Target:
    """This machine, as LLVM sees it."""
    import llvmlite.binding as llvm

    triple = llvm.get_process_triple()
    flags = llvm.get_host_cpu_features()
    cpu = llvm.get_host_cpu_name()
    features = flags.flatten()
    architecture = triple.split("-")[0]
    if architecture == "x86_64":
        name = next(name for name, wanted in _X86_64 if all(flags.get(flag, False) for flag in wanted))
    elif architecture in ("aarch64", "arm64"):
        name = "aarch64-apple-darwin" if "apple" in triple else "aarch64-linux-gnu"
    else:
        return Target("host", triple, cpu, features, machine.UNKNOWN)
    return replace(TARGETS[name], name="host", triple=triple, cpu=cpu, features=features)


def runnable() -> tuple[str, ...]:
    """The names of the targets whose programs run in this process: those whose system and instructions it has."""
    import llvmlite.binding as llvm

    triple, flags = llvm.get_process_triple(), llvm.get_host_cpu_features()
    if triple.startswith("x86_64") and "linux" in triple:
        return ("host", *(name for name, wanted in _X86_64 if all(flags.get(flag, False) for flag in wanted)))
    here = host().machine
    same = (
        name
        for name, target in TARGETS.items()
        if target.machine == here and ("apple" in target.triple) == ("apple" in triple)
    )
    return ("host", *(same if triple.startswith(("aarch64", "arm64")) else ()))
