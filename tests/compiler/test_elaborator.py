"""How the elaborator is put together: every kind of syntax goes to one part, and a part works without the others."""

from __future__ import annotations

import ast as python
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import pytest

import tapeless.compiler.elaborate as room
from tapeless.compiler.elaborate.context import Context, Written
from tapeless.compiler.elaborate.elaborator import Common, Elaborator
from tapeless.compiler.elaborate.emission import Emitter
from tapeless.compiler.elaborate.frames import Frame
from tapeless.compiler.elaborate.modules import Module
from tapeless.compiler.elaborate.operators import Operators
from tapeless.compiler.elaborate.reporter import Reporter
from tapeless.compiler.elaborate.storage import Storage
from tapeless.compiler.elaborate.values import Fault, Poisoned
from tapeless.compiler.language import ast
from tapeless.compiler.messages.diagnostics import Source
from tapeless.ir.graph import Span
from tapeless.ir.types import DType

HERE = Span("model.tl", 1, 1, 1, 2)
FILES = sorted(Path(room.__path__[0]).rglob("*.py"))
CLASSES = {
    node.name: node
    for path in FILES
    for node in python.parse(path.read_text("utf-8")).body
    if isinstance(node, python.ClassDef)
}
# A loop's body is written by an emitter with another around it; the others are data and exceptions.
INHERITING = {"BodyEmitter": {"Emitter"}}


def test_every_kind_of_syntax_goes_to_one_part() -> None:
    elaborator = Elaborator(Common(Reporter(), Storage("M", DType.F32), {}), Emitter("M", DType.F32), training=True)
    taken = Counter(kind for part in elaborator.parts for kind in part.rules)
    assert set(taken) == {*get_args(ast.Expression), *get_args(ast.Statement)}
    assert set(taken.values()) == {1}


def test_no_part_inherits_from_another() -> None:
    found = {
        name: bases
        for name, node in CLASSES.items()
        if (bases := {base.id for base in node.bases if isinstance(base, python.Name)} & set(CLASSES))
    }
    assert found == INHERITING


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_nothing_waits_for_somebody_else_to_say_what_it_does(path: Path) -> None:
    raised = [node.exc for node in python.walk(python.parse(path.read_text("utf-8"))) if isinstance(node, python.Raise)]
    called = [exc.func for exc in raised if isinstance(exc, python.Call)]
    names = {exc.id for exc in [*raised, *called] if isinstance(exc, python.Name)}
    assert not names & {"AssertionError", "NotImplementedError"}


def operators(values: dict[str, Any]) -> tuple[Operators, Frame, Reporter]:
    """Operators over names, all else left out."""

    def evaluate(frame: Frame, syntax: ast.Expression) -> Any:
        assert isinstance(syntax, ast.Name)
        if isinstance(values[syntax.name], Exception):
            raise values[syntax.name]
        return values[syntax.name]

    emitter, reporter = Emitter("M", DType.F32), Reporter()
    frame = Frame("model", "M", Module(Source("model.tl", "a + b\n")), emitter)
    context = Context(evaluate, lambda frame, body: None, reporter, Written(), emitter, None)
    return Operators(context), frame, reporter


SUM = ast.Binary(HERE, "+", ast.Name(HERE, "a"), ast.Name(HERE, "b"))


def test_operators_need_nobody_but_who_evaluates_operands() -> None:
    part, frame, _ = operators({"a": 2, "b": 3})
    assert part.binary(frame, SUM) == 5
    part, frame, _ = operators({"a": 2, "b": "text"})
    with pytest.raises(Fault, match="needs numbers, not the text 'text'"):
        part.binary(frame, SUM)


def test_faults_of_both_operands_are_reported_before_giving_up() -> None:
    part, frame, reporter = operators({})
    faults = [frame.fault("E0301", f"there is no `{name}` here", Span("model.tl", 1, k, 1, k + 1))
              for k, name in enumerate("ab", start=1)]  # fmt: skip
    part, frame, reporter = operators(dict(zip("ab", faults, strict=True)))
    with pytest.raises(Poisoned):
        part.binary(frame, SUM)
    assert [found.span and found.span.column for found in reporter.diagnostics] == [1, 2]
    reporter.report(faults[0].diagnostic)
    assert len(reporter.diagnostics) == 2  # each is said once
