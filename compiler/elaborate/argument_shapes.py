"""Arguments as names of a called body, their shapes matched with those that it declares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tapeless.compiler.elaborate.context import Context
from tapeless.compiler.elaborate.folding import dims_product
from tapeless.compiler.elaborate.frames import Frame
from tapeless.compiler.elaborate.values import Binding, Computed, describe, shape_text
from tapeless.compiler.language import ast
from tapeless.compiler.messages.diagnostics import Label
from tapeless.ir.graph import Span
from tapeless.ir.types import Dim, Rows


@dataclass(frozen=True, eq=False)
class Matching:
    """Binds arguments to the names of a body."""

    context: Context

    def bind_parameter(
        self, frame: Frame, callee: Frame, parameter: ast.Parameter, given: tuple[Any, ast.Argument] | None
    ) -> None:
        """One argument, or its default, as a name of the called body."""
        if given is not None:
            value, argument = given
            side = frame.side(argument.value, value)
            hidden = callee.override is not None
            subject = side.subject if hidden else parameter.name
            span = side.span if hidden else argument.span
            binding = Binding(
                value,
                subject,
                span,
                side.relation if hidden else "given",
                "argument",
                parameter,
                {"written": argument.value},
            )
        else:
            assert parameter.default is not None
            argument, side = None, None
            value = self.context.evaluate(callee, parameter.default)
            binding = Binding(value, parameter.name, parameter.span, "declared", "argument", parameter)
        if parameter.pattern is not None:
            where, span = (frame, argument.span) if argument else (callee, parameter.span)
            label = side or Label(parameter.name, f"is {describe(value)}", parameter.span)
            binding.value = self.match(where, span, callee, parameter, parameter.pattern, value, label)
        callee.names[parameter.name] = binding

    def match(
        self,
        frame: Frame,
        span: Span,
        callee: Frame,
        parameter: ast.Parameter,
        pattern: ast.Pattern,
        value: Any,
        label: Label,
    ) -> Computed:
        """Match an argument with its declared shape, binding the sizes that it names. Faults are the caller's, at
        the argument.
        """
        if isinstance(value, (int, float, Rows)) and not isinstance(value, bool):
            value = self.context.emitter.computed(value)
        elif isinstance(value, tuple):
            listed = value
            value = self.context.guarded(frame, span, lambda: self.context.emitter.vector(listed), lambda: [label])
        items = pattern.items
        written = "[" + ", ".join(_pattern_text(item) for item in items) + "]"
        declared = Label(callee.name, f"takes {written}", parameter.span)
        if not isinstance(value, Computed):
            raise frame.fault(
                "E0202",
                f"`{parameter.name}` of `{callee.name}` must be a tensor, not {describe(value)}",
                span,
                [declared],
            )
        open_place = next((place for place, item in enumerate(items) if isinstance(item, ast.Ellipsis)), None)
        named = len(items) - (open_place is not None)
        if value.rank < named or (open_place is None and value.rank > named):
            least = "at least " if open_place is not None else ""
            raise frame.fault(
                "E0202",
                f"`{callee.name}` needs `{parameter.name}` with {least}{_axes(named)}",
                span,
                [label, declared],
                _rank_hint(value, named, open_place is not None),
            )
        for place, item in enumerate(items):
            if isinstance(item, ast.Ellipsis):
                continue
            axis = place if open_place is None or place < open_place else place - len(items)
            size = value.shape[axis]
            if isinstance(item, ast.Number):
                if size != item.value:
                    message = f"`{callee.name}` needs {item.value} in axis {axis} of `{parameter.name}`, not {size}"
                    raise frame.fault("E0202", message, span, [label, declared])
            elif item.name != "_":
                self.bind_size(frame, span, callee, item, size, axis, label)
        return value

    def bind_size(
        self, frame: Frame, span: Span, callee: Frame, item: ast.Name, size: Dim, axis: int, label: Label
    ) -> None:
        """Give a size its name, or check that it is what the name stands for already."""
        known = callee.names.get(item.name)
        if known is None and item.name == "batch":
            known = Binding(Rows(), "batch", None)
        if known is None:
            callee.names[item.name] = Binding(size, item.name, label.span, "found", "size", item, {"label": label})
            callee.axes[item.name] = axis
            return
        expected = known.value
        if isinstance(expected, float) and expected.is_integer():
            expected = int(expected)
        if expected != size:
            first = known.extra.get("label") or Label(f"`{item.name}`", f"is {expected}", known.span, known.relation)
            raise frame.fault(
                "E0203",
                f"`{callee.name}` needs one size `{item.name}`, but finds {expected} and {size}",
                span,
                [first, label],
            )
        callee.axes.setdefault(item.name, axis)


def _axes(count: int) -> str:
    return "one axis" if count == 1 else f"{count} axes"


def _pattern_text(item: ast.Name | ast.Number | ast.Ellipsis) -> str:
    return item.name if isinstance(item, ast.Name) else str(item.value) if isinstance(item, ast.Number) else ".."


def _rank_hint(value: Computed, named: int, is_open: bool) -> str | None:
    if is_open or value.rank <= named or named < 1:
        return None
    tail = value.shape[named - 1 :]
    if any(isinstance(dim, Rows) for dim in tail) and any(isinstance(dim, Rows) for dim in value.shape[: named - 1]):
        return None
    folded = (*value.shape[: named - 1], dims_product(tail))
    return f"`reshape(x, {shape_text(folded)})` joins the last axes."
