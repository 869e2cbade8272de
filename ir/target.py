"""What the compiler knows about a machine it makes code for.

A target is a plain value: LLVM's triple, CPU and feature string, and the few facts that shape the code (how wide
a vector register is, how many there are, whether a fused multiply-add is one instruction). Nothing here knows how
code is made; `host` asks llvmlite which machine this is, and only then imports it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["TARGETS", "Target", "host", "named"]


@dataclass(frozen=True)
class Target:
    """One kind of machine.

    `vector_bytes` is the width of the vectors that code is written in; 0 means scalars only.
    `registers` counts the vector registers.
    `fma` says that a fused multiply-add is one instruction; without it, a product and a sum are rounded apart.
    `cache_bytes` is the size of the last cache where stores can go past it: worth it for what is larger. 0: never.
    """

    name: str
    triple: str
    cpu: str
    features: str
    vector_bytes: int
    registers: int
    fma: bool
    cache_bytes: int = 0

    def lanes(self, element_bytes: int) -> int:
        """How many elements of the given size one vector holds (1 where there are no vectors)."""
        return max(1, self.vector_bytes // element_bytes)

    @property
    def pointer_bytes(self) -> int:
        """The size of an address."""
        return 4 if self.triple.startswith(("wasm32", "thumb", "arm-", "armv7", "riscv32", "i686")) else 8

    @property
    def avx512(self) -> bool:
        return self.vector_bytes == 64 and self.triple.startswith("x86_64")


_LINUX = "x86_64-unknown-linux-gnu"

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("x86-64-v4", _LINUX, "x86-64-v4", "", 64, 32, fma=True, cache_bytes=1 << 25),
        Target("x86-64-v3", _LINUX, "x86-64-v3", "", 32, 16, fma=True, cache_bytes=1 << 25),
        Target("x86-64", _LINUX, "x86-64", "", 16, 16, fma=False),
        Target("aarch64-linux-gnu", "aarch64-unknown-linux-gnu", "generic", "+neon", 16, 32, fma=True),
        Target("aarch64-apple-darwin", "arm64-apple-macosx", "apple-m1", "", 16, 32, fma=True),
        Target("wasm32", "wasm32-unknown-unknown", "generic", "+simd128", 16, 16, fma=False),
        Target(
            "riscv64-linux-gnu",
            "riscv64-unknown-linux-gnu",
            "generic-rv64",
            "+m,+a,+f,+d,+c",
            0,
            32,
            fma=True,
        ),
        Target("cortex-m7", "thumbv7em-none-eabihf", "cortex-m7", "", 0, 16, fma=True),
    )
}
"""The machines known by name. A name is what `--target` takes."""


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
    machine = triple.split("-")[0]
    if machine == "x86_64":
        # Widest first: the row of the table whose instructions this CPU has gives the facts.
        needs = (
            ("x86-64-v4", ("avx512f", "avx512dq", "avx512bw", "avx512vl")),
            ("x86-64-v3", ("avx2", "fma")),
            ("x86-64", ()),
        )
        name = next(name for name, wanted in needs if all(flags.get(flag, False) for flag in wanted))
    elif machine in ("aarch64", "arm64"):
        name = "aarch64-apple-darwin" if "apple" in triple else "aarch64-linux-gnu"
    else:
        return Target("host", triple, cpu, features, 0, 32, fma=False)
    return replace(TARGETS[name], name="host", triple=triple, cpu=cpu, features=features)
