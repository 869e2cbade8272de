"""A small GPT learns to write like the reference of Python's language.

    python -m examples.gpt

Every epoch it is measured against a trigram model of the same text; then it writes samples.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tapeless
from examples.shared import options
from examples.text.corpus import corpus, windows
from examples.text.trigram import bits_per_character
from examples.text.writing import bits, draw, write

HERE = Path(__file__).parent
CONTEXT = 64


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
    program.fit(text, following, on_epoch=lambda run: curve.append(bits(program, held_out, CONTEXT)))
    print(f"{sum(value.size for value in program.parameters.values())} parameters")
    print(f"trigrams: {trigrams:.3f} bits per character held out")
    print(f"GPT: {curve[-1]:.3f} bits per character held out")
    for sample in write(program, made, ["The ", "A cl", "If a"], 40 if chosen.short else 300, seed=1):
        print("-" * 72)
        print(sample)
    if chosen.picture:
        draw(curve, "GPT", trigrams, chosen.picture)


if __name__ == "__main__":
    main()
