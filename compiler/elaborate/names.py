"""Names: what one stands for in a frame, and what is said of one that nothing has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tapeless.compiler.elaborate import functions
from tapeless.compiler.elaborate.context import Context, Rules
from tapeless.compiler.elaborate.frames import Frame, join
from tapeless.compiler.elaborate.modules import fitting, standard
from tapeless.compiler.elaborate.paths import Paths
from tapeless.compiler.elaborate.ports import Ports
from tapeless.compiler.elaborate.storage import COUNTERS
from tapeless.compiler.elaborate.values import Binding, Computed, Fault, Hole, Poison, Poisoned
from tapeless.compiler.language import ast
from tapeless.compiler.messages.diagnostics import Label
from tapeless.compiler.messages.near_names import hint_for
from tapeless.compiler.messages.newcomers_words import FOREIGN
from tapeless.ir.graph import Span
from tapeless.ir.types import Rows

CONSTANTS: dict[str, Any] = {"pi": math.pi, "inf": math.inf, "none": None, "batch": Rows(), "_": Hole()}
SPECIAL = ("training", "step", "steps")


@dataclass(eq=False)
class Names:
    """Looks names up. `given` are sizes from whoever compiles, `counters` what counts steps, in the train section."""

    context: Context
    paths: Paths
    ports: Ports
    given: Mapping[str, int | float]
    counters: dict[str, Computed] = field(default_factory=dict)
    mode_seen: bool = False  # whether `training` has been looked up since a condition began

    @property
    def rules(self) -> Rules:
        """The kinds of syntax that this part takes."""
        return {ast.Name: self.name}

    def name(self, frame: Frame, syntax: ast.Name) -> Any:
        variable = frame.line.variable(syntax.name) if frame.line is not None else None
        if frame.line is not None and variable is not None:
            return frame.line.elements.place(variable)
        return self.lookup(frame, syntax.name, syntax.span).value

    def lookup(self, frame: Frame, name: str, span: Span) -> Binding:
        """What a name stands for: `h.W` is a parameter of a layer above, in a loop that of the turn at hand. Raises
        Fault or Poisoned.
        """
        head, dot, _ = name.partition(".")
        if dot and frame.kind in ("model", "layer") and (frame.path is not None or frame.caller is None):
            found = self.parameter(frame, name, span)
            if found is not None:
                return found
            if head in frame.made and head not in frame.names:
                raise frame.fault("E0310", f"`{head}` is used before it has a value", span)
        binding = frame.names.get(name)
        if binding is not None:
            if isinstance(binding.value, Poison):
                raise Poisoned
            if isinstance(binding.value, Computed) and frame.emitter is not self.context.emitter:
                raise frame.fault(
                    "E0404", f"a starting value cannot depend on `{name}`, which is computed from data", span
                )
            return binding
        if name in SPECIAL:
            return Binding(self.special(frame, name, span), name, None)
        if name in frame.made and name not in CONSTANTS:
            if frame.broken:
                raise Poisoned
            raise frame.fault("E0310", f"`{name}` is used before it has a value", span)
        if name in CONSTANTS:
            return Binding(CONSTANTS[name], name, None)
        module = frame.module
        if name in module.broken:
            raise Poisoned
        known: Any = module.names.get(name) or standard(name) or functions.BUILTINS.get(name)
        if known is not None:
            return Binding(known, name, None)
        if name in self.given and frame.kind == "model":
            return Binding(self.given[name], name, None)
        if module.incomplete or ("E0301", frame.shown(span)) in self.context.reporter.reported:
            raise Poisoned
        raise self.unknown(frame, name, span)

    def parameter(self, frame: Frame, name: str, span: Span) -> Binding | None:
        """The parameter that a name with a dot is, if it is one: of a layer above, of this turn or of all."""
        head, _, rest = name.partition(".")
        made = self.ports.parameters_so_far()
        labels = [
            join(self.paths.of(frame), head, *frame.turn[:depth], rest) for depth in range(len(frame.turn), -1, -1)
        ]
        label = next((label for label in labels if label in made), None)
        if label is None:
            return None
        if frame.emitter is not self.context.emitter:
            raise frame.fault("E0404", f"a starting value cannot depend on `{name}`, which is computed from data", span)
        stored = self.ports.storage.slots[label]
        return Binding(
            Computed(self.ports.of_turn(stored, self.ports.repeats_of(label))), name, stored.span, "made", "param"
        )

    def special(self, frame: Frame, name: str, span: Span) -> Any:
        """`training`, `step` and `steps`, where they have a meaning."""
        if name == "training":
            if self.context.training is None:
                raise frame.fault("E0301", "`training` is known in models and layers only", span)
            self.mode_seen = True
            return self.context.training
        if name in self.counters:
            counter = self.counters[name]
            if not self.context.emitter.root.builder.made(counter.value):
                raise frame.fault(
                    "E0404",
                    f"a starting value cannot depend on `{name}`, which counts as training goes on",
                    span,
                )
            return counter
        if frame.override is None:
            raise frame.fault("E0301", f"`{name}` is known in optimizers and schedules only", span)
        while frame.caller is not None and frame.caller.override is not None:
            frame = frame.caller
        meant = FOREIGN.get(frame.name.capitalize())
        raise frame.fault(
            "E0301",
            f"`{frame.name}` is a schedule, which counts steps: it has a meaning in the train section only",
            span,
            hint=f"Did you mean `{meant}`?" if meant else None,
        )

    def unknown(self, frame: Frame, name: str, span: Span) -> Fault:
        """The fault of a name that nothing has, with the nearest one that exists."""
        return frame.fault("E0301", f"there is no `{name}` here", span, hint=hint_for(name, self.known(frame)))

    def known(self, frame: Frame) -> list[str]:
        """Every name that could be meant in a frame, local ones first, the parameters of its layers last."""
        start = f"{frame.path}." if frame.path else ""
        reached = self.ports.parameters_so_far() if frame.path is not None or frame.caller is None else {}
        return [
            *frame.names,
            *(f"stacked {name}" for name in frame.stacked),
            *fitting(frame.module.names, frame.kind),
            *functions.BUILTINS,
            *CONSTANTS,
            *SPECIAL,
            *(
                label.removeprefix(start)
                for label in reached
                if label.startswith(start) and "." in label.removeprefix(start)
            ),
        ]


def fresh(frame: Frame, name: str, span: Span) -> None:
    """The name must be new in this body, but for the turns of a loop. Raises Fault."""
    if name in CONSTANTS or name in SPECIAL or (frame.kind == "model" and name in COUNTERS):
        what = "is how the program counts" if name in COUNTERS else "has a fixed meaning"
        raise frame.fault("E0309", f"`{name}` {what} and cannot be declared", span, hint="Choose another name.")
    known = frame.names.get(name)
    switch = known is not None and known.kind == "argument" and isinstance(known.value, bool)
    if known is None or switch or (frame.turn and known.span == span):
        return  # what a yes-or-no argument asks for may have its name
    first = Label(f"`{name}`", "is here too", known.span, "first declared")
    raise frame.fault("E0302", f"`{name}` has a meaning already", span, [first])


def assignable(frame: Frame, target: ast.Target) -> None:
    """Names with a fixed meaning take no assignment. Raises Fault."""
    if target.name in CONSTANTS or target.name in SPECIAL:
        raise frame.fault(
            "E0309",
            f"`{target.name}` has a fixed meaning and takes no assignment",
            target.span,
            hint="Choose another name.",
        )
    known = frame.names.get(target.name)
    if known is not None and known.kind in ("param", "size"):
        what = "a parameter: only the optimizer changes it" if known.kind == "param" else "a size"
        hint = (
            "Give the new value a name of its own."
            if known.kind == "size"
            else "A value that the model itself updates is a `state`."
        )
        raise frame.fault("E0309", f"`{target.name}` is {what}", target.span, hint=hint)
