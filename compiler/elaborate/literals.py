"""Numbers, truths, texts, lists and `all but`: expressions that name no operation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tapeless.compiler.elaborate.context import Context, Rules
from tapeless.compiler.elaborate.frames import Frame
from tapeless.compiler.elaborate.values import AllBut, bounded
from tapeless.compiler.language import ast


@dataclass(frozen=True, eq=False)
class Literals:
    """Evaluates what stands for itself."""

    context: Context

    @property
    def rules(self) -> Rules:
        """The kinds of syntax that this part takes."""
        return {
            ast.Number: self.number,
            ast.Truth: self.truth,
            ast.Text: self.text,
            ast.Items: self.items,
            ast.Several: self.items,
            ast.AllBut: self.all_but,
        }

    def number(self, frame: Frame, syntax: ast.Number) -> int | float:
        return syntax.value

    def truth(self, frame: Frame, syntax: ast.Truth) -> bool:
        return syntax.value

    def text(self, frame: Frame, syntax: ast.Text) -> str:
        return syntax.value

    def items(self, frame: Frame, syntax: ast.Items | ast.Several) -> tuple[Any, ...]:
        return bounded(tuple(self.context.evaluate_all(frame, syntax.items)), syntax.span)

    def all_but(self, frame: Frame, syntax: ast.AllBut) -> AllBut:
        """`all but c`: axes by the names they have in the shapes of this layer's arguments."""
        missing = [name for name in syntax.names if name not in frame.axes]
        if missing:
            hint = "Name the axis in the argument's shape: `layer Norm(x[n, c, ..]):`."
            raise frame.fault("E0908", f"`{missing[0]}` names no axis of an argument here", syntax.span, hint=hint)
        return AllBut(tuple(frame.axes[name] for name in syntax.names))
