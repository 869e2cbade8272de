"""Wrong programs and what is said about them (see `golden`); the mended ones must compile.

`python -m tests.compiler.test_diagnostics --update` writes what is said now; read the difference before committing it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tapeless.compiler.messages.codes import TITLES
from tapeless.compiler.messages.diagnostics import ProgramErrors
from tapeless.compiler.model import load

from .golden import cases, parts, update

CASES = cases("diagnostics")
MENDED = [path for path in CASES if parts(path)[2]]


def said(program: str) -> str:
    """What the compiler says about a program."""
    try:
        model = load(program, "model.tl")
    except ProgramErrors as errors:
        return errors.render() + "\n"
    return "".join(f"warning {warning.code}\n" for warning in model.warnings) or "nothing\n"


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_message(path: Path) -> None:
    program, expected, _ = parts(path)
    assert said(program) == expected


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_place_and_width(path: Path) -> None:
    """Every diagnostic has a place inside the program, a known code, and lines that fit a terminal."""
    program, _, _ = parts(path)
    with pytest.raises(ProgramErrors) as caught:
        load(program, "model.tl")
    for diagnostic in caught.value.diagnostics:
        assert diagnostic.code in TITLES
        assert diagnostic.span is not None and diagnostic.span.file == "model.tl"
        assert 1 <= diagnostic.span.line <= program.count("\n") + 1
        assert len(diagnostic.message) <= 120


@pytest.mark.parametrize("path", MENDED, ids=lambda path: path.stem)
def test_mended(path: Path) -> None:
    """What the message suggests, done to the program, leaves no fault."""
    _, _, mended = parts(path)
    load(mended, "model.tl")


def test_there_are_enough() -> None:
    assert len(CASES) >= 120 and len(MENDED) >= 40


if __name__ == "__main__" and "--update" in sys.argv:
    update(CASES, said)
