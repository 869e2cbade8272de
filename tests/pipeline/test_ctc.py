"""examples/ctc: the sum over alignments against all of them by hand, and against PyTorch's CTCLoss with its
gradient.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tapeless

ROOT = Path(__file__).parents[2]
FUNCTIONS = (ROOT / "examples/ctc/ctc.tl").read_text(encoding="utf-8").partition("model Reader")[0]


def program(t: int, c: int, l: int, rows: int) -> Any:  # noqa: E741  (as the example has it)
    text = (
        FUNCTIONS
        + f"""
model M:
    input logits: [batch, {t}, {c}]
    input text: int[batch, {l}] < {c}
    input count: int[batch] < {l + 1}
    input frames: int[batch] < {t + 1}
    param zero: [{t}, {c}] = 0
    score = ctc(logits + zero, text, count, frames)
    output loss_of_row = -score
    output slope = grad(-score, logits)
    loss -mean(score)
"""
    )
    return tapeless.load(text).compile(batch=rows, dtype="float64")


def by_hand(scores: np.ndarray, text: list[int]) -> float:
    """All ways to choose a class for each frame that read as the text: equal ones in a row are one, then blanks go."""
    total = 0.0
    for path in itertools.product(range(scores.shape[1]), repeat=scores.shape[0]):
        read = [one for one, _ in itertools.groupby(path) if one]
        if read == text:
            total += float(np.exp(sum(scores[k, one] for k, one in enumerate(path))))
    return -float(np.log(total))


def test_all_alignments() -> None:
    rng = np.random.default_rng(1)
    rows, t, c, letters = 7, 5, 3, 3
    logits = rng.normal(size=(rows, t, c))
    text = np.array([[1, 2, 1], [1, 1, 2], [2, 2, 1], [1, 1, 1], [1, 2, 2], [2, 1, 0], [1, 0, 0]])
    count, frames = np.array([3, 3, 2, 3, 0, 2, 1]), np.array([5, 5, 4, 5, 3, 2, 1])
    scores = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    wanted = [by_hand(scores[k, : frames[k]], text[k, : count[k]].tolist()) for k in range(rows)]
    made = program(t, c, letters, 4).predict({"logits": logits, "text": text, "count": count, "frames": frames})
    np.testing.assert_allclose(made["loss_of_row"], wanted, rtol=1e-12)


def test_as_pytorch() -> None:
    given = np.load(ROOT / "tests/fixtures/ctc.npz")
    rows, t, c = given["logits"].shape
    data = {"logits": given["logits"], "text": given["text"], "count": given["count"], "frames": given["length"]}
    compiled = program(t, c, given["text"].shape[1], rows)
    made = compiled.predict(data)
    np.testing.assert_allclose(made["loss_of_row"], given["losses"], rtol=1e-10)
    np.testing.assert_allclose(made["slope"] / rows, given["gradient"], rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(compiled.gradients(data)["zero"], given["gradient"].sum(0), rtol=1e-8, atol=1e-12)


def test_too_few_frames() -> None:
    """No way to read the text: a loss beyond all others, with finite slopes."""
    made = program(2, 3, 2, 1).predict(
        {"logits": np.zeros((1, 2, 3)), "text": np.array([[1, 1]]), "count": np.array([2]), "frames": np.array([2])}
    )
    assert made["loss_of_row"][0] > 1e29 and np.isfinite(made["slope"]).all()


@pytest.mark.slow
@pytest.mark.parametrize("steps", [8])
def test_the_example_learns(steps: int) -> None:
    rng = np.random.default_rng(0)
    data = {
        "x": rng.normal(size=(64, 12, 3)).astype(np.float32),
        "frames": np.full(64, 12),
        "text": rng.integers(1, 6, (64, 4)),
        "count": np.full(64, 4),
    }
    compiled: Any = tapeless.load(ROOT / "examples/ctc/ctc.tl").compile(batch=32, seed=0)
    before = compiled.evaluate(data)["loss"]
    compiled.fit(data, epochs=steps, progress=False)
    assert compiled.evaluate(data)["loss"] < 0.9 * before
