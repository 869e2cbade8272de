"""Phases in functions of their own: the same bytes wherever they are cut, and no function that grows with a model."""

from __future__ import annotations

import re

import numpy as np
import pytest

import tapeless
from tapeless.codegen.program import driver
from tapeless.ir.target import host, named

from .test_shared_rows import eager
from .test_widths import programs_for

MODEL = """
model Deep(layers = 1):
    input  x: [batch, 4, 5]
    target y: int[batch] < 3
    h = Dense(x, 8)
    for k in 0..layers:
        h = LayerNorm(h + dropout(Dense(h, 8, gelu), 0.1))
    g = LSTM(h, 6, last = true)
    loss cross_entropy(Dense(g, 3), y)

train Deep:
    optimizer Adam(lr = 0.01)
    batch 8
"""


def trained() -> list[bytes]:
    """The state after two epochs with one thread, and with two."""
    rng = np.random.default_rng(0)
    data = {"x": rng.normal(size=(19, 4, 5)).astype(np.float32), "y": rng.integers(0, 3, 19)}
    found = []
    for program in programs_for(eager(host()), MODEL, "float32", 8, (1, 2)):
        program.fit(data, epochs=2)
        found.append(b"".join(value.tobytes() for value in program.state.values()))
    return found


def test_bytes_do_not_hang_on_where_phases_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "SECTION", 10**6)
    whole = trained()
    monkeypatch.setattr(driver, "SECTION", 3)
    assert whole == trained() == [whole[0]] * 2


def test_no_function_grows_with_the_model() -> None:
    image = tapeless.load(MODEL, layers=12).pipeline("float32").image(("init", "train_step"), named("x86-64-v3"), None)
    kernels = list(image.functions)
    longest = 0
    for body in re.findall(r"^define.*?^}", image.llvm, re.M | re.S):
        longest = max(longest, sum(f"@{name}(" in line for line in body.split("\n")[1:] for name in kernels))
    assert 1 < longest <= 2 * driver.SECTION  # a loop's body is not cut
