"""Every optimizer, schedule and clipping against its published formula in NumPy, over 200 steps of recorded gradients.

The gradients go through `Program.apply`, so what is held to the formulas is machine code. The formulas are written
here from the papers, in float64, and share nothing with the compiler.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tapeless

from ..sweep import sweep

STEPS = 200
TOLERANCE = {"float64": 1e-10, "float32": 1e-5}
MODEL = """
model M:
    input  x: [batch, 5]
    target y: [batch, 3]
    z = Dense(x, 3)
    loss mean_squared_error(z, y)

train M:
"""
Array = np.ndarray[Any, np.dtype[np.float64]]
Rule = Callable[[Array, Array, dict[str, Any], int], Array]


def recorded(dtype: str) -> list[dict[str, Array]]:
    """Gradients whose size varies over the run, so that clipping acts on some steps and not on others."""
    rng = np.random.default_rng(11)
    sizes = np.exp(rng.normal(scale=0.7, size=STEPS))
    made = [{"z.W": size * rng.normal(size=(5, 3)), "z.b": size * rng.normal(size=3)} for size in sizes]
    return [{name: g.astype(dtype).astype(np.float64) for name, g in step.items()} for step in made]


def sgd(lr: Any = 0.01, momentum: float = 0, decay: float = 0, nesterov: bool = False) -> Rule:
    """Sutskever et al. 2013, in the form that leaves the rate outside of the velocity."""

    def rule(w: Array, g: Array, memory: dict[str, Any], t: int) -> Array:
        g = g + decay * w
        memory["v"] = momentum * memory.get("v", 0) + g
        return w - at(lr, t) * (g + momentum * memory["v"] if nesterov else memory["v"])

    return rule


def adam(
    lr: Any = 1e-3, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, decay: float = 0, decoupled: bool = False
) -> Rule:
    """Kingma and Ba 2015, algorithm 1; decoupled decay as in Loshchilov and Hutter 2019, algorithm 2."""

    def rule(w: Array, g: Array, memory: dict[str, Any], t: int) -> Array:
        if not decoupled:
            g = g + decay * w
        memory["m"] = b1 * memory.get("m", 0) + (1 - b1) * g
        memory["v"] = b2 * memory.get("v", 0) + (1 - b2) * g * g
        step = at(lr, t) * (memory["m"] / (1 - b1**t)) / (np.sqrt(memory["v"] / (1 - b2**t)) + eps)
        return w - step - (at(lr, t) * decay * w if decoupled else 0)

    return rule


def rmsprop(lr: Any = 0.01, alpha: float = 0.99, eps: float = 1e-8, decay: float = 0) -> Rule:
    """Tieleman and Hinton 2012, lecture 6.5."""

    def rule(w: Array, g: Array, memory: dict[str, Any], t: int) -> Array:
        g = g + decay * w
        memory["v"] = alpha * memory.get("v", 0) + (1 - alpha) * g * g
        return w - at(lr, t) * g / (np.sqrt(memory["v"]) + eps)

    return rule


def adagrad(lr: Any = 0.01, eps: float = 1e-10, decay: float = 0) -> Rule:
    """Duchi, Hazan and Singer 2011, with diagonal matrices."""

    def rule(w: Array, g: Array, memory: dict[str, Any], t: int) -> Array:
        g = g + decay * w
        memory["v"] = memory.get("v", 0) + g * g
        return w - at(lr, t) * g / (np.sqrt(memory["v"]) + eps)

    return rule


def lion(lr: Any = 1e-4, b1: float = 0.9, b2: float = 0.99, decay: float = 0) -> Rule:
    """Chen et al. 2023, program 1."""

    def rule(w: Array, g: Array, memory: dict[str, Any], t: int) -> Array:
        m = memory.get("m", 0)
        w = w - at(lr, t) * (np.sign(b1 * m + (1 - b1) * g) + decay * w)
        memory["m"] = b2 * m + (1 - b2) * g
        return w

    return rule


def amsgrad(lr: float = 1e-3, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> Rule:
    """Reddi, Kale and Kumar 2018, algorithm 2, with the correction of both moments that Adam has."""

    def rule(w: Array, g: Array, memory: dict[str, Any], t: int) -> Array:
        memory["m"] = b1 * memory.get("m", 0) + (1 - b1) * g
        memory["v"] = b2 * memory.get("v", 0) + (1 - b2) * g * g
        memory["top"] = np.maximum(memory.get("top", 0), memory["v"])
        return w - lr * (memory["m"] / (1 - b1**t)) / (np.sqrt(memory["top"] / (1 - b2**t)) + eps)

    return rule


def adamax(lr: float = 2e-3, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, decay: float = 0) -> Rule:
    """Kingma and Ba 2015, algorithm 2, with eps added to the gradient's size as in its implementations."""

    def rule(w: Array, g: Array, memory: dict[str, Any], t: int) -> Array:
        g = g + decay * w
        memory["m"] = b1 * memory.get("m", 0) + (1 - b1) * g
        memory["u"] = np.maximum(b2 * memory.get("u", np.zeros_like(w)), np.abs(g) + eps)
        return w - (lr / (1 - b1**t)) * memory["m"] / memory["u"]

    return rule


def nadam(
    lr: float = 2e-3, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, rise: float = 4e-3, decay: float = 0
) -> Rule:
    """Dozat 2016, algorithm 2, with the schedule of momentum of section 3."""

    def momentum(t: int) -> float:
        return b1 * (1 - 0.5 * 0.96 ** (t * rise))

    def rule(w: Array, g: Array, memory: dict[str, Any], t: int) -> Array:
        g = g + decay * w
        memory["m"] = b1 * memory.get("m", 0) + (1 - b1) * g
        memory["v"] = b2 * memory.get("v", 0) + (1 - b2) * g * g
        product = math.prod(momentum(k) for k in range(1, t + 1))
        ahead = (1 - momentum(t)) * g / (1 - product) + momentum(t + 1) * memory["m"] / (1 - product * momentum(t + 1))
        return w - lr * ahead / (np.sqrt(memory["v"] / (1 - b2**t)) + eps)

    return rule


def radam(lr: float = 1e-3, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, decay: float = 0) -> Rule:
    """Liu et al. 2020, algorithm 2, rectified from a length of 5 on."""

    def rule(w: Array, g: Array, memory: dict[str, Any], t: int) -> Array:
        g = g + decay * w
        memory["m"] = b1 * memory.get("m", 0) + (1 - b1) * g
        memory["v"] = b2 * memory.get("v", 0) + (1 - b2) * g * g
        m = memory["m"] / (1 - b1**t)
        last = 2 / (1 - b2) - 1
        length = last - 2 * t * b2**t / (1 - b2**t)
        if length <= 5:
            return w - lr * m
        r = math.sqrt((length - 4) * (length - 2) * last / ((last - 4) * (last - 2) * length))
        return w - lr * m * r * math.sqrt(1 - b2**t) / (np.sqrt(memory["v"]) + eps)

    return rule


def lamb(lr: float = 1e-3, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-6, decay: float = 0.01) -> Rule:
    """You et al. 2020, algorithm 2, the trust ratio without bounds."""

    def rule(w: Array, g: Array, memory: dict[str, Any], t: int) -> Array:
        memory["m"] = b1 * memory.get("m", 0) + (1 - b1) * g
        memory["v"] = b2 * memory.get("v", 0) + (1 - b2) * g * g
        r = (memory["m"] / (1 - b1**t)) / (np.sqrt(memory["v"] / (1 - b2**t)) + eps) + decay * w
        size = float(np.linalg.norm(w.ravel()))
        return w - lr * (size / float(np.linalg.norm(r.ravel())) if size else 1) * r

    return rule


def adadelta(lr: float = 1, rho: float = 0.9, eps: float = 1e-6, decay: float = 0) -> Rule:
    """Zeiler 2012, algorithm 1."""

    def rule(w: Array, g: Array, memory: dict[str, Any], t: int) -> Array:
        g = g + decay * w
        memory["g2"] = rho * memory.get("g2", 0) + (1 - rho) * g * g
        change = -np.sqrt(memory.get("x2", 0) + eps) / np.sqrt(memory["g2"] + eps) * g
        memory["x2"] = rho * memory.get("x2", 0) + (1 - rho) * change * change
        return w + lr * change

    return rule


def rprop(lr: float = 0.01, less: float = 0.5, more: float = 1.2, smallest: float = 1e-6, largest: float = 50) -> Rule:
    """Riedmiller and Braun 1993 in the form without taking steps back (Igel and Huesken 2000, iRprop-)."""

    def rule(w: Array, g: Array, memory: dict[str, Any], t: int) -> Array:
        before, size = memory.get("g", np.zeros_like(w)), memory.get("size", np.full_like(w, lr))
        size = np.where(g * before > 0, np.minimum(size * more, largest), size)
        size = np.where(g * before < 0, np.maximum(size * less, smallest), size)
        g = np.where(g * before < 0, 0, g)
        memory["g"], memory["size"] = g, size
        return np.asarray(w - np.sign(g) * size)

    return rule


def asgd(lr: float = 0.01, shrink: float = 1e-4, power: float = 0.75, decay: float = 0) -> Rule:
    """Polyak and Juditsky 1992, with the rate of Bottou's averaged descent."""

    def rule(w: Array, g: Array, memory: dict[str, Any], t: int) -> Array:
        rate = lr / (1 + shrink * lr * (t - 1)) ** power
        return w - rate * (g + decay * w + shrink * w)

    return rule


def ftrl(lr: float = 0.1, l1: float = 0, l2: float = 0, start: float = 0.1) -> Rule:
    """McMahan et al. 2013, algorithm 1, with beta = 0; the second penalty is twice theirs, as in its
    implementations.
    """

    def rule(w: Array, g: Array, memory: dict[str, Any], t: int) -> Array:
        n = memory.get("n", start)
        sigma = (np.sqrt(n + g * g) - np.sqrt(n)) / lr
        memory["z"] = memory.get("z", 0) + g - sigma * w
        memory["n"] = n + g * g
        z = memory["z"]
        return np.where(np.abs(z) <= l1, 0, -(z - np.sign(z) * l1) / (np.sqrt(memory["n"]) / lr + 2 * l2))

    return rule


def at(value: Any, t: int) -> float:
    """A number, or a schedule's number for a step."""
    return float(value(t)) if callable(value) else float(value)


def ramp(t: int, warmup: int) -> float:
    return min(t / warmup, 1.0) if warmup else 1.0


def cosine(peak: float, warmup: int = 0, end: float = 0) -> Callable[[int], float]:
    """Loshchilov and Hutter 2017, one period."""
    return lambda t: (
        peak * t / warmup
        if t < warmup
        else end + (peak - end) / 2 * (1 + math.cos(math.pi * (t - warmup) / (STEPS - warmup)))
    )


def linear(peak: float, warmup: int = 0, end: float = 0) -> Callable[[int], float]:
    return lambda t: peak * t / warmup if t < warmup else peak + (end - peak) * (t - warmup) / (STEPS - warmup)


CASES: dict[str, Rule] = {
    "optimizer SGD(lr = 0.05)": sgd(0.05),
    "optimizer SGD(lr = 0.05, momentum = 0.9, decay = 1e-2)": sgd(0.05, 0.9, 1e-2),
    "optimizer SGD(lr = 0.05, momentum = 0.9, nesterov = true)": sgd(0.05, 0.9, nesterov=True),
    "optimizer Adam": adam(),
    "optimizer Adam(lr = 0.02, b1 = 0.8, b2 = 0.99, eps = 1e-6, decay = 0.1)": adam(0.02, 0.8, 0.99, 1e-6, 0.1),
    "optimizer AdamW(lr = 0.02, decay = 0.1)": adam(0.02, decay=0.1, decoupled=True),
    "optimizer RMSprop": rmsprop(),
    "optimizer RMSprop(lr = 0.003, alpha = 0.9, eps = 1e-6, decay = 0.01)": rmsprop(0.003, 0.9, 1e-6, 0.01),
    "optimizer Adagrad(lr = 0.1, decay = 0.01)": adagrad(0.1, decay=0.01),
    "optimizer Lion(lr = 0.003, decay = 0.1)": lion(0.003, decay=0.1),
    "optimizer AMSGrad(lr = 0.02)": amsgrad(0.02),
    "optimizer Adamax": adamax(),
    "optimizer Adamax(lr = 0.03, b1 = 0.8, b2 = 0.9, decay = 0.1)": adamax(0.03, 0.8, 0.9, decay=0.1),
    "optimizer NAdam": nadam(),
    "optimizer NAdam(lr = 0.02, b1 = 0.8, rise = 0.1, decay = 0.1)": nadam(0.02, 0.8, rise=0.1, decay=0.1),
    "optimizer RAdam": radam(),
    "optimizer RAdam(lr = 0.02, b2 = 0.99, decay = 0.1)": radam(0.02, b2=0.99, decay=0.1),
    "optimizer LAMB(lr = 0.02)": lamb(0.02),
    "optimizer Adadelta": adadelta(),
    "optimizer Adadelta(lr = 0.5, alpha = 0.95, eps = 1e-5, decay = 0.1)": adadelta(0.5, 0.95, 1e-5, 0.1),
    "optimizer Rprop(lr = 0.001)": rprop(0.001),
    "optimizer Rprop(lr = 0.1, less = 0.7, more = 1.5, largest = 0.3)": rprop(0.1, 0.7, 1.5, largest=0.3),
    "optimizer ASGD(lr = 0.05, decay = 0.01)": asgd(0.05, decay=0.01),
    "optimizer ASGD(lr = 0.05, shrink = 0.1, power = 0.6)": asgd(0.05, 0.1, 0.6),
    "optimizer FTRL": ftrl(),
    "optimizer FTRL(lr = 0.3, l1 = 0.5, l2 = 0.1, start = 0.2)": ftrl(0.3, 0.5, 0.1, 0.2),
    "optimizer SGD(lr = constant(0.03, warmup = 20))": sgd(lambda t: 0.03 * ramp(t, 20)),
    "optimizer SGD(lr = staircase(0.1, rate = 0.5, every = 30))": sgd(lambda t: 0.1 * 0.5 ** ((t - 1) // 30)),
    "optimizer SGD(lr = staircase(0.1, 0.5, 30, warmup = 10))": sgd(
        lambda t: 0.1 * 0.5 ** ((t - 1) // 30) * ramp(t, 10)
    ),
    "optimizer SGD(lr = exponential(0.1, rate = 0.7, every = 25))": sgd(lambda t: 0.1 * 0.7 ** (t / 25)),
    "optimizer SGD(lr = exponential(0.1, 0.7, 25, warmup = 7))": sgd(lambda t: 0.1 * 0.7 ** (t / 25) * ramp(t, 7)),
    "optimizer SGD(lr = cosine(peak = 0.1))": sgd(cosine(0.1)),
    "optimizer Adam(lr = cosine(peak = 0.02, warmup = 30, end = 1e-3))": adam(cosine(0.02, 30, 1e-3)),
    "optimizer SGD(lr = linear(peak = 0.1, warmup = 40, end = 0.01))": sgd(linear(0.1, 40, 0.01)),
}


def by_value(bound: float) -> Callable[[dict[str, Array]], dict[str, Array]]:
    return lambda g: {name: np.clip(value, -bound, bound) for name, value in g.items()}


def by_norm(bound: float) -> Callable[[dict[str, Array]], dict[str, Array]]:
    """Pascanu, Mikolov and Bengio 2013, algorithm 1, over all parameters together."""

    def change(g: dict[str, Array]) -> dict[str, Array]:
        norm = math.sqrt(sum(float((value**2).sum()) for value in g.values()))
        return {name: value * bound / norm if norm > bound else value for name, value in g.items()}

    return change


CLIPPED = {
    "clip_value 0.8": by_value(0.8),
    "clip_norm 3.0": by_norm(3.0),
    "clip_norm 2.5\n    clip_value 0.9": lambda g: by_norm(2.5)(by_value(0.9)(g)),
}


def compare(
    settings: str, rule: Callable[[str], Rule], change: Callable[[dict[str, Array]], dict[str, Array]], dtype: str
) -> None:
    program = tapeless.load(f"{MODEL}    {settings}\n").compile(dtype=dtype, seed=5)
    program.state["steps"][...] = STEPS
    weights = {name: np.array(program.parameters[name], np.float64) for name in ("z.W", "z.b")}
    memory: dict[str, dict[str, Any]] = {name: {} for name in weights}
    for t, gradients in enumerate(recorded(dtype), start=1):
        program.apply(gradients)
        clipped = change(gradients)
        weights = {name: rule(name)(w, clipped[name], memory[name], t) for name, w in weights.items()}
    assert int(program.state["step"]) == STEPS
    for name, expected in weights.items():
        error = np.abs(program.parameters[name] - expected).max() / np.abs(expected).max()
        assert error <= TOLERANCE[dtype], f"{name}: {error}"


@pytest.mark.parametrize(("settings", "dtype"), sweep(CASES, TOLERANCE, every=3))
def test_rule(settings: str, dtype: str) -> None:
    compare(settings, lambda name: CASES[settings], lambda g: g, dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("settings", CLIPPED)
def test_clipping(settings: str, dtype: str) -> None:
    change = CLIPPED[settings]
    compare(f"optimizer SGD(lr = 0.02, momentum = 0.5)\n    {settings}", lambda name: sgd(0.02, 0.5), change, dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_decay_with_exceptions(dtype: str) -> None:
    settings = "optimizer AdamW(lr = 0.02, decay = 0.1)\n    except '*.b': decay = 0, lr = 0.005"
    rules = {"z.W": adam(0.02, decay=0.1, decoupled=True), "z.b": adam(0.005, decay=0, decoupled=True)}
    compare(settings, rules.__getitem__, lambda g: g, dtype)
