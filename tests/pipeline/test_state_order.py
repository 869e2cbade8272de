"""State is overwritten in place, and never before its old value has been read or the loss is known to be finite."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tapeless
from tapeless.compiler import entries
from tapeless.compiler.model import load
from tapeless.ir.interpreter import run
from tapeless.ir.types import DType

from ..compiler.examples import EXAMPLES, name_of, sizes_of
from ..sweep import sweep

RULE = """\
optimizer Rule(w, g, lr = 0.1):
{rule}
model M():
    input x: [batch, 6]
    param w: [6] = 1
    output z = x @ w
    loss mean((x @ w) ** 2)
train M:
    optimizer Rule(lr = 0.1)
"""
LAYER = """\
layer Kept(x):
{rule}
model M():
    input x: [batch, 6]
    param w: [6] = 1
    s = Kept(x)
    loss mean((x @ (w * s)) ** 2)
    metric kept = sum(s)
train M:
    optimizer SGD(lr = 0.1)
"""
PROGRAMS = {
    "swapped": (RULE, "state a = 1; state b = 2; t = a; a = b; b = t; w = w - lr * g * a"),
    "swapped with work": (RULE, "state a = 1; state b = 2; t = a; a = b; b = t + 0 * g; w = w - lr * g * a"),
    "reversed": (RULE, "state a = 1; w = w - lr * g; a = flip(a, axis = 0) + w"),
    "softmax of itself": (RULE, "w = w - lr * g - 0.1 * softmax(w) + 0.01 * w[0]"),
    "view of the old": (
        RULE,
        "state a = 0; old = reshape(w, [2, 3]); w = w - lr * g; a = a + reshape(old * sum(w), [6])",
    ),
    "rotated": (
        LAYER,
        "state a: [6] = 1; state b: [6] = 2; state c: [6] = 3; t = a; a = b; b = c; c = t; return a + 2 * b + 3 * c",
    ),
    "old times new": (
        LAYER,
        (
            "state a: [2, 3] = 1; old = reshape(a, [6]); a = a * 0.5 + reshape(mean(x, axis = 0), [2, 3]); return "
            "old * sum(a)"
        ),
    ),
}


def source(name: str) -> str:
    frame, rule = PROGRAMS[name]
    return frame.replace("{rule}", "\n".join(f"    {line}" for line in rule.split("; ")))


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_step_is_the_interpreters(name: str) -> None:
    text = source(name)
    program = tapeless.load(text).compile(batch=8, dtype="float64", seed=3)
    x = np.random.default_rng(0).normal(size=(8, 6))
    graph = entries.train_step(load(text, "m.tl", sizes={}, dtype=DType.F64, model=None))
    state = {key: value.copy() for key, value in program.state.items()} | {"steps": np.int32(1)}
    expected = run(graph, {**state, "x": x}, rows=8)
    program.fit(x, epochs=1, validation=0.0)
    for port in graph.outputs:
        if port.role == "state":
            np.testing.assert_allclose(program.state[port.label], expected[port.key], rtol=1e-12, err_msg=port.label)


@pytest.mark.parametrize("path", sweep(EXAMPLES, every=9), ids=lambda path: path.stem)
def test_a_loss_that_is_not_finite_changes_nothing(path: Path) -> None:
    program = tapeless.load(path, model=name_of(path), **sizes_of(path)).compile()
    rng = np.random.default_rng(0)
    data = {
        spec.name: rng.normal(size=spec.concrete(200))
        if spec.dtype.kind == "f"
        else rng.integers(0, spec.bound, spec.concrete(200))
        for spec in program.image("train").manifest.entries["train_step"].data
    }
    next(iter(program.parameters.values()))[...] = np.nan
    before = {name: value.copy() for name, value in program.state.items() if name != "steps"}
    with pytest.raises(tapeless.UserError, match="not finite"):
        program.fit(data, epochs=1, validation=0.0)
    for name, value in before.items():
        np.testing.assert_array_equal(program.state[name], value, err_msg=name)
