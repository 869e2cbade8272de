"""Calls: what is called, and whom that goes to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tapeless.compiler.elaborate import functions
from tapeless.compiler.elaborate.arguments import bind
from tapeless.compiler.elaborate.builtin_calls import Builtins
from tapeless.compiler.elaborate.context import Context, Rules
from tapeless.compiler.elaborate.frames import Frame
from tapeless.compiler.elaborate.inlining import Inlining
from tapeless.compiler.elaborate.modules import fitting, standard
from tapeless.compiler.elaborate.shared_layers import SharedLayers
from tapeless.compiler.elaborate.values import Builtin, Computed, Defined, Instance, describe
from tapeless.compiler.language import ast
from tapeless.compiler.messages.diagnostics import Label
from tapeless.compiler.messages.near_names import meant


@dataclass(frozen=True, eq=False)
class Calls:
    """Evaluates calls."""

    context: Context
    builtins: Builtins
    inlining: Inlining
    shared_layers: SharedLayers

    @property
    def rules(self) -> Rules:
        """The kinds of syntax that this part takes."""
        return {ast.Call: self.call}

    def call(self, frame: Frame, syntax: ast.Call) -> Any:
        """A call of a built-in function, a definition, or a layer made by `use`."""
        function = self.context.evaluate(frame, syntax.function)
        is_root = frame.root is syntax
        if not isinstance(function, (Builtin, Defined, Instance)):
            self.shadowed(frame, syntax.function, function)
            hint = (
                "A product needs its `*`."
                if isinstance(function, (Computed, int, float)) and frame.override is None
                else None
            )
            if isinstance(function, str) and (near := meant(function, fitting(frame.module.names, "model"))):
                hint = f"Write `{near}`, without quotes."
            what = describe(function)
            called = syntax.function if frame.override is not None else None
            said = (
                f"`{called.name}` of `{frame.name}` is a function, not {what}"
                if isinstance(called, ast.Name)
                else f"{what} is not a function"
            )
            raise frame.fault("E0303", said, syntax.function.span, hint=hint)
        if isinstance(function, Defined) and function.definition.kind == "optimizer":
            name = function.definition.name
            raise frame.fault(
                "E0303",
                f"`{name}` is an optimizer, and stands in the train section",
                syntax.function.span,
                hint=f"Write `optimizer {name}(...)` there.",
            )
        values = self.context.evaluate_all(frame, [argument.value for argument in syntax.arguments])
        if isinstance(function, Builtin) and function.variadic:
            return self.builtins.call_variadic(frame, syntax, function, values)
        if isinstance(function, Builtin):
            bound = bind(
                self.context.reporter,
                frame,
                syntax.span,
                function.name,
                function.parameters,
                set(function.defaults),
                syntax.arguments,
                values,
            )
            return self.builtins.call(frame, syntax.span, function, bound)
        definition = (function.layer if isinstance(function, Instance) else function).definition
        names = [parameter.name for parameter in definition.parameters]
        optional = {parameter.name for parameter in definition.parameters if parameter.default is not None}
        given = function.arguments if isinstance(function, Instance) else {}
        bound = bind(
            self.context.reporter, frame, syntax.span, definition.name, names, optional, syntax.arguments, values, given
        )
        if definition.kind == "optimizer":
            raise frame.fault("E0303", f"the optimizer `{definition.name}` belongs in a `train` section", syntax.span)
        if isinstance(function, Instance):
            return self.shared_layers.call_instance(frame, syntax, function, bound)
        return self.inlining.call(frame, syntax.span, function, bound, is_root)

    def shadowed(self, frame: Frame, syntax: ast.Expression, value: Any) -> None:
        """A call of a name that stood for a function until this body gave it to something else. Raises Fault."""
        name = syntax.name if isinstance(syntax, ast.Name) else ""
        binding = frame.names.get(name)
        if binding is None or not (name in frame.module.names or standard(name) or name in functions.BUILTINS):
            return
        label = Label(f"`{name}`", f"is {describe(value)}", binding.span, binding.relation)
        raise frame.fault(
            "E0303",
            f"`{name}` is no function here: a value has taken its name",
            syntax.span,
            [label],
            f"Give the value another name, and `{name}(...)` is the function again.",
        )
