"""What is wrong with a user's program, where, why, and what to try: diagnostics and their plain-text form.

A diagnostic is a value; nothing here prints, and nothing here knows the parser or the elaborator. The wording
belongs to the place that finds the fault; the shape of the message belongs here.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tapeless.compiler.messages.codes import TITLES
from tapeless.ir.graph import Span


@dataclass(frozen=True)
class Source:
    """One file of program text."""

    file: str
    text: str
    lines: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Split at \n only: columns and line numbers must agree with the lexer's, which knows no other line end.
        object.__setattr__(self, "lines", tuple(line.rstrip("\r") for line in self.text.split("\n")))

    def line(self, number: int) -> str:
        """The text of line `number`, 1-based; empty outside the file."""
        return self.lines[number - 1] if 1 <= number <= len(self.lines) else ""

    def slice(self, span: Span) -> str:
        """The text that a span of one line covers (the first line of a longer one)."""
        line = self.line(span.line)
        return line[span.column - 1 : span.end_column - 1 if span.end_line == span.line else None]


@dataclass(frozen=True)
class Label:
    """One side of the reason: `subject` `text`, and where it comes from (`relation` line N of `span`).

    Subjects, texts and places stand in columns; a label without a subject is a remark of its own.
    """

    subject: str
    text: str
    span: Span | None = None
    relation: str = "declared"


@dataclass(frozen=True)
class Diagnostic:
    """A fault (or a warning) with its code, its place, its reasons and a hint that mends it."""

    code: str
    message: str
    span: Span | None
    labels: tuple[Label, ...] = ()
    hint: str | None = None

    def __post_init__(self) -> None:
        if self.code not in TITLES:
            raise ValueError(f"no such diagnostic code: {self.code}")

    @property
    def severity(self) -> str:
        """`error` or `warning`."""
        return "warning" if self.code.startswith("W") else "error"

    @property
    def title(self) -> str:
        """The one-line title of the code."""
        return TITLES[self.code]


class ProgramErrors(Exception):
    """All independent faults of one program, in the order of the text."""

    def __init__(self, diagnostics: Iterable[Diagnostic], sources: Mapping[str, Source]) -> None:
        self.diagnostics: tuple[Diagnostic, ...] = tuple(diagnostics)
        self.sources: dict[str, Source] = dict(sources)
        super().__init__(self.render())

    def __reduce__(self) -> tuple[type[ProgramErrors], tuple[tuple[Diagnostic, ...], dict[str, Source]]]:
        return type(self), (self.diagnostics, self.sources)

    def render(self, colour: bool = False) -> str:
        """Every diagnostic's text, one blank line between two."""
        return render_all(self.diagnostics, self.sources, colour)


_COLOURS = {"error": "1;31", "warning": "1;33", "gutter": "34", "mark": "1;31", "hint": "1;36", "message": "1"}


MOST = 100  # diagnostics shown: whoever has more wants the first
LONGEST = 500  # characters of one part of a message


def render_all(diagnostics: Iterable[Diagnostic], sources: Mapping[str, Source], colour: bool = False) -> str:
    """The texts of several diagnostics, one blank line between two."""
    every = list(diagnostics)
    more = [f"... and {len(every) - MOST} more"] if len(every) > MOST else []
    return "\n\n".join([*(render(diagnostic, sources, colour) for diagnostic in every[:MOST]), *more])


def _shown(text: str) -> str:
    """What may stand in a message of somebody else's text: nothing that a terminal would obey, and no more than
    anybody reads.
    """
    if len(text) > LONGEST:
        text = text[: LONGEST // 2] + " ... " + text[-LONGEST // 4 :]
    return text if text.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def render(diagnostic: Diagnostic, source: Source | Mapping[str, Source], colour: bool = False) -> str:
    """The diagnostic as people read it: message, place, marked line, both sides of the reason, hint. No final
    newline.
    """
    sources = {source.file: source} if isinstance(source, Source) else source

    def paint(text: str, style: str) -> str:
        return f"\x1b[{_COLOURS[style]}m{text}\x1b[0m" if colour else text

    severity = diagnostic.severity
    out = [paint(f"{severity}[{diagnostic.code}]", severity) + paint(f": {_shown(diagnostic.message)}", "message")]
    span = diagnostic.span
    width = 1
    if span is not None:
        width = len(str(span.line))
        out.append(paint(" " * (width + 1) + "-->", "gutter") + f" {_shown(span.file)}:{span.line}:{span.column}")
        text = sources[span.file].line(span.line) if span.file in sources else ""
        if text:
            text, mark = _marked(text, span)
            text = _shown(text)
            out.append(paint(" " * (width + 2) + "|", "gutter"))
            out.append(paint(f" {span.line} |", "gutter") + f" {text}")
            out.append(paint(" " * (width + 2) + "|", "gutter") + " " + paint(mark, "mark"))
    bar = paint(" " * (width + 2) + "|", "gutter")
    sides = [(label, _shown(label.subject), _shown(label.text)) for label in diagnostic.labels]
    subjects = max((len(subject) for _, subject, _ in sides), default=0)
    texts = max((len(text) for _, subject, text in sides if subject), default=0)
    for label, subject, text in sides:
        body = f"{subject:<{subjects}} {text:<{texts}}" if subject else text
        if label.span is not None:
            elsewhere = span is None or label.span.file != span.file
            place = f"in {_shown(label.span.file)}:{label.span.line}" if elsewhere else f"at line {label.span.line}"
            body += f"{'    ' if label.subject else ' '}{label.relation} {place}"
        out.append(f"{bar} {body.rstrip()}")
    if diagnostic.hint:
        out.append(paint(" hint:", "hint") + f" {_shown(diagnostic.hint)}")
    return "\n".join(out)


def _marked(text: str, span: Span) -> tuple[str, str]:
    """The line and, below it, carets under the span; tabs count one column, and a very long line is cut around its
    place.
    """
    text = text.replace("\t", " ")
    start = span.column - 1
    end = span.end_column - 1 if span.end_line == span.line else len(text)
    end = max(end, start + 1)
    if len(text) > 160:
        cut = max(0, start - 60)
        head = "..." if cut else ""
        shown = text[cut : cut + 140]
        tail = "..." if cut + 140 < len(text) else ""
        start, end = start - cut + len(head), min(end - cut, 140) + len(head)
        text, end = head + shown + tail, max(end, start + 1)
    return text, " " * _width(text[:start]) + "^" * max(_width(text[start:end].ljust(end - start)), 1)


def _width(text: str) -> int:
    """How many columns of a terminal a text takes: letters of some scripts take two, marks upon letters none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text
    )
