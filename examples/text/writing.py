"""What a model of characters is asked: how much a text surprises it, and to go on writing.

Such a model takes `text` `[rows, context]` and gives, for each place, the probabilities of the character that follows.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from examples.shared import save
from examples.text.corpus import Corpus, Ints, windows
from tapeless.runtime.program import Program


def bits(program: Program, pieces: tuple[Ints, ...], context: int) -> float:
    """The mean of -log2 p over characters that at least half a context stands before: of windows that overlap by
    half, the second halves."""
    text, following = windows(pieces, context, context // 2)
    half = context // 2
    probs = program.predict(text)[:, half:]
    return float(-np.log2(np.take_along_axis(probs, following[:, half:, None], axis=-1)).mean())


def write(
    program: Program, made: Corpus, context: int, beginnings: list[str], length: int, seed: int, warmth: float = 0.8
) -> list[str]:
    """Texts that go on from their beginnings, all equally long: each character is drawn from what the model predicts after
    the last `context` ones, probabilities raised to 1 / warmth."""
    generator = np.random.default_rng(seed)
    text = np.stack([made.encode(beginning) for beginning in beginnings])
    for _ in range(length):
        seen = text[:, -context:]
        last = seen.shape[1] - 1
        padded = np.pad(seen, ((0, 0), (0, context - last - 1)))  # what comes later is not seen from `last`
        probs = program.predict(np.ascontiguousarray(padded))[:, last].astype(np.float64) ** (1 / warmth)
        drawn = [generator.choice(len(row), p=row / row.sum()) for row in probs]
        text = np.column_stack([text, np.array(drawn, np.int32)])
    return [made.decode(row) for row in text]


def draw(curve: list[float], name: str, trigrams: float, path: Path) -> None:
    """Bits per character after each epoch, against those of trigrams."""
    figure = Figure(figsize=(6, 3))
    axes = figure.subplots()
    axes.plot(range(1, len(curve) + 1), curve, "o-", label=name)
    axes.axhline(trigrams, color="grey", linestyle="--", label="trigrams")
    axes.set(xlabel="epoch", ylabel="bits per character held out", xticks=range(1, len(curve) + 1))
    axes.legend()
    save(figure, path)
