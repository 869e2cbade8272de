"""`bias = false`, in every layer that has one: nothing is added, and no parameter is made for it."""

from __future__ import annotations

import numpy as np
import pytest

from .programs import model, ran, started

LAYERS = {
    "Dense(x, 3, relu{})": ["y.W"],
    "Bilinear(x[:, 0], x[:, 1], 3{})": ["y.W"],
    "RNN(x, 4{})": ["y.Wx", "y.Wh"],
    "LSTM(x, 4, last = true{})": ["y.Wx", "y.Wh"],
    "GRU(x, 4{})": ["y.Wx", "y.Wh"],
    "Bidirectional(x, 4, GRU{})": ["y.forward.Wx", "y.forward.Wh", "y.backward.Wx", "y.backward.Wh"],
    "Conv(expand_dims(x, 1), 2, padding = 1, groups = 1{})": ["y.W"],
    "DepthwiseConv(x{})": ["y.W"],
    "ConvTranspose(expand_dims(x, 1), 2, stride = 2{})": ["y.W"],
    "MultiHeadAttention(x, 2{})": ["y.query.W", "y.key.W", "y.value.W", "y.out.W"],
    "FeedForward(x{})": ["y.inner.W", "y.out.W"],
}


@pytest.mark.parametrize("layer", LAYERS)
def test_no_bias(layer: str) -> None:
    """Biases start at 0, so that a layer without them gives what one with them gives at first."""
    results = []
    for written in (", bias = false", ""):
        made = model(
            f"model M:\n    input x: [batch, 5, 6]\n    y = {layer.format(written)}\n    output o = y\n    loss "
            "mean(y ** 2)\n"
        )
        state = started(made)
        names = [slot.name for slot in made.slots if slot.role == "param"]
        assert names == LAYERS[layer] if written else len(names) > len(LAYERS[layer])
        results.append(ran(made.forward[True], state, {"x": np.random.default_rng(0).normal(size=(3, 5, 6))})["o"])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-12)
