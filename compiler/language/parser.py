"""Text to syntax tree: declarations and train sections, on top of statements and expressions. Knows nothing of what
names mean.
"""

from __future__ import annotations

from tapeless.compiler.language import ast
from tapeless.compiler.language.expression_parser import described
from tapeless.compiler.language.lexer import Token, lex
from tapeless.compiler.language.statement_parser import SOFT, Statements
from tapeless.compiler.messages.diagnostics import Diagnostic, Source
from tapeless.compiler.messages.near_names import nearest
from tapeless.compiler.messages.newcomers_words import BEGINNINGS, NO_STATEMENT

_DECLARATIONS = ("import", "fn", "layer", "optimizer", "model", "train")


def parse(source: Source) -> tuple[ast.File, list[Diagnostic]]:
    """The tree of a file and everything that could not be read."""
    tokens, _, faults, damaged = lex(source)
    parser = Parser(source.file, tokens)
    parser.damaged = damaged
    tree = parser.file_()
    faults += [fault for fault in parser.faults if fault.span is None or fault.span.line not in damaged]
    return tree, sorted(faults, key=lambda fault: (fault.span.line, fault.span.column) if fault.span else (0, 0))


# The settings of a train section.
NAMES = (
    "optimizer",
    "except",
    "clip_norm",
    "clip_value",
    "gradient_noise",
    "epochs",
    "batch",
    "validation",
    "stop_early",
    "freeze",
    "denormals",
    "memory",
)


class Parser(Statements):
    """Parses one file."""

    # --- Declarations

    def file_(self) -> ast.File:
        """The whole file."""
        declarations: list[ast.Declaration] = []
        start = self.token
        while self.token.kind != "end":
            if self.token.kind in ("dedent", "newline"):
                self.advance()
            elif self.token.kind == "indent":
                declarations.append(self.stray_block())
            else:
                declarations.append(self.guarded(self.declaration))
                if (
                    self.faults
                    and isinstance(declarations[-1], ast.Broken)
                    and self.faults[-1].code in ("E0108", "E0110")
                ):
                    self.skip_stray()
        return ast.File(self.since(start), tuple(declarations))

    def begins_statement(self) -> bool:
        """Whether a statement of a body begins here."""
        return (
            self.token.kind == "name"
            and (self.token.text in SOFT or self.peek().kind in ("=", ","))
            and not (self.token.text == "optimizer" and self.peek().kind == "name")
        )

    def skip_stray(self) -> None:
        """More lines of a body that stands at the left edge: the first has been reported, or the header above that
        has no body.
        """
        seen = len(self.faults)
        while self.begins_statement() or self.token.kind == "indent":
            if self.token.kind == "indent":
                self.stray_block()
            else:
                self.guarded(self.declaration)
        del self.faults[seen:]

    def declaration(self) -> ast.Declaration:
        """One of import, fn, layer, optimizer, model, train."""
        token = self.token
        if token.text == "import" and token.kind == "import":
            self.advance()
            path = self.expect("string", "after `import`", 'Write `import "other.tl"`.')
            span = self.since(token)
            self.end_of_line("the import")
            return ast.Import(span, path.text)
        if token.kind == "train":
            return self.train()
        if token.kind in ("fn", "layer", "model") or (token.text == "optimizer" and self.peek().kind == "name"):
            return self.definition()
        meant = BEGINNINGS.get(token.text) or (nearest(token.text, _DECLARATIONS) if token.kind == "name" else None)
        inside = self.begins_statement()
        hint = f"Did you mean `{meant}`?" if meant else NO_STATEMENT.get(token.text)
        if hint is None and token.kind == "name" and self.peek().kind == "(":
            hint = f"A function is declared with `fn {token.text}(x) = ...`."
        if inside and not meant:
            raise self.unreadable("this statement stands outside of any model or layer", "E0108",
                                  "Indent it below the `model` line it belongs to.")  # fmt: skip
        raise self.unreadable(
            f"expected a declaration ({', '.join(_DECLARATIONS)}), found {described(token)}", hint=hint
        )

    def definition(self) -> ast.Definition:
        """`fn f(x) = ...` or `layer L(x):` and a block; likewise optimizer and model."""
        start = self.advance()
        kind = start.text
        name = self.expect("name", f"after `{kind}`")
        parameters: tuple[ast.Parameter, ...] = ()
        if self.token.kind == "(":
            parameters = self.parameters()
        elif kind != "model":
            raise self.unreadable(
                f"expected the arguments of {kind} `{name.text}` in parentheses, found {described(self.token)}"
            )
        span = self.since(start)
        if kind == "fn" and self.accept("="):
            value = self.expression()
            self.end_of_line("the function's value")
            body: tuple[ast.Statement, ...] = (ast.Return(value.span, value),)
            derivatives = self.derivatives() if self.token.kind == "indent" and self.peek().text == "derivative" else ()
            return ast.Definition(span, kind, name.text, self.place(name), parameters, body, derivatives)
        body = self.block_after_colon(f"{kind} `{name.text}`")
        return ast.Definition(span, kind, name.text, self.place(name), parameters, body)

    def derivatives(self) -> tuple[ast.Expression, ...]:
        """An indented line below `fn f(x, y) = ...`: `derivative y, x`."""
        self.advance()
        self.advance()
        found = [self.expression()]
        while self.accept(","):
            found.append(self.expression())
        self.end_of_line("the derivative")
        if not self.accept("dedent") and self.token.kind != "end":
            raise self.unreadable(
                f"expected the end of the function after its derivative, found {described(self.token)}",
                hint="Several derivatives stand in one line, with commas between them.",
            )
        return tuple(found)

    def parameters(self) -> tuple[ast.Parameter, ...]:
        """`(x[.., i], units, act = identity)`."""
        self.advance()
        found: list[ast.Parameter] = []
        while self.token.kind != ")":
            name = self.expect("name", "as an argument")
            pattern = self.pattern() if self.token.kind == "[" else None
            default = self.expression() if self.accept("=") else None
            found.append(ast.Parameter(self.since(name), name.text, pattern, default))
            if not self.accept(","):
                break
        self.expect(
            ")",
            "after the arguments",
            "An argument has no type: sizes and tensors are told by what is given." if self.token.kind == ":" else None,
        )
        return tuple(found)

    def pattern(self) -> ast.Pattern:
        """`[n, c, ..]`."""
        start = self.advance()
        items: list[ast.Name | ast.Number | ast.Ellipsis] = []
        while self.token.kind != "]":
            token = self.token
            if token.kind in ("..", "..."):
                if any(isinstance(item, ast.Ellipsis) for item in items):
                    raise self.unreadable("`..` can stand only once in a shape")
                self.advance()
                items.append(ast.Ellipsis(self.place(token)))
            elif token.kind == "number" and token.text.isdigit():
                self.advance()
                items.append(ast.Number(self.place(token), int(token.text)))
            else:
                self.expect("name", "in the shape of the argument")
                items.append(ast.Name(self.place(token), token.text))
            if not self.accept(","):
                break
        self.expect("]", "after the shape of the argument")
        return ast.Pattern(self.since(start), tuple(items))

    # --- Train sections

    def train(self) -> ast.Train:
        """`train Digits:` and its settings."""
        start = self.advance()
        name = self.expect("name", "after `train`", "Name the model that it trains: `train Digits:`.")
        span = self.since(start)
        self.colon(f"`train {name.text}`")
        return ast.Train(span, name.text, self.place(name), self.settings())

    def settings(self) -> tuple[ast.Setting | ast.Broken, ...]:
        """The indented settings after a header line."""
        self.expect("indent", "")
        settings: list[ast.Setting | ast.Broken] = []
        while self.token.kind not in ("dedent", "end"):
            settings.append(self.stray_block() if self.token.kind == "indent" else self.guarded(self.setting))
        self.accept("dedent")
        return tuple(settings)

    def block_below(self, header: Token) -> tuple[ast.Statement, ...]:
        if header.kind != "train":
            return super().block_below(header)
        self.settings()
        return ()

    def setting(self) -> ast.Setting:
        """A name, then values, `name = value` pairs, and `on` with words."""
        name = self.expect("name", "of a setting")
        if name.text not in NAMES:
            while self.token.kind not in ("newline", "end", "dedent"):
                self.advance()
            span = self.since(name)
            self.end_of_line("the setting")
            return ast.Setting(span, name.text, (), (), (), ())
        if self.token.kind in ("=", ":") and name.text != "except":
            raise self.unreadable(
                f"a setting is written without `{self.token.kind}`",
                hint=f"Write `{name.text} {self.peek().text or 'value'}`.",
            )
        patterns: list[ast.Text] = []
        if name.text == "except":
            while True:
                text = self.expect("string", "after `except`", "Write `except '*.b': decay = 0`.")
                patterns.append(ast.Text(self.place(text), text.text))
                if not self.accept(","):
                    break
            self.expect(":", "after the pattern", "Write `except '*.b': decay = 0`.")
        values: list[ast.Expression] = []
        named: list[ast.Argument] = []
        words: list[ast.Name] = []
        while self.token.kind not in ("newline", "end", "dedent"):
            token = self.token
            if token.kind == "name" and token.text == "on" and self.peek().kind == "name":
                self.advance()
                while self.token.kind == "name":
                    word = self.advance()
                    words.append(ast.Name(self.place(word), word.text))
                break
            if token.kind == "size":
                self.advance()
                values.append(ast.Text(self.place(token), token.text))
            elif token.kind == "name" and self.peek().kind == "=":
                self.advance()
                self.advance()
                value = self.expression()
                named.append(ast.Argument(self.since(token), token.text, value))
            else:
                values.append(self.expression())
            self.accept(",")
        span = self.since(name)
        self.end_of_line("the setting")
        return ast.Setting(span, name.text, tuple(values), tuple(named), tuple(words), tuple(patterns))
