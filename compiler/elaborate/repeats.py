"""`repeat`: turns that are alike as one loop over stacked parameters, the same program as `for` makes of them."""

from __future__ import annotations

from dataclasses import dataclass

from tapeless.compiler.elaborate.context import Context
from tapeless.compiler.elaborate.frames import Frame
from tapeless.compiler.elaborate.loops import Walk, inside_loop
from tapeless.compiler.elaborate.scan_graphs import BodyEmitter
from tapeless.compiler.elaborate.updates import Updates
from tapeless.compiler.elaborate.values import Binding, Computed, Poisoned, describe
from tapeless.compiler.language import ast
from tapeless.compiler.language.statement_parser import made_by
from tapeless.compiler.messages.diagnostics import Label
from tapeless.ir.graph import Value
from tapeless.ir.types import DType

CARRIED = ("param", "state", "size")  # kinds of names that keep their meaning from turn to turn


@dataclass(frozen=True, eq=False)
class Repeats:
    """Runs `repeat`."""

    context: Context
    updates: Updates

    def repeat(self, frame: Frame, syntax: ast.For, turns: range) -> None:
        """Two turns or more of `repeat k in 0..depth:`."""
        made = list(dict.fromkeys(name for statement in syntax.body for name in made_by(statement)))
        starts = {name: self.carried_start(frame, name) for name in made if self.is_carried(frame, name)}
        body = BodyEmitter(self.context.emitter, len(turns))
        walk = Walk(frame, body, turns=turns)
        names, outer = dict(frame.names), self.context.emitter
        entering = {name: body.carry(name, start.value) for name, start in starts.items()}
        token = f"${len(self.context.walks)}"
        with inside_loop(self.context, frame, walk):
            for name, value in entering.items():
                known = names[name]
                frame.names[name] = Binding(
                    Computed(value, starts[name].bound), name, known.span, known.relation, known.kind, known.syntax
                )
            frame.names[syntax.name] = Binding(
                Computed(self.turn_of(body, turns), turns.stop), syntax.name, syntax.span, "made", "turn"
            )
            frame.turn = (*frame.turn, token)
            self.context.run_body(frame, syntax.body)
            if frame.broken:
                raise Poisoned
            if frame.returned:
                raise frame.fault("E0108", "`return` cannot stand in a `repeat`", syntax.span, hint="Return after it.")
            after = {name: self.alike(frame, syntax, name, start, names[name]) for name, start in starts.items()}
            fresh = {
                name: frame.names[name]
                for name in made
                if name in frame.names and name not in starts and isinstance(frame.names[name].value, Computed)
            }
            fresh = {name: binding for name, binding in fresh.items() if binding.kind not in CARRIED}
            kept = dict(frame.names)
        outer.span, outer.where = frame.shown(syntax.span), frame.where
        yields = [*(binding.value for binding in fresh.values()), *(value for value, _ in walk.updates.values())]
        last, stacks = body.scan([outer.own(start.value) for start in starts.values()], list(after.values()), yields)
        for name, value in zip(starts, last, strict=True):
            known = kept[name]
            frame.names[name] = Binding(
                Computed(value, starts[name].bound), name, known.span, known.relation, known.kind, known.syntax
            )
            outer.claim(Computed(value), frame.value_name(name))
        for (name, binding), stack in zip(fresh.items(), stacks, strict=False):
            frame.names[name] = Binding(self.last_of(stack, binding.value), name, binding.span, binding.relation)
        for (slot, (_, span)), stack in zip(walk.updates.items(), stacks[len(fresh) :], strict=True):
            self.updates.enter(slot, Computed(stack), span)

    def turn_of(self, body: BodyEmitter, turns: range) -> Value:
        """The number of the turn, as a value of the body."""
        place = body.place()
        return place if turns.start == 0 else body.emit("add", place, body.constant(turns.start, DType.I32))

    def is_carried(self, frame: Frame, name: str) -> bool:
        known = frame.names.get(name)
        number = known is not None and isinstance(known.value, (int, float)) and not isinstance(known.value, bool)
        return known is not None and (number or isinstance(known.value, Computed)) and known.kind not in CARRIED

    def carried_start(self, frame: Frame, name: str) -> Computed:
        return self.context.emitter.computed(frame.names[name].value)

    def alike(self, frame: Frame, syntax: ast.For, name: str, start: Computed, before: Binding) -> Computed:
        """A turn leaves every name the kind of value that it had, so that the next turn is the same code."""
        binding = frame.names[name]
        value = binding.value
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = self.context.emitter.computed(value, start.dtype)
        if not isinstance(value, Computed) or value.value.type != start.value.type:
            known = Label(f"`{name}`", f"is {describe(start)} before the turn,", before.span, before.relation)
            labels = [known, Label(f"`{name}`", f"is {describe(value)} after it,", binding.span, binding.relation)]
            raise frame.fault(
                "E0213",
                f"a turn of `repeat` must leave `{name}` the shape it had",
                syntax.span,
                labels,
                "Turns that differ are written with `for`.",
            )
        return value

    def last_of(self, stack: Value, made: Computed) -> Computed:
        """The last turn's value."""
        shape = made.shape
        place = (stack.type.shape[0] - 1, *(0 for _ in shape))  # type: ignore[operator]
        part = self.context.emitter.emit("slice", stack, start=place, size=(1, *shape), step=(1,) * stack.type.rank)
        return Computed(self.context.emitter.emit("reshape", part, shape=shape), made.bound)
