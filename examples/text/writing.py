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
from tapeless.runtime.sampling import continuation


def bits(program: Program, pieces: tuple[Ints, ...], context: int) -> float:
    """The mean of -log2 p over characters that at least half a context stands before: of windows that overlap by
    half, the second halves."""
    text, following = windows(pieces, context, context // 2)
    half = context // 2
    probs = program.predict(text)[:, half:]
    return float(-np.log2(np.take_along_axis(probs, following[:, half:, None], axis=-1)).mean())


def write(
    program: Program, made: Corpus, beginnings: list[str], length: int, seed: int, temperature: float = 0.8
) -> list[str]:
    """Texts that go on from their beginnings, all equally long: each character is drawn from what the model predicts
    after those before it, probabilities raised to 1 / temperature. `tapeless sample` does the same for one.
    """
    text = np.stack([made.encode(beginning) for beginning in beginnings])
    drawn = continuation(program, text, length, temperature, seed=seed)
    return [made.decode(row) for row in np.column_stack([text, *drawn])]


def draw(curve: list[float], name: str, trigrams: float, path: Path) -> None:
    """Bits per character after each epoch, against those of trigrams."""
    figure = Figure(figsize=(6, 3))
    axes = figure.subplots()
    axes.plot(range(1, len(curve) + 1), curve, "o-", label=name)
    axes.axhline(trigrams, color="grey", linestyle="--", label="trigrams")
    axes.set(xlabel="epoch", ylabel="bits per character held out", xticks=range(1, len(curve) + 1))
    axes.legend()
    save(figure, path)
