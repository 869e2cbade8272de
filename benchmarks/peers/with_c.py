"""C by hand, for the workloads that have a file here: gcc's vectors and vector mathematics, the loop over steps
inside, and threads where the file says so.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import serve

workload, _, _ = serve.given()
FLAGS = ("-O3", "-march=native", "-ffast-math", "-fopenmp", "-shared", "-fPIC")
with tempfile.TemporaryDirectory() as folder:
    source, library = Path(__file__).parent / f"{workload.name}.c", Path(folder) / "step.so"
    subprocess.run(["gcc", *FLAGS, "-o", str(library), str(source), "-lm"], check=True)
    entry = ctypes.CDLL(str(library)).train
parameters = [ctypes.c_void_p(array.ctypes.data) for array in workload.parameters]
loss = ctypes.c_float()
rate, threads = ctypes.c_float(workload.rate), ctypes.c_int(int(os.environ["THREADS"]))
rng = np.random.default_rng(2)
straight = np.arange(len(workload.data[0]), dtype=np.int32)


def call(arrays: list[np.ndarray], count: int) -> float:
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in arrays]
    entry(*parameters, *pointers, rate, ctypes.c_long(count), threads, ctypes.byref(loss))
    return loss.value


def first(step: int) -> float:
    if workload.epochs:
        begin = step * workload.batch
        return call([*workload.data, straight[begin : begin + workload.batch]], 1)
    return call(workload.first(0), 1)


def many(count: int) -> None:
    if not workload.epochs:
        call(workload.first(0), count)
        return
    for _ in range(count // workload.batches):
        order = rng.permutation(straight)
        call([*workload.data, order], workload.batches)


serve.train(first, many)
