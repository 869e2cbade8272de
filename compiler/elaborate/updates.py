"""What a step will store in the slots, and whether statistics over the rows are among it."""

from __future__ import annotations

from dataclasses import dataclass, field

from tapeless.compiler.elaborate.context import Context
from tapeless.compiler.elaborate.values import Computed
from tapeless.ir.graph import Span, Value


@dataclass(eq=False)
class Updates:
    """The values that one graph stores, by slot."""

    context: Context
    stores: dict[str, tuple[Value, Span]] = field(default_factory=dict)
    statistics: Span | None = None  # where statistics over the rows are used

    def enter(self, slot: str, value: Computed, span: Span) -> None:
        """Remember what the step will store in a slot; inside `repeat`, this turn's part of it."""
        walks = self.context.walks
        if walks:
            walks[-1].updates[slot] = (value, span)
        else:
            self.stores[slot] = (value.value, span)
