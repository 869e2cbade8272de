"""Sizes: whole numbers known when compiling and multiples of `batch`, and the shapes that they make."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tapeless.compiler.elaborate.conditions import differs
from tapeless.compiler.elaborate.context import Context
from tapeless.compiler.elaborate.frames import Frame
from tapeless.compiler.elaborate.values import describe, shape_text
from tapeless.compiler.language import ast
from tapeless.ir.graph import Span
from tapeless.ir.types import Dim, Rows


@dataclass(frozen=True, eq=False)
class Sizes:
    """Evaluates written shapes."""

    context: Context

    def dims(self, frame: Frame, shape: Iterable[ast.Expression]) -> tuple[Dim, ...]:
        """A written shape: whole numbers of at least 1 and multiples of `batch`; a list in it stands for its items."""
        shape = tuple(shape)
        values = self.context.evaluate_all(frame, shape)
        return tuple(
            self.dim(*self.origin(frame, syntax), value=size)
            for syntax, value in zip(shape, values, strict=True)
            for size in (value if isinstance(value, tuple) else (value,))
        )

    def origin(self, frame: Frame, syntax: ast.Expression) -> tuple[Frame, ast.Expression]:
        """Where a size was written: for a standard layer's argument, the argument in the user's call."""
        binding = frame.names.get(syntax.name) if isinstance(syntax, ast.Name) else None
        written = binding.extra.get("written") if binding else None
        if frame.override is not None and frame.caller is not None and written is not None:
            return self.origin(frame.caller, written)
        return frame, syntax

    def dim(self, frame: Frame, at: Span | ast.Expression, value: Any) -> Dim:
        """One size, written at a place; one that has a name says where that comes from."""
        span = at if isinstance(at, Span) else at.span
        labels = frame.sides((at, value)) if isinstance(at, ast.Name) else []
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, Rows) or (type(value) is int and 1 <= value < 2**31):
            return value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise frame.fault(
                "E0209",
                f"a size must be a whole number known when compiling, not {describe(value)}",
                span,
                labels,
                None if isinstance(at, Span) else differs(frame, at),
            )
        hint = "`//` divides and rounds down." if math.isfinite(value) and value != int(value) else None
        raise frame.fault(
            "E0209",
            f"a size must be a whole number {'below 2**31' if value >= 2**31 else 'of at least 1'}, not {value:g}",
            span,
            labels,
            hint,
        )

    def fixed(self, frame: Frame, dims: Sequence[ast.Expression], owner: str) -> tuple[int, ...]:
        """A written shape that must not hold `batch`."""
        shape = self.dims(frame, dims)
        for syntax in dims:
            if any(isinstance(dim, Rows) for dim in shape) and any(
                isinstance(dim, Rows) for dim in self.dims(frame, (syntax,))
            ):
                raise frame.fault(
                    "E0208",
                    f"{owner} cannot have `batch` in its shape {shape_text(shape)}",
                    syntax.span,
                    hint=("The number of rows is free at run time; what is stored needs fixed sizes.")
                    if frame.override is None
                    else (
                        f"`{frame.name}` works along the last axis, which is `batch` "
                        "here. Did you mean `reshape(x, [batch, 1])`?"
                    ),
                )
        return tuple(dim for dim in shape if isinstance(dim, int))
