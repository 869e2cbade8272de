"""The repository's example models, for tests that put every one of them through something."""

from __future__ import annotations

import re
from pathlib import Path

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").rglob("*.tl"))
# What would take long at the sizes of the examples is made small.
SIZES: dict[str, dict[str, int]] = {
    "cnn": {"width": 4},
    "gpt": {"context": 6, "width": 8, "depth": 1, "heads": 2},
    "lstm": {"t": 5, "units": 8, "width": 4},
    "lynx": {"t": 4},
}


def sizes_of(path: Path) -> dict[str, int]:
    """The small sizes of an example's model."""
    return SIZES.get(path.stem, {})


def name_of(path: Path) -> str:
    """The first model of a file: the one that is trained."""
    return re.findall(r"^model (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)[0]
