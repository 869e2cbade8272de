"""Tapeless as a user calls it: one native call runs all the steps asked for."""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import serve

import tapeless
from tapeless.runtime import order as orders
from tapeless.runtime.call import Call

workload, _, rows = serve.given()
with np.load(sys.argv[1]) as held:
    facts = json.loads(str(held["facts"]))
threads = int(os.environ["THREADS"]) if facts["forced"] else None
program = tapeless.load(facts["predicting" if rows else "source"]).compile(threads=threads)


def training() -> None:
    image, memory = program.image("train"), program.memory()
    for name, value in zip(facts["names"], workload.parameters, strict=True):
        program.parameters[name][...] = value
    batch, data = workload.batch, [np.ascontiguousarray(array) for array in workload.data]
    straight = np.arange(len(data[0]), dtype=np.int32)
    epoch = 0

    def call(order: np.ndarray) -> float:
        made = Call(image, "train_step", memory, program.threads, data, order=order)
        made.run(0, len(order))
        return float(made.sums[0]) / len(order)

    def first(step: int) -> float:
        begin = step * batch if workload.epochs else 0
        return call(straight[begin : begin + batch])

    def many(count: int) -> None:
        nonlocal epoch
        if not workload.epochs:
            call(again[: count * batch])
            return
        for _ in range(count // workload.batches):
            order = np.empty_like(straight)
            orders.shuffle(program, straight, order, epoch)
            epoch += 1
            call(order[: workload.batches * batch])

    again = np.tile(straight[:batch], facts["steps"])  # the one batch, again and again
    serve.train(first, many)


def predicting() -> None:
    program.memory()
    for name, value in zip(facts["names"], workload.parameters, strict=True):
        program.parameters[name][...] = value
    inputs = dict(zip(facts["inputs"], workload.rows(rows), strict=False))
    serve.predict(lambda: program.predict(inputs))


predicting() if rows else training()
