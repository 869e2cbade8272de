"""A node that is copied onto operands of the types that it had keeps its own: no type rule is asked again."""

from __future__ import annotations

import pytest

from tapeless.ir.graph import Builder, Graph, IRTypeError
from tapeless.ir.ops.registry import Operation
from tapeless.ir.types import DType, Tensor

WIDE, NARROW = Tensor(DType.F32, (3, 5)), Tensor(DType.F32, (3, 4))


def graph() -> Graph:
    builder = Builder("g")
    x = builder.input("x", WIDE, "data")
    y = builder.emit("tanh", x, name="y")
    builder.output("z", builder.emit("add", y, x, name="z"), "output")
    return builder.graph()


def typed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The operations whose type rules are asked from now on."""
    asked: list[str] = []
    infer = Operation.infer
    monkeypatch.setattr(Operation, "infer", lambda self, *given: (asked.append(self.name), infer(self, *given))[1])
    return asked


def test_equal_types_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    source, builder = graph(), Builder("copy")
    seen = {port.value: builder.input_like(port) for port in source.inputs}
    asked = typed(monkeypatch)
    builder.copy_nodes(source.nodes, seen)
    assert asked == []
    assert all(mine is theirs for mine, theirs in zip(builder.graph().nodes, source.nodes, strict=True))


def test_names_that_are_taken_and_other_operands_make_another_node(monkeypatch: pytest.MonkeyPatch) -> None:
    source, builder = graph(), Builder("copy")
    other = builder.input("y", WIDE, "data")
    asked = typed(monkeypatch)
    made = builder.splice(source, {"x": other})
    assert asked == [] and builder.nodes[0].results[0].name == "y.2"
    assert builder.nodes[1].operands == (builder.nodes[0].result, other)
    assert made["z"].type == WIDE


def test_other_types_are_inferred(monkeypatch: pytest.MonkeyPatch) -> None:
    source, builder = graph(), Builder("copy")
    asked = typed(monkeypatch)
    made = builder.splice(source, {"x": builder.input("x", NARROW, "data")})
    assert asked == ["tanh", "add"] and made["z"].type == NARROW
    with pytest.raises(IRTypeError):
        builder.copy_node(source.nodes[1], (builder.nodes[0].result, builder.input("w", WIDE, "data")))
