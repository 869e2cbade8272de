"""Indices: `E[tokens]`, `x[:, 1:]`, `shape(x)[0]`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tapeless.compiler.elaborate.conditions import differs
from tapeless.compiler.elaborate.context import Context, Rules
from tapeless.compiler.elaborate.frames import Frame
from tapeless.compiler.elaborate.functions.movement import indexed
from tapeless.compiler.elaborate.operands import tensor_of
from tapeless.compiler.elaborate.scan_steps import Steps
from tapeless.compiler.elaborate.values import Computed, describe
from tapeless.compiler.language import ast
from tapeless.ir.types import DType


@dataclass(frozen=True, eq=False)
class Subscripts:
    """Evaluates what has an index."""

    context: Context
    steps: Steps

    @property
    def rules(self) -> Rules:
        """The kinds of syntax that this part takes."""
        return {ast.Index: self.index}

    def index(self, frame: Frame, syntax: ast.Index) -> Any:
        """`E[tokens]`, `shape(x)[0]`."""
        if frame.line is not None and id(syntax) in frame.line.accesses:
            return frame.line.element(syntax)
        found = self.steps.shift(frame, syntax.items[0]) if len(syntax.items) == 1 else None
        if found is not None:
            return self.steps.element(frame, syntax, *found)
        value = self.context.evaluate(frame, syntax.value)
        if syntax.otherwise is not None:
            raise frame.fault(
                "E0804",
                "`else` after an index says what is outside of a scan's axis, and this is no step of one",
                syntax.span,
                hint="In `scan over t:` write `x[t - 1] else 0`.",
            )
        if not isinstance(value, (Computed, tuple)):
            raise frame.fault(
                "E0401", f"only tensors and lists have an index, not {describe(value)}", syntax.value.span
            )
        items = [self.place(frame, item) for item in syntax.items]
        if (
            isinstance(value, tuple)
            and not any(isinstance(item, Computed | tuple) for item in items)
            and len(items) == 1
        ):
            return self.list_index(frame, syntax, value, items)
        value = tensor_of(self.context, frame, syntax.value, value)
        source = frame.module.source
        written = [source.slice(item.span) for item in syntax.items]
        tensors = [(part, item) for part, item in zip(syntax.items, items, strict=True) if isinstance(item, Computed)]
        labels = frame.sides((syntax.value, value), *tensors)  # type: ignore[arg-type]
        return self.context.guarded(
            frame, syntax.span, lambda: indexed(self.context.emitter, value, items, written), lambda: labels
        )

    def place(
        self, frame: Frame, item: ast.Expression | ast.Slice | ast.Ellipsis
    ) -> slice | int | Computed | tuple[int, ...] | None:
        """One part of an index: Python's slice, a whole number, a list of them, an int tensor, or None for `...`."""
        if isinstance(item, ast.Ellipsis):
            return None
        if isinstance(item, ast.Slice):
            ends = (item.start, item.stop, item.step)
            return slice(
                *(
                    None if end is None else self.whole(frame, end, "a slice goes from one whole number to another")
                    for end in ends
                )
            )
        value = self.context.evaluate(frame, item)
        if isinstance(value, Computed) and value.rank == 0 and value.dtype is not DType.I32:
            return self.whole(frame, item, "an index is a whole number known when compiling, or an int tensor")
        if isinstance(value, tuple) and value and all(type(one) is int for one in value):
            return value
        value = tensor_of(self.context, frame, item, value)
        if isinstance(value, Computed):
            return value
        hint = "`expand_dims(x, 1)` is x with a new axis 1." if value is None else None
        return self.whole(frame, item, "an index is a whole number known when compiling, or an int tensor", hint)

    def whole(self, frame: Frame, syntax: ast.Expression, rule: str, hint: str | None = None) -> int:
        """A whole number known when compiling."""
        value = self.context.evaluate(frame, syntax)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int:
            raise frame.fault(
                "E0404", f"{rule}, not {describe(value)}", syntax.span, hint=hint or differs(frame, syntax)
            )
        return value

    def list_index(self, frame: Frame, syntax: ast.Index, value: tuple[Any, ...], items: list[Any]) -> Any:
        """`shape(x)[0]`, `shape(x)[1:]`."""
        if len(items) != 1 or not isinstance(items[0], (int, slice)):
            raise frame.fault("E0212", "a list has one index, a whole number or a slice", syntax.span)
        (item,) = items
        if isinstance(item, int) and not -len(value) <= item < len(value):
            raise frame.fault("E0212", f"index {item} is outside a list of {len(value)}", syntax.span)
        if isinstance(item, slice) and item.step == 0:
            raise frame.fault("E0212", "the step of this slice is 0", syntax.span)
        return value[item]
