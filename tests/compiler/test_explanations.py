"""The pages of `tapeless explain`: the broken program gives the code, the mended one compiles without a word."""

from __future__ import annotations

import pytest

from tapeless.compiler import explain
from tapeless.compiler.codes import TITLES
from tapeless.compiler.diagnostics import Diagnostic, ProgramErrors
from tapeless.compiler.format import formatted
from tapeless.compiler.model import load


def test_every_code_has_a_page_and_every_page_a_code() -> None:
    assert {path.stem for path in explain.FOLDER.glob("*.md")} == set(TITLES)


def found(program: explain.Program) -> list[Diagnostic]:
    try:
        return list(load(program.text, "model.tl", sizes=program.sizes).warnings)
    except ProgramErrors as errors:
        return list(errors.diagnostics)


@pytest.mark.parametrize("code", TITLES)
def test_page(code: str) -> None:
    text = explain.page(code.lower())
    assert text.startswith(f"# {code}: {TITLES[code]}\n")
    broken, mended = explain.programs(text)
    assert {diagnostic.code for diagnostic in found(broken)} == {code}
    assert not found(mended)
    assert formatted(mended.text) == mended.text


def test_unknown_code() -> None:
    with pytest.raises(KeyError, match="did you mean E0204"):
        explain.page("E024")
