"""Losses that cannot be differentiated: the step in between is named, with its place."""

import pytest

import tapeless

MODEL = """model M:
    input x: [batch, 3]
    param W: [3, 2] ~ he_normal
    h = x @ W
    loss mean({loss})
"""


@pytest.mark.parametrize(("loss", "marked"), [("argmax(h) * 1.0", "argmax(h)"), ("argsort(h) * h", "argsort(h)")])
def test_a_step_without_a_derivative_is_an_error_at_its_place(loss, marked):
    text = MODEL.format(loss=loss)
    with pytest.raises(tapeless.UserError, match=r"error\[E0703\]: the loss depends on a parameter") as caught:
        tapeless.load(text).compile(batch=4).gradients([[1, 2, 3]])
    place = text.split("\n")[4].index(marked)
    assert f"    loss mean({loss})\n   |{' ' * (place + 1)}{'^' * len(marked)}\n" in str(caught.value)
