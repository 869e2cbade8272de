"""Scans in the language: values against NumPy, step by step, and gradients against central differences."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

import tapeless

T, N = 7, 5
RNG = np.random.default_rng(5)
X = RNG.normal(size=(N, T, 3))
LENGTHS = np.array([0, 1, 3, 6, 7], np.int32)

MODEL = """model M(t = 7):
    input x: [batch, t, 3]
    input n: int[batch] < t + 1
{body}
    output y
    loss mean(y ** 2)
"""


def compiled(body: str, before: str = "") -> tapeless.Program:
    text = before + MODEL.format(body="\n".join(f"    {line}" for line in body.strip("\n").split("\n")))
    return tapeless.load(text).compile(batch=4, dtype="float64", cache=False)


def sums(x: np.ndarray) -> np.ndarray:
    return np.cumsum(x, axis=1)


def swish(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def masked(x: np.ndarray) -> np.ndarray:
    inside = np.arange(T)[None, :, None] < LENGTHS[:, None, None]
    return np.where(inside, np.cumsum(x, axis=1), 0)


def after(x: np.ndarray, k: int) -> np.ndarray:
    """x[t + k], 0 outside."""
    made = np.zeros_like(x)
    for t in range(T):
        if 0 <= t + k < T:
            made[:, t] = x[:, t + k]
    return made


CARRY = "with s: [batch, 3] = 0:\n    s = s + x[t]\n    yield s\ny = stacked s"
CASES: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "running sum": (f"scan over t {CARRY}", sums),
    "the last one": ("scan over t with s: [batch, 3] = 0:\n    s = s + x[t]\ny = s", lambda x: x.sum(axis=1)),
    "reverse": (f"scan over t reverse {CARRY}", lambda x: sums(x[:, ::-1])[:, ::-1]),
    "lengths": (f"scan over t lengths = n {CARRY}", masked),
    "index notation": (
        (
            "scan over t:\n    a[m, i] = x[m, t, i] + 2 * (x[m, t - 1, i] else 0) - (x[t + 1] else 0)[m, i] + "
            "x[t][m, i] * t\n    yield a\ny = stacked a"
        ),
        lambda x: x * (1 + np.arange(T)[:, None]) + 2 * after(x, -1) - after(x, 1),
    ),
    "nothing of its own": (
        (
            "z = 2 * x[:, 0]\nscan over t with s: [batch, 3] = 0:\n    s = z\n    yield z\ny = stacked z + "
            "reshape(s, [batch, 1, 3])"
        ),
        lambda x: 4 * x[:, :1] + 0 * x,
    ),
    "last of lengths": (
        "scan over t lengths = n with s: [batch, 3] = 0:\n    s = s + x[t]\ny = s",
        lambda x: np.stack([x[k, :m].sum(axis=0) for k, m in enumerate(LENGTHS)]),
    ),
    "checkpoints": (f"scan over t checkpoint every = 3 {CARRY}", sums),
    "checkpoints backward": (f"scan over t reverse checkpoint every = 3 {CARRY}", lambda x: sums(x[:, ::-1])[:, ::-1]),
    "checkpoint at every step": (f"scan over t checkpoint every = 1 {CARRY}", sums),
    "before": ("scan over t:\n    d = x[t] - x[t - 1] else 0\n    yield d\ny = stacked d", lambda x: x - after(x, -1)),
    "ahead": (
        "scan over t:\n    d = x[t + 2] else 7\n    yield d\ny = stacked d",
        lambda x: np.where((np.arange(T) < T - 2)[None, :, None], after(x, 2), 7),
    ),
    "a start from outside": (
        "m = mean(x, axis = 1)\nscan over t with s = m:\n    s = 0.5 * s + x[t]\ny = s",
        lambda x: x.mean(1) * 0.5**T + sum(x[:, t] * 0.5 ** (T - 1 - t) for t in range(T)),
    ),
    "the number of the step": (
        "scan over t:\n    v = x[t] * t\n    yield v\ny = stacked v",
        lambda x: x * np.arange(T)[None, :, None],
    ),
    "several yields": (
        (
            "scan over t with s: [batch, 3] = 0:\n    s = s + x[t]\n    q = s * s\n    yield s, q\ny = stacked s + "
            "stacked q"
        ),
        lambda x: sums(x) + sums(x) ** 2,
    ),
    "two carries in order": (
        "scan over t with a: [batch, 3] = 0, b: [batch, 3] = 1:\n    a = a + x[t]\n    b = b * 0.5 + a\ny = b",
        lambda x: 0.5**T + sum(sums(x)[:, t] * 0.5 ** (T - 1 - t) for t in range(T)),
    ),
    "walked by size": (
        "z = x * 2\nscan over t with s: [batch, 3] = 0:\n    s = s + z[t]\ny = s",
        lambda x: 2 * x.sum(axis=1),
    ),
    "a function of what is outside": (
        "w = mean(x, axis = 1)\nscan over t with s: [batch, 3] = 0:\n    s = s + w * swish(x[t])\ny = s",
        lambda x: x.mean(1) * swish(x).sum(1),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_values(name: str) -> None:
    body, expected = CASES[name]
    program = compiled(body, "fn swish(x) = x * sigmoid(x)\n" if "swish" in body else "")
    np.testing.assert_allclose(program.predict({"x": X, "n": LENGTHS}), expected(X), rtol=1e-12, atol=1e-12)


NESTED = """
layer Outer(x[b, s, t, d]):
    param w: [d] ~ normal(0, 1)
    scan over s with h: [b, d] = 0:
        inner = Inner(x[s], h, w)
        h = tanh(inner)
        yield h
    return stacked h

layer Inner(x[b, t, d], start, w):
    scan over t with c: [b, d] = start:
        c = sin(c * w) + x[t]
    return c

model M:
    input x: [batch, 4, 3, 2]
    output y = Outer(x)
    loss mean(y ** 2)
"""
LAYERS = {
    "RNN": "y = RNN(x, 4)",
    "LSTM": "y = LSTM(x, 4)",
    "GRU": "y = GRU(x, 4)",
    "last": "y = GRU(x, 4, last = true)",
    "lengths": "y = LSTM(x, 4, lengths = n)",
    "both ways": "y = Bidirectional(x, 4, lengths = n)",
    "both ways, last": "y = Bidirectional(x, 2, cell = RNN, last = true)",
    "two layers": "h = LSTM(x, 4)\ny = LSTM(h, 3)",
    "a layer in each step": "scan over t with h: [batch, 3] = 0:\n    h = Dense(h + x[t], 3, tanh)\ny = h",
    "checkpoints": (
        "scan over t checkpoint every = 2 with h: [batch, 3] = 0:\n    h = Dense(h + x[t], 3, tanh)\n    yield h\ny "
        "= stacked h"
    ),
    "index notation in each step": "param w: [3, 3] ~ normal(0, 1)\n"
    "scan over t with h: [batch, 3] = 0:\n    z = x[t] + h\n"
    "    a[n, j] = sum[i] z[n, i] * w[i, j]\n    h = tanh(a)\ny = h",
    "einsum in each step": "param A: [3, 3, 3] ~ normal(0, 0.3)\nscan over t with h: [batch, 3] = 0:\n"
    "    h = tanh(einsum('bi,ijk,bj->bk', x[t], A, h) + x[t])\ny = h",
    "nested": NESTED,
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_against_central_differences(name: str) -> None:
    text = LAYERS[name]
    program = tapeless.load(text).compile(batch=4, dtype="float64", cache=False) if "model" in text else compiled(text)
    rng = np.random.default_rng(1)
    data = {"x": rng.normal(size=(N, 4, 3, 2))} if "model" in text else {"x": X, "n": LENGTHS}
    vector = np.concatenate([np.ravel(value) for value in program.parameters.values()])
    vector = vector + 0.1 * rng.normal(size=vector.shape)
    loss, gradient = program.value_and_grad(vector, data)
    along = rng.normal(size=vector.shape)
    ends = [program.value_and_grad(vector + sign * 1e-6 * along, data)[0] for sign in (1, -1)]
    assert gradient @ along == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-6, abs=1e-9)
    assert np.isfinite(loss)


def test_draws_depend_on_the_step() -> None:
    program = compiled("scan over t:\n    u = random.uniform(0, 1, [batch, 3])\n    yield u\ny = stacked u + 0 * x")
    drawn = program.predict({"x": X[:4], "n": LENGTHS[:4]})
    assert len(np.unique(drawn)) == drawn.size
    np.testing.assert_array_equal(drawn, program.predict({"x": X[:4], "n": LENGTHS[:4]}))


def test_the_loop_is_the_same_whatever_its_length() -> None:
    """The kernels of a step and the loop around them, apart from numbers."""

    def loop(t: int) -> str:
        model = tapeless.load(MODEL.format(body="    y = LSTM(x, 4)").replace("t = 7", f"t = {t}"))
        text = model.inspect().stage("scheduled", "train_step", source=False)
        loops = re.findall(r"= loop\(.*?\n  \]", text, re.DOTALL)
        assert len(loops) == 2
        return re.sub(r"\d+", "0", "\n".join(loops))

    assert loop(10) == loop(100) == loop(1000)


def test_checkpoints_bound_the_memory_of_training() -> None:
    """Of 1,000 steps those between two checkpoints are saved, and one carry for each: t / k + k steps instead of t."""
    recurrent = "scan over t {} with h: [batch, 8] = 0:\n    h = tanh(Dense(x[t], 8) + Dense(h, 8))\ny = h"

    def workspace(option: str) -> int:
        body = "\n".join(f"    {line}" for line in recurrent.format(option).split("\n"))
        program = tapeless.load(MODEL.format(body=body).replace("t = 7", "t = 1000")).compile(batch=4, cache=False)
        rows = {"x": np.zeros((4, 1000, 3)), "n": np.zeros(4, np.int32)}
        program.fit(rows, epochs=1, progress=False)
        return program.image("train").manifest.entries["train_step"].workspace

    whole, bounded = workspace(""), workspace("checkpoint every = 32")
    inputs = 2 * 1000 * 4 * 3 * 4  # as they come and turned, which no checkpoint saves
    assert bounded - inputs < (whole - inputs) / 8


def test_loops_shared_by_threads_give_the_same_bytes() -> None:
    """Steps large enough to be cut into parts: threads meet in every step."""
    text = (
        "model M(t = 3):\n    input x: [batch, t, 64]\n    h = LSTM(x, 256)\n    output y = h[:, -1]\n    loss "
        "mean(y ** 2)\n"
    )
    scheduled = tapeless.load(text).inspect().stage("scheduled", "train_step", source=False)
    loops = "".join(re.findall(r"= loop\(.*?\n  \]", scheduled, re.DOTALL))
    assert max(int(parts) for parts in re.findall(r"parts=(\d+)", loops)) > 1
    x = np.random.default_rng(0).normal(size=(200, 3, 64)).astype(np.float32)
    states = set()
    for threads in (1, 2, 3):
        program = tapeless.load(text).compile(batch=128, cache=False)
        program.fit(x, epochs=2, threads=threads, progress=False)
        states.add(b"".join(value.tobytes() for value in program.parameters.values()))
    assert len(states) == 1


@pytest.mark.parametrize("t", [1, 2, 3])
def test_neighbours_of_few_steps(t: int) -> None:
    """`else` says what lies outside, also where all neighbours do."""
    text = MODEL.format(
        body=(
            "    scan over t:\n        d = x[t] - (x[t - 1] else 0) + (x[t + 2] else 7)\n        yield d\n    y = "
            "stacked d"
        )
    )
    x = X[:, :t]
    before, ahead = np.zeros_like(x), np.full_like(x, 7)
    before[:, 1:], ahead[:, : max(t - 2, 0)] = x[:, :-1], x[:, 2:]
    program = tapeless.load(text, t=t).compile(batch=4, dtype="float64", cache=False)
    np.testing.assert_allclose(program.predict({"x": x, "n": np.zeros(N, np.int32)}), x - before + ahead)
