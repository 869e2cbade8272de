"""JAX's gradients of the models of `models/gradbench/`, jitted, in float64: `python gradients.py FILE`.

Writes the gradient beside the file and says "ok"; then a line with a count is answered with the seconds of one of so
many. Knows no Tapeless.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)
Values = dict[str, jax.Array]


def gmm(p: Values, d: Values) -> jax.Array:
    factor = jnp.tril(p["below"], -1)
    sums = p["logs"].sum(1)
    centred = d["x"][:, None] - p["means"]
    turned = jnp.exp(p["logs"]) * centred + jnp.einsum("cij,ncj->nci", factor, centred)
    inner = p["alphas"] + sums - 0.5 * (turned**2).sum(-1)
    fit = jax.scipy.special.logsumexp(inner, axis=1).mean() - jax.scipy.special.logsumexp(p["alphas"])
    prior = 0.5 * (jnp.exp(2 * p["logs"]).sum() + (factor**2).sum()) - sums.sum()
    return prior / 1000 - fit


def kmeans(p: Values, d: Values) -> jax.Array:
    x, c = d["x"], p["centres"]
    return ((x[:, None] - c) ** 2).sum(-1).min(1).mean()


def lstm(p: Values, d: Values) -> jax.Array:
    h = d["x"][0] * p["scale"]
    weights = [value for value in p.values() if value.ndim == 2]
    for w, b in zip(weights[::2], weights[1::2], strict=True):

        def cell(carry: Any, x: jax.Array, w: jax.Array = w, b: jax.Array = b) -> Any:
            state, memory = carry
            forget, outgate = jax.nn.sigmoid(x * w[0] + b[0]), jax.nn.sigmoid(x * w[2] + b[2])
            ingate, change = jax.nn.sigmoid(state * w[1] + b[1]), jnp.tanh(state * w[3] + b[3])
            memory = memory * forget + ingate * change
            state = outgate * jnp.tanh(memory)
            return (state, memory), state

        zero = jnp.zeros_like(h[0])
        _, h = jax.lax.scan(cell, (zero, zero), h)
    out = h * p["weights"] + p["shift"]
    return -(d["y"][0] * jax.nn.log_softmax(out)).sum(-1).mean()


def ba(p: Values, d: Values) -> jax.Array:
    c = p["cam"][d["camera"]]
    q = p["X"][d["point"]] - c[:, 3:6] + jnp.array([0.0, 0.0, 5.0])
    axis = c[:, :3]
    theta = jnp.sqrt((axis**2).sum(-1, keepdims=True) + 1e-12)
    w = axis / theta
    along = (w * q).sum(-1, keepdims=True) * (1 - jnp.cos(theta))
    turned = q * jnp.cos(theta) + jnp.cross(w, q) * jnp.sin(theta) + w * along
    flat = turned[:, :2] / turned[:, 2:]
    r = (flat**2).sum(-1, keepdims=True)
    shown = flat * (1 + c[:, 9:10] * r + c[:, 10:] * r**2) * p["focus"][d["camera"]][:, None] + c[:, 7:9]
    return ((shown - d["seen"]) ** 2).sum(-1).mean()


def ode(p: Values, d: Values) -> jax.Array:
    def speed(x: jax.Array) -> jax.Array:
        return jnp.concatenate([1.2 * x[:1], x[:-1] - 1.2 * x[1:]])

    def step(x: jax.Array, _: None) -> tuple[jax.Array, None]:
        h = 0.01
        k1 = speed(x)
        k2 = speed(x + h / 2 * k1)
        k3 = speed(x + h / 2 * k2)
        k4 = speed(x + h * k3)
        return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), None

    return jax.lax.scan(step, p["start"], None, length=100)[0][-1]


def llsq(p: Values, d: Values) -> jax.Array:
    t = d["t"]
    fitted = jnp.vander(t, len(p["c"]), increasing=True) @ p["c"]
    return 0.5 * ((jnp.sign(t) - fitted) ** 2).mean()


def scan(p: Values, d: Values) -> jax.Array:
    w, b = p.values()

    def cell(h: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        h = jnp.tanh(x + h @ w + b)
        return h, h

    return (jax.lax.scan(cell, jnp.zeros_like(b), d["x"][0])[1] ** 2).mean()


LOSSES = {"gmm": gmm, "kmeans": kmeans, "lstm": lstm, "ba": ba, "ode": ode, "llsq": llsq, "scan": scan}


def main() -> None:
    path = Path(sys.argv[1])
    with np.load(path) as held:
        facts = json.loads(str(held["facts"]))
        parameters = [jnp.asarray(held[f"p{k}"]) for k in range(len(facts["parameters"]))]
        data = {name: jnp.asarray(held[f"d{k}"]) for k, name in enumerate(facts["data"])}
    names, loss = facts["parameters"], LOSSES[facts["model"]]
    gradient = jax.jit(jax.grad(lambda values, given: loss(dict(zip(names, values, strict=True)), given)))
    found = gradient(parameters, data)
    np.savez(path.with_suffix(".out.npz"), **{f"g{k}": np.asarray(one) for k, one in enumerate(found)})
    print("ok", flush=True)
    for line in sys.stdin:
        begun = time.perf_counter()
        for _ in range(int(line)):
            jax.block_until_ready(gradient(parameters, data))
        print((time.perf_counter() - begun) / int(line), flush=True)


if __name__ == "__main__":
    main()
