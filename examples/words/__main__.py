"""Vectors for the words of Python's language reference, from the company they keep.

    python -m examples.words

A tenth of all pairs of words is held out: how often they meet is predicted from the vectors, and from how frequent
each is.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

import tapeless
from examples.shared import Array, options, save, split
from examples.text.corpus import text

HERE = Path(__file__).parent
SEEN, REACH = 10, 5  # words seen less often are left out; how many words further a meeting may be
ASKED = ("list", "exception", "true", "float", "import", "method", "two", "raises")
DRAWN = (
    ("one", "two", "three", "four"),
    ("integer", "float", "complex", "floating", "numbers", "decimal"),
    ("list", "tuple", "dict", "dictionary", "range", "sequence"),
    ("exception", "raise", "raises", "typeerror", "valueerror", "attributeerror", "except", "finally"),
    ("class", "method", "instance", "attribute", "function"),
    ("import", "imported", "module", "namespace"),
    ("true", "false", "none"),
)


def meetings() -> tuple[list[str], Array]:
    """The words, frequent ones first, and how often the second stands after the first in one paragraph, `[words,
    words]`.
    """
    paragraphs = [re.findall(r"[a-z_]+", paragraph.lower()) for paragraph in text().split("\n\n")]
    count = Counter(word for paragraph in paragraphs for word in paragraph)
    words = [word for word, times in count.most_common() if times >= SEEN]
    place = {word: k for k, word in enumerate(words)}
    table = np.zeros((len(words), len(words)))
    for paragraph in paragraphs:
        codes = np.array([place[word] for word in paragraph if word in place], int)
        for distance in range(1, REACH + 1):
            np.add.at(table, (codes[:-distance], codes[distance:]), 1)
    return words, table


def deviance(rate: Array, count: Array) -> float:
    """The mean deviance of Poisson counts, 0 for rates that say them all."""
    return float(2 * np.mean(rate - count - count * np.log(np.maximum(rate, 1e-9) / np.where(count > 0, count, 1))))


def draw(words: list[str], vectors: Array, path: Path) -> None:
    groups = [[word for word in group if word in words] for group in DRAWN]
    flat = PCA(2).fit_transform(vectors[[words.index(word) for group in groups for word in group]])
    figure = Figure(figsize=(7, 4.5))
    axes = figure.subplots()
    axes.scatter(*flat.T, s=0)
    axes.margins(0.1)
    places = iter(flat)
    for colour, group in enumerate(groups):
        for word in group:
            axes.annotate(word, next(places), color=f"C{colour}", fontsize=9, ha="center")
    axes.set(xticks=[], yticks=[])
    save(figure, path)


def main() -> None:
    chosen = options(__doc__, HERE / "words.png")
    words, table = meetings()
    first, second = np.indices(table.shape).reshape(2, -1)
    count = table.ravel()
    kept, held_out = split(len(count), 0.1, seed=0)
    program = tapeless.load(HERE / "words.tl", words=len(words)).compile()
    program.fit({"word": first[kept], "next": second[kept]}, count[kept], epochs=10 if chosen.short else None)

    pairs = {"word": first[held_out], "next": second[held_out]}
    known = np.zeros(table.size)
    known[kept] = count[kept]
    known = known.reshape(table.shape)
    alone = (known.sum(axis=1)[:, None] * known.sum(axis=0) / known.sum() / 0.9).ravel()
    print(f"{len(words)} words, {count.sum():.0f} meetings; deviance of a pair held out:")
    print(f"from the frequencies of both {deviance(alone[held_out], count[held_out]):.3f}")
    print(f"from their vectors           {program.evaluate(pairs, count[held_out])['deviance']:.3f}")

    vectors = np.concatenate([program.parameters["E"], program.parameters["F"]], axis=1)
    vectors -= vectors.mean(axis=0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for word in ASKED:
        near = np.argsort(-vectors @ vectors[words.index(word)])[1:6]
        print(f"{word + ':':<10} {', '.join(words[k] for k in near)}")
    if chosen.picture:
        draw(words, vectors, chosen.picture)


if __name__ == "__main__":
    main()
