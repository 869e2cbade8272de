"""`repeat` is the program that `for` makes, as one loop: same names, starting values, gradients and training."""

from __future__ import annotations

import numpy as np
import pytest

import tapeless

from ..sweep import sweep

BEFORE = """
layer Block(x[b, d]):
    h = Dense(x, 6, tanh)
    return x + Dense(dropout(h, 0.2), d)

layer Tower(x[b, d]):
    WORD j in 1..3:
        x = Dense(x, d, tanh) + j * x
    return x
"""
BODIES = {
    "dropout": "h = x\nWORD k in 0..3:\n    h = Block(h)\nz = Dense(h, 1)",
    "states": "h = x\nWORD k in 0..3:\n    h = BatchNorm(Dense(h, 4, tanh), momentum = 0.3)\nz = Dense(h, 1)",
    "from two": "h = x\nWORD k in 2..5:\n    h = h + k * Dense(h, 4, tanh)\nz = Dense(h, 1)",
    "nested": "h = x\nWORD k in 0..2:\n    h = Tower(h)\nz = Dense(h, 1)",
    "shared": (
        "use one = Dense(units = 4, act = tanh)\nh = x\nWORD k in 0..3:\n    h = one(h) + Dense(h, 4)\nz = Dense(h, 1)"
    ),
    "two carries and a number": (
        "h = x\ntotal = 0 * x[:, 0]\nWORD k in 0..3:\n    h = Dense(h, 4, tanh)\n    total = total + mean(h, axis = "
        "1)\nz = reshape(total, [batch, 1])"
    ),
    "what the last turn made": "h = x\nWORD k in 0..3:\n    g = Dense(h, 4, tanh)\n    h = h + g\nz = Dense(g, 1)",
    "own parameters": "h = x\nWORD k in 0..3:\n    param w: [4] ~ normal(0, 1)\n    h = h * w\nz = Dense(h, 1)",
    "a scan inside": (
        "h = x\nWORD k in 0..2:\n    s = RNN(reshape(h, [batch, 2, 2]), 2)\n    h = h + reshape(s, [batch, 4])\nz = "
        "Dense(h, 1)"
    ),
    "nothing of its own": "h = tanh(x)\nw = Dense(x, 4)\nWORD k in 0..3:\n    h = w\nz = Dense(h, 1)",
    "one turn": "h = x\nWORD k in 0..1:\n    h = Dense(h, 4)\nz = Dense(h, 1)",
}
MODEL = """
model M:
    input x: [batch, 4]
    target y: [batch, 1]
{body}
    output z
    loss mean((z - y) ** 2)

train M:
    optimizer Adam(lr = 0.01, decay = 0.1)
    except '*.b': decay = 0
    clip_norm 1.0
"""


def text(word: str, body: str) -> str:
    lines = "\n".join(f"    {line}" for line in body.split("\n"))
    return (BEFORE + MODEL.format(body=lines)).replace("WORD", word)


@pytest.mark.parametrize("name", sweep(BODIES, every=3))
def test_the_same_program(name: str) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 4)), rng.normal(size=(40, 1))
    one, other = (
        tapeless.load(text(word, BODIES[name])).compile(batch=8, dtype="float64", cache=False, seed=3)
        for word in ("for", "repeat")
    )
    assert list(one.parameters) == list(other.parameters)
    for key, value in one.parameters.items():
        np.testing.assert_array_equal(other.parameters[key], value, err_msg=key)
    gradients = other.gradients(x[:8], y[:8])
    for key, value in one.gradients(x[:8], y[:8]).items():
        np.testing.assert_allclose(gradients[key], value, rtol=1e-11, atol=1e-13, err_msg=key)
    for program in (one, other):
        program.fit(x, y, epochs=3, progress=False)
    for key, value in one.parameters.items():
        np.testing.assert_allclose(other.parameters[key], value, rtol=1e-9, atol=1e-11, err_msg=key)
    np.testing.assert_allclose(other.predict(x), one.predict(x), rtol=1e-9, atol=1e-11)


def test_code_does_not_grow_with_the_turns() -> None:
    def lines(count: int) -> int:
        model = tapeless.load(
            text("repeat", f"h = x\nWORD k in 0..{count}:\n    h = Dense(h, 4, tanh)\nz = Dense(h, 1)")
        )
        return len(model.inspect().stage("llvm", "gradients").splitlines())

    assert lines(30) < 1.05 * lines(3)


def test_a_pattern_takes_all_turns_or_none() -> None:
    body = "h = x\nWORD k in 0..3:\n    h = Dense(h, 4, tanh)\nz = Dense(h, 1)"
    program = text("repeat", body).replace("'*.b'", "'h.1.*'")
    with pytest.raises(tapeless.UserError, match=r"'h.1.\*' matches some turns of a `repeat` only"):
        tapeless.load(program).compile(cache=False).fit(np.zeros((8, 4)), np.zeros((8, 1)), epochs=1, progress=False)


def test_saved_weights_are_those_of_for(tmp_path) -> None:
    one, other = (
        tapeless.load(text(word, BODIES["dropout"])).compile(batch=8, cache=False, seed=seed)
        for word, seed in (("for", 1), ("repeat", 2))
    )
    one.save(tmp_path / "weights.safetensors")
    other.load(tmp_path / "weights.safetensors")
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_allclose(other.predict(x), one.predict(x), rtol=1e-5, atol=1e-6)
