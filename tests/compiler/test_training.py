"""The update: optimizers, schedules, clipping and exceptions against NumPy by hand, several steps in a row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tapeless.compiler.messages.diagnostics import ProgramErrors
from tapeless.compiler.model import Model

from .programs import Arrays, model, ran, started

STEPS = 12
MODEL = """
model M:
    input  x: [batch, 3]
    target y: [batch, 2]
    z = Dense(x, 2)
    loss mean_squared_error(z, y)
    metric error = mean(abs(z - y))

train M:
"""


def gradients() -> Iterator[Arrays]:
    rng = np.random.default_rng(3)
    for _ in range(STEPS):
        yield {"z.W": rng.normal(size=(3, 2)), "z.b": rng.normal(size=2)}


def trained(settings: str, before: str = "") -> tuple[Model, Arrays, Arrays]:
    """The state before and after some steps with recorded gradients."""
    loaded = model(before + MODEL + "".join(f"    {line}\n" for line in settings.splitlines()))
    start = started(loaded)
    state = {**start, "steps": np.int32(STEPS)}
    for gradient in gradients():
        state |= ran(loaded.update, state, {f"grad({name})": array for name, array in gradient.items()})
    assert state["step"] == STEPS
    return loaded, start, state


def by_hand(start: Arrays, rule: Callable[[np.ndarray, np.ndarray, dict[str, Any], int, str], np.ndarray],
            change: Callable[[Arrays], Arrays] = lambda g: g) -> Arrays:  # fmt: skip
    weights = {name: start[name] for name in ("z.W", "z.b")}
    memory: dict[str, dict[str, Any]] = {"z.W": {}, "z.b": {}}
    for step, gradient in enumerate(gradients(), start=1):
        changed = change(gradient)
        weights = {name: rule(w, changed[name], memory[name], step, name) for name, w in weights.items()}
    return weights


def check(settings: str, rule: Any, change: Any = lambda g: g) -> None:
    _, start, state = trained(settings)
    for name, expected in by_hand(start, rule, change).items():
        np.testing.assert_allclose(state[name], expected, rtol=1e-11)


def adam(lr: Callable[[int], float] | float = 1e-3, decay: float = 0, spared: str = "", decoupled: bool = False) -> Any:
    def rule(w: np.ndarray, g: np.ndarray, memory: dict[str, Any], step: int, name: str) -> np.ndarray:
        rate = lr(step) if callable(lr) else lr
        shrink = 0 if name == spared else decay
        if not decoupled:
            g = g + shrink * w
        memory["m"] = 0.9 * memory.get("m", 0) + 0.1 * g
        memory["v"] = 0.999 * memory.get("v", 0) + 0.001 * g**2
        change = (memory["m"] / (1 - 0.9**step)) / (np.sqrt(memory["v"] / (1 - 0.999**step)) + 1e-8)
        return w - rate * change - (rate * shrink * w if decoupled else 0)

    return rule


def test_adam() -> None:
    check("optimizer Adam", adam())
    check("optimizer Adam(lr = 0.1, decay = 0.2)", adam(0.1, 0.2))


def test_adamw_with_exception() -> None:
    check("optimizer AdamW(lr = 0.1, decay = 0.2)\nexcept '*.b': decay = 0", adam(0.1, 0.2, "z.b", decoupled=True))


def test_no_train_section_means_adam() -> None:
    loaded = model(MODEL.split("\ntrain")[0])
    assert {slot.name for slot in loaded.slots if slot.role == "hyper"} == {
        "Adam.lr",
        "Adam.b1",
        "Adam.b2",
        "Adam.eps",
        "Adam.decay",
    }


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd(nesterov: bool) -> None:
    def rule(w: np.ndarray, g: np.ndarray, memory: dict[str, Any], step: int, name: str) -> np.ndarray:
        g = g + 0.01 * w
        memory["v"] = 0.9 * memory.get("v", 0) + g
        return w - 0.1 * (g + 0.9 * memory["v"] if nesterov else memory["v"])

    check(f"optimizer SGD(lr = 0.1, momentum = 0.9, decay = 0.01, nesterov = {str(nesterov).lower()})", rule)


@pytest.mark.parametrize(
    ("arguments", "exception", "velocities"),
    [
        ("lr = 0.1", "", set()),
        ("lr = 0.1, momentum = 0", "", {"z.W.v", "z.b.v"}),
        ("lr = 0.1", "except '*.b': momentum = 0.5", {"z.b.v"}),
    ],
)
def test_a_velocity_is_kept_where_a_momentum_is_given(arguments: str, exception: str, velocities: set[str]) -> None:
    loaded, start, state = trained(f"optimizer SGD({arguments})\n{exception}")
    assert {slot.name for slot in loaded.slots if slot.role == "optimizer"} == velocities
    plain = start["z.W"] - 0.1 * sum(gradient["z.W"] for gradient in gradients())
    np.testing.assert_allclose(state["z.W"], plain, rtol=1e-11)


def test_nesterov_needs_a_momentum() -> None:
    with pytest.raises(ProgramErrors, match="needs a momentum"):
        trained("optimizer SGD(lr = 0.1, nesterov = true)")


def warm(step: int, warmup: int) -> float:
    return min(step / max(warmup, 1), 1)


def passed(step: int, warmup: int) -> float:
    return min(max((step - warmup) / max(STEPS - warmup, 1), 0), 1)


SCHEDULES = {
    "constant(0.1, warmup = 4)": lambda step: 0.1 * warm(step, 4),
    "cosine(peak = 0.1, warmup = 4)": lambda s: (
        0.1 * s / 4 if s < 4 else 0.1 * 0.5 * (1 + np.cos(np.pi * passed(s, 4)))
    ),
    "cosine(0.1, end = 0.02)": lambda s: 0.02 + 0.08 * 0.5 * (1 + np.cos(np.pi * passed(s, 0))),
    "linear(peak = 0.1, warmup = 3)": lambda s: 0.1 * s / 3 if s < 3 else 0.1 * (1 - passed(s, 3)),
    "exponential(0.1, rate = 0.5, every = 5)": lambda s: 0.1 * 0.5 ** (s / 5),
    "staircase(0.1, every = 5)": lambda s: 0.1 * 0.1 ** ((s - 1) // 5),
    "0.5 * linear(0.2)": lambda s: 0.1 * (1 - passed(s, 0)),
    "1 / (10 + step)": lambda s: 1 / (10 + s),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedule(schedule: str) -> None:
    check(f"optimizer Adam(lr = {schedule})", adam(SCHEDULES[schedule]))


def test_schedule_arguments_are_slots() -> None:
    loaded, start, _ = trained("optimizer Adam(lr = cosine(peak = 0.1, warmup = 4), b1 = constant(0.9))")
    hypers = {slot.name: float(start[slot.name]) for slot in loaded.slots if slot.role == "hyper"}
    assert hypers == {
        "cosine.peak": 0.1, "cosine.warmup": 4, "cosine.end": 0, "constant.value": 0.9, "constant.warmup": 0,
        "Adam.b2": 0.999, "Adam.eps": 1e-8, "Adam.decay": 0,
    }  # fmt: skip


def test_products_of_steps_are_real() -> None:
    """They grow beyond 32 bits; what is left of a division of steps stays a whole number."""
    text = (
        "model M:\n    input x: [batch]\n    param a = 0\n    loss mean(x) * a\n\ntrain M:\n    optimizer SGD(lr = "
        "step ** 2 + step * step + step // 7 + step % 7)\n"
    )
    loaded = model(text)
    state = started(loaded) | {"step": np.array(100_000, np.int32)}
    (moved,) = (value for key, value in ran(loaded.update, state, {"grad(a)": np.array(1.0)}).items() if key == "a")
    step = 100_001 if -moved > 2e10 + 2e5 else 100_000
    assert -moved == 2 * step**2 + step // 7 + step % 7


def test_clipping() -> None:
    def change(gradient: Arrays) -> Arrays:
        clipped = {name: np.clip(g, -0.7, 0.7) for name, g in gradient.items()}
        norm = np.sqrt(sum((g**2).sum() for g in clipped.values()))
        return {name: g * (1.5 / max(norm, 1.5)) for name, g in clipped.items()}

    check("clip_norm 1.5\nclip_value 0.7\noptimizer Adam(lr = 0.1)", adam(0.1), change)


def test_gradient_noise() -> None:
    """The noise has the published variance, differs from parameter to parameter and from step to step, and comes
    after clipping.
    """
    text = (
        "model M:\n    input x: [batch, 3]\n    param a: [50, 40] = 0\n    param b: [50, 40] = 0\n    loss mean(x) + "
        "sum(a + b)\n\ntrain M:\n"
    )
    loaded = model(text + "    optimizer SGD(lr = 1)\n    clip_value 0.5\n    gradient_noise 0.3\n")
    state = started(loaded)
    given = {"grad(a)": np.ones((50, 40)), "grad(b)": np.ones((50, 40))}
    moved = []
    for step in range(1, 4):
        after = state | ran(loaded.update, state, given)
        for name in "ab":
            noise = state[name] - after[name] - 0.5
            assert abs(noise.mean()) < 0.05 and noise.std() == pytest.approx(
                np.sqrt(0.3 / (1 + step) ** 0.55), rel=0.06
            )
            moved.append(noise.ravel() / noise.std())
        state = after
    assert np.abs(np.corrcoef(moved) - np.eye(6)).max() < 0.1
    with pytest.raises(ProgramErrors, match="E0601"):
        model(text + "    gradient_noise -1\n")


def test_small_gradients_are_not_scaled() -> None:
    _, _, state = trained("clip_norm 1e6\noptimizer Adam(lr = 0.1)")
    _, _, plain = trained("optimizer Adam(lr = 0.1)")
    assert (state["z.W"] == plain["z.W"]).all()


def test_own_optimizer_with_starting_state_from_the_parameter() -> None:
    own = """
optimizer Averaged(w, g, lr = 0.1, keep = 0.9):
    state slow = w
    state count = 0
    w = w - lr * g
    slow = keep * slow + (1 - keep) * w
    count = count + 1
    w = 0.5 * (w + slow)
"""
    _, start, state = trained("optimizer Averaged(lr = 0.2)", own)

    def rule(w: np.ndarray, g: np.ndarray, memory: dict[str, Any], step: int, name: str) -> np.ndarray:
        w = w - 0.2 * g
        memory["slow"] = 0.9 * memory.get("slow", start[name]) + 0.1 * w
        return 0.5 * (w + memory["slow"])

    for name, expected in by_hand(start, rule).items():
        np.testing.assert_allclose(state[name], expected, rtol=1e-11)
    assert (state["z.W.count"] == np.full((3, 2), STEPS)).all()


def test_freeze() -> None:
    loaded, start, state = trained("freeze '*.b'\noptimizer Adam(lr = 0.1)")
    assert [slot.name for slot in loaded.slots if slot.frozen] == ["z.b"]
    assert (state["z.b"] == start["z.b"]).all() and (state["z.W"] != start["z.W"]).all()
    assert "z.b.m" not in state


def test_settings() -> None:
    settings = model(
        MODEL + "    epochs 30\n    batch 2 * 16\n    validation 0.2\n    stop_early patience = 5 on error falling\n"
    ).settings
    assert (settings.epochs, settings.batch, settings.validation, settings.patience, settings.monitor,
        settings.rising) == (
        30, 32, 0.2, 5, "error", False,
    )  # fmt: skip
