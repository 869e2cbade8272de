"""Losses of probabilities that have become exactly 0 or 1, and of classes that have no share: finite, and training
goes on.
"""

from __future__ import annotations

import numpy as np
import pytest

import tapeless

from ..sweep import sweep

# A probability of `z` that rounds to 1 for z = 200 and to 0 for z = -200.
PROBABILITIES = {
    "softmax": "softmax(stack(0 * z, z))[:, 1]",
    "tanh": "0.5 * (1 + tanh(z))",
    "survival": "1 - exp(-relu(z))",
    "sigmoid": "sigmoid(z)",
}
LOSSES = {
    "cross-entropy": "binary_cross_entropy(p, y, from_logits = false)",
    "by cases": "-mean(where(y > 0.5, log(p), log1p(-p)))",
    "clipped": "-mean(y * clip(log(p), -100, 0) + (1 - y) * clip(log(1 - p), -100, 0))",
    "focal": "-mean(where(y > 0.5, (1 - p) ** 0.5 * log(p), p ** 0.5 * log(1 - p)))",
}
MODEL = """
model Sure:
    input x: [batch]
    target y: [batch]
    param w = 1
    param c = 0
    z = w * x + c
    p = {probability}
    output p
    {losses}

train Sure:
    optimizer SGD(lr = 0.01)
    batch 8
"""


@pytest.mark.parametrize(("name", "dtype"), sweep(PROBABILITIES, ("float32", "float64"), every=3))
def test_certainty_is_no_end(name: str, dtype: str) -> None:
    """Rows that are certain and right have the loss 0 and do not move the parameters; the others go on learning."""
    sure = np.asarray([1000.0, -1000.0, 1000.0, -1000.0])
    unsure = np.asarray([1000.0, -1000.0, 0.25, 0.5])
    losses = "\n    ".join(f"loss {loss} as part{k}" for k, loss in enumerate(LOSSES.values()))
    program = tapeless.load(MODEL.format(probability=PROBABILITIES[name], losses=losses)).compile(
        dtype=dtype, batch=8, threads=1
    )
    assert program.evaluate(sure, sure > 0)["loss"] == 0
    assert all(abs(value) < 1e-30 for value in program.gradients(sure, sure > 0).values())
    found = program.gradients(unsure, unsure > 0)
    assert all(np.isfinite(value) and value != 0 for value in found.values())
    before = program.evaluate(unsure, unsure > 0)["loss"]
    program.fit(unsure, unsure > 0, epochs=2, progress=False)
    assert program.evaluate(unsure, unsure > 0)["loss"] < before


# Losses of three classes, the last of which has the score minus infinity and a target that gives it no share; the last
# row may count for nothing. They are those of two classes, and of the rows that count.
SHARES = {
    "cross_entropy(z, y)": ([[0.25, 0.75, 0], [1, 0, 0], [0.5, 0.5, 0]], 3),
    "kl_divergence(z, y)": ([[0.25, 0.75, 0], [1, 0, 0], [0.5, 0.5, 0]], 3),
    "categorical_focal(z, y, gamma = 0.5)": ([[0.25, 0.75, 0], [1, 0, 0], [0.5, 0.5, 0]], 3),
    "cross_entropy(z, n)": ([1, 0, 1], 3),
    "negative_log_likelihood(log_softmax(z), n)": ([1, 0, 1], 3),
    "cross_entropy(z, n, ignore_index = 2)": ([1, 0, 2], 2),
    "cross_entropy(z, n, where(arange(shape(z)[1]) < 2, 1 + arange(shape(z)[1]), 0))": ([1, 0, 2], 2),
    "negative_log_likelihood(log_softmax(z), n, where(arange(shape(z)[1]) < 2, 1 + arange(shape(z)[1]), 0))": ([1, 0,
        2], 2),
}  # fmt: skip
CLASSES = """
model Shares:
    input x: [batch, {classes}]
    target {target}
    param w: [{classes}] = 0
    z = {scores}
    loss {loss}
"""


SCORES = ("where(x > -100, x * (1 + w), -inf)", "w + where(x > -100, x, -inf)")


@pytest.mark.parametrize(("scores", "loss"), sweep(SCORES, SHARES, every=3))
def test_no_share_of_an_infinite_loss(loss: str, scores: str) -> None:
    target, rows = np.asarray(SHARES[loss][0]), SHARES[loss][1]
    x = np.asarray([[0.5, -1, -1000], [2, 1, -1000], [1, -3, -1000]])
    found = []
    for classes, count in ((3, 3), (2, rows)):
        kind = f"y: [batch, {classes}]" if target.ndim == 2 else f"n: int[batch] < {classes}"
        text = CLASSES.format(classes=classes, target=kind, scores=scores, loss=loss)
        program = tapeless.load(text).compile(dtype="float64", batch=4, threads=1)
        data = x[:count, :classes], target[:count, :classes] if target.ndim == 2 else target[:count]
        found.append((program.evaluate(*data)["loss"], program.gradients(*data)["w"]))
    (value, slope), (expected, part) = found
    assert np.isfinite(expected) and value == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(slope, [*part, 0], rtol=1e-12, atol=1e-15)


def test_rows_are_the_labels_of_a_contrastive_loss() -> None:
    """`arange(batch)` picks along the axis of the rows: each row's own pair is the right one, in any order of the
    rows.
    """
    text = (
        "model M:\n    input x: [batch, 5]\n    param w: [5, 3] ~ normal(0, 1)\n    e = x @ w\n    loss "
        "cross_entropy(e @ transpose(x[:, :3]), arange(batch))\n"
    )
    program = tapeless.load(text).compile(dtype="float64", batch=8, threads=1, seed=1)
    x, w = np.random.default_rng(0).normal(size=(8, 5)), np.array(program.parameters["w"])

    def loss(w: np.ndarray) -> float:
        scores = x @ w @ x[:, :3].T
        return float(np.mean(np.log(np.exp(scores).sum(axis=1)) - np.diag(scores)))

    direction = np.random.default_rng(1).normal(size=w.shape)
    slope = (loss(w + 1e-6 * direction) - loss(w - 1e-6 * direction)) / 2e-6
    assert program.evaluate(x)["loss"] == pytest.approx(loss(w), rel=1e-12)
    assert program.evaluate(x[::-1])["loss"] == pytest.approx(loss(w), rel=1e-12)
    assert np.sum(program.gradients(x)["w"] * direction) == pytest.approx(slope, rel=1e-6)
