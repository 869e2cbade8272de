"""NumPy by hand: the backward pass written out."""

from __future__ import annotations

import sys

import numpy as np
from peers.serve import serve
from workloads import named

workload = named(sys.argv[1])
dense = workload.dense
assert dense
parameters, (x, y) = list(workload.parameters().values()), workload.first_batch()
moments = [(np.zeros_like(p), np.zeros_like(p)) for p in parameters]
step = 0


def gradients() -> tuple[float, list[np.ndarray]]:
    kept, layers = [x], len(parameters) // 2
    for k in range(layers):
        z = kept[-1] @ parameters[2 * k] + parameters[2 * k + 1]
        last = k == layers - 1
        kept.append(z if last else np.tanh(z) if dense.activation == "tanh" else np.maximum(z, 0))
    out = kept[-1]
    if dense.loss == "squared":
        d = out - y
        loss = float(np.mean(d**2))
        d = d * np.float32(2 / d.size)
    else:
        e = np.exp(out - out.max(1, keepdims=True))
        p = e / e.sum(1, keepdims=True)
        rows = np.arange(len(x))
        loss = float(-np.mean(np.log(p[rows, y])))
        p[rows, y] -= 1
        d = p / np.float32(len(x))
    found: list[np.ndarray] = []
    for k in reversed(range(layers)):
        found = [kept[k].T @ d, d.sum(0), *found]
        if k:
            d = d @ parameters[2 * k].T
            d = d * (1 - kept[k] ** 2) if dense.activation == "tanh" else d * (kept[k] > 0)
    return loss, found


def train(count: int) -> float:
    global step
    loss = 0.0
    for _ in range(count):
        loss, found = gradients()
        step += 1
        for p, g, (m, v) in zip(parameters, found, moments, strict=True):
            if dense.optimizer == "sgd":
                p -= np.float32(dense.rate) * g
                continue
            m *= np.float32(0.9)
            m += np.float32(0.1) * g
            v *= np.float32(0.999)
            v += np.float32(0.001) * g * g
            scale = np.float32(dense.rate / (1 - 0.9**step))
            p -= scale * m / (np.sqrt(v / np.float32(1 - 0.999**step)) + np.float32(1e-8))
    return loss


serve(train)
