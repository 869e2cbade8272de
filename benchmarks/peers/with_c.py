"""C by hand, for the workloads that have a file here: gcc's vectors and vector mathematics, the loop over steps
inside.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
import tempfile
from pathlib import Path

from peers.serve import serve
from workloads import named

workload = named(sys.argv[1])
dense = workload.dense
assert dense
FLAGS = ("-O3", "-march=native", "-ffast-math", "-shared", "-fPIC")
with tempfile.TemporaryDirectory() as folder:
    source, library = Path(__file__).parent / f"{workload.name}.c", Path(folder) / "step.so"
    subprocess.run(["gcc", *FLAGS, "-o", str(library), str(source), "-lm"], check=True)
    entry = ctypes.CDLL(str(library)).train
arrays = [*workload.parameters().values(), *workload.first_batch()]
pointers = [ctypes.c_void_p(array.ctypes.data) for array in arrays]
loss = ctypes.c_float()


def train(count: int) -> float:
    entry(*pointers, ctypes.c_float(dense.rate), ctypes.c_long(count), ctypes.byref(loss))
    return loss.value


serve(train)
