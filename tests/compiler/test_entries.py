"""An entry point costs what it gives: work is counted in nodes that its passes emit."""

from __future__ import annotations

from typing import Any

import pytest

from tapeless.compiler import entries
from tapeless.compiler.elaborate import differentiation
from tapeless.compiler.model import Model, load
from tapeless.ir.graph import Builder

TEXT = """
model M:
    input x: [batch, 6]
    target y: [batch, 4]
    h = Dense(BatchNorm(x), 8, tanh)
    z = Dense(h, 4)
    output z
    {output}
    loss mean((z - y) ** 2)
    metric error = mean(abs(z - y))
train M:
    optimizer SGD(lr = 0.1)
"""
PLAIN, WITH_JACOBIAN = (load(TEXT.format(output=line)) for line in ("output w = 2 * z", "output w = jacobian(z, x)"))


def emitted(monkeypatch: pytest.MonkeyPatch, name: str, model: Model) -> int:
    count = 0
    plain = Builder.emit_node

    def counted(self: Builder, *arguments: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        return plain(self, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Builder, "emit_node", counted)
        entries.ENTRIES[name](model)
    return count


@pytest.mark.parametrize("name", ["gradients", "train_step", "evaluate"])
def test_an_output_costs_nothing_where_it_is_not_given(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert emitted(monkeypatch, name, WITH_JACOBIAN) == emitted(monkeypatch, name, PLAIN)


def test_what_a_step_and_a_gradient_give() -> None:
    step, gradient = entries.train_step(PLAIN), entries.gradients(PLAIN)
    assert {port.role for port in gradient.outputs} == {"gradient", "loss", "metric"}
    assert not {"output", "gradient"} & {port.role for port in step.outputs}
    assert any(port.label.endswith(".var") for port in step.outputs)


def test_a_jacobian_is_differentiated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For all of its rows; again in evaluation only if other ranges of values are known there."""
    calls = 0
    plain = differentiation.differentiate

    def counted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        return plain(*arguments)

    monkeypatch.setattr(differentiation, "differentiate", counted)
    load(TEXT.format(output="output w = jacobian(z, h)"))
    assert calls <= 2
