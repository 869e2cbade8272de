"""The statement half of the parser: blocks, one method for each kind of statement, and recovery at the next line.

A line that cannot be read is reported and stands in the tree as `Broken` with the names it may have made; what
follows is read as if nothing had happened, so that all independent faults come in one go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tapeless.compiler.language import ast
from tapeless.compiler.language.expression_parser import Expressions, Unreadable, described
from tapeless.compiler.language.lexer import Token
from tapeless.compiler.messages.diagnostics import Diagnostic
from tapeless.compiler.messages.near_names import nearest
from tapeless.compiler.messages.newcomers_words import BEGINNINGS, NO_STATEMENT

T = TypeVar("T")
_SIMPLE = (
    *(
        ast.Assign,
        ast.Input,
        ast.Param,
        ast.State,
        ast.Output,
        ast.Loss,
        ast.Metric,
        ast.Require,
        ast.Return,
        ast.Yield,
        ast.Use,
        ast.Setting,
    ),
)

# Words that begin a statement unless `=`, `,` or `[` follows: `mean = ...` and `loss = ...` stay assignments.
SCAN_OPTIONS = ("reverse", "lengths", "checkpoint")
SOFT = ("input", "target", "param", "frozen", "state", "output", "loss", "metric", "require")


class Statements(Expressions):
    """Parses blocks of statements."""

    def __init__(self, file: str, tokens: list[Token]) -> None:
        super().__init__(file, tokens)
        self.faults: list[Diagnostic] = []
        self.damaged: set[int] = set()

    # --- Recovery

    def guarded(self, rule: Callable[[], T]) -> T | ast.Broken:
        """Apply a rule; if the text does not fit, report it and step over the line and a block below it."""
        start = self.position
        first = self.token
        depth = self.depth
        try:
            found = rule()
            if isinstance(found, _SIMPLE) and not self.damaged.isdisjoint(
                range(found.span.line, found.span.end_line + 1)
            ):
                # The lexer has reported this line and put something in the place of what it could not read.
                return ast.Broken(found.span, tuple(self.names_before_equals(start)))
            return found
        except Unreadable as fault:
            self.faults.append(fault.diagnostic)
            self.depth = depth
            if self.position == start and self.token.kind not in ("newline", "end", "dedent"):
                self.advance()
            # A fault inside a block's header leaves the parser on the header's line; its block is read for faults of
            # its own.
            while self.token.kind not in ("newline", "end", "indent", "dedent"):
                self.advance()
            self.accept("newline")
            names = self.names_before_equals(start)
            if self.token.kind == "indent":
                seen = len(self.faults)
                names += [name for statement in self.block_below(first) for name in made_by(statement)]
                if first.text in BEGINNINGS:
                    del self.faults[seen:]  # another language's block: its header is the fault
            return ast.Broken(self.place(first), tuple(names))

    def block_below(self, header: Token) -> tuple[ast.Statement, ...]:
        """The block of a header that could not be read."""
        return self.block()

    def names_before_equals(self, start: int) -> list[str]:
        """The names a broken line may have made."""
        names = []
        for token in self.tokens[start : self.position]:
            if token.kind in ("=", ":", "~", "newline", "("):
                break
            if token.kind == "name" and token.text not in SOFT:
                names.append(token.text)
        return names

    def end_of_line(self, after: str) -> None:
        """The statement must end here."""
        if self.token.kind in ("end", "dedent"):
            return
        if self.token.kind != "newline":
            raise self.unreadable(
                f"expected the end of the line after {after}, found {described(self.token)}", hint=self.guess()
            )
        self.advance()

    def guess(self) -> str | None:
        """What a person coming from elsewhere may have meant by the current token."""
        if self.token.text == "derivative":
            return "A derivative stands in the line below, indented."
        before = self.tokens[self.position - 1]
        if before.text == "lambda":
            return "A function is declared at the left edge: `fn f(x) = ...`."
        if self.token.text == "is":
            return "A comparison is written `==`."
        if self.token.kind == "string" and before.kind == "name":
            return "A text stands alone, in quotes; nothing is put into it."
        if self.token.kind in ("number", "name", "(") and before.kind in ("number", "name", ")"):
            return "A product needs its `*`; arguments need commas between them."
        if self.token.kind == "=":
            return "A comparison is written `==`."
        return None

    def block(self) -> tuple[ast.Statement, ...]:
        """The indented statements after a header line."""
        self.enter()
        self.expect("indent", "")
        body: list[ast.Statement] = []
        while self.token.kind not in ("dedent", "end"):
            if self.token.kind == "indent":
                body.append(self.stray_block())
            else:
                body.append(self.guarded(self.statement))
        self.accept("dedent")
        self.depth -= 1
        return tuple(body)

    def stray_block(self) -> ast.Broken:
        """Lines indented deeper than the block they are in."""
        token = self.peek()
        self.faults.append(Diagnostic("E0102", "this line is indented deeper than its block", self.place(token)))
        body = self.block()
        return ast.Broken(self.place(token), tuple(name for statement in body for name in made_by(statement)))

    def block_after_colon(self, owner: str) -> tuple[ast.Statement, ...]:
        """`:`, the end of the line, and a block."""
        self.colon(owner)
        return self.block()

    def colon(self, owner: str) -> None:
        self.expect(":", f"after {owner}")
        if self.token.kind != "newline":
            raise self.unreadable(f"expected the end of the line after `:`, found {described(self.token)}",
                                  hint=f"The body of {owner} goes on the lines below, indented.")  # fmt: skip
        if self.peek().kind != "indent":
            raise self.unreadable(f"{owner} has no body", "E0110", "Indent the lines that belong to it.",
                                  self.tokens[self.position - 1])  # fmt: skip
        self.advance()

    # --- Statements

    def statement(self) -> ast.Statement:
        """One statement of a body."""
        token = self.token
        kind = token.kind
        rule = _KEYWORD_STATEMENTS.get(kind)
        if rule is not None:
            return rule(self)
        if kind == "name":
            following = self.peek().kind
            if token.text == "derivative" and following not in ("=", ",", ".", "["):
                raise self.unreadable("a derivative stands in the one line below `fn f(x) = ...`, and here is none",
                    "E0108",
                                      "Several derivatives stand in that line, with commas between them.")  # fmt: skip
            if token.text in SOFT and following not in ("=", ",", "."):
                return _SOFT_STATEMENTS[token.text](self)
            if token.text == "elif":
                raise self.unreadable("`elif` without an `if` above it", "E0108")
            return self.assignment()
        if kind in ("fn", "layer", "model", "train", "import"):
            raise self.unreadable(
                f"`{kind}` cannot stand inside another declaration", "E0108", "Move it to the left edge of the file."
            )
        if kind == "else":
            raise self.unreadable("`else` without an `if` above it", "E0108")
        hint = "A comment begins with `#`." if kind in ("//", "/", "-", "*", "string") else None
        raise self.unreadable(f"expected a statement, found {described(token)}", hint=hint)

    def assignment(self) -> ast.Assign:
        """`h = ...`, `m, v = ...`, `y[n, o] = ...`."""
        start = self.token
        following = self.peek().kind
        if start.text in NO_STATEMENT and following in (*_OPERANDS, "string", "newline", ":"):
            raise self.unreadable(f"`{start.text}` does not begin a statement", hint=NO_STATEMENT[start.text])
        if start.text == "self" and following == ".":
            raise self.unreadable("there is no `self` here", hint="Names stand alone: `W = ...`.")
        if start.text in BEGINNINGS and following in _OPERANDS:
            meant = BEGINNINGS[start.text]
            raise self.unreadable(
                f"`{start.text}` does not begin a statement",
                hint=f"Did you mean `{meant}`?" if meant else "An assignment is just `name = value`.",
            )
        targets = [self.target()]
        while self.accept(","):
            targets.append(self.target())
        if self.token.kind in ("+", "-", "*", "/", "@", "**") and self.peek().kind == "=":
            raise self.unreadable(f"`{self.token.text}=` is not an assignment here",
                                  hint=f"Write `{start.text} = {start.text} {self.token.text} ...`.")  # fmt: skip
        if self.token.kind != "=":
            near = (
                nearest(start.text, (*SOFT, "return", "for", "if", "use", "scan"))
                if self.token.kind != "newline"
                else None
            )
            if near and near != start.text:
                raise self.unreadable(
                    f"`{start.text}` does not begin a statement", hint=f"Did you mean `{near}`?", token=start
                )
            if self.token.kind in ("(", "newline") or self.token.kind in ("@", "+", "-", "*", "/", "**"):
                raise self.unreadable(
                    "this line makes a value and drops it",
                    "E0108",
                    "Give it a name (`y = ...`), or `return` it.",
                    start,
                )
            hint = (
                f"A value gets its name by `{start.text} = ...`." if self.token.kind in ("==", ":", "<", "->") else None
            )
            raise self.unreadable(
                f"expected `=` after `{self.tokens[self.position - 1].text}`, found {described(self.token)}", hint=hint
            )
        self.advance()
        value = self.several()
        span = self.since(start)
        self.end_of_line("the value")
        return ast.Assign(span, tuple(targets), value)

    def target(self) -> ast.Target:
        """A name to the left of `=`, perhaps with index variables."""
        name = self.expect("name", "to the left of `=`")
        if self.token.kind != "[":
            return ast.Target(self.place(name), name.text)
        self.advance()
        indices: list[ast.Expression | ast.IndexVariable] = []
        while self.token.kind != "]":
            indices.append(
                self.index_variable()
                if self.token.kind == "name" and self.peek().kind in (",", ":", "]")
                else self.expression()
            )
            if not self.accept(","):
                break
        self.expect("]", "after the index variables")
        return ast.Target(self.since(name), name.text, tuple(indices))

    def input(self) -> ast.Input:
        """`input image: [batch, 64]`, `target label: int[batch] < classes`."""
        role = self.advance()
        name = self.expect("name", f"after `{role.text}`")
        self.expect(
            ":", f"and a shape after `{role.text} {name.text}`", f"For example `{role.text} {name.text}: [batch, 8]`."
        )
        note = self.type_note()
        bound = None
        if self.accept("<"):
            bound = self.operation(5)
        span = self.since(role)
        self.end_of_line(f"the shape of `{name.text}`")
        return ast.Input(span, role.text, name.text, note, bound)

    def type_note(self) -> ast.TypeNote:
        """`[batch, 64]`, `int[batch]`, `int`."""
        start = self.token
        kind = "real"
        if start.kind == "name":
            if start.text not in ("int", "real", "bool"):
                near = nearest(start.text, ("int", "real", "bool"))
                raise self.unreadable(f"`{start.text}` is not a kind of number",
                    hint=f"Did you mean `{near}`?" if near else
                                      "The kinds are `int` and `bool`; a real tensor is just its shape.")  # fmt: skip
            kind = self.advance().text
            if self.token.kind != "[":
                return ast.TypeNote(self.since(start), kind, ())
        dims = self.dims()
        return ast.TypeNote(self.since(start), kind, dims)

    def dims(self) -> tuple[ast.Expression, ...]:
        """`[i, 4 * units]`."""
        self.expect("[", "to begin a shape", "A shape is a list of sizes, like `[batch, 64]`.")
        items = self.items("]")
        self.expect("]", "to close the shape")
        return items

    def param(self) -> ast.Param:
        """`param W: [i, units] ~ he_normal`, `frozen param E: [n, d] = 0`, which may be written `param E: [n, d] = 0
        frozen`.
        """
        start = self.advance()
        frozen = start.text == "frozen"
        if frozen and not self.accept_word("param"):
            raise self.unreadable(f"expected `param` after `frozen`, found {described(self.token)}")
        name = self.expect("name", "after `param`")
        self.colon_before_shape(name)
        dims = self.dims() if self.accept(":") else None
        value = initialiser = None
        if self.accept("="):
            value = self.expression()
        elif self.accept("~"):
            initialiser = self.expression()
        frozen = self.accept_word("frozen") or frozen
        span = self.since(start)
        self.end_of_line(f"`param {name.text}`")
        return ast.Param(span, name.text, dims, value, initialiser, frozen)

    def colon_before_shape(self, name: Token) -> None:
        """`param W[8, 1]` lacks its colon."""
        if self.token.kind == "[":
            raise self.unreadable(
                f"expected `:` before the shape of `{name.text}`, found `[`", hint=f"Write `{name.text}: [...]`."
            )

    def state(self) -> ast.State:
        """`state mean: [c] = 0`."""
        start = self.advance()
        name = self.expect("name", "after `state`")
        self.colon_before_shape(name)
        dims = self.dims() if self.accept(":") else None
        value = self.expression() if self.accept("=") else None
        span = self.since(start)
        self.end_of_line(f"`state {name.text}`")
        return ast.State(span, name.text, dims, value)

    def output(self) -> ast.Output:
        """`output probs = softmax(logits)`, `output h`."""
        start = self.advance()
        name = self.expect("name", "after `output`", "Write `output name = value`.")
        value = self.expression() if self.accept("=") else None
        span = self.since(start)
        if value is None and self.token.text in ("(", ","):
            raise self.unreadable(
                f"an output has a name, and a line of its own; found {described(self.token)}",
                hint="Write `output name = value`.",
            )
        if value is None and self.token.kind == ":":
            raise self.unreadable("an output is written without `:`", hint="Write `output name = value`.")
        self.end_of_line(f"`output {name.text}`" if value is None else "the value")
        return ast.Output(span, name.text, value)

    def loss(self) -> ast.Loss:
        """`loss ... as smoothness`."""
        start = self.advance()
        if self.token.kind == ":":
            raise self.unreadable("a loss is written without `:`", hint="Write `loss mean(...)`.")
        value = self.expression()
        name = self.expect("name", "after `as`").text if self.accept_word("as") else None
        span = self.since(start)
        self.end_of_line("the loss")
        return ast.Loss(span, value, name)

    def metric(self) -> ast.Metric:
        """`metric accuracy = ...`, `metric f1 = a / b total`."""
        start = self.advance()
        name = self.expect("name", "after `metric`", "Write `metric name = value`.")
        self.expect("=", f"after `metric {name.text}`", "Write `metric name = value`.")
        value = self.expression()
        total = self.accept_word("total")
        span = self.since(start)
        self.end_of_line("the metric")
        return ast.Metric(span, name.text, value, total)

    def require(self) -> ast.Require:
        """`require c % heads == 0, 'the heads share the channels evenly'`."""
        start = self.advance()
        condition = self.expression()
        self.expect(",", "and what is required in words", "Write `require n > 1, 'a variance needs two numbers'`.")
        text = self.expect("string", "that says what is required")
        span = self.since(start)
        self.end_of_line("what is required")
        return ast.Require(span, condition, ast.Text(self.place(text), text.text))

    def return_(self) -> ast.Return:
        """`return y`."""
        start = self.advance()
        value = self.several()
        span = self.since(start)
        self.end_of_line("the result")
        return ast.Return(span, value)

    def yield_(self) -> ast.Yield:
        """`yield h`."""
        start = self.advance()
        value = self.several()
        span = self.since(start)
        self.end_of_line("the value")
        return ast.Yield(span, value)

    def if_(self) -> ast.If:
        """`if condition:` with `else if ...:`, `elif ...:` and `else:`."""
        start = self.advance()
        condition = self.expression()
        span = self.since(start)
        then = self.block_after_colon("`if`")
        otherwise: tuple[ast.Statement, ...] = ()
        if self.token.kind == "name" and self.token.text == "elif":
            self.enter()
            otherwise = (self.if_(),)
            self.depth -= 1
        elif self.accept("else"):
            if self.token.kind == "if":
                self.enter()
                otherwise = (self.if_(),)
                self.depth -= 1
            else:
                otherwise = self.block_after_colon("`else`")
        return ast.If(span, condition, then, otherwise)

    def for_(self) -> ast.For:
        """`for k in 0..depth:`, `for width in [64, 32]:`, `repeat k in 0..depth:`."""
        start = self.advance()
        name = self.expect("name", f"after `{start.text}`")
        self.expect("in", f"after `{start.text} {name.text}`")
        first = self.expression()
        if self.token.kind not in ("..", ":"):
            self.expect("..", "in the range", f"A range is written `0..n`, as in `{start.text} {name.text} in 0..n:`.")
        stop = self.expression() if self.accept("..") else None
        span = self.since(start)
        body = self.block_after_colon(f"`{start.text}`")
        return ast.For(span, name.text, first, stop, body, start.text == "repeat")

    def scan(self) -> ast.Scan:
        """`scan over t with h: [b, units] = 0:`, with options before `with`."""
        start = self.advance()
        if not self.accept_word("over"):
            raise self.unreadable(
                f"expected `over` after `scan`, found {described(self.token)}",
                hint="Write `scan over t with h: [b, n] = 0:`.",
            )
        axis = self.expect("name", "after `over`")
        options: list[ast.Argument] = []
        while self.token.kind == "name" and self.token.text != "with":
            options.append(self.scan_option())
        carries: list[ast.Carry] = []
        if self.accept_word("with"):
            while True:
                name = self.expect("name", "as a carried value")
                dims = self.dims() if self.token.kind == ":" and self.peek().kind == "[" and self.accept(":") else None
                self.expect("=", f"and a starting value after `{name.text}`")
                value = self.expression()
                carries.append(ast.Carry(self.since(name), name.text, dims, value))
                if not self.accept(","):
                    break
        span = self.since(start)
        body = self.block_after_colon("`scan`")
        return ast.Scan(span, axis.text, tuple(options), tuple(carries), body)

    def scan_option(self) -> ast.Argument:
        """`reverse`, `reverse = expression`, `lengths = n`, `checkpoint every = 8`."""
        word = self.advance()
        if word.text not in SCAN_OPTIONS:
            near = nearest(word.text, (*SCAN_OPTIONS, "with"))
            hint = (
                f"Did you mean `{near}`?"
                if near
                else "It takes `reverse`, `lengths = n` and `checkpoint every = k`, then `with` and what is carried."
            )
            raise self.unreadable(f"`scan` has no option `{word.text}`", hint=hint, token=word)
        if word.text == "checkpoint" and not self.accept_word("every"):
            raise self.unreadable(
                f"expected `every` after `checkpoint`, found {described(self.token)}",
                hint="Write `checkpoint every = 8`.",
            )
        if word.text == "reverse" and self.token.kind != "=":
            return ast.Argument(self.place(word), word.text, ast.Truth(self.place(word), True))
        self.expect("=", f"and a value after `{word.text}`")
        value = self.expression()
        return ast.Argument(self.since(word), word.text, value)

    def use(self) -> ast.Use:
        """`use encoder = Dense(units = 64)`."""
        start = self.advance()
        name = self.expect("name", "after `use`")
        self.expect("=", f"after `use {name.text}`")
        value = self.expression()
        span = self.since(start)
        self.end_of_line("the layer")
        return ast.Use(span, name.text, value)


_OPERANDS = ("name", "true", "false", "not", "(", "number")
_KEYWORD_STATEMENTS: dict[str, Callable[[Statements], ast.Statement]] = {
    "return": Statements.return_,
    "yield": Statements.yield_,
    "if": Statements.if_,
    "for": Statements.for_,
    "repeat": Statements.for_,
    "scan": Statements.scan,
    "use": Statements.use,
}
_SOFT_STATEMENTS: dict[str, Callable[[Statements], ast.Statement]] = {
    "input": Statements.input,
    "target": Statements.input,
    "param": Statements.param,
    "frozen": Statements.param,
    "state": Statements.state,
    "output": Statements.output,
    "loss": Statements.loss,
    "metric": Statements.metric,
    "require": Statements.require,
}


def made_by(statement: ast.Statement) -> list[str]:
    """The names that a statement gives a value in its scope, those of its blocks included."""
    pending: list[ast.Statement] = [statement]
    names: list[str] = []
    while pending:
        item = pending.pop()
        if isinstance(item, ast.Assign):
            names += [target.name for target in item.targets]
        elif isinstance(item, (ast.Input, ast.Param, ast.State, ast.Output, ast.Use, ast.Metric)):
            names.append(item.name)
        elif isinstance(item, ast.If):
            pending += [*item.then, *item.otherwise]
        elif isinstance(item, (ast.For, ast.Scan)):
            pending += item.body
            names += [carry.name for carry in item.carries] if isinstance(item, ast.Scan) else []
        elif isinstance(item, ast.Broken):
            names += item.names
    return names
