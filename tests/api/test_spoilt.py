"""A finite loss with a gradient that is not finite: training stops, with the weights from before that step."""

import numpy as np
import pytest

import tapeless
from tapeless.runtime.errors import TrainingStopped

TEXT = """
model M:
    input x: [batch, 4]
    param w: [4] = 1
    loss mean(sqrt(x + w - stop_gradient(w)))
train M:
    optimizer Adam(lr = 0.001)
    batch 8
"""


@pytest.mark.parametrize("row", [0, 40, 63])
def test_weights_stay_finite(row, cache_folder):
    program = tapeless.load(TEXT).compile(cache=cache_folder)
    x = np.ones((64, 4))
    program.fit(x, epochs=1)
    x[row, 2] = 0
    with pytest.raises(TrainingStopped, match=r"the gradient of the loss \(line 5\) is not finite at step") as caught:
        program.fit(x, epochs=3)
    assert np.isfinite(program.vector()).all() and np.isfinite(program.state["w.m"]).all()
    assert program.state["step"] == caught.value.step - 1
    assert 9 <= caught.value.step <= 16


def test_infinite_weights_of_ones_own_are_left_alone(cache_folder):
    program = tapeless.load(TEXT.replace("    loss", "    param u = 1\n    loss")).compile(cache=cache_folder)
    program.parameters["u"][...] = np.inf
    assert program.fit(np.ones((16, 4)), epochs=2).epochs == 2


REPLAYED = """
model M:
    input a: [batch, 2]
    target y: [batch]
    param w: [2] = 1
    safe = where(a > 0, 1 / a, 0)
    h = {h}
    loss mean((sum(h * w + 0 * safe, axis = 1) - y) ** 2)

train M:
    optimizer SGD(lr = {lr})
    epochs 40
    batch {batch}
"""
BLAME = "A smaller learning rate"


@pytest.mark.parametrize(
    ("h", "lr", "batch", "told", "blamed"),
    [
        (
            "log(a)",
            0.1,
            8,
            r"at step 1, in epoch 1: `log\(a\)` of 0 is -inf, in row 3, place \[1\]\n  --> .*:7: h = log",
            False,
        ),
        # of data alone, whatever the step
        ("log(a)", 0.1, 4, r"`log\(a\)` of 0 is -inf, in row 3, place \[1\]\n", False),
        ("softmax(a, axis = 1) / (a - 1)", 0.1, 8, r"` of 0.5 and 0 is inf, in row \d, place \[0\]\n", False),
        ("dropout(log(a), 0.2)", 0.1, 8, r"`log\(a\)` of 0 is -inf", False),
        (
            "sqrt(a + w - stop_gradient(w))",
            0.01,
            8,
            r"all values up to the loss are finite, "
            r"but the derivative of `sqrt\(a \+ w - stop_gradient\(w\)\)` is inf, in row 3",
            False,
        ),
        ("exp(a * w)", 1e6, 8, r"at step [2-9].*: `exp\(a \* w\)` of .* is inf, in row", True),
        ("exp(a * w * 200)", 1e-3, 8, r"at step 1, .*: `exp\(a \* w \* 200\)` of 200 is inf, in row", False),
    ],
)
def test_the_line_that_spoilt_a_step_is_named(h, lr, batch, told, blamed):
    a = np.ones((8, 2))
    a[3, 1] = 0
    with pytest.raises(TrainingStopped, match=told) as caught:
        tapeless.load(REPLAYED.format(h=h, lr=lr, batch=batch)).compile(cache=False).fit(a, np.ones(8))
    assert (BLAME in str(caught.value)) == blamed


def test_weights_that_were_not_finite_before_are_named():
    program = tapeless.load(REPLAYED.format(h="a", lr=0.1, batch=8)).compile(cache=False)
    program.parameters["w"][1] = np.nan
    with pytest.raises(TrainingStopped, match=r"`w` is nan, at \[1\], and was so before this step") as caught:
        program.fit(np.ones((8, 2)), np.ones(8))
    assert BLAME not in str(caught.value)


def test_a_reason_that_can_not_be_found_hides_nothing(monkeypatch):
    monkeypatch.setattr("tapeless.replay.first_not_finite", lambda *_: 1 / 0)
    with pytest.raises(
        TrainingStopped, match=r"the loss .* is not finite at step 1, in epoch 1; the weights are those before"
    ):
        tapeless.load(REPLAYED.format(h="log(a - 1)", lr=0.1, batch=8)).compile(cache=False).fit(
            np.ones((8, 2)), np.ones(8)
        )
