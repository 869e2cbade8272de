"""Functions and layers written in the language: the body is run in the caller's place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tapeless.compiler.elaborate import loss_arguments
from tapeless.compiler.elaborate.argument_shapes import Matching
from tapeless.compiler.elaborate.context import Context
from tapeless.compiler.elaborate.declared_derivatives import with_derivative
from tapeless.compiler.elaborate.frames import Frame, join
from tapeless.compiler.elaborate.operands import elementwise
from tapeless.compiler.elaborate.values import POISON, Computed, Defined, Instance, Poisoned, TooLarge
from tapeless.compiler.language import ast
from tapeless.compiler.language.statement_parser import made_by
from tapeless.compiler.messages.diagnostics import Diagnostic, Label
from tapeless.ir.graph import Span

# Bodies inside bodies: more than a real model ever has, few enough for Python's own stack.
DEPTH = 40
# Calls in all: functions that call others twice grow like 2 ** depth, and each call is about 50 microseconds of compile
# time.
CALLS = 10_000


@dataclass(frozen=True, eq=False)
class Inlining:
    """Runs called bodies."""

    context: Context
    matching: Matching

    def call(
        self,
        frame: Frame,
        span: Span,
        function: Defined,
        bound: Mapping[str, tuple[Any, ast.Argument]],
        is_root: bool,
        instance: Instance | None = None,
    ) -> Any:
        """Run a function's or layer's body in the caller's place and return its result."""
        if function.definition.kind == "layer":
            elementwise(
                self.context, frame, f"`{function.definition.name}`", (value for value, _ in bound.values()), span
            )
        callee = self.enter(frame, span, function, bound, is_root)
        if instance is not None:
            callee.instance = instance
            callee.path = instance.path
        emitter, where, root = self.context.emitter, self.context.emitter.where, frame.root
        emitter.where = callee.where
        try:
            self.context.run_body(callee, function.definition.body)
        finally:
            emitter.where = where
            frame.root = root
        if not callee.returned:
            if callee.broken:
                raise Poisoned
            raise frame.fault(
                "E0506",
                f"`{function.definition.name}` returns nothing here",
                span,
                [Label(f"`{function.definition.name}`", "ends without `return`", function.definition.head)],
            )
        if callee.result is POISON:
            raise Poisoned
        if function.definition.name in loss_arguments.SQUASHING and isinstance(callee.result, Computed):
            emitter.squashed[callee.result.value] = function.definition.name
        if function.definition.derivatives:
            return with_derivative(self.context, callee, function.definition, callee.result)
        return callee.result

    def enter(
        self, frame: Frame, span: Span, function: Defined, bound: Mapping[str, tuple[Any, ast.Argument]], is_root: bool
    ) -> Frame:
        """A frame for a call, its arguments bound and matched with their shapes."""
        definition, module = function.definition, function.module
        override = frame.override or (span if module.standard else None)
        callee = Frame(definition.kind, definition.name, module, self.context.emitter, frame, span, override)
        self.context.written.calls += 1
        if self.context.written.calls > CALLS:
            raise TooLarge(
                f"this program makes more than {CALLS} calls when its layers and functions are written out",
                frame.shown(span),
            )
        if frame.depth >= DEPTH:
            raise frame.fault("E0311", f"`{definition.name}` is called inside itself, or too many calls deep", span)
        above: Frame | None = frame
        while above is not None:
            if above.name == definition.name and above.module is module and above.kind == definition.kind:
                hint = (
                    "Its value is called `out` in its derivative."
                    if definition.derivatives
                    else "Repeat a layer with `for k in 0..n:`."
                )
                raise frame.fault("E0311", f"`{definition.name}` calls itself", span, hint=hint)
            above = above.caller
        callee.made = frozenset(name for statement in definition.body for name in made_by(statement))
        if definition.kind == "fn":
            callee.where = self.context.emitter.where
        else:
            parts: list[object] = list(frame.turn)
            if frame.target:
                parts = [frame.target, *parts]
                if not is_root:
                    parts.append(definition.name.lower())
            else:
                parts = [definition.name.lower(), *parts]
            callee.segment = join(*parts)
            callee.where = join(frame.where, callee.segment)
        for parameter in definition.parameters:
            self.matching.bind_parameter(frame, callee, parameter, bound.get(parameter.name))
        if module.standard:
            self.check_scores(frame, callee, definition, bound)
        return callee

    def check_scores(
        self, frame: Frame, callee: Frame, definition: ast.Definition, given: Mapping[str, tuple[Any, ast.Argument]]
    ) -> None:
        """A loss of the standard library must be given scores of several classes, and should be given scores and no
        probabilities.
        """
        for parameter in definition.parameters:
            if parameter.name not in given:
                continue
            argument = given[parameter.name][1]
            value = callee.names[parameter.name].value
            if loss_arguments.of_one_class(definition.name, parameter, value):
                raise frame.fault(
                    "E0512",
                    f"`{definition.name}` over one class is always 0",
                    argument.span,
                    [frame.side(argument.value, value)],
                    (
                        "A single yes-or-no score goes to `binary_cross_entropy`; else "
                        "the model needs one score for each class."
                    ),
                )
            if frame.override is None and (
                found := loss_arguments.unfit(self.context.emitter, parameter, callee.names)
            ):
                made, instead = found
                side = frame.side(argument.value, value)
                label = Label(side.subject, f"has been through `{made}`", side.span, side.relation)
                hint = f"Give it what `{made}` is given."
                self.context.reporter.report(
                    Diagnostic("W0106", f"`{definition.name}` {instead}", frame.shown(argument.span), (label,), hint)
                )
