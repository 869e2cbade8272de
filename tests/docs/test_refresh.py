"""The output shown in the documentation is what the compiler prints."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
MADE = ("<!--\ninspect:", "<!-- operations -->")
PAGES = [page for page in sorted(DOCS.glob("*.md")) if any(mark in page.read_text("utf-8") for mark in MADE)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_output_in_the_docs_is_current(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, look at what changed and run: python docs/refresh.py"""
    monkeypatch.syspath_prepend(DOCS)
    refresh = importlib.import_module("refresh")
    text = page.read_text("utf-8")
    assert without_registers(refresh.refreshed(text)) == without_registers(text)


def without_registers(text: str) -> str:
    """Which registers are taken changes with LLVM's version."""
    return re.sub(r"%[xyz]mm\d+|%r[a-z0-9]+", "%register", text)


QUOTE = re.compile(r"<!-- quote: (?P<file>\S+) -->\n```\w*\n(?P<body>.*?)```", re.DOTALL)
QUOTES = [
    (page.stem, m["file"], m["body"])
    for page in sorted(DOCS.glob("*.md"))
    for m in QUOTE.finditer(page.read_text("utf-8"))
]


@pytest.mark.parametrize(("page", "file", "body"), QUOTES)
def test_quoted_code_is_in_its_file(page: str, file: str, body: str) -> None:
    assert body in (DOCS.parent / file).read_text("utf-8")
