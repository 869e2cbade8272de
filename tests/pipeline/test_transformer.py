"""Layers of transformers: against NumPy written from the papers' formulas, and gradients against central
differences.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

import tapeless
from tapeless.compiler import entries
from tapeless.compiler.model import load
from tapeless.ir.interpreter import run
from tapeless.ir.types import DType

Arrays = dict[str, np.ndarray]


def normed(x: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    deviation = x - x.mean(-1, keepdims=True)
    return scale * deviation / np.sqrt((deviation**2).mean(-1, keepdims=True) + 1e-5) + shift


def turned(x: np.ndarray) -> np.ndarray:
    """Rotary positions as complex numbers: the pair (i, i + d / 2) times exp(1j * place / 10000 ** (2 i / d))."""
    half = x.shape[-1] // 2
    angles = np.arange(x.shape[-2])[:, None] * 10000.0 ** (-np.arange(half) / half)
    made = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angles)
    return np.concatenate([made.real, made.imag], axis=-1)


def attended(x: np.ndarray, context: np.ndarray, p: Arrays, heads: int, groups: int, causal: bool, rotated: bool,
             lengths: np.ndarray | None) -> np.ndarray:  # fmt: skip
    q, k, v = (z @ p[f"{name}.W"] + p[f"{name}.b"] for name, z in (("query", x), ("key", context), ("value", context)))
    size = x.shape[-1] // heads
    made = np.zeros_like(q)
    for h in range(heads):
        g = h // (heads // groups)
        own, shared = slice(h * size, h * size + size), slice(g * size, g * size + size)
        a, b = (turned(z) if rotated else z for z in (q[..., own], k[..., shared]))
        scores = a @ b.swapaxes(1, 2) / np.sqrt(size)
        seen = np.ones(scores.shape, bool)
        if causal:
            seen &= np.tri(*scores.shape[1:], dtype=bool)
        if lengths is not None:
            seen &= (np.arange(scores.shape[2]) < lengths[:, None])[:, None]
        weights = np.exp(scores - scores.max(-1, keepdims=True)) * seen
        made[..., own] = weights / weights.sum(-1, keepdims=True) @ v[..., shared]
    return made @ p["out.W"] + p["out.b"]


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def of(state: Arrays, prefix: str) -> Arrays:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def block(
    x: np.ndarray, p: Arrays, heads: int, groups: int, causal: bool, rotated: bool, lengths: np.ndarray | None
) -> np.ndarray:
    before = normed(x, p["norm1.scale"], p["norm1.shift"])
    x = x + attended(before, before, of(p, "attention."), heads, groups, causal, rotated, lengths)
    f = of(p, "feedforward.")
    between = normed(x, p["norm2.scale"], p["norm2.shift"])
    return x + gelu(between @ f["inner.W"] + f["inner.b"]) @ f["out.W"] + f["out.b"]


BLOCKS = (
    ("TransformerBlock(x, 2)", (2, 2, False, False, False)),
    ("TransformerBlock(x, 4, causal = true)", (4, 4, True, False, False)),
    (
        "TransformerBlock(x, 4, kv_heads = 2, causal = true, rotated = true, lengths = lengths)",
        (4, 2, True, True, True),
    ),
    ("TransformerBlock(x, 4, kv_heads = 1, lengths = lengths)", (4, 1, False, False, True)),
)


def shaken(program: tapeless.Program, seed: int) -> np.ndarray:
    """Parameters away from their starting values, where scales are 1 and shifts are 0."""
    return program.vector() + 0.3 * np.random.default_rng(seed).normal(size=program.vector().size)


def differences_agree(program: tapeless.Program, start: np.ndarray, data: Arrays) -> None:
    _, gradient = program.value_and_grad(start, data)
    for seed in range(2):
        direction, step = np.random.default_rng(seed).normal(size=start.size), 1e-6
        up, down = (program.value_and_grad(start + sign * step * direction, data)[0] for sign in (1, -1))
        assert gradient @ direction == pytest.approx((up - down) / (2 * step), rel=3e-6, abs=1e-8)


SIZED = [pytest.param(call, meaning, t, id=f"{call}-{t}", marks=() if (k, t) in ((1, 1), (2, 17)) else pytest.mark.slow)
         for k, (call, meaning) in enumerate(BLOCKS) for t in (1, 7, 17)]  # fmt: skip


@pytest.mark.parametrize(("call", "meaning", "t"), SIZED)
def test_block(call: str, meaning: tuple[int, int, bool, bool, bool], t: int) -> None:
    heads, groups, causal, rotated, padded = meaning
    lines = [
        f"input x: [batch, {t}, 8]",
        *(["input lengths: int[batch]"] if padded else []),
        f"output y = {call}",
        "loss mean(sin(y))",
    ]
    program = tapeless.load("model M:\n" + "".join(f"    {line}\n" for line in lines)).compile(dtype="float64", batch=4)
    start = shaken(program, t)
    rng = np.random.default_rng(t)
    data = {"x": rng.normal(size=(3, t, 8))}
    if padded:
        data["lengths"] = rng.integers(1, t + 1, 3).astype(np.int32)
    differences_agree(program, start, data)
    program.set_vector(start)
    expected = block(data["x"], of(dict(program.parameters), "y."), heads, groups, causal, rotated, data.get("lengths"))
    np.testing.assert_allclose(program.predict(data), expected, rtol=1e-10, atol=1e-12)


def test_cross_attention() -> None:
    text = """
model M:
    input x: [batch, 3, 8]
    input context: [batch, 7, 5]
    input lengths: int[batch]
    output y = MultiHeadAttention(x, 2, context, lengths = lengths)
    loss mean(sin(y))
"""
    program = tapeless.load(text).compile(dtype="float64", batch=4)
    start = shaken(program, 1)
    rng = np.random.default_rng(1)
    data = {
        "x": rng.normal(size=(3, 3, 8)),
        "context": rng.normal(size=(3, 7, 5)),
        "lengths": np.array([1, 7, 4], np.int32),
    }
    differences_agree(program, start, data)
    program.set_vector(start)
    expected = attended(
        data["x"], data["context"], of(dict(program.parameters), "y."), 2, 2, False, False, data["lengths"]
    )
    np.testing.assert_allclose(program.predict(data), expected, rtol=1e-10, atol=1e-12)


POSITIONS = """
model M:
    input x: [batch, 7, 6]
    r = rotary(x)
    late = rotary(x[:, 2:5], start = 2)
    h = LearnedPositions(x, longest = 9)
    output y = concat(r, sinusoidal(7, 6) + 0 * x, h)
    output z = late
    loss mean(y ** 3)
"""


def test_positions() -> None:
    program = tapeless.load(POSITIONS).compile(dtype="float64", batch=4)
    x = np.random.default_rng(0).normal(size=(3, 7, 6))
    made = program.predict(x)
    angles = np.arange(7)[:, None] / 10000.0 ** (np.arange(0, 6, 2) / 6)
    waves = np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(7, 6)
    expected = np.concatenate([turned(x), np.broadcast_to(waves, x.shape), x + program.parameters["h.W"][:7]], axis=-1)
    np.testing.assert_allclose(made["y"], expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(made["z"], turned(x)[:, 2:5], rtol=1e-12, atol=1e-13)
    differences_agree(program, shaken(program, 1), {"x": x})
    assert program.gradients(x)["h.W"][7:].max() == 0


LANGUAGE_MODEL = """
model M(vocabulary = 11):
    input  tokens: int[batch, t] < vocabulary
    target next: int[batch, t] < vocabulary
    h = Embedding(tokens, vocabulary, 8)
    h = LearnedPositions(h)
    h = TransformerBlock(h, 2, causal = true)
    logits = Dense(LayerNorm(h), vocabulary)
    output probs = softmax(logits)
    loss cross_entropy(logits, next)
"""


@pytest.mark.parametrize("t", (pytest.param(1, marks=pytest.mark.slow), 7))
def test_language_model(t: int) -> None:
    """Tokens occur again and again: the gradient of their row is the sum over all places."""
    program = tapeless.load(LANGUAGE_MODEL, t=t).compile(dtype="float64", batch=4)
    start = shaken(program, t)
    rng = np.random.default_rng(t)
    data = {name: rng.integers(0, 4, (3, t)).astype(np.int32) for name in ("tokens", "next")}
    differences_agree(program, start, data)
    program.set_vector(start)
    probs = program.predict(data["tokens"])
    picked = np.take_along_axis(probs, data["next"][..., None], axis=-1)
    assert program.evaluate(data["tokens"], data["next"])["loss"] == pytest.approx(-np.log(picked).mean(), rel=1e-10)
    moved = program.gradients(data["tokens"], data["next"])["h.W"].any(axis=1)
    np.testing.assert_array_equal(moved, np.isin(np.arange(11), data["tokens"]))


@pytest.mark.parametrize("dtype", (DType.F32, DType.F64), ids=str)
def test_machine_code_agrees_with_the_interpreter(dtype: DType) -> None:
    text = LANGUAGE_MODEL.replace("causal = true", "causal = true, rotated = true, kv_heads = 1")
    rng = np.random.default_rng(3)
    data = {name: rng.integers(0, 11, (5, 17)).astype(np.int32) for name in ("tokens", "next")}
    graph = load(text, "model.tl", sizes={"t": 17}, dtype=dtype)
    gradients = entries.gradients(graph)
    made = tapeless.load(text, t=17).compile(dtype="float64" if dtype is DType.F64 else "float32", batch=8, seed=1)
    known = {**made.state, **data}
    expected = run(
        gradients, {port.key: np.asarray(known[port.key]) for port in gradients.inputs}, rows=5, precision=DType.F64
    )
    found = made.gradients(data["tokens"], data["next"])
    tolerance = 2e-5 if dtype is DType.F32 else 1e-11
    for port in gradients.outputs:
        if port.role == "gradient":
            np.testing.assert_allclose(found[port.label], expected[port.key], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_masks_of_ones_own(dtype: str) -> None:
    """Minus infinity as a mask: finite gradients, exact zeros where it stands, also beside scores that are huge."""
    text = """
model M:
    input s: [batch, 7]
    input seen: bool[batch, 7]
    param d: [7] = 0
    output y = softmax(where(seen, s + d, -inf))
    loss mean(y ** 2) + mean(where(seen, log_softmax(where(seen, s + d, -inf)), 0))
"""
    program = tapeless.load(text).compile(dtype=dtype, batch=4)
    rng = np.random.default_rng(0)
    data = {"s": 40 * rng.normal(size=(3, 7)), "seen": np.arange(7) <= np.array([[0], [3], [6]])}
    made = program.predict(data)
    assert not made[~data["seen"]].any()
    np.testing.assert_allclose(made.sum(axis=1), 1, rtol=1e-6)
    assert np.isfinite(program.gradients(data)["d"]).all()
