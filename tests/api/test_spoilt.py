"""A finite loss with a gradient that is not finite: training stops, with the weights from before that step."""

import numpy as np
import pytest

import tapeless
from tapeless.runtime.errors import TrainingStopped

TEXT = """
model M:
    input x: [batch, 4]
    param w: [4] = 1
    loss mean(sqrt(abs(x * w)))
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
