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
