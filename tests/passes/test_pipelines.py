"""The pipelines: each pass of an entry is told of, in order, and what it makes is well formed."""

from __future__ import annotations

from pathlib import Path

from tapeless.compiler import entries
from tapeless.compiler.model import load
from tapeless.compiler.passes.pipelines import (
    AFTER_DIFFERENTIATION,
    BEFORE_DIFFERENTIATION,
    SIMPLIFICATION,
    Pass,
    lowering,
    run,
)
from tapeless.ir.graph import Graph
from tapeless.ir.machine import X86_64_V3
from tapeless.ir.verifier import verify

LSTM = Path(__file__).parents[2] / "examples" / "lstm" / "lstm.tl"


def test_every_pass_of_an_entry_is_told_of() -> None:
    seen: list[Pass] = []

    def after(step: Pass, graph: Graph) -> None:
        verify(graph)
        seen.append(step)

    graph = entries.train_step(load(LSTM.read_text("utf-8")), after)
    below = lowering(X86_64_V3, rows=1)
    run((*SIMPLIFICATION, *below), graph, after)
    names = [step.name for step in seen]
    before, rest = names[: len(BEFORE_DIFFERENTIATION)], names[len(BEFORE_DIFFERENTIATION) :]
    assert before == [step.name for step in BEFORE_DIFFERENTIATION]
    assert rest == ["differentiate", *(step.name for step in (*AFTER_DIFFERENTIATION, *SIMPLIFICATION, *below))]
    assert len(set(names)) == len(names)
