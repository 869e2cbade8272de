"""`return`, `require`, `if` and `for`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tapeless.compiler.elaborate.conditions import Conditions, differs
from tapeless.compiler.elaborate.context import Context, Rules
from tapeless.compiler.elaborate.frames import Frame
from tapeless.compiler.elaborate.loops import Counted
from tapeless.compiler.elaborate.repeats import Repeats
from tapeless.compiler.elaborate.resolve import names_in
from tapeless.compiler.elaborate.values import Binding, Computed, Fault, Poisoned, TooLarge, describe
from tapeless.compiler.language import ast
from tapeless.compiler.messages.diagnostics import Diagnostic, Label
from tapeless.ir.types import Rows

TURNS = 10_000  # of all `for` lines together: each turn is code of its own


@dataclass(frozen=True, eq=False)
class Control:
    """Runs the statements that decide what runs."""

    context: Context
    conditions: Conditions
    repeats: Repeats

    @property
    def rules(self) -> Rules:
        """The kinds of syntax that this part takes."""
        return {
            ast.Return: self.return_,
            ast.Require: self.require,
            ast.If: self.if_,
            ast.For: self.for_,
            ast.Broken: self.broken,
        }

    def return_(self, frame: Frame, syntax: ast.Return) -> None:
        """`return y`."""
        if self.context.walks and self.context.walks[-1].frame is frame and self.context.walks[-1].turns is None:
            raise frame.fault(
                "E0804",
                "`return` cannot stand in a scan",
                syntax.span,
                hint="End a step with `yield`, and return `stacked h` after the scan.",
            )
        if frame.kind not in ("fn", "layer"):
            raise frame.fault(
                "E0108",
                f"`return` has no meaning in {frame.kind} `{frame.name}`",
                syntax.span,
                hint="A model says what it makes with `output`." if frame.kind == "model" else None,
            )
        self.context.emitter.where = frame.where
        frame.result = self.context.evaluate(frame, syntax.value)
        frame.returned = True

    def require(self, frame: Frame, syntax: ast.Require) -> None:
        """What a layer or function asks of its arguments, in its own words."""
        if self.conditions.condition(frame, syntax.condition):
            return
        sides = []
        for name in dict.fromkeys(name.name for name in names_in(syntax.condition)):
            binding = frame.names.get(name)
            if binding is not None and isinstance(binding.value, (int, float, str, Rows, Computed)):
                number = type(binding.value) in (int, float)
                sides.append(
                    Label(
                        f"`{name}`",
                        f"is {binding.value:g}" if number else f"is {describe(binding.value)}",
                        binding.span,
                        binding.relation,
                    )
                )
        if frame.kind == "model" or frame.call_span is None:
            raise frame.fault("E0313", syntax.message.value, syntax.span, sides)
        sides.append(Label("", f"required by `{frame.name}`,", syntax.span, "written"))
        raise Fault(Diagnostic("E0313", syntax.message.value, frame.override or frame.call_span, tuple(sides)))

    def if_(self, frame: Frame, syntax: ast.If) -> None:
        """`if training:` and other conditions known when compiling."""
        by_mode = frame.by_mode
        chosen = syntax.then if self.conditions.branch(frame, syntax.condition) else syntax.otherwise
        try:
            self.context.run_body(frame, chosen)
        finally:
            frame.by_mode = by_mode

    def for_(self, frame: Frame, syntax: ast.For) -> None:
        """`for k in 0..depth:`, each turn with parameters of its own, written out; `repeat` is one loop over them."""
        turns = self.items_of(frame, syntax) if syntax.stop is None else self.range_of(frame, syntax, syntax.stop)
        if not turns and frame.override is None:
            word = "repeat" if syntax.stacked else "for"
            why = "the list is empty" if syntax.stop is None else "the range ends where it starts, or before"
            self.context.reporter.report(Diagnostic("W0107", f"this `{word}` has no turns: {why}", syntax.span))
        if isinstance(turns, range) and syntax.stacked and len(turns) > 1:
            self.repeats.repeat(frame, syntax, turns)
            return
        self.context.written.turns += len(turns)
        if self.context.written.turns > TURNS:
            message = f"this program makes more than {TURNS} turns of `for`, and each is code of its own"
            raise TooLarge(message, frame.shown(syntax.span))
        turn, loops, was_broken = frame.turn, self.context.loops, frame.broken
        try:
            for place, item in enumerate(turns):
                frame.names[syntax.name] = Binding(item, syntax.name, syntax.span, "made", "turn")
                frame.turn, self.context.loops = (
                    (*turn, item if isinstance(turns, range) else place),
                    (*loops, Counted(place, len(turns))),
                )
                frame.broken = False
                self.context.run_body(frame, syntax.body)
                if frame.returned or frame.broken:
                    break  # after a fault the next turns would say the same again
        finally:
            frame.turn, self.context.loops, frame.broken = turn, loops, frame.broken or was_broken

    def range_of(self, frame: Frame, syntax: ast.For, stop: ast.Expression) -> range:
        """`0..depth`."""
        bounds = self.context.evaluate_all(frame, (syntax.start, stop))
        for bound, part in zip(bounds, (syntax.start, stop), strict=True):
            if type(bound) is not int:
                raise frame.fault(
                    "E0404",
                    f"a range goes from one whole number to another, not {describe(bound)}",
                    part.span,
                    hint=differs(frame, part),
                )
        return range(*bounds)

    def items_of(self, frame: Frame, syntax: ast.For) -> tuple[Any, ...]:
        """The items of a list, whose places number the turns."""
        value = self.context.evaluate(frame, syntax.start)
        text = frame.module.source.slice(syntax.start.span)
        word = "repeat" if syntax.stacked else "for"
        if syntax.stacked or not isinstance(value, tuple):
            hint = f"Write `{word} {syntax.name} in 0..{text}:`." if type(value) is int else None
            if isinstance(value, Computed):
                hint = "A `scan` goes along an axis of a tensor, step by step."
            if isinstance(value, tuple):
                hint = "The turns of `repeat` are one piece of code. Turns that differ are written with `for`."
            goes = "a range, `0..n`" if syntax.stacked else "a range, `0..n`, or the items of a list"
            raise frame.fault(
                "E0404", f"`{word}` goes through {goes}, not {describe(value)}", syntax.start.span, hint=hint
            )
        return value

    def broken(self, frame: Frame, syntax: ast.Broken) -> None:
        raise Poisoned
