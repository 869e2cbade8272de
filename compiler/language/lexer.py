"""Text to tokens: names, numbers, strings, operators, and the layout tokens NEWLINE, INDENT and DEDENT.

Comments are kept beside the tokens, with their places, so that a formatter can put them back. Every fault is
reported and lexing goes on. Knows nothing of the grammar but which brackets match and that a line inside brackets is
indented deeper than its statement.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from tapeless.compiler.language.byte_sizes import SIZE, UNITS
from tapeless.compiler.messages.diagnostics import Diagnostic, Source
from tapeless.ir.graph import Span


class Token(NamedTuple):
    """A piece of one line. `kind` is name, number, string, newline, indent, dedent, end, or an operator's own text."""

    kind: str
    text: str
    line: int
    column: int
    end: int  # column after the last character


class Comment(NamedTuple):
    """A comment from its `#` to the end of the line; `alone` if nothing else stands on the line."""

    text: str
    line: int
    column: int
    alone: bool


class Lexed(NamedTuple):
    """What lexing yields: tokens (the last one is `end`), comments, what was wrong, and the lines whose tokens
    suffer from it.
    """

    tokens: list[Token]
    comments: list[Comment]
    diagnostics: list[Diagnostic]
    damaged: set[int]


LONGEST = 500  # characters of a name or a string
KEYWORDS = frozenset(
    [
        "fn",
        "layer",
        "model",
        "train",
        "import",
        "if",
        "else",
        "for",
        "in",
        "return",
        "yield",
        "use",
        "scan",
        "repeat",
        "and",
        "or",
        "not",
        "true",
        "false",
    ]
)

_OPERATORS = [
    "...",
    "**",
    "..",
    "<=",
    ">=",
    "==",
    "!=",
    "//",
    "->",
    "+",
    "-",
    "*",
    "/",
    "@",
    "%",
    "<",
    ">",
    "=",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "~",
    ".",
]
_TOKEN = re.compile(
    r"(?P<space>[ \t\r\f]+)"
    r"|(?P<comment>\#.*)"
    # A digit run before `..` is an integer followed by a range, so a fraction needs a dot that is not followed by
    # another.
    r"|(?P<number>(?:\d[\d_]*(?:\.(?!\.)\d*)?|\.\d+)(?:[eE][+-]?\d+)?\w*)"
    r"|(?P<name>[A-Za-z_][A-Za-z_0-9]*)"
    r"|(?P<string>'[^']*'|\"[^\"]*\")"
    r"|(?P<operator>" + "|".join(re.escape(operator) for operator in _OPERATORS) + r")"
)
_NUMBER = re.compile(r"(?:\d+(?:_\d+)*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
_SPACE = re.compile(r"\s")
_BETWEEN_LINES = ("newline", "indent", "dedent")
_CLOSING = {")": "(", "]": "[", "}": "{"}
_MEANT = {
    "−": "-", "–": "-", "×": "*", "·": "*", "÷": "/", "“": '"', "”": '"', "‘": "'", "’": "'", "≤": "<=", "≥": ">=",
    "≠": "!=",
    ";": "a new line", "&": "and", "|": "or", "!": "not", "^": "**", "⋅": "*", "∗": "*", "²": "** 2", "³": "** 3",
    "√": "sqrt(x)", "∑": "sum[i] x[i]",
    "∞": "inf", "→": "->", "∂": "grad(y, x)", "`": "'",
}  # fmt: skip


def _after_memory(tokens: Sequence[Token]) -> bool:
    """Whether what comes next is the value of the setting `memory`, which may have a unit."""
    return bool(tokens) and tokens[-1].text == "memory" and (len(tokens) < 2 or tokens[-2].kind in _BETWEEN_LINES)


# Quotes of other scripts and of word processors, with what closes them.
_QUOTED = {"“": "”", "‘": "’", "„": "“", "«": "»", "`": "`"}


def word(text: str, start: int) -> str:
    """The name that begins at a place, in any script, as Python has names; nothing where none does."""
    end = start
    while end < len(text) and (text[end] if end == start else f"a{text[end]}").isidentifier():
        end += 1
    return text[start:end]


def meaningless(text: str, start: int) -> str:
    """The characters from a place on that begin nothing; one fault is enough for them."""
    end = start + 1
    while (
        end < len(text)
        and text[end] not in "'\""
        and not _TOKEN.match(text, end)
        and not text[end].isidentifier()
        and not _SPACE.match(text[end])
    ):
        end += 1
    return text[start:end]


def lex(source: Source) -> Lexed:
    """The tokens of a file. Always ends with newline, the open dedents and `end`."""
    tokens: list[Token] = []
    comments: list[Comment] = []
    faults: list[Diagnostic] = []
    indents = [0]
    stray: set[int] = set()
    opened: list[Token] = []
    damaged: set[int] = set()
    tabs = joined = False
    append = tokens.append

    def fault(code: str, message: str, line: int, column: int, end: int, hint: str | None = None) -> None:
        faults.append(Diagnostic(code, message, Span(source.file, line, column, line, max(end, column + 1)), hint=hint))

    def abandon() -> None:
        bracket = opened[0]
        partner = {"(": ")", "[": "]", "{": "}"}[bracket.text]
        fault(
            "E0109",
            f"this `{bracket.text}` is never closed",
            bracket.line,
            bracket.column,
            bracket.end,
            f"Close it with `{partner}`.",
        )
        damaged.update(range(bracket.line, tokens[-1].line + 1))
        opened.clear()

    for number, text in enumerate(source.lines, start=1):
        if number == 1 and text.startswith("\ufeff"):
            text = " " + text[1:] if text[1:].strip() else ""
            text = text[1:]
        body = text.lstrip(" \t\r\f")
        if not body:
            continue
        if body[0] == "#":
            comments.append(Comment(body.rstrip(), number, len(text) - len(body) + 1, True))
            continue
        indent = len(text) - len(body)
        if "\t" in text[:indent]:
            if not tabs:
                fault(
                    "E0102",
                    "indentation is made of spaces, not tabs",
                    number,
                    1,
                    indent + 1,
                    "Use four spaces for each level.",
                )
            tabs = True
            indent = len(text[:indent].expandtabs(4))
        if opened and indent <= indents[-1] and body[0] not in ")]}":
            abandon()
            append(Token("newline", "", tokens[-1].line, tokens[-1].end, tokens[-1].end))
        if joined:
            damaged.add(number)
        elif not opened:
            if indent > indents[-1]:
                if len(tokens) > 1 and tokens[-2].kind != ":":
                    stray.add(indent)  # it follows no header: the parser says so
                indents.append(indent)
                append(Token("indent", "", number, 1, indent + 1))
            above = [str(level) for level in indents if level not in stray]
            while indent < indents[-1]:
                indents.pop()
                append(Token("dedent", "", number, indent + 1, indent + 1))
            if indent != indents[-1]:
                fault("E0102", "this line's indentation matches no line above", number, 1, indent + 1,
                      ("The blocks above are indented by "
                          f"{' and '.join((', '.join(above[:-1]), above[-1]) if above[1:] else above)}."))  # fmt: skip
                indents.append(indent)
                append(Token("indent", "", number, 1, indent + 1))
        joined = False
        position = len(text) - len(body)
        length = len(text)
        while position < length:
            match = _TOKEN.match(text, position)
            column = position + 1
            after = position if match is None else match.end()
            if (
                (match is None or match.lastgroup == "name")
                and not text[after : after + 1].isascii()
                and (name := word(text, position))
            ):
                position += len(name)
                append(Token("name", unicodedata.normalize("NFKC", name), number, column, position + 1))
                continue
            if match is None:
                character = text[position]
                position += 1
                if character in "'\"":
                    fault("E0103", "this string has no end on its line", number, column, length + 1,
                          f"Close it with {character}.")  # fmt: skip
                    append(Token("string", text[position:], number, column, length + 1))
                    break
                close = text.find(_QUOTED[character], position) if character in _QUOTED else -1
                if close >= 0:
                    fault(
                        "E0104",
                        f"`{character}` has no meaning here",
                        number,
                        column,
                        close + 2,
                        "Quotes are `'` or `\"`.",
                    )
                    append(Token("string", text[position:close], number, column, close + 2))
                    position = close + 1
                    continue
                if character == "\\" and not text[position:].strip():
                    fault(
                        "E0104",
                        "a line does not go on after `\\`",
                        number,
                        column,
                        column + 1,
                        "Inside brackets it does: `h = (a` and below it `+ b)`.",
                    )
                    joined = True
                    position = length
                    continue
                run = meaningless(text, column - 1)
                alike = set(run) == {character}
                shown = character if alike else run
                meant = _MEANT.get(character) if alike else None
                hint = f"Did you mean {meant if meant == 'a new line' else f'`{meant}`'}?" if meant else None
                fault(
                    "E0104",
                    f"{f'`{shown}`' if shown.isprintable() else repr(shown)} has no meaning here",
                    number,
                    column,
                    column + len(run),
                    hint,
                )
                position = column - 1 + len(run)
                continue
            kind = match.lastgroup
            piece = match.group()
            position = match.end()
            if kind == "space":
                continue
            if kind in ("name", "string") and len(piece) > LONGEST:
                fault("E0106", f"this {kind} is longer than {LONGEST} characters", number, column, position + 1)
                piece = piece[: LONGEST - 1] + piece[-1]
            if kind == "name":
                append(Token(piece if piece in KEYWORDS else "name", piece, number, column, position + 1))
            elif kind == "operator":
                token = Token(piece, piece, number, column, position + 1)
                if piece in "([{":
                    opened.append(token)
                elif piece in ")]}":
                    if opened and opened[-1].text == _CLOSING[piece]:
                        opened.pop()
                    elif opened:
                        last = opened.pop()
                        fault("E0109",
                            f"`{piece}` closes nothing: the open bracket is `{last.text}` in line {last.line}",
                              number, column, position + 1)  # fmt: skip
                        continue
                    else:
                        fault("E0109", f"`{piece}` closes nothing", number, column, position + 1)
                        continue
                append(token)
            elif kind == "number" and SIZE.fullmatch(piece) and _after_memory(tokens):
                append(Token("size" if piece[-1] in UNITS else kind, piece, number, column, position + 1))
            elif kind == "number":
                if not _NUMBER.fullmatch(piece):
                    fault(
                        "E0105",
                        f"`{piece}` is not a number",
                        number,
                        column,
                        position + 1,
                        "Names begin with a letter; a product needs its `*`." if piece[-1].isalpha() else None,
                    )
                    piece = "1"
                append(Token("number", piece, number, column, position + 1))
            elif kind == "string":
                append(Token("string", piece[1:-1], number, column, position + 1))
            else:
                comments.append(Comment(piece.rstrip(), number, column, False))
        if not opened and not joined and tokens and tokens[-1].kind not in ("newline", "indent", "dedent"):
            append(Token("newline", "", number, length + 1, length + 1))
    final = len(source.lines)
    if opened:
        abandon()
        append(Token("newline", "", tokens[-1].line, tokens[-1].end, tokens[-1].end))
    for _ in indents[1:]:
        append(Token("dedent", "", final, 1, 1))
    append(Token("end", "", final, len(source.lines[-1]) + 1, len(source.lines[-1]) + 1))
    damaged.update(fault.span.line for fault in faults if fault.span)
    return Lexed(tokens, comments, faults, damaged)
