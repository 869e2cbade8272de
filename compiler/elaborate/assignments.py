"""`h = ...`, `m, v = ...`, `y[i] = ...`: names bound, and states given what the step will store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tapeless.compiler.elaborate.context import Context, Rules
from tapeless.compiler.elaborate.frames import Frame
from tapeless.compiler.elaborate.index_notation import Lines
from tapeless.compiler.elaborate.names import assignable
from tapeless.compiler.elaborate.ports import Ports
from tapeless.compiler.elaborate.updates import Updates
from tapeless.compiler.elaborate.values import Binding, Computed, Fault, Poison, Poisoned, describe, shape_text
from tapeless.compiler.language import ast
from tapeless.ir.graph import Span
from tapeless.ir.types import Rows


@dataclass(frozen=True, eq=False)
class Assignments:
    """Binds names."""

    context: Context
    ports: Ports
    lines: Lines
    updates: Updates

    @property
    def rules(self) -> Rules:
        """The kinds of syntax that this part takes."""
        return {ast.Assign: self.assign}

    def assign(self, frame: Frame, syntax: ast.Assign) -> None:
        """`h = ...`, `m, v = ...`."""
        for target in syntax.targets:
            if target.indices is not None and len(syntax.targets) > 1:
                raise frame.fault(
                    "E1005", "a line with indices makes one tensor", target.span, hint="Write a line for each."
                )
            assignable(frame, target)
        targets = syntax.targets
        indices = targets[0].indices
        if len(targets) > 1 and isinstance(syntax.value, ast.Several):
            if len(syntax.value.items) != len(targets):
                raise self.uneven(frame, syntax, len(syntax.value.items))
            values = [
                self.valued(frame, target.name, item) for target, item in zip(targets, syntax.value.items, strict=True)
            ]
        elif len(targets) > 1:
            value = self.valued(frame, targets[0].name, syntax.value)
            if not isinstance(value, tuple) or len(value) != len(targets):
                raise self.uneven(frame, syntax, len(value) if isinstance(value, tuple) else 1)
            values = list(value)
        elif indices is not None:
            values = [
                self.valued(
                    frame, targets[0].name, syntax.value, lambda: self.lines.value(frame, indices, syntax.value)
                )
            ]
        else:
            values = [self.valued(frame, targets[0].name, syntax.value)]
        for target, value in zip(targets, values, strict=True):
            self.store(frame, target, value, syntax.value.span)

    def uneven(self, frame: Frame, syntax: ast.Assign, count: int) -> Fault:
        """The fault of names and values that do not pair up."""
        right = "one value" if count == 1 else f"{count} values"
        return frame.fault("E0312", f"{right} for {len(syntax.targets)} names", syntax.span)

    def valued(self, frame: Frame, name: str, syntax: ast.Expression, rule: Callable[[], Any] | None = None) -> Any:
        """The value of an expression that makes a name; by the rule, if there is one."""
        frame.target, frame.root = name, syntax
        self.context.emitter.where = frame.value_name(name)
        value = self.context.evaluate(frame, syntax) if rule is None else rule()
        frame.target = frame.root = None
        return value

    def store(self, frame: Frame, target: ast.Target, value: Any, span: Span) -> None:
        """Bind a name; what is assigned to a state is what the step will store."""
        name = target.name
        known = frame.names.get(name)
        if isinstance(value, Poison):
            raise Poisoned
        if known is not None and known.kind in ("state", "weight"):
            slot = known.extra["slot"]
            if self.context.walks and len(self.ports.repeats_of(slot)) < len(self.context.walks):
                raise frame.fault(
                    "E0804",
                    (
                        f"the state `{known.subject}` cannot be assigned in a loop that shares it: it is stored "
                        "once a step"
                    ),
                    span,
                )
            value = self.context.guarded(frame, span, lambda: self.updated(frame, known, value, span))
            if known.kind == "state" and value.value in self.context.emitter.lone:
                value = self.of_several_rows(value, known.value)
                self.updates.statistics = self.updates.statistics or frame.shown(span)
            self.updates.enter(slot, value, frame.shown(span))
            frame.names[name] = Binding(
                value, known.subject, known.span, known.relation, known.kind, known.syntax, known.extra
            )
        else:
            frame.names[name] = self.alias(frame, value) or Binding(value, name, target.span, "made")
        if self.context.emitter is frame.emitter:
            self.context.emitter.claim(value, frame.value_name(name))

    def of_several_rows(self, after: Computed, before: Computed) -> Computed:
        """What a state becomes by statistics over the rows: one row has none, and leaves it as it was."""
        emit = self.context.emitter
        several = emit.binary("<", 1, Rows())
        assert isinstance(several, Computed)
        return Computed(emit.emit("select", emit.broadcast(several, after.shape).value, after.value, before.value))

    def alias(self, frame: Frame, value: Any) -> Binding | None:
        """In a standard body, another name for what the user gave stands for that, in messages too."""
        if frame.override is None or not isinstance(value, Computed):
            return None
        for known in frame.names.values():
            if known.value is value and known.kind == "argument":
                return Binding(value, known.subject, known.span, known.relation)
        return None

    def updated(self, frame: Frame, known: Binding, value: Any, span: Span) -> Computed:
        """A value in the shape of the state it replaces, constant under differentiation."""
        if not isinstance(value, (Computed, int, float, Rows, tuple)):
            raise frame.fault("E0401", f"the state `{known.subject}` needs a tensor, not {describe(value)}", span)
        shape = known.value.shape
        tensor = self.context.emitter.as_real(value)
        if frame.kind == "optimizer" and tensor.shape != shape:
            raise frame.fault(
                "E0213",
                f"{describe(tensor)} cannot become `{known.subject}`, which is {shape_text(shape)}",
                span,
                hint=self.single_number(known, tensor),
            )
        if tensor.shape != shape and self.context.emitter.meet([tensor.shape, shape]) != shape:
            raise frame.fault(
                "E0213",
                f"`{known.subject}` is {shape_text(shape)} and cannot become {shape_text(tensor.shape)}",
                span,
            )
        tensor = self.context.emitter.broadcast(tensor, shape)
        if frame.kind == "optimizer":
            return tensor
        return Computed(self.context.emitter.emit("stop_gradient", tensor.value))

    def single_number(self, known: Binding, tensor: Computed) -> str | None:
        """What to write where an optimizer's rule would spread one number over a whole parameter or state."""
        if tensor.rank:
            return None
        name = known.subject
        return (
            f"A state that is one number is declared so: `state {name}: [] = 0`."
            if known.kind == "state"
            else f"Each element changes by itself: `{name} = {name} - ...`."
        )
