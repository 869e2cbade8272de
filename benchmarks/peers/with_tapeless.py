"""Tapeless as a user calls it: one native call runs all the steps asked for."""

from __future__ import annotations

import os
import sys

import numpy as np
from peers.serve import serve
from workloads import named

import tapeless
from tapeless.runtime.call import Call

workload = named(sys.argv[1])
program = tapeless.load(workload.source).compile(threads=int(os.environ["THREADS"]))
for name, value in workload.parameters().items():
    program.parameters[name][...] = value
data = workload.first_batch()
rows = len(data[0])
order = np.tile(np.arange(rows, dtype=np.int32), workload.steps)  # the one batch, again and again
image, memory = program.image("train"), program.memory()


def train(count: int) -> float:
    call = Call(image, "train_step", memory, program.threads, data, order=order)
    call.run(0, count * rows)
    return float(call.sums[0]) / (count * rows)


serve(train)
