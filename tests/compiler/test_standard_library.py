"""Every function and layer of the standard library, differentiated once and twice, against central differences in
float64.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from tapeless.compiler.elaborate.modules import standard, standard_names
from tapeless.compiler.model import load
from tapeless.ir.interpreter import run
from tapeless.ir.types import DType
from tapeless.standard import definitions

from .derivatives import DIRECTION, declared, derived

ROWS = 3
# The tensors that expressions may name: shape, and the range of their elements.
TENSORS: dict[str, tuple[tuple[int | str, ...], float, float]] = {
    "x": (("batch", 4), -2, 2),
    "y": (("batch", 4), -2, 2),
    "p": (("batch", 4), 0.1, 0.9),
    "q": (("batch", 4), 0.1, 0.9),
    "s": (("batch", 4), -1, 1),
    "v": (("batch",), -2, 2),
    "w": (("batch",), 0.5, 2),
    "image": (("batch", 6, 4, 2), -2, 2),
    "A": ((4, 4), -1, 1),
    "B": ((4, 2), -1, 1),
    "u": ((4,), 0.5, 2),
}
POSITIVE = "A @ transpose(A) + eye(4)"

# What is to be differentiated: each line is a program of its own.
PROGRAMS = f"""
identity(x)
relu(x) * relu6(3 * x)
leaky_relu(x) + leaky_relu(y, 0.3)
threshold(x, 0.2, 5) * x
elu(x) + celu(y, 0.5) + selu(x)
gelu(x) + gelu(y, approximate = 'tanh')
gelu_tanh(x)
silu(x) + swish(y) + mish(x)
squareplus(x) * softsign(y)
log_sigmoid(x) + tanh_shrink(y) + hard_shrink(x) + soft_shrink(x, 0.3)
hard_sigmoid(2 * x) + hard_swish(2 * y) + hard_tanh(x, -0.5, 1.5)
sparse_plus(x) + sparse_sigmoid(y)
softmax(x) * log_softmax(y) + softmin(x)
softmax(image, axis = 1)
sparsemax(x) ** 2
glu(x) + glu(x, act = tanh)
normalise(x) + normalise(y, p = 1)
log10(p) + exp10(q) + arcsinh(x) + arccosh(1 + p) + arctanh(q)
sinc(x) + digamma(p) + xlogy(p, q) + frac(x) * x + fmod(x, y)
hypot(x, y) + logaddexp(x, y) + lerp(x, y, p) + copysign(x, y) + heaviside(x, 0.5) * y
where(isnan(x) or isinf(y) or not isfinite(x), 0, nan_to_num(x) ** 2)
std(x, axis = 1) + std(y, axis = 1, ddof = 1)
where(any(x > 1, axis = 1), count_nonzero(y, axis = 1) * v, where(all(x > 0, axis = 1), v, v ** 2))
norm(x, axis = 1) + norm(y, 1, axis = 1) + norm(x, inf, axis = 1) + norm(y, 3, axis = 1)
roll(x, 1) * roll(x, -2) + logcumsumexp(y)
tril(A) @ triu(A, 1) + tril(A, -1)
diagonal(A) * trace(A)
diag(x) @ A
outer(x, y) * A
cross(x[:, 1:], y[:, :3])
eye(4) * A
solve_spd({POSITIVE}, B)
logdet_spd({POSITIVE})
dropout(x, 0.3) + alpha_dropout(y, 0.3) + gaussian_dropout(x, 0.2) + gaussian_noise(y) + rrelu(x)
spatial_dropout(image, 0.4) + drop_path(image)
BatchNorm(image) + LayerNorm(image) + RMSNorm(image)
BatchNorm(x) * LayerNorm(y, affine = false) * RMSNorm(y, affine = false)
GroupNorm(image, 3) * InstanceNorm(image)
GroupNorm(x, 2, affine = false) + InstanceNorm(image, affine = false)[:, :4, 0, 0]
local_response_norm(image, 3) + local_response_norm(image, 4, 0.5, 0.6, 2)
Dense(x, 3, tanh)
Bilinear(x, y, 3)
PReLU(x)
Conv(image, 4, [3, 2], padding = 1, groups = 2) + ConvTranspose(image[:, :, :3], 4, [3, 2], padding = [0, 0])[:, :, :4]
DepthwiseConv(image, 2) * 2
max_pool(image) + avg_pool(image) + adaptive_avg_pool(image, [2, 1]) * adaptive_max_pool(image, [2, 1])
global_max_pool(image) * global_avg_pool(image)
resize_nearest(image, [5, 3]) * resize_bilinear(image, [5, 3])
Embedding(k, 4, 3) * LearnedPositions(outer(x, y))[:, 1:, 1]
TransformerBlock(image[..., 0], 2, causal = true, kv_heads = 1, rotated = true, rate = 0.1)
MultiHeadAttention(sinusoidal(6, 4) * image[..., 0], 2, lengths = k + 1)
RNN(image[..., 0], 3) * GRU(image[..., 1], 3, reverse = true)
Bidirectional(image[..., 0], 2, cell = LSTM, lengths = k + 1, last = true)
mean_squared_error(x, y) + mean_absolute_error(x, y) + mean_squared_logarithmic_error(p, q)
mean_absolute_percentage_error(x, y)
huber(x, y, 0.7) + smooth_l1(x, y, 0.5) + smooth_l1(y, x, 0) + log_cosh(x, y)
poisson_nll(x, 3 * p) + poisson_nll(p, 3 * q, false, true) + gaussian_nll(x, y, p, true)
cross_entropy(x, k) + cross_entropy(x, softmax(y))
cross_entropy(y, k, u, 1, 0.1) + cross_entropy(x, k, label_smoothing = 0.2)
negative_log_likelihood(log_softmax(x), k) + negative_log_likelihood(log_softmax(y), k, u, 2)
binary_cross_entropy(x, p, q) + binary_cross_entropy(x, q, 1, u) + binary_cross_entropy(p, q, from_logits = false)
binary_focal(x, p) + categorical_focal(y, q)
kl_divergence(x, q) + kl_divergence(y, p, from_logits = false)
hinge(x, sign(y)) + squared_hinge(y, sign(x)) + soft_margin(x, y)
categorical_hinge(x, one_hot(k, 4)) + multi_margin(x, k) + multi_margin(y, k, 2, 0.7, u)
multilabel_soft_margin(x, p, u) + multilabel_margin(x, heaviside(y, 0))
dice(p, q) + tversky(q, p, 0.3, 0.7)
cosine_similarity(x, y) + pairwise_distance(x, y) + pairwise_distance(x, y, 1)
cosine_embedding(x, y, v, 0.1) + hinge_embedding(w, v) + margin_ranking(v, w, sign(v), 0.1)
triplet_margin(x, y, p) + triplet_margin(x, p, y, 2, swap = true)
sort(x) * sort(y, descending = true) + x * stop_gradient(argsort(y))
topk(x, 2)[0] * take_along_axis(y, argsort(x)[:, :2])
cholesky({POSITIVE}) + solve_triangular(tril(A) + 3 * eye(4), A, transposed = true)
arctan2(x, y) + lgamma(p) + polygamma(1, q) + hypot(x, y)
erfcx(x) + erfinv(tanh(x) / 2) + ndtri(sigmoid(y)) + i0(x) + i1(y)
norm(x, 3, axis = 1) + norm(x, 0.5, axis = 1) + norm(x, -2, axis = 1)
norm(x, -inf, axis = 1) + euclidean_norm(y) + std(x, ddof = 1)
l1() + 0.5 * l2('A') + sum(A * A[::-1])
"""
LINES = PROGRAMS.strip().splitlines()
# What has no derivative to check: starting values and schedules, which other tests run.
ELSEWHERE = {"initialisers.tl", "schedules.tl", "recurrent.tl"}


def program(expression: str) -> tuple[str, list[str]]:
    """The text of a program whose loss holds an expression, and the tensors that it names."""
    named = [name for name in TENSORS if re.search(rf"(?<![\w.]){name}\b(?!\s*=[^=])", expression)]
    lines = "".join(declared(name, TENSORS[name][0]) for name in [*named] or ["x"])
    return f"model M:\n{lines}{declared('k', ['batch'], 4)}    loss sum({expression})\n", named


@pytest.mark.parametrize("expression", LINES)
def test_derivatives_agree_with_central_differences(expression: str) -> None:
    text, named = program(expression)
    rng = np.random.default_rng(3)
    graph = derived(text, [*named, *_parameters(text)], DType.F64)
    inputs: dict[str, Any] = {}
    for port in graph.inputs:
        shape, name = port.value.type.at(ROWS), port.label.removeprefix(DIRECTION)
        low, high = TENSORS[name][1:] if name in TENSORS and name == port.label else (0.5, 1.5)
        inputs[port.key] = (
            rng.uniform(low, high, shape) if port.value.type.dtype.is_float else rng.integers(0, 4, shape)
        )
    found = run(graph, inputs, rows=ROWS)
    moved = [name for name in found if not name.startswith("second_")]
    directions = {name: inputs[DIRECTION + name] for name in moved}

    def at(step: float) -> dict[str, Any]:
        return run(graph, inputs | {name: inputs[name] + step * directions[name] for name in moved}, rows=ROWS)

    step = 1e-5
    ahead, behind = at(step), at(-step)
    for name in moved:
        # The gradient's change along the directions is the Hessian times them, which is what `second` holds.
        slope = (ahead[name] - behind[name]) / (2 * step)
        np.testing.assert_allclose(
            found[f"second_{name}"], slope, rtol=2e-5, atol=2e-6 * max(1, np.abs(slope).max()), err_msg=name
        )
    forward = derived(text, named, DType.F64, second=False)
    assert forward.outputs
    value = _loss(text)
    difference = (value(inputs, directions, step) - value(inputs, directions, -step)) / (2 * step)
    assert sum(float(np.sum(found[name] * directions[name])) for name in moved) == pytest.approx(
        difference, rel=1e-6, abs=1e-7
    )


def _parameters(text: str) -> list[str]:
    return [slot.name for slot in load(text, dtype=DType.F64).slots if slot.role == "param"]


def _loss(text: str) -> Any:
    graph = load(text, dtype=DType.F64).forward[True]

    def value(inputs: dict[str, Any], directions: dict[str, Any], step: float) -> float:
        moved = {
            port.key: inputs[port.key] if port.key in inputs else np.zeros(port.value.type.at(ROWS))
            for port in graph.inputs
        }
        moved |= {name: inputs[name] + step * direction for name, direction in directions.items()}
        return float(run(graph, moved, rows=ROWS)["loss"])

    return value


def test_every_function_and_layer_is_there() -> None:
    """The lines above reach all that the standard library defines, but for optimizers, starting values and
    schedules.
    """
    pending, reached, texts = re.findall(r"\w+", PROGRAMS), set[str](), definitions()
    while pending:
        name = pending.pop()
        if name in texts and name not in reached:
            reached.add(name)
            pending += re.findall(r"\w+", texts[name][1])
    missing = []
    for name, file in standard_names().items():
        defined = standard(name)
        assert defined is not None
        if (
            defined.definition.kind != "optimizer"
            and name != "with_noise"
            and file not in ELSEWHERE
            and name not in reached
        ):
            missing.append(name)
    assert not missing
