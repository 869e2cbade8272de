"""Models that cannot go place by place and what is said about them (see `golden`); the mended ones can.

`python -m tests.compiler.test_stepping_refused --update` writes what is said now; read the difference before
committing it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tapeless.compiler import entries
from tapeless.compiler.messages.diagnostics import ProgramErrors
from tapeless.compiler.model import load
from tapeless.compiler.stepping.causality import LooksAhead

from .golden import cases, parts, update

CASES = cases("stepping")


def said(program: str) -> str:
    model = load(program, "model.tl")
    try:
        entries.step(model)
    except LooksAhead as error:
        found = error.diagnostic()
        assert found.span is not None and found.span.file == "model.tl" and len(found.message) <= 120
        return ProgramErrors([found], {source.file: source for source in model.sources}).render() + "\n"
    return "nothing\n"


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_message(path: Path) -> None:
    program, expected, mended = parts(path)
    assert said(program) == expected
    if mended:
        assert said(mended) == "nothing\n"


def test_a_graph_of_training_still_names_what_it_lacks() -> None:
    """The other entries of such a model are as they were."""
    model = load(parts(next(path for path in CASES if path.stem == "bidirectional"))[0], "model.tl")
    assert entries.predict(model).outputs


if __name__ == "__main__" and "--update" in sys.argv:
    update(CASES, said)
