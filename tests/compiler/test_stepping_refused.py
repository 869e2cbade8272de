"""Models that cannot go place by place and what is said about them: files as those of `test_diagnostics`.

`python tests/compiler/test_stepping_refused.py --update` writes what is said now; read the difference before committing it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tapeless.compiler import entries
from tapeless.compiler.causality import LooksAhead
from tapeless.compiler.diagnostics import ProgramErrors
from tapeless.compiler.model import load

FOLDER = Path(__file__).parent / "stepping"
CASES = sorted(FOLDER.glob("*.txt"))
BAR = "=" * 80


def split(text: str) -> tuple[str, str, str]:
    """Program, expectation, and the mended program or nothing."""
    program, _, rest = text.partition(BAR + "\n")
    expected, _, mended = rest.partition(BAR + "\n")
    return program, expected, mended


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
    program, expected, mended = split(path.read_text(encoding="utf-8"))
    assert said(program) == expected
    if mended:
        assert said(mended) == "nothing\n"


def test_a_graph_of_training_still_names_what_it_lacks() -> None:
    """The other entries of such a model are as they were."""
    model = load(split((FOLDER / "bidirectional.txt").read_text(encoding="utf-8"))[0], "model.tl")
    assert entries.predict(model).outputs


if __name__ == "__main__" and "--update" in sys.argv:
    for path in CASES:
        program, _, mended = split(path.read_text(encoding="utf-8"))
        path.write_text(program + BAR + "\n" + said(program) + (BAR + "\n" + mended if mended else ""), encoding="utf-8")
