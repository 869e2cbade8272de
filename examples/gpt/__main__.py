"""A small GPT learns to write like the reference of Python's language.

    python -m examples.gpt

Every epoch it is measured against a trigram model of the same text; then it writes samples.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import tapeless
from examples.shared import options, save
from examples.text.corpus import Corpus, Ints, corpus, windows
from examples.text.trigram import bits_per_character

HERE = Path(__file__).parent
CONTEXT = 64


def bits(program: Any, pieces: tuple[Ints, ...]) -> float:
    """The mean of -log2 p over characters that at least half a context stands before: of windows that overlap by
    half, the second halves."""
    text, following = windows(pieces, CONTEXT, CONTEXT // 2)
    half = CONTEXT // 2
    probs = program.predict(text)[:, half:]
    return float(-np.log2(np.take_along_axis(probs, following[:, half:, None], axis=-1)).mean())


def write(program: Any, made: Corpus, beginnings: list[str], length: int, seed: int, warmth: float = 0.8) -> list[str]:
    """Texts that go on from their beginnings, all equally long: each character is drawn from what the model predicts after
    the last CONTEXT ones, probabilities raised to 1 / warmth."""
    generator = np.random.default_rng(seed)
    text = np.stack([made.encode(beginning) for beginning in beginnings])
    for _ in range(length):
        seen = text[:, -CONTEXT:]
        last = seen.shape[1] - 1
        padded = np.pad(seen, ((0, 0), (0, CONTEXT - last - 1)))  # what comes later is not seen from `last`
        probs = program.predict(np.ascontiguousarray(padded))[:, last].astype(np.float64) ** (1 / warmth)
        drawn = [generator.choice(len(row), p=row / row.sum()) for row in probs]
        text = np.column_stack([text, np.array(drawn, np.int32)])
    return [made.decode(row) for row in text]


def draw(curve: list[float], trigrams: float, path: Path) -> None:
    figure = Figure(figsize=(6, 3))
    axes = figure.subplots()
    axes.plot(range(1, len(curve) + 1), curve, "o-", label="GPT")
    axes.axhline(trigrams, color="grey", linestyle="--", label="trigrams")
    axes.set(xlabel="epoch", ylabel="bits per character held out", xticks=range(1, len(curve) + 1))
    axes.legend()
    save(figure, path)


def main() -> None:
    chosen = options(__doc__, HERE / "gpt.png")
    made = corpus()
    train, held_out = (made.train[:4], made.held_out[:1]) if chosen.short else (made.train, made.held_out)
    trigrams = bits_per_character(train, held_out, len(made.alphabet))
    text, following = windows(train, CONTEXT, CONTEXT // 2)
    sizes = {"width": 32, "depth": 1} if chosen.short else {}
    program: Any = tapeless.load(HERE / "gpt.tl", characters=len(made.alphabet), context=CONTEXT, **sizes).compile(
        seed=0
    )
    curve: list[float] = []
    program.fit(text, following, on_epoch=lambda run: curve.append(bits(program, held_out)))
    print(f"{sum(value.size for value in program.parameters.values())} parameters")
    print(f"trigrams: {trigrams:.3f} bits per character held out")
    print(f"GPT: {curve[-1]:.3f} bits per character held out")
    for sample in write(program, made, ["The ", "A cl", "If a"], 40 if chosen.short else 300, seed=1):
        print("-" * 72)
        print(sample)
    if chosen.picture:
        draw(curve, trigrams, chosen.picture)


if __name__ == "__main__":
    main()
