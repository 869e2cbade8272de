"""NumPy by hand: the backward pass written out."""

from __future__ import annotations

import numpy as np
import serve

workload, _, rows = serve.given()
parameters = workload.parameters
moments = [(np.zeros_like(p), np.zeros_like(p)) for p in parameters]
tanh, squared = workload.name == "tiny_mlp", workload.name == "tiny_mlp"
step = 0


def forward(x: np.ndarray) -> list[np.ndarray]:
    kept, layers = [x], len(parameters) // 2
    for k in range(layers):
        z = kept[-1] @ parameters[2 * k]
        z += parameters[2 * k + 1]
        if k < layers - 1:
            np.tanh(z, out=z) if tanh else np.maximum(z, 0, out=z)
        kept.append(z)
    return kept


def gradients(x: np.ndarray, y: np.ndarray) -> tuple[float, list[np.ndarray]]:
    layers, kept = len(parameters) // 2, forward(x)
    out = kept[-1]
    if squared:
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
            d = d * (1 - kept[k] ** 2) if tanh else d * (kept[k] > 0)
    return loss, found


def update(found: list[np.ndarray]) -> None:
    global step
    step += 1
    rate = np.float32(workload.rate)
    for p, g, (m, v) in zip(parameters, found, moments, strict=True):
        if workload.kind == "sgd":
            if workload.momentum:
                m *= np.float32(workload.momentum)
                m += g
            p -= rate * (m if workload.momentum else g)
            continue
        m *= np.float32(0.9)
        m += np.float32(0.1) * g
        v *= np.float32(0.999)
        v += np.float32(0.001) * g * g
        scale = np.float32(workload.rate / (1 - 0.9**step))
        p -= scale * m / (np.sqrt(v / np.float32(1 - 0.999**step)) + np.float32(1e-8))


def training() -> None:
    rng = np.random.default_rng(2)

    def one(batch: list[np.ndarray]) -> float:
        loss, found = gradients(*batch)
        update(found)
        return loss

    def many(count: int) -> None:
        batch = workload.first(0)
        if not workload.epochs:
            for _ in range(count):
                one(batch)
            return
        for _ in range(count // workload.batches):
            for chosen in workload.shuffled(rng):
                one([array[chosen] for array in workload.data])

    serve.train(lambda k: one(workload.first(k)), many)


def predicting() -> None:
    x = workload.rows(rows)[0]
    serve.predict(lambda: forward(x)[-1])


predicting() if rows else training()
