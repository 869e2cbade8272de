"""One layout for programs: `tapeless fmt`. Works on tokens and comments, so that nothing of the text is lost.

Blocks are indented by four spaces and tokens stand apart by fixed rules. Lines are never broken or joined. Columns
that the author has lined up over consecutive lines (names after keywords, `=`) stay lined up, and so do comments in
the whole file. The result has the tree of the source, and formatting it again changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tapeless.compiler.language.expression_parser import REDUCERS
from tapeless.compiler.language.lexer import Comment, Lexed, Token, lex
from tapeless.compiler.language.parser import parse
from tapeless.compiler.language.statement_parser import SOFT
from tapeless.compiler.language.unparse import unparse
from tapeless.compiler.messages.diagnostics import ProgramErrors, Source

INDENT = 4
BEFORE_COMMENT = 2
_OPERANDS = ("name", "number", "size", "string", ")", "]", "true", "false")
_LAYOUT = ("newline", "indent", "dedent", "end")


@dataclass
class Piece:
    """A token or comment on a line: its text, its column in the source, the spaces it needs before it."""

    text: str
    column: int
    gap: int
    spread: bool  # whether the source has more spaces before it than it needs
    comment: bool = False
    place: int = 0
    group: int = -1


@dataclass
class Line:
    """One line to be written. `fresh` begins a logical line; `depth` is in spaces."""

    number: int
    indent: int
    pieces: list[Piece] = field(default_factory=list)
    top: bool = False  # at the left edge, not a comment


def formatted(text: str, file: str = "model.tl") -> str:
    """The program in its one layout. Raises ProgramErrors if it cannot be read."""
    source = Source(file, text)
    tree, faults = parse(source)
    if faults:
        raise ProgramErrors(faults, {file: source})
    lines = list(_lines(source, lex(source)))
    _align(lines)
    made = _written(lines, source)
    again, _ = parse(Source(file, made))
    if unparse(tree, places=False) != unparse(again, places=False):
        raise ValueError(f"formatting {file} would change its meaning")  # a fault of this file, not of the program
    return made


# --- Lines and the spaces inside them


def _lines(source: Source, lexed: Lexed) -> Iterator[Line]:
    """Lines with their indentation, comments among them."""
    comments = {comment.line: comment for comment in lexed.comments}
    pending = sorted(line for line, comment in comments.items() if comment.alone)
    depth, before = 0, (0, 0)  # of the line above: its depth, and its indentation in the source
    opened: list[Token] = []
    kinds: dict[int, str] = {0: ""}
    line: Line | None = None
    previous: Token | None = None
    first: Token | None = None
    for token in lexed.tokens:
        if token.kind == "indent":
            depth += 1
            continue
        if token.kind == "dedent":
            depth -= 1
            continue
        if token.kind == "newline":
            previous = first = None
            continue
        starts = line is None or token.line != line.number or token.kind == "end"
        if starts:
            if line is not None:
                _with_comment(line, comments)
                yield line
            while pending and (token.kind == "end" or pending[0] < token.line):
                comment = comments[pending.pop(0)]
                within = depth + len(opened) if opened else _comment_depth(comment, (depth, token.column - 1), before)
                yield Line(comment.line, INDENT * within, [Piece(comment.text, comment.column, 0, False, True)])
            if token.kind == "end":
                return
            closing = len(opened) - (token.kind in (")", "]", "}"))
            line = Line(token.line, INDENT * (depth + closing), top=depth == 0 and not opened)
            before = (depth, token.column - 1) if not opened else before
        assert line is not None
        if first is None:
            first = token
            if depth == 0:
                kinds[0] = token.kind
        text = source.line(token.line)[token.column - 1 : token.end - 1]
        gap = (
            0
            if starts or previous is None
            else _gap(previous, token, opened, first, kinds[0] == "train" and depth == 1, lexed)
        )
        space = token.column - previous.end if previous is not None and not starts else 0
        line.pieces.append(Piece(text, token.column, gap, space > max(gap, 1) and not opened))
        if token.kind in ("(", "[", "{"):
            opened.append(token)
        elif token.kind in (")", "]", "}") and opened:
            opened.pop()
        previous = (
            token._replace(kind="unary")
            if _is_unary(token, previous, first, kinds[0] == "train" and depth == 1)
            else token
        )


def _with_comment(line: Line, comments: dict[int, Comment]) -> None:
    comment = comments.get(line.number)
    if comment is not None and not comment.alone:
        line.pieces.append(Piece(comment.text, comment.column, BEFORE_COMMENT, True, True))


def _comment_depth(comment: Comment, after: tuple[int, int], before: tuple[int, int]) -> int:
    """The depth of a comment on its own line: that of the line below, or of the block above if it is indented like
    it.
    """
    (low, below), (high, above) = after, before
    if high > low and comment.column - 1 >= above > below:
        return high
    return low


def _is_keyword(token: Token | None, first: Token, setting: bool) -> bool:
    """Whether a name is there as a keyword: a statement's or setting's first word."""
    return token is not None and token is first and (setting or token.text in (*SOFT, "derivative"))


def _is_unary(token: Token, previous: Token | None, first: Token, setting: bool) -> bool:
    if token.kind not in ("-", "+"):
        return False
    return previous is None or previous.kind not in _OPERANDS or _is_keyword(previous, first, setting)


def _gap(left: Token, right: Token, opened: Sequence[Token], first: Token, setting: bool, lexed: Lexed) -> int:
    """How many spaces belong between two tokens of one line."""
    if left.kind == "," and right.kind in ("..", ":"):
        return 1
    if left.kind in ("(", "[", "{", ".", "..", "unary") or right.kind in (")", "]", "}", ",", ".", ".."):
        return 0
    # a turn in a parameter's name
    if left.kind in ("name", "number") and right.text.startswith(".") and right.column == left.end:
        return 0
    if right.kind in ("(", "["):
        touching = left.kind in ("name", ")", "]") and not (
            _is_keyword(left, first, setting) and right.column > left.end
        )
        condition = left.text == "where" and bool(opened) and _reduces(opened[-1], lexed)
        return 0 if touching and left.text != "but" and not condition else 1
    if ":" in (left.kind, right.kind):
        inside = bool(opened) and opened[-1].kind == "["
        if inside and not _reduces(opened[-1], lexed) and not _follows(opened[-1], first, lexed):
            return 0
        return 0 if right.kind == ":" else 1
    return 1


def _follows(bracket: Token, first: Token, lexed: Lexed) -> bool:
    """Whether a bracket stands behind a line's first word: it holds the index variables of `y[t: 4] = ...`."""
    return lexed.tokens[lexed.tokens.index(bracket) - 1] is first


def _reduces(bracket: Token, lexed: Lexed) -> bool:
    """Whether a bracket holds the index variables of `sum[u: 2]`."""
    place = lexed.tokens.index(bracket)
    before = lexed.tokens[place - 1] if place else None
    return bracket.kind == "[" and before is not None and before.kind == "name" and before.text in REDUCERS


# --- Columns


def _align(lines: list[Line]) -> None:
    """Give every piece its column: as its gap asks, or that of the pieces it was lined up with."""
    members: list[list[tuple[Line, int]]] = []
    for above, below in pairwise(lines):
        if (
            below.number != above.number + 1
            or above.indent != below.indent
            or above.pieces[0].comment
            or below.pieces[0].comment
        ):
            continue
        columns = {piece.column: k for k, piece in enumerate(below.pieces) if k}
        for k, piece in enumerate(above.pieces):
            other = columns.get(piece.column)
            if not k or other is None:
                continue
            partner = below.pieces[other]
            if piece.comment or partner.comment or not (piece.spread or partner.spread):
                continue
            if piece.group < 0:
                piece.group = len(members)
                members.append([(above, k)])
            partner.group = piece.group
            members[piece.group].append((below, other))
    beside: dict[int, list[tuple[Line, int]]] = {}
    for line in lines:
        _place(line, 0)
        if line.pieces[-1].comment and len(line.pieces) > 1:
            beside.setdefault(line.pieces[-1].column, []).append((line, len(line.pieces) - 1))
    members += beside.values()
    # From left to right: what stands left of a group is final when its turn comes.
    for group in sorted(members, key=lambda group: group[0][0].pieces[group[0][1]].column):
        column = max(line.pieces[k].place for line, k in group)
        for line, k in group:
            line.pieces[k].place = column
            _place(line, k + 1)


def _place(line: Line, start: int) -> None:
    for k in range(start, len(line.pieces)):
        before = line.pieces[k - 1] if k else None
        line.pieces[k].place = before.place + len(before.text) + line.pieces[k].gap if before else line.indent


def _written(lines: Sequence[Line], source: Source) -> str:
    """The lines, with at most one empty line between two, and one before each declaration that follows a block."""
    out: list[str] = []
    previous: Line | None = None
    for line in lines:
        if previous is not None:
            apart = line.number > previous.number + 1 and any(
                not source.line(number).strip() for number in range(previous.number + 1, line.number)
            )
            if apart or (line.indent == 0 and previous.indent > 0 and (line.top or line.pieces[0].comment)):
                out.append("")
        text = ""
        for piece in line.pieces:
            text += " " * (piece.place - len(text)) + piece.text
        out.append(text.rstrip())
        previous = line
    return "\n".join(out) + "\n" if out else ""
