"""A program's own estimate decides on how many threads it runs, and pieces change nothing of what is computed."""

from __future__ import annotations

import numpy as np
import pytest

import tapeless
from tapeless.ir.machine import X86_64_V4
from tapeless.runtime import threads
from tapeless.runtime.pace import Pace, count

TEXT = """
model Net:
    input x: [batch, {width}]
    target y: [batch, {width}]
    p = Dense(x, {width})
    loss mean_squared_error(p, y)

train Net:
    optimizer SGD(lr = 0.01)
    batch 32
"""


def program(width: int, **settings: int | None) -> tapeless.Program:
    return tapeless.load(TEXT.format(width=width)).compile(seed=1, **settings)


def test_small_steps_run_on_one_thread_and_large_ones_on_more():
    for width, expected in ((8, 1), (512, 2)):
        effort = program(width).image("train").manifest.entries["train_step"].effort
        assert 1 <= len(effort) <= X86_64_V4.most_parts
        assert count([nanoseconds * 1e-9 for nanoseconds in effort[:2]], 1e6) == expected


class Restless(Pace):
    """One that takes another count for each batch."""

    def __init__(self) -> None:
        super().__init__([1e-3, 0.5e-3, 0.3e-3])
        self.counts: list[int] = []

    def piece(self, batches: float) -> tuple[int, float]:
        self.counts.append(len(self.counts) % 3 + 1)
        return self.counts[-1], min(batches, 1)


def test_threads_change_in_the_midst_of_a_call(monkeypatch):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 200, 256)).astype(np.float32)
    exact = program(256, threads=1)
    exact.fit({"x": x}, {"y": y}, epochs=2, progress=False)
    loss = exact.evaluate({"x": x}, {"y": y})
    paces: list[Restless] = []
    monkeypatch.setattr(threads, "processors", lambda: 3)
    monkeypatch.setattr("tapeless.runtime.call.Pace", lambda seconds: paces.append(Restless()) or paces[-1])
    other = program(256)
    other.fit({"x": x}, {"y": y}, epochs=2, progress=False)
    assert {count for pace in paces for count in pace.counts} == {1, 2, 3}
    assert other.evaluate({"x": x}, {"y": y}) == loss
    for name, weights in exact.parameters.items():
        assert weights.tobytes() == other.parameters[name].tobytes()


@pytest.mark.parametrize("threads_", [1, 3])
def test_a_number_that_is_asked_for_is_kept(monkeypatch, threads_):
    def refuse(*_: object) -> None:
        raise AssertionError("no choice is left")

    monkeypatch.setattr(Pace, "piece", refuse)
    made = program(8, threads=threads_)
    made.predict({"x": np.zeros((3, 8), np.float32)})
