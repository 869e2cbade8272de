"""JAX: the whole step jitted, and all the steps asked for in one `lax.scan`, its fastest form on a CPU."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from peers.serve import serve
from workloads import named

workload = named(sys.argv[1])
dense = workload.dense
assert dense
x, y = (jnp.asarray(array) for array in workload.first_batch())
parameters = [jnp.asarray(p) for p in workload.parameters().values()]
state: Any = (parameters, [jnp.zeros_like(p) for p in parameters], [jnp.zeros_like(p) for p in parameters], 0)
layers = len(parameters) // 2


def loss_of(ps: list[jax.Array]) -> jax.Array:
    h = x
    for k in range(layers):
        h = h @ ps[2 * k] + ps[2 * k + 1]
        if k < layers - 1:
            h = jnp.tanh(h) if dense.activation == "tanh" else jax.nn.relu(h)
    if dense.loss == "squared":
        return jnp.mean((h - y) ** 2)
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(h), y[:, None], 1))


def one(carry: Any, _: None) -> tuple[Any, jax.Array]:
    ps, ms, vs, step = carry
    loss, gs = jax.value_and_grad(loss_of)(ps)
    step = step + 1
    if dense.optimizer == "sgd":
        return ([p - dense.rate * g for p, g in zip(ps, gs, strict=True)], ms, vs, step), loss
    ms = [0.9 * m + 0.1 * g for m, g in zip(ms, gs, strict=True)]
    vs = [0.999 * v + 0.001 * g * g for v, g in zip(vs, gs, strict=True)]
    a, b = 1 - 0.9**step, 1 - 0.999**step
    ps = [p - dense.rate * (m / a) / (jnp.sqrt(v / b) + 1e-8) for p, m, v in zip(ps, ms, vs, strict=True)]
    return (ps, ms, vs, step), loss


@partial(jax.jit, static_argnums=1, donate_argnums=0)
def many(carry: Any, count: int) -> tuple[Any, jax.Array]:
    carry, losses = jax.lax.scan(one, carry, None, length=count)
    return carry, losses[-1]


def train(count: int) -> float:
    global state
    state, loss = many(state, count)
    return float(loss)


serve(train)
