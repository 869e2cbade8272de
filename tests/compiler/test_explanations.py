"""The pages of `tapeless explain`: the broken program gives the code, the mended one compiles without a word."""

from __future__ import annotations

import pytest

from tapeless.compiler import entries
from tapeless.compiler.language.format import formatted
from tapeless.compiler.messages import explain
from tapeless.compiler.messages.codes import TITLES
from tapeless.compiler.messages.diagnostics import Diagnostic, ProgramErrors
from tapeless.compiler.model import load
from tapeless.compiler.stepping.causality import LooksAhead


def test_every_code_has_a_page_and_every_page_a_code() -> None:
    assert {path.stem for path in explain.FOLDER.glob("*.md")} == set(TITLES)


def found(program: explain.PageProgram, code: str) -> list[Diagnostic]:
    try:
        model = load(program.text, "model.tl", sizes=program.sizes)
        if code == "E0805":  # a fault of one entry only
            entries.step(model)
        return list(model.warnings)
    except ProgramErrors as errors:
        return list(errors.diagnostics)
    except LooksAhead as error:
        return [error.diagnostic()]


@pytest.mark.parametrize("code", TITLES)
def test_page(code: str) -> None:
    text = explain.page(code.lower())
    assert text.startswith(f"# {code}: {TITLES[code]}\n")
    broken, mended = explain.programs(text)
    assert {diagnostic.code for diagnostic in found(broken, code)} == {code}
    assert not found(mended, code)
    assert formatted(mended.text) == mended.text


def test_unknown_code() -> None:
    with pytest.raises(KeyError, match="did you mean E0204"):
        explain.page("E024")
