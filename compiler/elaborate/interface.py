"""What a model takes and makes, as its statements declare it."""

from __future__ import annotations

from dataclasses import dataclass, field

from tapeless.compiler.elaborate.context import Context
from tapeless.compiler.elaborate.frames import Frame
from tapeless.ir.graph import Span, Value
from tapeless.ir.types import Tensor


@dataclass(frozen=True)
class ModelResult:
    """A loss, metric or output of the model."""

    name: str
    value: Value
    span: Span


@dataclass(frozen=True)
class Given:
    """An input or target of the model."""

    name: str
    type: Tensor
    role: str
    bound: int | None
    span: Span


@dataclass(eq=False)
class Interface:
    """What one graph of a model takes and makes. `free_sizes` are sizes that only the data, or whoever compiles,
    knows.
    """

    given: dict[str, Given] = field(default_factory=dict)
    losses: list[ModelResult] = field(default_factory=list)
    metrics: list[ModelResult] = field(default_factory=list)
    outputs: list[ModelResult] = field(default_factory=list)
    free_sizes: set[str] = field(default_factory=set)

    @property
    def watched(self) -> list[str]:
        """The losses and metrics by which training can stop early."""
        return ["loss", *(result.name for result in [*self.losses, *self.metrics] if result.name)]


def in_model(context: Context, frame: Frame, what: str, span: Span) -> None:
    """Some statements belong to a model's own body."""
    if frame.kind != "model":
        raise frame.fault("E0108", f"`{what}` belongs in a model, not in {frame.kind} `{frame.name}`", span)
    if frame.turn:
        loop = "repeat" if any(walk.turns for walk in context.walks) else "for"
        raise frame.fault("E0108", f"`{what}` cannot be repeated by `{loop}`", span)
    if context.walks:
        raise frame.fault(
            "E0108",
            f"`{what}` cannot stand in a scan",
            span,
            hint="After the scan, carried names hold the last step's values.",
        )
    if frame.by_mode:
        raise frame.fault("E0108", f"`{what}` cannot depend on `training`", span)
