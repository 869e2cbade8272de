"""What the examples share: a command line, splits of the data, and pictures small enough to keep."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Options:
    """`short`: a few seconds' worth, to see that all of it works. `picture`: the file to draw into, if any."""

    short: bool
    picture: Path | None


def options(description: str, picture: Path) -> Options:
    """The command line of an example; only the full form draws over the picture in its folder."""
    parser = argparse.ArgumentParser(description=description.strip().splitlines()[0])
    parser.add_argument("--short", action="store_true", help="a few seconds' worth, to see that it works")
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help=f"where to draw [default: {picture.name}, if not --short]"
    )
    given = parser.parse_args()
    return Options(given.short, given.picture or (None if given.short else picture))


def digits() -> tuple[Array, Array]:
    """Images `[1797, 64]` with ink 1 on paper 0, and which digit each shows, `[1797]`: see digits/README.md."""
    with np.load(Path(__file__).parent / "digits" / "digits.npz") as data:
        return data["image"], data["label"]


def stratified_split(label: Array, fraction: float, seed: int) -> tuple[Array, Array]:
    """Two sorted arrays of row numbers, (kept, held out), with `fraction` of every class held out."""
    generator = np.random.default_rng(seed)
    held = []
    for value in np.unique(label):
        rows = generator.permutation(np.flatnonzero(label == value))
        held.append(rows[: round(fraction * len(rows))])
    held_out = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(label)), held_out), held_out


def split(rows: int, fraction: float, seed: int) -> tuple[Array, Array]:
    """As `stratified_split`, of rows that have no class."""
    return stratified_split(np.zeros(rows), fraction, seed)


def standardise(kept: Array, held_out: Array) -> tuple[Array, Array]:
    """Both with the mean of `kept` taken away and divided by its standard deviation, column by column."""
    mean, deviation = kept.mean(axis=0), kept.std(axis=0)
    return (kept - mean) / deviation, (held_out - mean) / deviation


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG of at most 60 KB."""
    figure.tight_layout()
    figure.savefig(path, dpi=80, metadata={"Software": None})


def draw_grid(rows: list[Array], titles: list[str], path: Path, captions: Sequence[str] = ()) -> None:
    """Rows of grey images, each row `[n, 64]`, with ink 1 on paper 0; a title at the left of each row, and below the
    last row a caption for each of its images.
    """
    columns = max(map(len, rows))
    figure = Figure(figsize=(0.6 * columns + 1.2, 0.62 * len(rows) + (0.3 if captions else 0)))
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes, images, title in zip(grid, rows, titles, strict=True):
        for place, image in zip(axes, images, strict=False):
            place.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
        for place in axes:
            place.set(xticks=[], yticks=[], frame_on=False)
        axes[0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=9)
    for place, caption in zip(grid[-1], captions, strict=False):
        place.set_xlabel(caption, fontsize=9)
    save(figure, path)
