"""The model to beat: a character follows the two before it as often as it did in the training text.

    python -m examples.text.trigram

Counts of trigrams, bigrams and single characters are interpolated as Witten and Bell (1991) do: of a context that
was seen n times with d different followers, the share d / (n + d) goes to the next shorter context.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from examples.text.corpus import Ints, corpus


def fit(pieces: tuple[Ints, ...], characters: int) -> npt.NDArray[np.float64]:
    """Probabilities `[a, b, c]` of the character c after the characters a, b."""
    counts = np.zeros((characters, characters, characters))
    for piece in pieces:
        np.add.at(counts, (piece[:-2], piece[1:-1], piece[2:]), 1)
    probability = np.full(characters, 1 / characters)
    for summed in ((0, 1), (0,), ()):
        count = counts.sum(axis=summed)
        different = (count > 0).sum(axis=-1, keepdims=True)
        seen = count.sum(axis=-1, keepdims=True)
        mixed = (count + different * probability) / np.maximum(seen + different, 1)
        probability = np.where(seen + different > 0, mixed, probability)
    return probability


def bits_per_character(pieces: tuple[Ints, ...], held_out: tuple[Ints, ...], characters: int) -> float:
    """The mean of -log2 p over all characters held out but the first two of each piece."""
    probability = fit(pieces, characters)
    surprise = [-np.log2(probability[piece[:-2], piece[1:-1], piece[2:]]) for piece in held_out]
    return float(np.mean(np.concatenate(surprise)))


def main() -> None:
    made = corpus()
    trained, held = sum(map(len, made.train)), sum(map(len, made.held_out))
    print(f"{trained} characters to learn from, {held} held out, {len(made.alphabet)} different ones")
    print(f"trigrams: {bits_per_character(made.train, made.held_out, len(made.alphabet)):.3f} bits per character")


if __name__ == "__main__":
    main()
