"""Writing a nest over no axes: single elements, by part 0 alone."""

from __future__ import annotations

from collections.abc import Sequence

from tapeless.codegen.loops.builder import Builder
from tapeless.codegen.loops.language import Buffer
from tapeless.codegen.nests.evaluate import Evaluator
from tapeless.codegen.nests.plan import ElementPlan

__all__ = ["write_elements"]


def write_elements(builder: Builder, buffers: Sequence[Buffer], plan: ElementPlan, parts: int) -> None:
    e = Evaluator(builder, buffers, None, 1)
    with e.open.in_part_zero(parts):
        for store in plan.stores:
            e.get(store.term)
        for store in plan.stores:
            e.write(store)
