"""Layers made by `use`: every call finds the parameters that the first one made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tapeless.compiler.elaborate.arguments import bind
from tapeless.compiler.elaborate.context import Context, Rules
from tapeless.compiler.elaborate.frames import Frame, join
from tapeless.compiler.elaborate.inlining import Inlining
from tapeless.compiler.elaborate.paths import Paths
from tapeless.compiler.elaborate.values import Binding, Defined, Instance, describe
from tapeless.compiler.language import ast


@dataclass(frozen=True, eq=False)
class SharedLayers:
    """Makes and calls shared layers."""

    context: Context
    paths: Paths
    inlining: Inlining

    @property
    def rules(self) -> Rules:
        """The kinds of syntax that this part takes."""
        return {ast.Use: self.use}

    def make_instance(self, frame: Frame, syntax: ast.Use) -> Instance:
        """`use encoder = Dense(units = 64)`."""
        call = syntax.call
        if not isinstance(call, ast.Call):
            raise frame.fault(
                "E0401",
                "`use` needs a layer with its arguments",
                call.span,
                hint="Write `use encoder = Dense(units = 64)`.",
            )
        layer = self.context.evaluate(frame, call.function)
        if not isinstance(layer, Defined) or layer.definition.kind != "layer":
            raise frame.fault("E0303", f"{describe(layer)} is not a layer", call.function.span)
        values = self.context.evaluate_all(frame, [argument.value for argument in call.arguments])
        names = [parameter.name for parameter in layer.definition.parameters]
        for argument in call.arguments:
            if argument.name is None:
                raise frame.fault(
                    "E0306",
                    "the arguments of a `use` line are given by name",
                    argument.span,
                    hint="What varies from call to call is given in the calls.",
                )
        bound = bind(
            self.context.reporter, frame, call.span, layer.definition.name, names, set(names), call.arguments, values
        )
        return Instance(join(syntax.name, *frame.turn), layer, bound, frame)

    def call_instance(
        self, frame: Frame, syntax: ast.Call, instance: Instance, bound: Mapping[str, tuple[Any, ast.Argument]]
    ) -> Any:
        """Run a shared layer: every call finds the parameters that the first one made."""
        taken = self.paths.taken
        if instance.taken is None:
            owner = instance.frame
            wanted = join(self.paths.of(owner), instance.name)
            instance.path = self.paths.claim(wanted)
            instance.taken = frozenset(self.paths.taken)
            taken = self.paths.taken
        saved = set(taken)
        taken.clear()
        taken.update(instance.taken)
        target = frame.target
        frame.target = instance.name
        try:
            return self.inlining.call(frame, syntax.span, instance.layer, bound, True, instance)
        finally:
            frame.target = target
            taken.update(saved)

    def use(self, frame: Frame, syntax: ast.Use) -> None:
        """`use encoder = Dense(units = 64)`."""
        if frame.kind not in ("model", "layer"):
            raise frame.fault("E0108", "`use` belongs to layers and models", syntax.span)
        frame.names[syntax.name] = Binding(self.make_instance(frame, syntax), syntax.name, syntax.span)
