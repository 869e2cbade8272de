"""Random places: how often each is drawn."""

from __future__ import annotations

import numpy as np

import tapeless


def test_categorical() -> None:
    program = tapeless.load("""
model M:
    input x: [batch, 4]
    output k = random.categorical(x)
    output x = x
""").compile(batch=10000, seed=1)
    shares = np.array([0.1, 0.2, 0, 0.7])
    scores = np.tile([*np.log(shares[:2]), -1e30, np.log(shares[3])], (10000, 1))
    drawn = program.predict({"x": scores})["k"].astype(int)
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / 10000, shares, atol=0.02)
