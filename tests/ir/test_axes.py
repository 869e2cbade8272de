"""Loop axes: which axes are one loop, and that asking is cheap, as fusion asks for every pair that might join."""

from __future__ import annotations

import pytest

from tapeless.ir.axes import LoopAxes
from tapeless.ir.graph import Builder, Graph, Value
from tapeless.ir.types import DType, Tensor


def _graph() -> Graph:
    builder = Builder("g")
    x = builder.input("x", Tensor(DType.F32, (3, 5)), "data")
    row = builder.input("row", Tensor(DType.F32, (5,)), "data")
    total = builder.emit("add", x, builder.broadcast_to(row, (3, 5)), name="total")
    builder.output("s", builder.emit("sum", total, axes=(1,), name="s"), "output")
    return builder.graph()


def test_axes_of_a_broadcast_and_a_sum_are_those_of_the_loop_around() -> None:
    graph = _graph()
    values = {value.name: value for node in graph.nodes for value in (*node.operands, *node.results)}
    axes = LoopAxes(graph.nodes)
    assert axes.of(values["x"]) == axes.of(values["total"])
    assert axes.of(values["s"]) == axes.of(values["total"])[:1]
    broadcast = next(node for node in graph.nodes if node.op == "broadcast")
    assert axes.of_use(broadcast, 0) == axes.of(values["total"])[1:]
    assert axes.of(values["row"]) != axes.of_use(broadcast, 0)  # a load with a map of its own for each use


def test_no_value_is_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = _graph()
    asked: list[str] = []
    plain = Value.__hash__
    monkeypatch.setattr(Value, "__hash__", lambda value: asked.append(value.name) or plain(value))
    axes = LoopAxes(graph.nodes)
    for node in graph.nodes:
        axes.of(node.results[0])
    assert not asked
