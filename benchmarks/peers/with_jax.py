"""JAX, the whole step jitted with its state donated: `jit`, one call a step, and `scan`, all steps in one
`lax.scan`.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import serve

workload, variant, rows = serve.given()
parameters = [jnp.asarray(array) for array in workload.parameters]
squared = workload.name in ("tiny_mlp", "elementwise")


def dense(ps: list[jax.Array], x: jax.Array) -> jax.Array:
    activation = jnp.tanh if workload.name == "tiny_mlp" else jax.nn.relu
    for k in range(0, len(ps) - 2, 2):
        x = activation(x @ ps[k] + ps[k + 1])
    return x @ ps[-2] + ps[-1]


def convolved(x: jax.Array, weight: jax.Array, bias: jax.Array) -> jax.Array:
    made = jax.lax.conv_general_dilated(x, weight, (1, 1), "SAME", dimension_numbers=("NHWC", "OIHW", "NHWC"))
    return jax.nn.relu(made + bias)


def pooled(x: jax.Array) -> jax.Array:
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def cnn(ps: list[jax.Array], x: jax.Array) -> jax.Array:
    h = convolved(jnp.transpose(x, (0, 2, 3, 1)), *ps[0:2])
    h = pooled(convolved(h, *ps[2:4]))
    h = pooled(convolved(h, *ps[4:6]))
    return dense(ps[6:], jnp.transpose(h, (0, 3, 1, 2)).reshape(len(x), -1))


def lstm(ps: list[jax.Array], x: jax.Array) -> jax.Array:
    table, wx, wh, bias, *out = ps
    inputs = jnp.swapaxes(table[x] @ wx + bias, 0, 1)

    def cell(carry: Any, given: jax.Array) -> Any:
        h, c = carry
        i, f, g, o = jnp.split(given + h @ wh, 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zero = jnp.zeros((len(x), wh.shape[0]), wx.dtype)
    _, h = jax.lax.scan(cell, (zero, zero), inputs)
    return jnp.swapaxes(h, 0, 1) @ out[0] + out[1]


def normed(x: jax.Array, scale: jax.Array, shift: jax.Array) -> jax.Array:
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * scale + shift


def block(ps: list[jax.Array], x: jax.Array, heads: int = 4) -> jax.Array:
    batch, places, width = x.shape
    h = normed(x, *ps[0:2])
    q, k, v = ((h @ ps[n] + ps[n + 1]).reshape(batch, places, heads, -1) for n in (2, 4, 6))
    found = jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(batch, places, width)
    x = x + found @ ps[8] + ps[9]
    h = jax.nn.gelu(normed(x, *ps[10:12]) @ ps[12] + ps[13], approximate=True)
    return x + h @ ps[14] + ps[15]


def gpt(ps: list[jax.Array], x: jax.Array) -> jax.Array:
    h = ps[0][x] + ps[1]
    for k in range(4):
        h = block(ps[2 + 16 * k : 18 + 16 * k], h)
    return normed(h, *ps[-4:-2]) @ ps[-2] + ps[-1]


def normal(x: jax.Array) -> jax.Array:
    return 0.5 * (1 + jax.lax.erf(x / math.sqrt(2)))


def volatilities(ps: list[jax.Array], strike: jax.Array, years: jax.Array) -> jax.Array:
    spread = ps[0] * jnp.sqrt(years)
    d = (0.02 * years - jnp.log(strike)) / spread + 0.5 * spread
    return normal(d) - strike * jnp.exp(-0.02 * years) * normal(d - spread)


NETWORKS = {"cnn": cnn, "lstm": lstm, "gpt": gpt, "elementwise": volatilities}
network: Any = NETWORKS.get(workload.name, dense)


def loss_of(ps: list[jax.Array], batch: list[jax.Array]) -> jax.Array:
    *inputs, target = batch
    out = network(ps, *inputs)
    if squared:
        return jnp.mean((out - target) ** 2)
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(out), target[..., None], -1))


def one(carry: Any, batch: list[jax.Array]) -> tuple[Any, jax.Array]:
    ps, ms, vs, step = carry
    loss, gs = jax.value_and_grad(loss_of)(ps, batch)
    step = step + 1
    if workload.kind == "sgd":
        if workload.momentum:
            ms = [workload.momentum * m + g for m, g in zip(ms, gs, strict=True)]
        moved = ms if workload.momentum else gs
        return ([p - workload.rate * g for p, g in zip(ps, moved, strict=True)], ms, vs, step), loss
    ms = [0.9 * m + 0.1 * g for m, g in zip(ms, gs, strict=True)]
    vs = [0.999 * v + 0.001 * g * g for v, g in zip(vs, gs, strict=True)]
    a, b = 1 - 0.9**step, 1 - 0.999**step
    ps = [
        p * (1 - workload.rate * workload.decay) - workload.rate * (m / a) / (jnp.sqrt(v / b) + 1e-8)
        for p, m, v in zip(ps, ms, vs, strict=True)
    ]
    return (ps, ms, vs, step), loss


single = jax.jit(one, donate_argnums=0)


@partial(jax.jit, static_argnums=2, donate_argnums=0)
def many_steps(carry: Any, batch: list[jax.Array], count: int) -> Any:
    return jax.lax.scan(lambda c, _: one(c, batch), carry, None, length=count)[0]


@partial(jax.jit, donate_argnums=0)
def epoch(carry: Any, whole: list[jax.Array], key: jax.Array) -> Any:
    order = jax.random.permutation(key, len(whole[0]))[: workload.batches * workload.batch]
    return jax.lax.scan(
        lambda c, chosen: one(c, [array[chosen] for array in whole]), carry, order.reshape(-1, workload.batch)
    )[0]


def training() -> None:
    state: Any = (parameters, *([jnp.zeros_like(p) for p in parameters] for _ in range(2)), 0)
    whole = [jnp.asarray(array) for array in workload.data]
    batch = [jnp.asarray(array) for array in workload.first(0)]
    rng = np.random.default_rng(2)

    def first(step: int) -> float:
        nonlocal state
        state, loss = single(state, [jnp.asarray(array) for array in workload.first(step)])
        return float(loss)

    def many(count: int) -> None:
        nonlocal state
        if workload.epochs:
            for _ in range(count // workload.batches):
                if variant == "scan":
                    state = epoch(state, whole, jax.random.key(int(rng.integers(1 << 30))))
                else:
                    for chosen in workload.shuffled(rng):
                        state, _ = single(state, [array[chosen] for array in workload.data])
        elif variant == "scan":
            state = many_steps(state, batch, count)
        else:
            for _ in range(count):
                state, _ = single(state, batch)
        jax.block_until_ready(state)

    serve.train(first, many)


def predicting() -> None:
    inputs = [jnp.asarray(array) for array in workload.rows(rows)[:-1]]
    call = jax.jit(network)
    serve.predict(lambda: np.asarray(call(parameters, *inputs)))


predicting() if rows else training()
