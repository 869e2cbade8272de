"""Labels beside `ignore_index`: every label is a class or the number of those that do not count, checked where data
enter.
"""

from __future__ import annotations

import numpy as np
import pytest

import tapeless
from tapeless.compiler.messages.diagnostics import ProgramErrors
from tapeless.compiler.model import load
from tapeless.runtime.errors import DataError

TEXT = """
model M:
    input x: [batch, 6]
    target k: int[batch]{bound}
    z = Dense(x, 4)
    output z
    loss {loss}
    metric accuracy = mean(argmax(z) == k)
"""
RNG = np.random.default_rng(0)
X, K = RNG.normal(size=(10, 6)), RNG.integers(0, 4, 10)


def compiled(loss: str, bound: str = " < 4") -> tapeless.Program:
    return tapeless.load(TEXT.format(loss=loss, bound=bound)).compile(batch=8, dtype="float64", cache=False)


def warned(loss: str) -> list[str]:
    return [warning.code for warning in load(TEXT.format(loss=loss, bound=" < 4"), "model.tl").warnings]


def expected(scores: np.ndarray, labels: np.ndarray, ignored: int, weights: np.ndarray, smoothing: float) -> float:
    logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    counted = labels != ignored
    safe = np.where(counted, labels, 0)
    each = (1 - smoothing) * weights[safe] * logs[np.arange(len(labels)), safe] + smoothing * (weights * logs).mean(
        axis=1
    )
    return float(-(each * counted).sum() / (weights[safe] * counted).sum())


@pytest.mark.parametrize(("ignored", "bound"), [(255, " < 4"), (255, " < 256"), (-100, " < 4"), (-1, ""), (4, " < 5")])
def test_labels_are_classes_or_ignored(ignored: int, bound: str) -> None:
    program = compiled(
        f"cross_entropy(z, k, weight = arange(4) + 1, ignore_index = {ignored}, label_smoothing = 0.1)", bound
    )
    labels = K.copy()
    labels[[2, 5]] = ignored
    value = expected(program.predict(X), labels, ignored, np.arange(4) + 1.0, 0.1)
    assert program.evaluate(X, labels)["loss"] == pytest.approx(value, rel=1e-12)
    assert all(np.isfinite(gradient).all() for gradient in program.gradients(X[:8], labels[:8]).values())
    confusion = program.confusion(X, labels)
    assert confusion is not None and confusion.sum() == 8
    for wrong in (7, -2, 254):
        labels[4] = wrong
        with pytest.raises(
            DataError,
            match=rf"`k` has {wrong} at row 4; its labels run from 0 to 3, or are {ignored} where a row does not count",
        ):
            program.evaluate(X, labels)


def test_logarithms_of_probabilities() -> None:
    program = compiled("negative_log_likelihood(log_softmax(z), k, ignore_index = -100)")
    labels = np.where(K == 1, -100, K)
    value = expected(program.predict(X), labels, -100, np.ones(4), 0.0)
    assert program.evaluate(X, labels)["loss"] == pytest.approx(value, rel=1e-12)


def test_a_label_that_is_computed_is_checked_by_the_loss() -> None:
    program = compiled("cross_entropy(z, k + 0 * k, ignore_index = 9)", " < 10")
    assert np.isfinite(program.evaluate(X, np.where(K == 1, 9, K))["loss"])
    assert not np.isfinite(program.evaluate(X, np.where(K == 1, 7, K))["loss"])


def test_labels_that_are_no_class_index_nothing() -> None:
    loss = "cross_entropy(z, k, ignore_index = 255)\n    metric m = mean({index})"
    with pytest.raises(ProgramErrors, match=r"E0403.*`k` is an index here"):
        warned(loss.format(index="arange(4)[k]"))
    assert warned(loss.format(index="arange(4)[where(k == 255, 0, k)]")) == []


def test_an_ignored_class_is_warned_of() -> None:
    assert warned("cross_entropy(z, k, ignore_index = 3)") == ["W0111"]
    assert warned("cross_entropy(z, k, ignore_index = 255)") == warned("cross_entropy(z, k)") == []
