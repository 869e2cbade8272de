"""Sums over a long axis beside pointwise work: right values, and the same bytes for any number of threads."""

from __future__ import annotations

import re

import numpy as np
import pytest

import tapeless

TEXT = """
model Fit(n = 200000):
    input  x: [batch, n]
    target y: [batch, n]
    param  w: [n] = 0.5
    made = tanh(w * x) + where(arange(n) < 100, 0.25, 0.0)
    loss mean((made - y) ** 2)
    metric far = max(abs(made - y))

train Fit:
    optimizer SGD(lr = 1000)
    batch 2
"""


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=(5, 200_000)).astype(np.float32) for name in "xy"}


def test_bytes_do_not_depend_on_threads(data):
    found = set()
    for threads in (1, 2, 3, 4):
        program = tapeless.load(TEXT).compile(threads=threads)
        program.fit(data, epochs=2, validation=0.0, progress=False)
        found.add(program.parameters["w"].tobytes())
    assert len(found) == 1


def test_values(data):
    program = tapeless.load(TEXT).compile()
    made = np.tanh(0.5 * data["x"].astype(np.float64)) + np.where(np.arange(200_000) < 100, 0.25, 0)
    found = program.evaluate(data)
    np.testing.assert_allclose(found["loss"], np.mean((made - data["y"]) ** 2), rtol=1e-5)
    slope = 2 * (made - data["y"]) * (1 - np.tanh(0.5 * data["x"].astype(np.float64)) ** 2) * data["x"]
    np.testing.assert_allclose(program.gradients(data)["w"], slope.sum(0) / made.size, rtol=1e-3, atol=1e-9)


def test_sums_are_shared_out():
    text = tapeless.load(TEXT).inspect(target="x86-64-v4").stage("scheduled", "train_step")
    (parts,) = re.findall(r"task \S+ \(nest, (\d+) parts\)\n.*\n *writes loss\.sum\.shares", text)
    assert int(parts) >= 4


SEQUENCES = """
model M(t = 256):
    input x: [batch, t, 3]
    target y: [batch, t, 8]
    z = Dense(x, 8)
    s = expand_dims(where(arange(t) < 100, 1.0, 0.5), 1)
    loss mean((z * s - y) ** 2)

train M:
    optimizer SGD(lr = 0.1)
    batch 40
"""


def test_sums_over_the_rows_of_sequences():
    """A bias takes the adjoints of all places of all sequences, of which there may be fewer than in a whole batch."""
    program = tapeless.load(SEQUENCES).compile(threads=2)
    scheduled = tapeless.load(SEQUENCES).inspect(target="x86-64-v4").stage("scheduled", "train_step")
    assert "sum_shares" in scheduled
    rng = np.random.default_rng(0)
    for rows in (1, 40):
        x, y = rng.normal(size=(rows, 256, 3)), rng.normal(size=(rows, 256, 8))
        W, b = (np.asarray(program.parameters[name], np.float64) for name in ("z.W", "z.b"))
        scale = np.where(np.arange(256) < 100, 1.0, 0.5)[:, None]
        adjoint = 2 * ((x @ W + b) * scale - y) * scale / y.size
        np.testing.assert_allclose(program.gradients(x, y)["z.b"], adjoint.sum((0, 1)), rtol=1e-4, atol=1e-7)
