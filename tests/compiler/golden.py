"""Files of wrong programs: a program, a line of `=`, what is said about it; in most, after another such line, the
program with the hints followed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

BAR = "=" * 80


def cases(folder: str) -> list[Path]:
    return sorted((Path(__file__).parent / folder).glob("*.txt"))


def parts(path: Path) -> tuple[str, str, str]:
    """Program, expectation, and the mended program or nothing."""
    program, _, rest = path.read_text(encoding="utf-8").partition(BAR + "\n")
    expected, _, mended = rest.partition(BAR + "\n")
    return program, expected, mended


def update(paths: Iterable[Path], said: Callable[[str], str]) -> None:
    """Writes what is said now."""
    for path in paths:
        program, _, mended = parts(path)
        path.write_text(
            program + BAR + "\n" + said(program) + (BAR + "\n" + mended if mended else ""), encoding="utf-8"
        )
