"""What a graph reads of the slots: an input port for each, made on first need."""

from __future__ import annotations

from dataclasses import dataclass, field

from tapeless.compiler.elaborate.context import Context
from tapeless.compiler.elaborate.loops import Walk
from tapeless.compiler.elaborate.storage import TURN, Storage, Stored
from tapeless.compiler.elaborate.values import Computed
from tapeless.ir.graph import Span, Value
from tapeless.ir.types import Tensor


@dataclass(eq=False)
class Ports:
    """The slots that one graph has read."""

    context: Context
    storage: Storage
    values: dict[str, Value] = field(default_factory=dict)

    def port(self, label: str, type: Tensor, role: str, span: Span | None) -> Value:
        """The input port of a slot in the graph under construction, made on first need."""
        if label not in self.values:
            self.values[label] = self.context.emitter.root.input(label, type, role, span)
        return self.values[label]

    def parameters_so_far(self) -> dict[str, Computed]:
        """Every parameter that the graph under construction has read, by name."""
        return {
            label: Computed(value)
            for label, value in self.values.items()
            if label in self.storage.slots and self.storage.slots[label].role == "param"
        }

    def repeats_of(self, label: str) -> tuple[Walk, ...]:
        """The open `repeat` loops of which each turn has a slot of its own under this label."""
        walks = self.context.walks
        return tuple(walks[int(depth)] for depth in TURN.findall(label))

    def of_turn(self, stored: Stored, repeats: tuple[Walk, ...]) -> Value:
        """What a slot holds for the turns at hand."""
        value = self.port(stored.name, stored.type, stored.role, stored.span)
        for walk in repeats:
            value = walk.emitter.element(walk.emitter.outer.own(value), stored.name)
        return value
