"""The table of what PyTorch and Keras have: every spelling on it compiles, and every test that it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tapeless.compiler.elaborate.modules import standard_names
from tapeless.compiler.model import load

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/coverage.md").read_text(encoding="utf-8")
DATA = """
    input x: [batch, 4]
    input y: [batch, 4]
    input p: [batch, 4]
    input q: [batch, 4]
    input v: [batch]
    input image: [batch, 6, 8, 8]
    input series: [batch, 7, 4]
    input k: int[batch] < 4
    param A: [4, 4] ~ orthogonal
"""
FILES = {"library": "standard_library", "index": "index_notation"}


def rows() -> list[tuple[str, str, str]]:
    """Section, spelling and tests of each row."""
    found, section = [], ""
    for line in TEXT.partition("## Left out")[0].splitlines():
        if line.startswith("## "):
            section = line[3:]
        cells = re.fullmatch(r"\|([^`]*)\|([^`]*)\| `([^`]+)` \| ([a-z ]+) \|", line)
        if cells:
            found.append((section, cells[3], cells[4]))
        assert cells or not line.startswith("| ") or line.endswith("| tests |"), line
    return found


ROWS = rows()
PROGRAMS = {
    "Optimizers": "model M:\n    input x: [batch, 4]\n    loss mean(Dense(x, 3) ** 2)\n\ntrain M:\n    optimizer {}\n",
    "Starting values": "model M:\n    input x: [batch, 4]\n    param W: [4, 3] ~ {}\n    loss mean((x @ W) ** 2)\n",
}


@pytest.mark.parametrize(("section", "spelling"), [row[:2] for row in ROWS])
def test_every_spelling_compiles(section: str, spelling: str) -> None:
    load(PROGRAMS.get(section, f"model M:{DATA}    r = {{}}\n    loss mean(r) + sum(A)\n").format(spelling))


def test_every_test_is_there() -> None:
    names = {path.stem.removeprefix("test_") for path in (ROOT / "tests").rglob("test_*.py")}
    for _, _, tests in ROWS:
        assert all(FILES.get(name, name) in names for name in tests.split())


def test_the_standard_library_is_on_it() -> None:
    """Its layers, losses and optimizers; smaller functions only serve them."""
    words = set(re.findall(r"\w+", TEXT))
    large = {
        name
        for name, file in standard_names().items()
        if file in ("layers.tl", "normalisation.tl", "dropout.tl", "adam.tl", "optimizers.tl", "recurrent.tl")
    }
    assert {name for name in large if name not in words} <= {"over_groups", "by_channel", "mean_of"}
