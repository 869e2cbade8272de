"""`param` and `state`: what a body keeps from step to step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tapeless.compiler.elaborate.context import Context, Rules
from tapeless.compiler.elaborate.frames import Frame
from tapeless.compiler.elaborate.names import fresh
from tapeless.compiler.elaborate.paths import Paths
from tapeless.compiler.elaborate.ports import Ports
from tapeless.compiler.elaborate.sizes import Sizes
from tapeless.compiler.elaborate.starting_values import StartingValues
from tapeless.compiler.elaborate.storage import Storage
from tapeless.compiler.elaborate.values import Binding, Computed
from tapeless.compiler.language import ast
from tapeless.compiler.messages.diagnostics import Label
from tapeless.ir.graph import Span


@dataclass(frozen=True, eq=False)
class Declarations:
    """Declares slots."""

    context: Context
    storage: Storage
    paths: Paths
    ports: Ports
    sizes: Sizes
    starting: StartingValues

    @property
    def rules(self) -> Rules:
        """The kinds of syntax that this part takes."""
        return {ast.Param: self.param, ast.State: self.state}

    def param(self, frame: Frame, syntax: ast.Param) -> None:
        """`param W: [i, units] ~ he_normal`."""
        if frame.kind not in ("model", "layer"):
            raise frame.fault(
                "E0108",
                f"a parameter cannot be made inside the {_kind(frame)} `{frame.name}`",
                syntax.span,
                hint="Parameters belong to layers and models.",
            )
        in_every_mode(frame, "parameter", syntax.span)
        dims = syntax.dims or ()
        shape = self.sizes.fixed(frame, dims, f"the parameter `{syntax.name}`")
        fresh(frame, syntax.name, syntax.span)
        label = self.paths.label_of(frame, syntax.name)
        repeats = self.ports.repeats_of(label)
        if label not in self.storage.slots:
            initial = self.starting.initial(frame, syntax, shape, label, repeats)
            self.storage.keep(label, shape, "param", frame.shown(syntax.span), initial, repeats, syntax.frozen)
        stored = self.storage.slots[label]
        kept = stored.type.shape[len(repeats) :]
        if kept != shape:
            was = Label(f"`{label}`", f"is {list(kept)}", stored.span, "made")
            raise frame.fault(
                "E0203", f"the shared parameter `{label}` cannot be {list(shape)} here", syntax.span, [was]
            )
        value = Computed(self.ports.of_turn(stored, repeats))
        frame.names[syntax.name] = Binding(
            value, syntax.name, syntax.span, "declared", "param", syntax, {"slot": label}
        )

    def state(self, frame: Frame, syntax: ast.State) -> None:
        """`state mean: [c] = 0`; in an optimizer each parameter has one of its own shape."""
        optimizer = frame.kind == "optimizer"
        if frame.kind not in ("model", "layer", "optimizer"):
            raise frame.fault("E0108", f"a state cannot be made inside the {_kind(frame)} `{frame.name}`", syntax.span)
        in_every_mode(frame, "state", syntax.span)
        if syntax.value is None:
            raise frame.fault(
                "E0510",
                f"the state `{syntax.name}` needs a starting value",
                syntax.span,
                hint=f"Write `state {syntax.name} = 0`.",
            )
        dims = syntax.dims or ()
        shape: tuple[Any, ...] = self.sizes.fixed(frame, dims, f"the state `{syntax.name}`")
        if optimizer and syntax.dims is None:
            shape = frame.axes_of_parameter
        fresh(frame, syntax.name, syntax.span)
        label = self.paths.label_of(frame, syntax.name)
        repeats = () if optimizer else self.ports.repeats_of(label)
        if label not in self.storage.slots:
            written = syntax.value
            initial = self.starting.started(
                frame, label, repeats, shape, written.span, lambda inner: self.context.evaluate(inner, written)
            )
            role = "optimizer" if optimizer else "state"
            self.storage.keep(label, shape, role, frame.shown(syntax.span), initial, repeats)
            if optimizer and frame.turns_of_parameter:
                if syntax.dims is not None:
                    raise frame.fault(
                        "E0510",
                        (
                            f"in `repeat` the state `{syntax.name}` has the shape of its parameter, so it cannot "
                            "have one here"
                        ),
                        syntax.span,
                    )
                self.storage.slots[label].turns = frame.turns_of_parameter
        stored = self.storage.slots[label]
        current = Computed(self.ports.of_turn(stored, repeats))
        frame.names[syntax.name] = Binding(
            current, syntax.name, syntax.span, "declared", "state", syntax, {"slot": label}
        )


def in_every_mode(frame: Frame, kind: str, span: Span) -> None:
    """Slots are the same in training and evaluation."""
    above: Frame | None = frame
    while above is not None:
        if above.by_mode:
            raise frame.fault(
                "E0507",
                f"this {kind} would exist only in training, or only in evaluation",
                span,
                hint="Declare it before `if training:`.",
            )
        above = above.caller


def _kind(frame: Frame) -> str:
    return "function" if frame.kind == "fn" else frame.kind
