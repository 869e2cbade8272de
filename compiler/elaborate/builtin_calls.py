"""Calls of built-in functions, and what these may ask of the elaboration around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tapeless.compiler.elaborate.arguments import bind
from tapeless.compiler.elaborate.context import Context
from tapeless.compiler.elaborate.draws import Draws
from tapeless.compiler.elaborate.emission import Emitter
from tapeless.compiler.elaborate.frames import Frame
from tapeless.compiler.elaborate.functions import CallSite, Surroundings
from tapeless.compiler.elaborate.operands import elementwise
from tapeless.compiler.elaborate.ports import Ports
from tapeless.compiler.elaborate.sizes import Sizes
from tapeless.compiler.elaborate.values import Builtin, Computed
from tapeless.compiler.language import ast
from tapeless.compiler.messages.diagnostics import Diagnostic, Label
from tapeless.ir.graph import Span
from tapeless.ir.types import Dim


@dataclass(frozen=True, eq=False)
class Around:
    """What a built-in function may ask: see `Surroundings`."""

    context: Context
    sizes: Sizes
    ports: Ports
    draws: Draws

    @property
    def emitter(self) -> Emitter:
        return self.context.emitter

    def report(self, diagnostic: Diagnostic) -> None:
        self.context.reporter.report(diagnostic)

    def dim(self, frame: Frame, at: Span | ast.Expression, value: Any) -> Dim:
        return self.sizes.dim(frame, at, value)

    def parameters_so_far(self) -> Mapping[str, Computed]:
        return self.ports.parameters_so_far()

    def random_key(self, call: CallSite, draw: int) -> tuple[Any, ...]:
        return self.draws.random_key(call, draw)


@dataclass(frozen=True, eq=False)
class Builtins:
    """Runs built-in functions."""

    context: Context
    surroundings: Surroundings

    def call(self, frame: Frame, span: Span, function: Builtin, bound: Mapping[str, tuple[Any, ast.Argument]]) -> Any:
        """Run a built-in function."""
        if not function.elementwise:
            elementwise(self.context, frame, f"`{function.name}`", (value for value, _ in bound.values()), span)
        site = CallSite(
            self.surroundings,
            frame,
            function.name,
            span,
            {name: argument.value for name, (_, argument) in bound.items()},
            frozenset(argument.name for _, argument in bound.values() if argument.name),
        )
        keyed = {name: value for name, (value, _) in bound.items()}

        def labels() -> list[Label]:
            return frame.sides(
                *((argument.value, value) for value, argument in bound.values() if isinstance(value, Computed))
            )

        ordered = [keyed.get(name, function.defaults.get(name)) for name in function.parameters]
        return self.context.guarded(frame, span, lambda: function.run(site, *ordered), labels)

    def call_variadic(self, frame: Frame, syntax: ast.Call, function: Builtin, values: Sequence[Any]) -> Any:
        """Run a built-in function of any number of positional arguments; in messages these are called 0, 1, 2."""
        elementwise(self.context, frame, f"`{function.name}`", values, syntax.span)
        pairs = list(zip(syntax.arguments, values, strict=True))
        named = [(argument, value) for argument, value in pairs if argument.name is not None]
        plain = [(argument, value) for argument, value in pairs if argument.name is None]
        bound = bind(
            self.context.reporter,
            frame,
            syntax.span,
            function.name,
            function.parameters,
            set(function.defaults),
            [argument for argument, _ in named],
            [value for _, value in named],
        )
        written = {name: argument.value for name, (_, argument) in bound.items()}
        listed = [argument.value for argument, _ in plain]
        if len(listed) == 1 and isinstance(listed[0], ast.Items):
            listed = list(listed[0].items)
        written |= {str(k): syntax for k, syntax in enumerate(listed)}
        site = CallSite(self.surroundings, frame, function.name, syntax.span, written)
        given = dict(function.defaults) | {name: value for name, (value, _) in bound.items()}
        return self.context.guarded(
            frame, syntax.span, lambda: function.run(site, *(value for _, value in plain), **given)
        )
