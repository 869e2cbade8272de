"""What programs compute, all the way: machine code against the reference interpreter, and gradients against
differences.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

import tapeless
from tapeless.compiler import entries
from tapeless.compiler.model import load
from tapeless.ir.interpreter import run
from tapeless.ir.types import DType

HEAD = """
model M:
    input  x: [batch, 6]
    target k: int[batch] < 4
    param P: [6, 4] ~ normal(0, 0.6)
    param q: [3] = 0.5
    h = x @ P
"""
BODIES = {
    "slices": (
        "loss mean((h[:, 1:] * h[:, :-1]) ** 2) + mean(h[:, ::-2] * q[:2]) + mean(tanh(h)[:, 0]) + sum(P[1:4, 2] * q)"
    ),
    "concat": "c = concat(h, tanh(h[:, 1:3]), h * 2)\nloss mean(c * c[:, ::-1]) + mean(concat(q, q[:1]) * h)",
    "stack": (
        "s = stack(h, sin(h), axis = 1)\nloss mean(s[:, 0] * s[:, 1] ** 2) + mean(stack(q[0] * h, h)[..., 1] ** 2)"
    ),
    "split": "a, b = split(h, 2)\nc, d = split(h, [1])\nloss mean(a * b) + mean(c * d)",
    "pad": "loss mean(pad(h, [[0, 0], [2, 1]], 0.5) ** 2 * arange(7)) + mean(pad(q, 1)[1:] * h)",
    "flip": "loss mean(flip(h, axis = 1) * h ** 2) + sum(flip(q) * q * arange(3))",
    "cumsum": "loss mean(cumsum(h) ** 2) + sum(cumsum(q) ** 3)",
    "prod": "loss mean(prod(h + 1.5, axis = 1)) + prod(q) + prod(P[:2, :2])",
    "prod_with_zeros": (
        "loss sum(prod(relu(h), axis = 1)) / batch + mean(prod(concat(h[:, :1], 0 * h[:, 1:2]), axis = 1) ** 2)"
    ),
    "gelu": "loss mean(gelu(h) ** 2) + mean(gelu(h, 'tanh')) + mean(erf(h) + round(h))",
    "gather": "loss mean(P[:, k] ** 2) + mean(transpose(P)[k] * x)",
    "weighted": (
        "loss cross_entropy(h, k, weight = arange(4) + 1, label_smoothing = 0.1)\nloss 0.5 * cross_entropy(h, k, "
        "ignore_index = 2) as other"
    ),
    "norms": "loss mean(BatchNorm(h) ** 3) + mean(LayerNorm(h) * h)",
    "products": (
        "s = stack(h, x[:, :4], axis = 1)\nloss mean((s @ transpose(s, [0, 2, 1])) ** 2) + mean(s @ P[:4, :2]) + "
        "mean(tanh(ones([1, 3, 2]) @ s))"
    ),
    "running": "loss mean(cumprod(h + 1.5) ** 2) + mean(cumsum(x @ P, axis = 1) * h)",
    "scalars": (
        "loss mean(arctan(h) * tan(0.3 * h)) + mean(cosh(0.2 * h) + erfc(h) + exp2(h)) + mean(log2(h ** 2 + 1) * "
        "cbrt(h + 9))"
    ),
    "kl": "loss kl_divergence(h, softmax(x[:, :4]))",
}


def program(name: str) -> str:
    return HEAD + "".join(f"    {line}\n" for line in BODIES[name].splitlines())


def data(name: str, rows: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Inputs, and labels where the program has a use for them."""
    rng = np.random.default_rng(rows)
    x, k = rng.normal(size=(rows, 6)), rng.integers(0, 4, rows).astype(np.int32)
    return x, k if re.search(r"\bk\b", BODIES[name]) else None


@pytest.mark.parametrize("name", BODIES)
def test_gradients_agree_with_central_differences(name: str) -> None:
    made = tapeless.load(program(name)).compile(dtype="float64", batch=16, seed=1)
    x, k = data(name, 9)
    start = made.vector()
    _, gradient = made.value_and_grad(start, x, k)
    for seed in range(3):
        direction, step = np.random.default_rng(seed).normal(size=start.size), 1e-6
        up, down = (made.value_and_grad(start + sign * step * direction, x, k)[0] for sign in (1, -1))
        assert gradient @ direction == pytest.approx((up - down) / (2 * step), rel=2e-6, abs=1e-8)


@pytest.mark.parametrize("dtype", (DType.F32, DType.F64), ids=str)
@pytest.mark.parametrize("name", BODIES)
def test_machine_code_agrees_with_the_interpreter(name: str, dtype: DType) -> None:
    x, k = data(name, 7)
    graph = entries.gradients(load(program(name), "model.tl", dtype=dtype))
    made = tapeless.load(program(name)).compile(dtype="float64" if dtype is DType.F64 else "float32", batch=16, seed=1)
    known = {**made.state, "x": x.astype(dtype.numpy), "k": k}
    expected = run(graph, {port.key: np.asarray(known[port.key]) for port in graph.inputs}, rows=7, precision=DType.F64)
    found = made.gradients(x, k)
    tolerance = 2e-5 if dtype is DType.F32 else 1e-11
    for port in graph.outputs:
        if port.role == "gradient":
            np.testing.assert_allclose(found[port.label], expected[port.key], rtol=tolerance, atol=tolerance)
