"""The token stream and the expression half of the parser: precedence climbing over the operators of the language.

Raises `Unreadable` at the first token that fits nothing; the statement parser reports it and goes on with the next
line.
"""

from __future__ import annotations

import re

from tapeless.compiler.language import ast
from tapeless.compiler.language.lexer import Token
from tapeless.compiler.messages.diagnostics import Diagnostic, Label
from tapeless.ir.graph import Span

# Binding powers of the operators between two operands; all but `**` group to the left.
_BINARY = {
    "or": 1, "and": 2, "<": 4, "<=": 4, ">": 4, ">=": 4, "==": 4, "!=": 4,
    "+": 5, "-": 5, "*": 6, "/": 6, "//": 6, "%": 6, "@": 6, "**": 8,
}  # fmt: skip
_COMPARISON, _ADDITIVE, _MULTIPLICATIVE, _POWER = 4, 5, 6, 8
REDUCERS = ("sum", "max", "min", "prod", "mean")
_TURN = re.compile(r"\.\d+")  # in a parameter's name, `h.0.W`
# Each level of nesting costs about four frames here and four in elaboration, and Python allows a thousand.
DEPTH = 60
CHAIN = 200


class Unreadable(Exception):
    """The text of the current statement fits no rule."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic


def described(token: Token) -> str:
    """A token as messages name it."""
    if token.kind == "newline":
        return "the end of the line"
    if token.kind == "end":
        return "the end of the file"
    if token.kind in ("indent", "dedent"):
        return "a change of indentation"
    return f"the string '{token.text}'" if token.kind == "string" else f"`{token.text}`"


class Expressions:
    """Parses expressions from a list of tokens."""

    def __init__(self, file: str, tokens: list[Token]) -> None:
        self.file = file
        self.tokens = tokens
        self.position = 0
        self.depth = 0
        self.token = tokens[0]

    # --- Tokens

    def advance(self) -> Token:
        """Step over the current token and return it."""
        token = self.token
        if token.kind != "end":
            self.position += 1
            self.token = self.tokens[self.position]
        return token

    def peek(self, ahead: int = 1) -> Token:
        """The token some places ahead."""
        return self.tokens[min(self.position + ahead, len(self.tokens) - 1)]

    def accept(self, kind: str) -> Token | None:
        """Step over the current token if it is of that kind."""
        return self.advance() if self.token.kind == kind else None

    def accept_word(self, word: str) -> bool:
        """Step over a word that is a keyword only here."""
        if self.token.kind == "name" and self.token.text == word:
            self.advance()
            return True
        return False

    def expect(self, kind: str, where: str, hint: str | None = None) -> Token:
        """Step over a token of that kind, or fail: `where` completes "expected `)` ..."."""
        if self.token.kind == kind:
            return self.advance()
        wanted = {
            "name": "a name",
            "string": "a quoted text",
            "number": "a number",
            "newline": "the end of the line",
        }.get(kind, f"`{kind}`")
        raise self.unreadable(f"expected {wanted} {where}, found {described(self.token)}", hint=hint)

    def unreadable(self, message: str, code: str = "E0101", hint: str | None = None, token: Token | None = None,
                   labels: tuple[Label, ...] = ()) -> Unreadable:  # fmt: skip
        """The exception that ends the current statement."""
        return Unreadable(Diagnostic(code, message, self.place(token or self.token), labels, hint))

    def place(self, token: Token) -> Span:
        """The span of one token."""
        return Span(self.file, token.line, token.column, token.line, max(token.end, token.column + 1))

    def since(self, start: Span | Token) -> Span:
        """The span from a start to the token just consumed."""
        last = self.tokens[self.position - 1] if self.position else self.token
        return Span(self.file, start.line, start.column, last.line, last.end)

    # --- Expressions

    def expression(self) -> ast.Expression:
        """A whole expression, with `a if condition else b` as its loosest form."""
        start = self.token
        self.enter()
        value = self.operation(1)
        if self.accept("if"):
            condition = self.operation(1)
            self.expect("else", "after the condition", "Write `a if condition else b`.")
            otherwise = self.expression()
            value = ast.Conditional(self.since(start), condition, value, otherwise)
        self.depth -= 1
        return value

    def several(self) -> ast.Expression:
        """`a` or `a, b`."""
        start = self.token
        first = self.expression()
        if self.token.kind != ",":
            return first
        items = [first]
        while self.accept(","):
            items.append(self.expression())
        return ast.Several(self.since(start), tuple(items))

    def enter(self) -> None:
        """One level deeper; too deep is a fault of the text, not a crash."""
        self.depth += 1
        if self.depth > DEPTH:
            self.depth = 0
            raise self.unreadable(
                "this is nested too deeply", "E0106", "Give the inner parts names on lines of their own."
            )

    def operation(self, power: int) -> ast.Expression:
        """Operands joined by operators that bind at least as tightly as `power`."""
        start = self.token
        left = self.prefix()
        links = 0
        while True:
            operator = self.token.kind
            strength = _BINARY.get(operator, 0)
            if strength < power or strength == 0:
                return left
            links += 1
            if links > CHAIN:
                raise self.unreadable(
                    "this expression has too many terms", "E0106", "Give parts of it names on lines of their own."
                )
            self.advance()
            if strength == _POWER:
                self.enter()
                right = self.operation(_POWER - 1) if self.token.kind != "-" else self.prefix()
                self.depth -= 1
            else:
                right = self.operation(strength + 1)
            if strength == _COMPARISON:
                left = self.comparisons(start, operator, left, right)
            else:
                left = ast.Binary(self.since(start), operator, left, right)

    def comparisons(self, start: Token, operator: str, left: ast.Expression, right: ast.Expression) -> ast.Expression:
        """`a < b < c` means `a < b and b < c`."""
        result: ast.Expression = ast.Binary(self.since(start), operator, left, right)
        links = 0
        while _BINARY.get(self.token.kind) == _COMPARISON:
            links += 1
            if links > DEPTH:
                raise self.unreadable("this expression has too many comparisons", "E0106")
            operator = self.advance().kind
            middle, right = right, self.operation(_COMPARISON + 1)
            link = ast.Binary(self.since(middle.span), operator, middle, right)
            result = ast.Binary(self.since(start), "and", result, link)
        return result

    def prefix(self) -> ast.Expression:
        """An operand with the signs before it."""
        token = self.token
        if token.kind in ("-", "+", "not"):
            self.enter()
            self.advance()
            operand = self.operation(_COMPARISON if token.kind == "not" else _MULTIPLICATIVE + 1)
            self.depth -= 1
            return operand if token.kind == "+" else ast.Unary(self.since(token), token.kind, operand)
        return self.postfix(self.operand())

    def operand(self) -> ast.Expression:
        """A number, name, list, parenthesis or reduction."""
        token = self.token
        kind = token.kind
        if kind == "number":
            self.advance()
            text = token.text.replace("_", "")
            whole = text.isdigit()
            if len(text) > 300:
                raise self.unreadable("this number has too many digits", "E0105", token=token)
            number = int(text) if whole else float(text)
            if number in (float("inf"),) or (whole and number > 2**53):
                raise self.unreadable("this number is too large", "E0105", token=token)
            return ast.Number(self.place(token), number)
        if kind == "name":
            return self.named()
        if kind in ("true", "false"):
            self.advance()
            return ast.Truth(self.place(token), kind == "true")
        if kind == "string":
            self.advance()
            return ast.Text(self.place(token), token.text)
        if kind == "(":
            self.advance()
            inner = self.several()
            self.expect(")", "to close the parenthesis")
            return inner
        if kind == "[":
            self.advance()
            items = self.items("]")
            self.expect("]", "to close the list")
            return ast.Items(self.since(token), items)
        if kind == "newline":
            raise self.unreadable("an expression is missing here", "E0107")
        hint = None
        if kind == "..":
            hint = "A range `a..b` belongs after `for k in`; a slice is written `a:b`."
        elif kind == "if":
            hint = "A choice between two values is written `a if condition else b`."
        elif kind == "~":
            hint = "Did you mean `not`?"
        elif kind == "{":
            hint = "There are lists, `[1, 2]`, and no sets or tables."
        elif kind == ">" and self.tokens[self.position - 1].kind == "<":
            hint = "Did you mean `!=`?"
        raise self.unreadable(f"expected an expression, found {described(token)}", "E0107", hint)

    def items(self, close: str) -> tuple[ast.Expression, ...]:
        """Expressions with commas between them, up to the closing bracket, which is left."""
        found: list[ast.Expression] = []
        while self.token.kind != close:
            found.append(self.expression())
            if not self.accept(","):
                break
        return tuple(found)

    def named(self) -> ast.Expression:
        """A name, `all but c`, `stacked h`, or a reduction in index notation."""
        token = self.advance()
        following = self.token
        if following.kind == "name":
            if token.text == "all" and following.text == "but":
                self.advance()
                names = [self.expect("name", "after `all but`").text]
                while (
                    self.token.kind == "," and self.peek().kind == "name" and self.peek(2).kind not in ("=", "(", "[")
                ):
                    self.advance()
                    names.append(self.advance().text)
                return ast.AllBut(self.since(token), tuple(names))
            if token.text == "stacked":
                self.advance()
                return ast.Stacked(self.since(token), following.text)
        if following.kind == "[" and token.text in REDUCERS:
            return self.reduction(token)
        return ast.Name(self.place(token), token.text)

    def reduction(self, token: Token) -> ast.Expression:
        """`sum[c, u: 2 where c <= u] body`, the body being all that is multiplied or divided after it."""
        self.advance()
        variables = []
        while self.token.kind == "name" and self.token.text != "where":
            variables.append(self.index_variable())
            if not self.accept(","):
                break
        condition = self.expression() if self.accept_word("where") else None
        self.expect("]", f"after the index variables of `{token.text}`")
        self.enter()
        body = self.operation(_MULTIPLICATIVE)
        self.depth -= 1
        return ast.Reduction(self.since(token), token.text, tuple(variables), condition, body)

    def index_variable(self) -> ast.IndexVariable:
        """`u` or `u: 2`."""
        name = self.advance()
        size = self.expression() if self.accept(":") else None
        return ast.IndexVariable(self.since(name), name.text, size)

    def postfix(self, value: ast.Expression) -> ast.Expression:
        """Calls, indices and dots after an operand."""
        links = 0
        while True:
            kind = self.token.kind
            links += 1
            if links > DEPTH:
                raise self.unreadable("this expression has too many parts", "E0106")
            if kind == "(":
                value = self.call(value)
            elif kind == "[":
                self.advance()
                items = self.index_items()
                self.expect("]", "to close the index")
                otherwise = None
                if self.token.kind == "else" and self.peek().kind not in (":", "if") and not self.conditional_open():
                    self.advance()
                    otherwise = self.operation(_MULTIPLICATIVE + 1)
                value = ast.Index(self.since(value.span), value, items, otherwise)
            elif kind == "." and isinstance(value, ast.Name):
                self.advance()
                part = self.expect("name", f"after `{value.name}.`")
                value = ast.Name(self.since(value.span), f"{value.name}.{part.text}")
            elif (
                kind == "number"
                and isinstance(value, ast.Name)
                and _TURN.fullmatch(self.token.text)
                and self.token.column == value.span.end_column
            ):
                turn = self.advance()
                value = ast.Name(self.since(value.span), value.name + turn.text)
            else:
                return value

    def conditional_open(self) -> bool:
        """Whether the `else` here belongs to an `a if condition else b` on the same line."""
        balance = 0
        place = self.position - 1
        while place >= 0 and self.tokens[place].kind not in ("newline", "indent", "dedent"):
            kind = self.tokens[place].kind
            if kind in (")", "]"):
                balance += 1
            elif kind in ("(", "["):
                balance -= 1
                if balance < 0:
                    return False
            elif balance == 0 and kind == "else":
                return False
            elif balance == 0 and kind == "if":
                return True
            place -= 1
        return False

    def call(self, function: ast.Expression) -> ast.Expression:
        """The arguments of a call, from `(`."""
        self.advance()
        arguments: list[ast.Argument] = []
        while self.token.kind != ")":
            start = self.token
            name = None
            if start.kind == "name" and self.peek().kind == "=":
                name = self.advance().text
                self.advance()
            value = self.expression()
            arguments.append(ast.Argument(self.since(start), name, value))
            if not self.accept(","):
                break
        if self.token.kind != ")":
            raise self.unreadable(f"expected `,` or `)` after this argument, found {described(self.token)}")
        self.advance()
        return ast.Call(self.since(function.span), function, tuple(arguments))

    def index_items(self) -> tuple[ast.Expression | ast.Slice | ast.Ellipsis, ...]:
        """What stands inside an index: expressions, slices and `...`."""
        found: list[ast.Expression | ast.Slice | ast.Ellipsis] = []
        while self.token.kind != "]":
            start = self.token
            if self.accept("..."):
                found.append(ast.Ellipsis(self.place(start)))
            else:
                first = None if self.token.kind == ":" else self.expression()
                if self.accept(":"):
                    stop = None if self.token.kind in (":", ",", "]") else self.expression()
                    step = None
                    if self.accept(":") and self.token.kind not in (",", "]"):
                        step = self.expression()
                    found.append(ast.Slice(self.since(start), first, stop, step))
                elif first is not None:
                    found.append(first)
            if not self.accept(","):
                break
        if not found:
            raise self.unreadable("an index is missing here", "E0107")
        return tuple(found)
