"""Highlighters know the words that the compiler knows, and lose no character."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tapeless.compiler.elaborate.train_settings import NAMES
from tapeless.compiler.language.lexer import KEYWORDS
from tapeless.compiler.language.statement_parser import SOFT

ROOT = Path(__file__).parents[2]
GRAMMAR = json.loads((ROOT / "editors/tapeless.tmLanguage.json").read_text(encoding="utf-8"))


def test_the_grammar_knows_every_word() -> None:
    text = " ".join(pattern["match"] for pattern in GRAMMAR["patterns"])
    known = set(re.findall(r"[a-z_]+", text.replace("\\b", " ")))
    assert set(KEYWORDS) | set(SOFT) | set(NAMES) <= known


def test_every_pattern_is_a_regular_expression() -> None:
    for pattern in GRAMMAR["patterns"]:
        re.compile(pattern["match"])


def test_pygments_knows_every_word_and_loses_nothing() -> None:
    pytest.importorskip("pygments")
    from pygments.lexers import get_lexer_by_name
    from pygments.token import Comment, Error, Keyword, Name

    from tapeless import pygments_lexer
    from tapeless.pygments_lexer import TapelessLexer

    words = {word for name in dir(pygments_lexer) if name.isupper() for word in getattr(pygments_lexer, name)}
    assert set(KEYWORDS) | set(SOFT) | set(NAMES) <= words
    text = (ROOT / "examples/digits/digits.tl").read_text(encoding="utf-8")
    found = list(TapelessLexer().get_tokens(text))
    assert "".join(piece for _, piece in found).strip() == text.strip()
    assert not any(kind in Error for kind, _ in found)
    kinds = {piece: kind for kind, piece in found}
    assert (
        kinds["model"] in Keyword
        and kinds["Digits"] in Name.Class
        and kinds["loss"] in Keyword
        and kinds["input"] in Keyword
    )
    assert any(kind in Comment for kind, _ in found)
    found = list(TapelessLexer().get_tokens("fn größe(x) = हिन्दी(x)\n"))
    assert {"größe", "हिन्दी"} <= {piece for kind, piece in found if kind in Name.Function}
    try:
        assert isinstance(get_lexer_by_name("tapeless"), TapelessLexer)
    except Exception:
        pytest.skip("the package was installed before it had this entry point")
