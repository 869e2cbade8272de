"""`output`, `loss` and `metric`: what a model makes."""

from __future__ import annotations

from dataclasses import dataclass

from tapeless.compiler.elaborate.assignments import Assignments
from tapeless.compiler.elaborate.context import Context, Rules
from tapeless.compiler.elaborate.frames import Frame
from tapeless.compiler.elaborate.functions.reductions import quotient_of_totals
from tapeless.compiler.elaborate.interface import Interface, ModelResult, in_model
from tapeless.compiler.elaborate.names import Names
from tapeless.compiler.elaborate.over_batches import of_data
from tapeless.compiler.elaborate.storage import Storage
from tapeless.compiler.elaborate.values import Binding, Computed, describe
from tapeless.compiler.language import ast
from tapeless.ir.graph import Span
from tapeless.ir.types import Rows


@dataclass(frozen=True, eq=False)
class Results:
    """Declares results."""

    context: Context
    storage: Storage
    names: Names
    assignments: Assignments
    interface: Interface

    @property
    def rules(self) -> Rules:
        """The kinds of syntax that this part takes."""
        return {ast.Output: self.output, ast.Loss: self.loss, ast.Metric: self.metric}

    def output(self, frame: Frame, syntax: ast.Output) -> None:
        """`output probs = softmax(logits)`."""
        in_model(self.context, frame, "output", syntax.span)
        if syntax.value is not None:
            value = self.assignments.valued(frame, syntax.name, syntax.value)
            self.assignments.store(frame, ast.Target(syntax.span, syntax.name), value, syntax.value.span)
        else:
            value = self.names.lookup(frame, syntax.name, syntax.span).value
        self.unused(frame, syntax.name, syntax.span)
        if isinstance(value, (int, float, tuple)) and not isinstance(value, bool):
            numbers = value
            value = self.context.guarded(frame, syntax.span, lambda: self.context.emitter.as_real(numbers))
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
            raise frame.fault(
                "E0213",
                f"an output has one row for each row of the batch; this is {describe(value)}",
                syntax.span,
                hint=hint,
            )
        if any(isinstance(dim, Rows) for dim in shape[1:]):
            raise frame.fault(
                "E0214",
                f"a row of an output has a fixed size; this is {describe(value)}",
                syntax.span,
                hint=("Rows are predicted a batch at a time; a loss or metric may compare each with every other."),
            )
        self.interface.outputs.append(ModelResult(syntax.name, value.value, syntax.span))

    def without_data(self, value: Computed) -> bool:
        """Whether a value is the same for every batch: made of parameters and states alone."""
        graph = self.context.emitter.builder.graph()
        return value.value not in of_data(graph) and not any(isinstance(dim, Rows) for dim in value.shape)

    def loss(self, frame: Frame, syntax: ast.Loss) -> None:
        """`loss ...`: one number; several add."""
        in_model(self.context, frame, "loss", syntax.span)
        name = syntax.name or ""
        if name:
            self.unused(frame, name, syntax.span)
        value = self.single(frame, "loss", name or "loss", syntax.value)
        self.interface.losses.append(ModelResult(name, value.value, syntax.span))

    def metric(self, frame: Frame, syntax: ast.Metric) -> None:
        """`metric accuracy = ...`: one number."""
        in_model(self.context, frame, "metric", syntax.span)
        self.unused(frame, syntax.name, syntax.span)
        value = (
            self.quotient(frame, syntax) if syntax.total else self.single(frame, "metric", syntax.name, syntax.value)
        )
        self.interface.metrics.append(ModelResult(syntax.name, value.value, syntax.span))
        frame.names[syntax.name] = Binding(value, syntax.name, syntax.span, "made")

    def quotient(self, frame: Frame, syntax: ast.Metric) -> Computed:
        """`metric f1 = a / b total`: `a` and `b` are summed over all batches before they are divided."""
        written = syntax.value
        if not isinstance(written, ast.Binary) or written.operator != "/":
            raise frame.fault(
                "E0211",
                "a total is a quotient: what is above it and what is below are summed over all batches",
                written.span,
                hint=f"Write `metric {syntax.name} = sum(a) / sum(b) total`.",
            )
        above = self.single(frame, "total", f"{syntax.name}.numerator", written.left)
        below = self.single(frame, "total", f"{syntax.name}.denominator", written.right)
        self.context.emitter.where = syntax.name
        made: Computed = self.context.guarded(
            frame, written.span, lambda: quotient_of_totals(self.context.emitter, above, below)
        )
        self.context.emitter.claim(made, syntax.name)
        return made

    def single(self, frame: Frame, what: str, name: str, syntax: ast.Expression) -> Computed:
        """The value of a loss or metric: one real number."""
        frame.target, frame.root = (name if what != "loss" or name != "loss" else None), syntax
        self.context.emitter.where = name
        value = self.context.evaluate(frame, syntax)
        if not isinstance(value, (Computed, int, float, Rows)) or (isinstance(value, Computed) and value.shape):
            named = "each side of a total" if what == "total" else f"a {what}"
            mended = "Sum it: `sum(...)`." if what == "total" else "Take its mean: `mean(...)`."
            raise frame.fault(
                "E0211",
                f"{named} is one number; this is {describe(value)}",
                syntax.span,
                hint=mended if isinstance(value, Computed) else None,
            )
        result: Computed = self.context.guarded(frame, syntax.span, lambda: self.context.emitter.as_real(value))
        self.context.emitter.claim(result, name)
        return result

    def unused(self, frame: Frame, name: str, span: Span) -> None:
        """Results have names of their own, which no parameter or state has."""
        if name == "loss":
            raise frame.fault("E0302", "`loss` is the name of the sum of all losses", span, hint="Choose another name.")
        if any(
            result.name == name for result in [*self.interface.outputs, *self.interface.losses, *self.interface.metrics]
        ):
            raise frame.fault("E0302", f"there is a result called `{name}` already", span)
        if name in self.storage.slots:
            raise frame.fault(
                "E0302",
                f"there is a {self.storage.slots[name].role} called `{name}` already",
                span,
                hint="Choose another name.",
            )
