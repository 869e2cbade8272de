"""Text to tokens to tree: places, precedence, layout, and everything the grammar has that elaboration refuses."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from tapeless.compiler.language import ast
from tapeless.compiler.language.lexer import lex
from tapeless.compiler.language.parser import parse
from tapeless.compiler.language.unparse import unparse
from tapeless.compiler.messages.diagnostics import ProgramErrors, Source
from tapeless.compiler.messages.near_names import nearest
from tapeless.compiler.model import load

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted([*ROOT.glob("examples/*/*.tl"), *ROOT.glob("compiler/std/*.tl")])


def tree(text: str) -> ast.File:
    file, faults = parse(Source("t.tl", text))
    assert not faults, faults
    return file


def expression(text: str) -> ast.Expression:
    (definition,) = tree(f"fn f(x) = {text}\n").declarations
    assert isinstance(definition, ast.Definition) and isinstance(definition.body[0], ast.Return)
    return definition.body[0].value


def grouped(item: ast.Expression) -> str:
    """An expression with every operation in parentheses."""
    if isinstance(item, ast.Binary):
        return f"({grouped(item.left)} {item.operator} {grouped(item.right)})"
    if isinstance(item, ast.Unary):
        return f"({item.operator} {grouped(item.operand)})"
    if isinstance(item, ast.Conditional):
        return f"({grouped(item.then)} if {grouped(item.condition)} else {grouped(item.otherwise)})"
    if isinstance(item, ast.Reduction):
        return f"({item.operator}[{', '.join(one.name for one in item.variables)}] {grouped(item.body)})"
    if isinstance(item, ast.Index):
        inner = ", ".join(
            grouped(one) if isinstance(one, (ast.Binary, ast.Name, ast.Number)) else type(one).__name__
            for one in item.items
        )
        return f"{grouped(item.value)}[{inner}]" + (f" else {grouped(item.otherwise)}" if item.otherwise else "")
    if isinstance(item, ast.Call):
        return f"{grouped(item.function)}({', '.join(grouped(one.value) for one in item.arguments)})"
    if isinstance(item, ast.Name):
        return item.name
    if isinstance(item, ast.Number):
        return str(item.value)
    return type(item).__name__


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a + b * c ** d", "(a + (b * (c ** d)))"),
        ("-a ** 2", "(- (a ** 2))"),
        ("a ** -b", "(a ** (- b))"),
        ("a ** b ** c", "(a ** (b ** c))"),
        ("a - b - c", "((a - b) - c)"),
        ("a @ b * c", "((a @ b) * c)"),
        ("not a < b and c or d", "(((not (a < b)) and c) or d)"),
        ("a < b < c", "((a < b) and (b < c))"),
        ("a if b else c if d else e", "(a if b else (c if d else e))"),
        ("sum[u, v] x[u] * y[v] / 2 + 1", "((sum[u, v] ((x[u] * y[v]) / 2)) + 1)"),
        ("x[t - 1] else 0", "x[(t - 1)] else 0"),
        ("x[t] if x else y", "(x[t] if x else y)"),
        ("x[:, 1:, ..., 2]", "x[Slice, Slice, Ellipsis, 2]"),
        ("random.uniform(a, b)(c)", "random.uniform(a, b)(c)"),
        ("1_000 * .5 + 2e-3", "((1000 * 0.5) + 0.002)"),
    ],
)
def test_precedence(text: str, expected: str) -> None:
    assert grouped(expression(text)) == expected


def test_spans_cover_their_text() -> None:
    text = "fn f(x) = where(x > 0, exp(x) - 1, (x + 2) * 3)\n"
    source = Source("t.tl", text)
    found = set()
    pending: list[ast.Syntax] = list(tree(text).declarations)
    while pending:
        item = pending.pop()
        found.add(source.slice(item.span))
        for name in item.__dataclass_fields__:
            inner = getattr(item, name)
            pending += [one for one in (inner if isinstance(inner, tuple) else (inner,)) if isinstance(one, ast.Syntax)]
    assert {"exp(x) - 1", "(x + 2) * 3", "x > 0", "x + 2", "fn f(x)", "where(x > 0, exp(x) - 1, (x + 2) * 3)"} <= found


def test_comments_are_kept() -> None:
    lexed = lex(Source("t.tl", "# top\nfn f(x) = x  # end\n    # deep\n"))
    assert [(one.text, one.line, one.column, one.alone) for one in lexed.comments] == [
        ("# top", 1, 1, True),
        ("# end", 2, 14, False),
        ("# deep", 3, 5, True),
    ]


def test_lines_continue_inside_brackets() -> None:
    value = expression("f(\n    a,\n\n    # why\n    b,\n)")
    assert grouped(value) == "f(a, b)"


def test_whole_grammar() -> None:
    """The parts that elaboration refuses in this version are read all the same."""
    text = """
import "other.tl"

layer LSTM(x[b, t, d], units):
    param Wx: [d, 4 * units] ~ glorot_uniform
    scan over t with h: [b, units] = 0, c: [b, units] = 0:
        i, f, g, o = split(x[t] @ Wx + h @ Wh + bias, 4)
        h = sigmoid(o) * tanh(c)
        yield h
    return stacked h

model M:
    input x: [batch, t, 3]
    y[n, o, i, j] = sum[c, u, v] x[n, c, i + u, j + v] * K[o, c, u, v]
    p[n, c, i, j] = max[u: 2, v: 2] x[n, c, 2*i + u, 2*j + v]
    a[n, q] = sum[k where k <= q] w[n, q, k]
    repeat k in 0..3:
        h = Block(h)
    m, v = moments(x, over = all but c)
    loss 0.5 * mean(u) as smoothness
    metric f1 = a / b total
"""
    kinds = unparse(tree(text))
    for kind in (
        "Import",
        "Scan",
        "Carry",
        "Yield",
        "Stacked",
        "Reduction",
        "IndexVariable v",
        "For k",
        "stacked",
        "AllBut",
        "Metric f1 total",
    ):
        assert kind in kinds, kind


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_programs_of_the_repository(path: Path) -> None:
    assert unparse(tree(path.read_text(encoding="utf-8"))).startswith("File")


def test_faults_do_not_stop_the_parser() -> None:
    _, faults = parse(Source("t.tl", "model M:\n    input x [3]\n    h = (1\n    k = 2 +\nfn f(x = 3\nfn g(x) = = 2\n"))
    assert [fault.span.line for fault in faults if fault.span] == [2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    "text",
    [
        "fn f(x) = " + "(" * 5000 + "x" + ")" * 5000,
        "fn f(x) = " + "-" * 5000 + "x",
        "fn f(x) = " + "not " * 5000 + "x",
        "fn f(x) = x" + " + x" * 5000,
        "fn f(x) = x" + " ** x" * 5000,
        "fn f(x) = x" + "(x)" * 5000,
        "fn f(x) = " + "[" * 5000,
        "fn f(x) = " + "x if x else " * 3000 + "x",
        "fn f(x) = x" + " < x" * 3000,
        "model M:\n" + "".join(" " * (4 * k + 4) + "if true:\n" for k in range(300)) + " " * 1204 + "x = 1\n",
        "model M:\n" + "    h = 1\n" * 20000,
        "\x00\x01\ufeff\u2028\r\n" * 100,
        "".join(f"fn f{k}(x) = f{k + 1}(x) + f{k + 1}(x)\n" for k in range(60))
        + "fn f60(x) = x\n\nmodel M:\n    input x: [batch]\n    output y = f0(x)\n",
    ],
)
def test_extremes_end_in_diagnostics(text: str) -> None:
    with pytest.raises(ProgramErrors):
        load(text, "t.tl")


@pytest.mark.slow
def test_mutated_programs_end_in_diagnostics() -> None:
    seeds = [path.read_text(encoding="utf-8") for path in ROOT.glob("examples/*/*.tl")]
    words = sorted({word for seed in seeds for word in re.findall(r"\w+|[^\w\s]+", seed)})
    chance = random.Random(5)
    for _ in range(200):
        text = chance.choice(seeds)
        for _ in range(chance.choice([1, 1, 2, 4])):
            pieces = list(re.finditer(r"\w+|[^\w\s]+", text))
            piece = chance.choice(pieces)
            text = text[: piece.start()] + chance.choice([*words, "", "\n", "("]) + text[piece.end() :]
        try:
            load(text, "t.tl")
        except ProgramErrors as errors:
            assert errors.render()


@pytest.mark.parametrize(
    ("word", "known", "expected"),
    [
        ("sigmiod", ["sigmoid", "sign"], "sigmoid"),
        ("Relu", ["relu", "elu"], "relu"),
        ("hh", ["h", "hidden"], "h"),
        ("x", ["y"], None),
        ("batchnorm", ["BatchNorm", "batch"], "BatchNorm"),
        ("completely", ["different"], None),
    ],
)
def test_near_names(word: str, known: list[str], expected: str | None) -> None:
    assert nearest(word, known) == expected


@pytest.mark.parametrize(
    "body",
    [
        "for i in 0..9000:\n        for j in 0..9000:\n            h = x\n",
        "for i in 0..9000:\n        h = " + " + ".join(["exp(x)"] * 100) + "\n",
        "for i in 0..100000000000:\n        h = x\n",
    ],
)
def test_too_much_code_is_refused(body: str) -> None:
    with pytest.raises(ProgramErrors, match="E0106"):
        load(f"model M:\n    input x: [batch, 3]\n    {body}    output y = x\n", "t.tl")
