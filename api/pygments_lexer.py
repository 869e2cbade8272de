"""Highlights programs with Pygments, which finds it as `tapeless` or `tl`: in documents, notebooks and rich's output.

The words come from the compiler's own lexer and parser, so that they cannot differ. Pygments is no dependency: this
module is imported by it alone.
"""

from __future__ import annotations

from pygments.lexer import RegexLexer, bygroups, words
from pygments.token import Comment, Keyword, Name, Number, Operator, Punctuation, String, Text, Whitespace

DECLARATIONS = ("fn", "layer", "model", "optimizer", "train", "import")
STATEMENTS = (
    "input", "target", "param", "frozen", "state", "output", "loss", "metric", "require", "use", "return", "yield",
    "scan", "repeat",
    "derivative",
)  # fmt: skip
CONTROL = (
    "if",
    "else",
    "for",
    "in",
    "and",
    "or",
    "not",
    "over",
    "with",
    "stacked",
    "total",
    "as",
    "all",
    "but",
    "where",
)
CONSTANTS = ("true", "false", "batch", "training", "step", "steps", "pi", "inf")
SETTINGS = (
    "except",
    "clip_norm",
    "clip_value",
    "gradient_noise",
    "epochs",
    "validation",
    "stop_early",
    "freeze",
    "denormals",
    "memory",
)

# Names are those of Python, in any script; marks that belong to letters are no word characters of a regular expression.
NAME = r"[A-Za-z_\u0080-\U0010ffff][\w\u0080-\U0010ffff]*"


class TapelessLexer(RegexLexer):  # type: ignore[misc]  # Pygments has no types
    """Programs of the Tapeless language."""

    name = "Tapeless"
    aliases = ("tapeless", "tl")
    filenames = ("*.tl",)

    tokens = {  # noqa: RUF012  (Pygments' own way)
        "root": [
            (r"#.*", Comment.Single),
            (r"\s+", Whitespace),
            (rf"(fn)(\s+)({NAME})", bygroups(Keyword.Declaration, Whitespace, Name.Function)),
            (
                rf"(layer|model|optimizer|train)(\s+)({NAME})(?=\s*[(:])",
                bygroups(Keyword.Declaration, Whitespace, Name.Class),
            ),
            (words(DECLARATIONS, prefix=r"\b", suffix=r"\b"), Keyword.Declaration),
            # Statements and settings begin a line; elsewhere the same words are names.
            (
                rf"(?m)^(\s*)({'|'.join((*STATEMENTS, *SETTINGS))}|batch)\b(?=\s+[^\s=,.])",
                bygroups(Whitespace, Keyword),
            ),
            (words((*STATEMENTS, *SETTINGS), prefix=r"(?m)(?<=^    )", suffix=r"\b(?=\s+[^\s=,.])"), Keyword),
            (words(CONTROL, prefix=r"\b", suffix=r"\b"), Keyword),
            (words(CONSTANTS, prefix=r"\b", suffix=r"\b"), Name.Constant),
            (r"(?:\d[\d_]*(?:\.(?!\.)\d*)?|\.\d+)(?:[eE][+-]?\d+)?", Number),
            (r"'[^'\n]*'|\"[^\"\n]*\"", String),
            (r"\b(int|bool)(?=\s*[\[<])", Keyword.Type),
            (rf"{NAME}(?=\s*\()", Name.Function),
            (NAME, Name),
            (r"\*\*|\.\.\.|\.\.|<=|>=|==|!=|//|[-+*/@%<>=~]", Operator),
            (r"[()\[\]{},:.]", Punctuation),
            (r".", Text),
        ]
    }
