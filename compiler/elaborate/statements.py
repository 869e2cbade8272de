"""Statements: what each does to the names of its body. A fault poisons the names its statement would have made, and
the next runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tapeless.compiler.elaborate import functions
from tapeless.compiler.elaborate.averages import of_data
from tapeless.compiler.elaborate.evaluator import CONSTANTS, SPECIAL
from tapeless.compiler.elaborate.indexing import Line
from tapeless.compiler.elaborate.parameters import Counted
from tapeless.compiler.elaborate.repeats import Repeats
from tapeless.compiler.elaborate.resolve import names_in
from tapeless.compiler.elaborate.scans import Scans
from tapeless.compiler.elaborate.scope import Frame, join
from tapeless.compiler.elaborate.values import (
    POISON,
    Binding,
    Computed,
    Fault,
    Poison,
    Poisoned,
    TooLarge,
    describe,
    shape_text,
)
from tapeless.compiler.language import ast
from tapeless.compiler.language.statement_parser import made_by
from tapeless.compiler.messages.diagnostics import Diagnostic, Label
from tapeless.ir.graph import Span, Value
from tapeless.ir.types import DType, Rows, Tensor

TURNS = 10_000  # of all `for` lines together: each turn is code of its own


@dataclass(frozen=True)
class Result:
    """A loss, metric or output of the model."""

    name: str
    value: Value
    span: Span


@dataclass(frozen=True)
class Given:
    """An input or target of the model."""

    name: str
    type: Tensor
    role: str
    bound: int | None
    span: Span


class Statements(Repeats):
    """Runs bodies."""

    def __init__(self, name: str, real: DType) -> None:
        super().__init__(name, real)
        self.given: dict[str, Given] = {}
        self.losses: list[Result] = []
        self.metrics: list[Result] = []
        self.outputs: list[Result] = []
        self.stores: dict[str, tuple[Value, Span]] = {}
        self.statistics: Span | None = None  # where training uses statistics over the rows
        self.free_sizes: set[str] = set()
        self.turns = 0

    def run_body(self, frame: Frame, body: Sequence[ast.Statement]) -> None:
        """Run statements in order until one returns."""
        for statement in body:
            if frame.returned:
                break
            try:
                _RULES[type(statement)](self, frame, statement)
            except Fault as fault:
                self.report(fault.diagnostic)
                self.poison(frame, statement)
            except Poisoned:
                self.poison(frame, statement)
            frame.target = frame.root = None

    def poison(self, frame: Frame, statement: ast.Statement) -> None:
        """The names that a failed statement would have made have no value, and say nothing more."""
        frame.broken = True
        for name in made_by(statement):
            frame.names[name] = Binding(POISON, name, None)
        pending = [statement]
        while pending:
            item = pending.pop()
            if isinstance(item, (ast.Return, ast.Require)):  # what follows relies on what is required
                frame.returned, frame.result = True, POISON
            elif isinstance(item, ast.Yield):
                items = item.value.items if isinstance(item.value, ast.Several) else (item.value,)
                yielded = [f"stacked {name.name}" for name in items if isinstance(name, ast.Name)]
                frame.names |= {name: Binding(POISON, name, None) for name in yielded}
            elif isinstance(item, ast.If):
                pending += [*item.then, *item.otherwise]
            elif isinstance(item, (ast.For, ast.Scan)):
                pending += item.body

    def broken(self, frame: Frame, syntax: ast.Broken) -> None:
        raise Poisoned

    # --- Names

    def assign(self, frame: Frame, syntax: ast.Assign) -> None:
        """`h = ...`, `m, v = ...`."""
        for target in syntax.targets:
            if target.indices is not None and len(syntax.targets) > 1:
                raise self.fault(
                    frame, "E1005", "a line with indices makes one tensor", target.span, hint="Write a line for each."
                )
            self.assignable(frame, target)
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
                    frame, targets[0].name, syntax.value, lambda: Line(self, frame).value(indices, syntax.value)
                )
            ]
        else:
            values = [self.valued(frame, targets[0].name, syntax.value)]
        for target, value in zip(targets, values, strict=True):
            self.store(frame, target, value, syntax.value.span)

    def uneven(self, frame: Frame, syntax: ast.Assign, count: int) -> Fault:
        """The fault of names and values that do not pair up."""
        right = "one value" if count == 1 else f"{count} values"
        return self.fault(frame, "E0312", f"{right} for {len(syntax.targets)} names", syntax.span)

    def assignable(self, frame: Frame, target: ast.Target) -> None:
        """Names with a fixed meaning take no assignment."""
        if target.name in CONSTANTS or target.name in SPECIAL:
            raise self.fault(
                frame,
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
            raise self.fault(frame, "E0309", f"`{target.name}` is {what}", target.span, hint=hint)

    def valued(self, frame: Frame, name: str, syntax: ast.Expression, rule: Callable[[], Any] | None = None) -> Any:
        """The value of an expression that makes a name; by the rule, if there is one."""
        frame.target, frame.root = name, syntax
        self.emitter.where = self.value_name(frame, name)
        value = self.evaluate(frame, syntax) if rule is None else rule()
        frame.target = frame.root = None
        return value

    def value_name(self, frame: Frame, name: str) -> str:
        """What a value is called in the graph; what an optimizer stores is called the next of its slot."""
        known = frame.names.get(name)
        if frame.kind == "optimizer" and known is not None and known.kind in ("state", "weight"):
            return join(frame.where, "" if known.kind == "weight" else name, "next")
        return join(frame.where, name, *frame.turn)

    def store(self, frame: Frame, target: ast.Target, value: Any, span: Span) -> None:
        """Bind a name; what is assigned to a state is what the step will store."""
        name = target.name
        known = frame.names.get(name)
        if isinstance(value, Poison):
            raise Poisoned
        if known is not None and known.kind in ("state", "weight"):
            slot = known.extra["slot"]
            if self.walks and len(self.repeats_of(slot)) < len(self.walks):
                raise self.fault(
                    frame,
                    "E0804",
                    (
                        f"the state `{known.subject}` cannot be assigned in a loop that shares it: it is stored "
                        "once a step"
                    ),
                    span,
                )
            value = self.guarded(frame, span, lambda: self.updated(frame, known, value, span))
            if known.kind == "state" and value.value in self.emitter.lone:
                value = self.of_several_rows(value, known.value)
                self.statistics = self.statistics or self.shown(frame, span)
            self.update(slot, value, self.shown(frame, span))
            frame.names[name] = Binding(
                value, known.subject, known.span, known.relation, known.kind, known.syntax, known.extra
            )
        else:
            frame.names[name] = self.alias(frame, value) or Binding(value, name, target.span, "made")
        if self.emitter is frame.emitter:
            self.emitter.claim(value, self.value_name(frame, name))

    def of_several_rows(self, after: Computed, before: Computed) -> Computed:
        """What a state becomes by statistics over the rows: one row has none, and leaves it as it was."""
        emit = self.emitter
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
            raise self.fault(frame, "E0401", f"the state `{known.subject}` needs a tensor, not {describe(value)}", span)
        shape = known.value.shape
        tensor = self.emitter.as_real(value)
        if frame.kind == "optimizer" and tensor.shape != shape:
            raise self.fault(frame, "E0213",
                f"{describe(tensor)} cannot become `{known.subject}`, which is {shape_text(shape)}", span,
                             hint=self.single_number(known, tensor))  # fmt: skip
        if tensor.shape != shape and self.emitter.meet([tensor.shape, shape]) != shape:
            raise self.fault(
                frame,
                "E0213",
                f"`{known.subject}` is {shape_text(shape)} and cannot become {shape_text(tensor.shape)}",
                span,
            )
        tensor = self.emitter.broadcast(tensor, shape)
        if frame.kind == "optimizer":
            return tensor
        return Computed(self.emitter.emit("stop_gradient", tensor.value))

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

    def use(self, frame: Frame, syntax: ast.Use) -> None:
        """`use encoder = Dense(units = 64)`."""
        if frame.kind not in ("model", "layer"):
            raise self.fault(frame, "E0108", "`use` belongs to layers and models", syntax.span)
        frame.names[syntax.name] = Binding(self.make_instance(frame, syntax), syntax.name, syntax.span)

    # --- Control

    def return_(self, frame: Frame, syntax: ast.Return) -> None:
        """`return y`."""
        if self.walks and self.walks[-1].frame is frame and self.walks[-1].turns is None:
            raise self.fault(
                frame,
                "E0804",
                "`return` cannot stand in a scan",
                syntax.span,
                hint="End a step with `yield`, and return `stacked h` after the scan.",
            )
        if frame.kind not in ("fn", "layer"):
            raise self.fault(
                frame,
                "E0108",
                f"`return` has no meaning in {frame.kind} `{frame.name}`",
                syntax.span,
                hint="A model says what it makes with `output`." if frame.kind == "model" else None,
            )
        self.emitter.where = frame.where
        frame.result = self.evaluate(frame, syntax.value)
        frame.returned = True

    def require(self, frame: Frame, syntax: ast.Require) -> None:
        """What a layer or function asks of its arguments, in its own words."""
        if self.condition(frame, syntax.condition):
            return
        sides = []
        for name in dict.fromkeys(name.name for name in names_in(syntax.condition)):
            binding = frame.names.get(name)
            if binding is not None and isinstance(binding.value, (int, float, str, Rows, Computed)):
                number = type(binding.value) in (int, float)
                sides.append(Label(f"`{name}`", f"is {binding.value:g}" if number else f"is {describe(binding.value)}",
                                   binding.span, binding.relation))  # fmt: skip
        if frame.kind == "model" or frame.call_span is None:
            raise self.fault(frame, "E0313", syntax.message.value, syntax.span, sides)
        sides.append(Label("", f"required by `{frame.name}`,", syntax.span, "written"))
        raise Fault(Diagnostic("E0313", syntax.message.value, frame.override or frame.call_span, tuple(sides)))

    def if_(self, frame: Frame, syntax: ast.If) -> None:
        """`if training:` and other conditions known when compiling."""
        by_mode = frame.by_mode
        chosen = syntax.then if self.branch(frame, syntax.condition) else syntax.otherwise
        try:
            self.run_body(frame, chosen)
        finally:
            frame.by_mode = by_mode

    def for_(self, frame: Frame, syntax: ast.For) -> None:
        """`for k in 0..depth:`, each turn with parameters of its own, written out; `repeat` is one loop over them."""
        turns = self.items_of(frame, syntax) if syntax.stop is None else self.range_of(frame, syntax, syntax.stop)
        if not turns and frame.override is None:
            word = "repeat" if syntax.stacked else "for"
            why = "the list is empty" if syntax.stop is None else "the range ends where it starts, or before"
            self.report(Diagnostic("W0107", f"this `{word}` has no turns: {why}", syntax.span))
        if isinstance(turns, range) and syntax.stacked and len(turns) > 1:
            self.repeat(frame, syntax, turns)
            return
        self.turns += len(turns)
        if self.turns > TURNS:
            message = f"this program makes more than {TURNS} turns of `for`, and each is code of its own"
            raise TooLarge(message, self.shown(frame, syntax.span))
        turn, loops, was_broken = frame.turn, self.loops, frame.broken
        try:
            for place, item in enumerate(turns):
                frame.names[syntax.name] = Binding(item, syntax.name, syntax.span, "made", "turn")
                frame.turn, self.loops = (
                    (*turn, item if isinstance(turns, range) else place),
                    (*loops, Counted(place, len(turns))),
                )
                frame.broken = False
                self.run_body(frame, syntax.body)
                if frame.returned or frame.broken:
                    break  # after a fault the next turns would say the same again
        finally:
            frame.turn, self.loops, frame.broken = turn, loops, frame.broken or was_broken

    def range_of(self, frame: Frame, syntax: ast.For, stop: ast.Expression) -> range:
        """`0..depth`."""
        bounds = self.evaluate_all(frame, (syntax.start, stop))
        for bound, part in zip(bounds, (syntax.start, stop), strict=True):
            if type(bound) is not int:
                raise self.fault(
                    frame,
                    "E0404",
                    f"a range goes from one whole number to another, not {describe(bound)}",
                    part.span,
                    hint=self.differs(frame, part),
                )
        return range(*bounds)

    def items_of(self, frame: Frame, syntax: ast.For) -> tuple[Any, ...]:
        """The items of a list, whose places number the turns."""
        value = self.evaluate(frame, syntax.start)
        text = frame.module.source.slice(syntax.start.span)
        word = "repeat" if syntax.stacked else "for"
        if syntax.stacked or not isinstance(value, tuple):
            hint = f"Write `{word} {syntax.name} in 0..{text}:`." if type(value) is int else None
            if isinstance(value, Computed):
                hint = "A `scan` goes along an axis of a tensor, step by step."
            if isinstance(value, tuple):
                hint = "The turns of `repeat` are one piece of code. Turns that differ are written with `for`."
            goes = "a range, `0..n`" if syntax.stacked else "a range, `0..n`, or the items of a list"
            raise self.fault(
                frame, "E0404", f"`{word}` goes through {goes}, not {describe(value)}", syntax.start.span, hint=hint
            )
        return value

    # --- What a model takes and makes

    def in_model(self, frame: Frame, what: str, span: Span) -> None:
        """Some statements belong to a model's own body."""
        if frame.kind != "model":
            raise self.fault(frame, "E0108", f"`{what}` belongs in a model, not in {frame.kind} `{frame.name}`", span)
        if frame.turn:
            raise self.fault(
                frame,
                "E0108",
                f"`{what}` cannot be repeated by `{'repeat' if any(walk.turns for walk in self.walks) else 'for'}`",
                span,
            )
        if self.walks:
            raise self.fault(
                frame,
                "E0108",
                f"`{what}` cannot stand in a scan",
                span,
                hint="After the scan, carried names hold the last step's values.",
            )
        if frame.by_mode:
            raise self.fault(frame, "E0108", f"`{what}` cannot depend on `training`", span)

    def input(self, frame: Frame, syntax: ast.Input) -> None:
        """`input image: [batch, 64]`, `target label: int[batch] < classes`."""
        self.in_model(frame, syntax.role, syntax.span)
        self.fresh(frame, syntax.name, syntax.span)
        first = syntax.type.dims[0] if syntax.type.dims else None
        rows = any(isinstance(dim, ast.Name) and dim.name == "batch" for dim in syntax.type.dims)
        if (
            first is not None
            and not rows
            and (
                isinstance(first, ast.Unary)
                or (isinstance(first, ast.Name) and first.name not in frame.names and first.name not in self.sizes)
            )
        ):
            raise self.fault(
                frame,
                "E0208",
                f"the first axis of `{syntax.name}` is the rows, and is called `batch`",
                first.span,
                hint="Write `[batch, ...]`.",
            )
        for dim in syntax.type.dims:
            if isinstance(dim, ast.Name) and dim.name not in frame.names and dim.name not in CONSTANTS:
                self.free_size(frame, dim)
        shape = self.dims(frame, syntax.type.dims)
        if not shape or shape[0] != Rows() or any(isinstance(dim, Rows) for dim in shape[1:]):
            written = {"real": ""}.get(syntax.type.kind, syntax.type.kind)
            fixed = ", ".join(["batch", *(str(dim) for dim in shape if not isinstance(dim, Rows))])
            raise self.fault(frame, "E0208", f"the first axis of `{syntax.name}`, and no other, must be `batch`",
                syntax.type.span,
                             hint=f"Did you mean `{syntax.role} {syntax.name}: {written}[{fixed}]`?")  # fmt: skip
        kind = syntax.type.kind
        dtype = {"int": DType.I32, "bool": DType.BOOL}.get(kind, self.real())
        bound = None
        if syntax.bound is not None:
            value = self.evaluate(frame, syntax.bound)
            if dtype is not DType.I32:
                raise self.fault(
                    frame,
                    "E0401",
                    "only ints have a bound",
                    syntax.bound.span,
                    hint=f"Did you mean `int{shape_text(shape)}`?",
                )
            size = self.dim(frame, syntax.bound.span, value)
            if not isinstance(size, int):
                raise self.fault(frame, "E0208", "a bound is a fixed number", syntax.bound.span)
            bound = size
        type_ = Tensor(dtype, shape)
        given = Given(syntax.name, type_, syntax.role, bound, syntax.span)
        self.given[syntax.name] = given
        value = Computed(self.emitter.input(syntax.name, type_, "data", syntax.span), bound)
        frame.names[syntax.name] = Binding(value, syntax.name, syntax.span, "declared", "input", syntax)

    def free_size(self, frame: Frame, dim: ast.Name) -> None:
        """A size that only the data, or whoever compiles, knows."""
        name = dim.name
        self.free_sizes.add(name)
        if name not in self.sizes:
            raise self.fault(frame, "E0205", f"the size `{name}` has no value", dim.span,
                             hint=(f"Give it when compiling ({name}=64), or make it an argument of the "
                                 f"model: `model {frame.name}({name} = 64):`."))  # fmt: skip
        size = self.dim(frame, dim.span, self.sizes[name])
        frame.names[name] = Binding(size, name, dim.span, "declared", "size", dim)

    def output(self, frame: Frame, syntax: ast.Output) -> None:
        """`output probs = softmax(logits)`."""
        self.in_model(frame, "output", syntax.span)
        if syntax.value is not None:
            value = self.valued(frame, syntax.name, syntax.value)
            self.store(frame, ast.Target(syntax.span, syntax.name), value, syntax.value.span)
        else:
            value = self.lookup(frame, syntax.name, syntax.span).value
        self.unused(frame, syntax.name, syntax.span)
        if isinstance(value, (int, float, tuple)) and not isinstance(value, bool):
            numbers = value
            value = self.guarded(frame, syntax.span, lambda: self.emitter.as_real(numbers))
        shape = value.shape if isinstance(value, Computed) else ()
        if shape[:1] != (Rows(),) and not (isinstance(value, Computed) and self.without_data(value)):
            hint = None
            if isinstance(value, (Computed, int, float)) and not shape:
                hint = f"A single number about the whole batch is a metric: `metric {syntax.name} = ...`."
            elif Rows() in shape:
                place, written = (
                    shape.index(Rows()),
                    syntax.name if syntax.value is None else frame.module.source.slice(syntax.value.span),
                )
                why = (
                    "The steps of a scan over a number are stacked on axis 0. "
                    if isinstance(syntax.value, ast.Stacked)
                    else ""
                )
                hint = (
                    f"{why}`transpose({written}, {[place, *(k for k in range(len(shape)) if k != place)]})` has the "
                    "rows first."
                )
            raise self.fault(
                frame,
                "E0213",
                f"an output has one row for each row of the batch; this is {describe(value)}",
                syntax.span,
                hint=hint,
            )
        if any(isinstance(dim, Rows) for dim in shape[1:]):
            raise self.fault(frame, "E0214", f"a row of an output has a fixed size; this is {describe(value)}",
                syntax.span,
                             hint=("Rows are predicted a batch at a time; a loss or metric may compare "
                                 "each with every other."))  # fmt: skip
        self.outputs.append(Result(syntax.name, value.value, syntax.span))

    def without_data(self, value: Computed) -> bool:
        """Whether a value is the same for every batch: made of parameters and states alone."""
        graph = self.emitter.builder.graph()
        return value.value not in of_data(graph) and not any(isinstance(dim, Rows) for dim in value.shape)

    def loss(self, frame: Frame, syntax: ast.Loss) -> None:
        """`loss ...`: one number; several add."""
        self.in_model(frame, "loss", syntax.span)
        name = syntax.name or ""
        if name:
            self.unused(frame, name, syntax.span)
        value = self.single(frame, "loss", name or "loss", syntax.value)
        self.losses.append(Result(name, value.value, syntax.span))

    def metric(self, frame: Frame, syntax: ast.Metric) -> None:
        """`metric accuracy = ...`: one number."""
        self.in_model(frame, "metric", syntax.span)
        self.unused(frame, syntax.name, syntax.span)
        value = (
            self.quotient(frame, syntax) if syntax.total else self.single(frame, "metric", syntax.name, syntax.value)
        )
        self.metrics.append(Result(syntax.name, value.value, syntax.span))
        frame.names[syntax.name] = Binding(value, syntax.name, syntax.span, "made")

    def quotient(self, frame: Frame, syntax: ast.Metric) -> Computed:
        """`metric f1 = a / b total`: `a` and `b` are summed over all batches before they are divided."""
        written = syntax.value
        if not isinstance(written, ast.Binary) or written.operator != "/":
            raise self.fault(frame, "E0211",
                "a total is a quotient: what is above it and what is below are summed over all batches", written.span,
                             hint=f"Write `metric {syntax.name} = sum(a) / sum(b) total`.")  # fmt: skip
        above = self.single(frame, "total", f"{syntax.name}.numerator", written.left)
        below = self.single(frame, "total", f"{syntax.name}.denominator", written.right)
        self.emitter.where = syntax.name
        made: Computed = self.guarded(
            frame, written.span, lambda: functions.quotient_of_totals(self.emitter, above, below)
        )
        self.emitter.claim(made, syntax.name)
        return made

    def single(self, frame: Frame, what: str, name: str, syntax: ast.Expression) -> Computed:
        """The value of a loss or metric: one real number."""
        frame.target, frame.root = (name if what != "loss" or name != "loss" else None), syntax
        self.emitter.where = name
        value = self.evaluate(frame, syntax)
        if not isinstance(value, (Computed, int, float, Rows)) or (isinstance(value, Computed) and value.shape):
            named = "each side of a total" if what == "total" else f"a {what}"
            mended = "Sum it: `sum(...)`." if what == "total" else "Take its mean: `mean(...)`."
            raise self.fault(frame, "E0211", f"{named} is one number; this is {describe(value)}", syntax.span,
                             hint=mended if isinstance(value, Computed) else None)  # fmt: skip
        result: Computed = self.guarded(frame, syntax.span, lambda: self.emitter.as_real(value))
        self.emitter.claim(result, name)
        return result

    def unused(self, frame: Frame, name: str, span: Span) -> None:
        """Results have names of their own, which no parameter or state has."""
        if name == "loss":
            raise self.fault(
                frame, "E0302", "`loss` is the name of the sum of all losses", span, hint="Choose another name."
            )
        if any(result.name == name for result in [*self.outputs, *self.losses, *self.metrics]):
            raise self.fault(frame, "E0302", f"there is a result called `{name}` already", span)
        if name in self.slots:
            raise self.fault(
                frame,
                "E0302",
                f"there is a {self.slots[name].role} called `{name}` already",
                span,
                hint="Choose another name.",
            )


_RULES: dict[type, Callable[[Any, Frame, Any], None]] = {
    ast.Assign: Statements.assign,
    ast.Param: Statements.param,
    ast.State: Statements.state,
    ast.Use: Statements.use,
    ast.Require: Statements.require,
    ast.Return: Statements.return_,
    ast.If: Statements.if_,
    ast.For: Statements.for_,
    ast.Scan: Scans.scan,
    ast.Yield: Scans.yield_,
    ast.Input: Statements.input,
    ast.Output: Statements.output,
    ast.Loss: Statements.loss,
    ast.Metric: Statements.metric,
    ast.Broken: Statements.broken,
}

__all__ = ["Given", "Result", "Statements", "join"]
