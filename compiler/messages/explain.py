"""The page of each diagnostic's code: a broken program, why it is broken, and the mended one. `tapeless explain
E0204` prints it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tapeless.compiler.messages.codes import TITLES
from tapeless.compiler.messages.near_names import nearest

FOLDER = Path(__file__).parent / "explanations"
_PROGRAM = re.compile(r"^```tl *([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class PageProgram:
    """A program on a page, with the sizes that are given from outside (`hidden=32`)."""

    text: str
    sizes: dict[str, int]


def page(code: str) -> str:
    """The page of a code, in Markdown. Raises KeyError, with a near code or how codes look, if there is none."""
    name = code.upper()
    if name not in TITLES:
        near = nearest(name, TITLES)
        raise KeyError(f"there is no code {code}; " + (f"did you mean {near}?" if near else "codes look like E0204"))
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def programs(text: str) -> tuple[PageProgram, PageProgram]:
    """The broken and the mended program of a page."""
    broken, mended = (PageProgram(body, _sizes(given)) for given, body in _PROGRAM.findall(text))
    return broken, mended


def _sizes(given: str) -> dict[str, int]:
    return {name: int(value) for name, _, value in (pair.partition("=") for pair in given.split())}
