"""Conditions known when compiling: `a if c else b`, `if`, `require`; and what to write where one is not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tapeless.compiler.elaborate.context import Context, Rules
from tapeless.compiler.elaborate.frames import Frame
from tapeless.compiler.elaborate.names import Names
from tapeless.compiler.elaborate.values import Compared, Computed, describe
from tapeless.compiler.language import ast


@dataclass(frozen=True, eq=False)
class Conditions:
    """Decides conditions."""

    context: Context
    names: Names

    @property
    def rules(self) -> Rules:
        """The kinds of syntax that this part takes."""
        return {ast.Conditional: self.conditional}

    def conditional(self, frame: Frame, syntax: ast.Conditional) -> Any:
        """`a if condition else b`: the branch that is not taken is not evaluated."""
        by_mode = frame.by_mode
        chosen = syntax.then if self.branch(frame, syntax.condition) else syntax.otherwise
        if frame.root is syntax:
            frame.root = chosen
        try:
            return self.context.evaluate(frame, chosen)
        finally:
            frame.by_mode = by_mode

    def branch(self, frame: Frame, syntax: ast.Expression) -> bool:
        """A condition that chooses between branches; the frame notes whether `training` decides."""
        seen, self.names.mode_seen = self.names.mode_seen, False
        try:
            result = self.condition(frame, syntax)
            frame.by_mode = frame.by_mode or self.names.mode_seen
            return result
        finally:
            self.names.mode_seen = seen

    def condition(self, frame: Frame, syntax: ast.Expression) -> bool:
        """A condition that is known when compiling."""
        value = truth_of(self.context.evaluate(frame, syntax))
        if isinstance(value, Computed):
            raise frame.fault(
                "E0405",
                "this condition depends on data, so both branches would be needed",
                syntax.span,
                frame.sides((syntax, value)),
                differs(frame, syntax) or elsewise(frame),
            )
        if not isinstance(value, bool):
            raise frame.fault("E0401", f"a condition is needed here, not {describe(value)}", syntax.span)
        return value


def truth_of(value: Any) -> Any:
    """What a condition takes two lists that were compared for."""
    return value.whole if isinstance(value, Compared) else value


def elsewise(frame: Frame) -> str | None:
    """What to write in the place of a condition that depends on data, in the user's own text."""
    return None if frame.override is not None else "Choose element by element with `where(condition, a, b)`."


def differs(frame: Frame, syntax: ast.Syntax) -> str | None:
    """A hint where something known when compiling would differ from turn to turn of a `repeat`."""
    bindings = [frame.names.get(part.name) for part in ast.walk(syntax) if isinstance(part, ast.Name)]
    if any(
        binding is not None and binding.kind == "turn" and isinstance(binding.value, Computed) for binding in bindings
    ):
        return "The turns of `repeat` are one piece of code. Turns that differ are written with `for`."
    return None
