"""What peers are given so that a comparison is fair: an interpreter that has them, and the environment that they run
fastest in.

glibc's malloc keeps large blocks instead of returning them to the kernel at each step; OpenBLAS and MKL take the
kernels of the processor's widest vectors, also where it is not Intel's.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

TUNED = {
    "MALLOC_MMAP_THRESHOLD_": "1000000000",
    "MALLOC_TRIM_THRESHOLD_": "2000000000",
    "MALLOC_TOP_PAD_": "200000000",
    "MALLOC_ARENA_MAX": "1",
}
CPU = Path("/proc/cpuinfo")


def _cpu_text() -> str:
    try:
        return CPU.read_text("utf-8")
    except OSError:
        return ""


def processor() -> str:
    """The processor's name."""
    lines = [line.partition(":")[2].strip() for line in _cpu_text().splitlines() if line.startswith("model name")]
    return lines[0] if lines else platform.processor() or platform.machine()


@lru_cache(maxsize=1)
def _as_intel() -> str | None:
    """A library that tells MKL that the processor is Intel's, where it is AMD's and there is a compiler: MKL keeps its
    AVX-512 code from others."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if "AuthenticAMD" not in _cpu_text() or compiler is None:
        return None
    folder = Path(tempfile.mkdtemp(prefix="tapeless-peers-"))
    source, library = folder / "intel.c", folder / "intel.so"
    source.write_text("int mkl_serv_intel_cpu_true(void) { return 1; }\n")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return str(library)


def environment(threads: int, tuned: bool = True) -> dict[str, str]:
    """The environment of a peer's process."""
    made = dict(os.environ) | {name: str(threads) for name in ("THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    made["MKL_NUM_THREADS"] = str(threads)
    flags = [made.get("XLA_FLAGS", "")]
    if threads == 1:
        flags.append("--xla_cpu_multi_thread_eigen=false")
    made["XLA_FLAGS"] = " ".join(flags).strip()
    if not tuned:
        return made
    made |= TUNED
    if "avx512f" in _cpu_text():
        made["OPENBLAS_CORETYPE"] = "SkylakeX"
    shim = _as_intel()
    if shim:
        made["LD_PRELOAD"] = ":".join(filter(None, (made.get("LD_PRELOAD"), shim)))
    return made


@lru_cache(maxsize=32)
def has(python: str, module: str) -> bool:
    """Whether an interpreter can import a module."""
    found = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([python, "-c", found], check=False).returncode == 0
