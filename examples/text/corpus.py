"""Text that every CPython carries, as numbers: the language reference in `pydoc_data.topics`, split for training.

    python -m examples.text.corpus text.npz

writes windows of 128 characters as arrays `text`, `next` (training) and `held_text`, `held_next`.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int32]

PLAIN = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "—": "-", "–": "-", "…": "."})
STRETCHES = 50  # the text is cut into so many pieces of equal length, of which every tenth is held out


@dataclass(frozen=True)
class Corpus:
    """`held_out` are stretches of text that no paragraph of `train` repeats; characters are places in `alphabet`."""

    alphabet: str
    train: tuple[Ints, ...]
    held_out: tuple[Ints, ...]

    def encode(self, text: str) -> Ints:
        """Int32 `[len(text)]`. KeyError for a character that the alphabet lacks."""
        place = {character: k for k, character in enumerate(self.alphabet)}
        return np.array([place[character] for character in text], np.int32)

    def decode(self, codes: npt.ArrayLike) -> str:
        return "".join(self.alphabet[int(code)] for code in np.asarray(codes))


def text() -> str:
    """All topics in the order of their names, each paragraph once: many stand under several topics."""
    whole = "\n\n".join(topics[name].strip("\n") for name in sorted(topics))
    paragraphs = dict.fromkeys(whole.replace("\t", "    ").translate(PLAIN).split("\n\n"))
    plain = "\n\n".join(paragraphs)
    count = Counter(plain)
    return "".join(character for character in plain if count[character] >= 5)


def corpus() -> Corpus:
    whole = text()
    alphabet = "".join(sorted(set(whole)))
    encode = Corpus(alphabet, (), ()).encode
    size = -(-len(whole) // STRETCHES)
    pieces = [encode(whole[start : start + size]) for start in range(0, len(whole), size)]
    train = tuple(piece for k, piece in enumerate(pieces) if k % 10 != 9)
    return Corpus(alphabet, train, tuple(pieces[9::10]))


def windows(pieces: tuple[Ints, ...], length: int, step: int | None = None) -> tuple[Ints, Ints]:
    """Windows `[n, length]` that start every `step` characters (`length` if not given) of each piece, and for each of
    their characters the one that follows it, `[n, length]`."""
    step = step or length
    starts = [piece[k : k + length + 1] for piece in pieces for k in range(0, len(piece) - length, step)]
    both = np.stack(starts)
    return np.ascontiguousarray(both[:, :-1]), np.ascontiguousarray(both[:, 1:])


def arrays(length: int = 128) -> dict[str, Any]:
    """What the command line writes."""
    made = corpus()
    found: dict[str, Any] = {"alphabet": np.array(made.alphabet)}
    found["text"], found["next"] = windows(made.train, length, length // 2)
    found["held_text"], found["held_next"] = windows(made.held_out, length)
    return found


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m examples.text.corpus FILE.npz")
    np.savez_compressed(sys.argv[1], **arrays())
