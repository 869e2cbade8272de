"""A model as graphs: the forward pass for training and for evaluation, and the graph that starts every slot."""

from __future__ import annotations

from typing import Any

from tapeless.compiler.elaborate.averages import decomposed, is_average, meeting
from tapeless.compiler.elaborate.emission import Emitter, Labelled
from tapeless.compiler.elaborate.evaluator import CONSTANTS
from tapeless.compiler.elaborate.influence import felt
from tapeless.compiler.elaborate.labelled import beyond, indexing
from tapeless.compiler.elaborate.modules import Module
from tapeless.compiler.elaborate.parameters import COUNTERS, TURN, Stored
from tapeless.compiler.elaborate.row_order import by_place
from tapeless.compiler.elaborate.scope import Frame
from tapeless.compiler.elaborate.statements import Statements
from tapeless.compiler.elaborate.values import POISON, Binding, Computed, Fault, Poisoned
from tapeless.compiler.language import ast
from tapeless.compiler.language.statement_parser import made_by
from tapeless.compiler.messages.diagnostics import Diagnostic, Label
from tapeless.compiler.messages.near_names import nearest
from tapeless.ir.graph import Graph, Part, Span, Value
from tapeless.ir.types import DType


class Program(Statements):
    """Elaborates one model of a module."""

    def __init__(self, module: Module, definition: ast.Definition, sizes: dict[str, int | float], real: DType) -> None:
        super().__init__(definition.name, real)
        self.module = module
        self.definition = definition
        self.sizes = dict(sizes)
        self.arguments: dict[str, Any] = {}
        self.labelled: list[Labelled] = []
        self.gradients: dict[tuple[Graph, str, str | None], tuple[Graph, int]] = {}
        self.dtype = real

    def forward(self, training: bool) -> Graph:
        """Run the model's body once, as it is in training or in evaluation. Faults are reported, not raised."""
        emitter = self.emitter = Emitter(self.definition.name, self.dtype)
        emitter.gradients = self.gradients
        self.training = training
        self.taken, self.declared, self.ports = set(), set(), {}
        self.given, self.stores = {}, {}
        self.losses, self.metrics, self.outputs = [], [], []
        definition = self.definition
        frame = Frame("model", definition.name, self.module, emitter, path="")
        frame.made = frozenset(name for statement in definition.body for name in made_by(statement))
        self.bind_arguments(frame)
        self.run_body(frame, definition.body)
        if not (self.given or self.losses or self.outputs or self.metrics) and not frame.broken:
            hint = "For example `input x: [batch, 8]`, and a `loss`."
            self.reported_fault(
                self.fault(
                    frame,
                    "E0509",
                    f"model `{definition.name}` takes no data and makes nothing",
                    definition.head,
                    hint=hint,
                )
            )
        self.finish(emitter)
        graph = emitter.graph()
        if not frame.broken:
            self.check_order(graph)
            self.check_labels(graph, emitter)
        if not training:
            self.warn(graph)
            self.warn_of_company(graph)
        return graph

    def labels_of(self, name: str) -> list[Labelled]:
        """What losses say of an input's labels."""
        return [one for one in self.labelled if one.source.name == name]

    def check_labels(self, graph: Graph, emitter: Emitter) -> None:
        """Numbers of labels that do not count: one among the classes of a target is warned of, and one beyond them
        is no index.
        """
        self.labelled += emitter.labelled
        for given in self.given.values():
            found = self.labels_of(given.name)
            for one in found:
                if given.role == "target" and 0 <= one.ignored < one.classes:
                    message = (
                        f"`ignore_index` {one.ignored} is one of the {one.classes} classes, so rows of this class "
                        "are never learned"
                    )
                    self.report(Diagnostic("W0111", message, one.span,
                        (Label(f"`{given.name}`", "has the labels", given.span, "declared"),),
                                           ("A number that is no class marks rows that do not "
                                               f"count: {one.classes}, 255 or -100.")))  # fmt: skip
            besides = beyond(found, given.bound)
            node = indexing(graph, besides.source) if besides else None
            if besides and node:
                where = (Label(f"`{given.name}`", f"may be {besides.ignored} as well,", besides.span, "written"),)
                self.report(Diagnostic("E0403",
                    f"`{given.name}` is an index here, and holds labels that do not count besides its classes",
                    node.span,
                                       where,
                                       (f"Replace them: `where({given.name} == {besides.ignored}, "
                                           f"0, {given.name})`.")))  # fmt: skip

    def check_order(self, graph: Graph) -> None:
        """Outputs whose rows depend on where they stand in a batch, which is a fault, and losses and metrics, which
        are warned of.
        """
        roles = ("loss", "metric") if self.training else ("output", "loss", "metric")
        ports = [port for port in graph.outputs if port.role in roles]
        found = by_place(graph, ports, {given.name: given.bound for given in self.given.values()})
        for port in ports:
            node = found.get(port.label)
            if node is None:
                continue
            where = (Label("", "the places of rows come in", node.span, "written"),) if node.span else ()
            if port.role == "output":
                message = (
                    f"the rows of `batch` stay together: a row of the output `{port.label}` would depend on its "
                    "place among them"
                )
                hint = (
                    "The same row is another one elsewhere in a batch, or in a batch of another size. What tells "
                    "rows apart is an input."
                )
                self.report(Diagnostic("E0214", message, port.span, where, hint))
            else:
                message = f"`{port.label}` depends on the order of the rows in a batch, and training shuffles them"
                self.report(
                    Diagnostic("W0110", message, port.span, where, "What tells rows apart is an input of the model.")
                )

    def warn_of_company(self, graph: Graph) -> None:
        """Outputs whose rows depend on the rows beside them: rows are predicted a batch at a time, in any company."""
        for port in graph.outputs:
            node = meeting(graph, port.value) if port.role == "output" else None
            if node is None:
                continue
            where = (Label("", "the rows meet in a step", node.span, "written"),) if node.span else ()
            self.report(Diagnostic("W0105",
                f"a row of the output `{port.label}` depends on the other rows of the batch", port.span, where,
                                   ("Rows are predicted a batch at a time. What all rows share is "
                                       "kept in a `state`, as in `BatchNorm`.")))  # fmt: skip

    def warn(self, graph: Graph) -> None:
        """Losses and metrics whose value over all data is not what weighing batches by their rows gives."""
        spans = {result.name: result.span for result in self.metrics} | {
            result.name or "loss": result.span for result in self.losses
        }
        named = any(result.name for result in self.losses)
        divided = {port.label for port in graph.outputs if port.role == "part"}
        for port in graph.outputs:
            name, summed = port.label, port.part is not None and port.part.kind != "rest"
            if port.role not in ("loss", "metric", "part") or (name == "loss" and named) or summed:
                continue
            if (name in divided and port.role != "part") or is_average(graph, port.value):
                continue
            message = (
                f"`{name}` is not a mean over the batch, so over several batches it is only the mean of their values"
            )
            self.report(Diagnostic("W0101", message, spans.get(name, port.span)))

    def finish(self, emitter: Emitter) -> None:
        """Output ports: outputs, the sum of the losses, named losses, metrics, and what the step stores."""
        for result in self.outputs:
            emitter.output(result.name, result.value, "output", result.span)
        if self.losses:
            emitter.where = "loss"
            total = Computed(self.losses[0].value)
            for result in self.losses[1:]:
                emitter.span = result.span
                total = emitter.pointwise("add", total, Computed(result.value))
            emitter.claim(total, "loss")
            if self.training and total.value in emitter.lone:
                self.statistics = self.statistics or self.losses[0].span
            emitter.output("loss", total.value, "loss", self.losses[0].span)
            for result in self.losses:
                if result.name:
                    emitter.output(result.name, result.value, "loss", result.span)
            self.totals(emitter, "loss", total.value, self.losses[0].span)
            for result in self.losses:
                if result.name:
                    self.totals(emitter, result.name, result.value, result.span)
        for result in self.metrics:
            emitter.output(result.name, result.value, "metric", result.span)
            self.totals(emitter, result.name, result.value, result.span)
        if self.training:
            for slot, (value, span) in self.stores.items():
                emitter.output(slot, value, "state", span)

    def check_influence(self, graph: Graph) -> None:
        """Parameters that the optimizer is to change, and that the loss cannot feel; a fault where it can feel none
        at all.
        """
        losses = [port.value for port in graph.outputs if port.role == "loss" and port.label == "loss"]
        if not losses:
            return
        reached, used = felt(graph, losses), graph.ancestors(losses)
        trained = [
            port
            for port in graph.inputs
            if port.role == "param" and port.label in self.slots and not self.slots[port.label].frozen
        ]
        idle = [port for port in trained if port.value not in reached]
        why = {
            port.label: "every path from it to the loss has derivative zero"
            if port.value in used
            else "the loss does not depend on it"
            for port in idle
        }
        frozen = any(stored.role == "param" and stored.frozen for stored in self.slots.values())
        if idle and len(idle) == len(trained) and not frozen:
            shown = [
                Label(f"`{TURN.sub('*', port.label)}`", why[port.label], self.slots[port.label].span)
                for port in idle[:4]
            ]
            others = [Label("", f"and {len(idle) - 4} more parameters")] if len(idle) > 4 else []
            self.report(
                Diagnostic(
                    "E0511",
                    "no parameter reaches the loss, so training would change nothing",
                    self.losses[0].span,
                    (*shown, *others),
                    "Compute the loss from what they make, by a way that has a derivative.",
                )
            )
            return
        for port in idle:
            hint = "Say `frozen param`, or `freeze` it, if that is meant."
            self.report(
                Diagnostic(
                    "W0102",
                    f"`{TURN.sub('*', port.label)}` never changes: {why[port.label]}",
                    self.slots[port.label].span,
                    hint=hint,
                )
            )

    def totals(self, emitter: Emitter, name: str, value: Value, span: Span) -> None:
        """Output ports for what a loss or metric is made of, if quotients of sums over all batches are among it."""
        emitter.where, emitter.span = name, span
        found = decomposed(emitter, value)
        if found is None:
            return
        quotients, rest = found
        for k, (above, below) in enumerate(quotients):
            emitter.output(name, above.value, "part", span, Part("numerator", k))
            emitter.output(name, below.value, "part", span, Part("denominator", k))
        if rest is not None:
            emitter.output(name, rest.value, "part", span, Part("rest"))

    def bind_arguments(self, frame: Frame) -> None:
        """The model's own arguments: from whoever compiles, else the defaults."""
        for parameter in self.definition.parameters:
            if parameter.name in frame.names or parameter.name in CONSTANTS:
                continue  # reported with the names
            binding = Binding(None, parameter.name, parameter.span, "declared", "argument", parameter)
            try:
                if parameter.name in self.sizes:
                    binding.value = self.sizes[parameter.name]
                elif parameter.default is not None:
                    binding.value = self.evaluate(frame, parameter.default)
                else:
                    raise self.fault(frame, "E0205", f"`{parameter.name}` has no value", parameter.span,
                                     hint=(f"Give it when compiling ({parameter.name}=64), or a default: "
                                         f"`{parameter.name} = 64`."))  # fmt: skip
            except Fault as fault:
                self.reported_fault(fault)
                binding.value = POISON
                frame.broken = True
            except Poisoned:
                binding.value = POISON
                frame.broken = True
            frame.names[parameter.name] = binding
            self.arguments[parameter.name] = binding.value

    def reported_fault(self, fault: Fault) -> None:
        """Report a fault that no statement raised."""
        self.report(fault.diagnostic)

    def check_sizes(self) -> None:
        """Every size given from outside must be one that the model knows."""
        known = [parameter.name for parameter in self.definition.parameters] + sorted(self.free_sizes)
        frame = Frame("model", self.definition.name, self.module, self.emitter)
        for name in self.sizes:
            if name not in known:
                near = nearest(name, known)
                hint = (
                    f"Did you mean `{near}`?"
                    if near
                    else f"It has {', '.join(f'`{one}`' for one in known)}."
                    if known
                    else None
                )
                message = f"model `{self.definition.name}` has no size or argument `{name}`"
                self.reported_fault(self.fault(frame, "E0508", message, self.definition.head, hint=hint))

    def store_counters(self, spans: Span) -> None:
        """The slots that count: seed, step, planned steps, epoch."""
        zero = None
        for name, type_ in COUNTERS.items():
            if name == "seed":
                value = self.seed
            else:
                self.init.span = spans
                zero = zero or self.init.constant(0, DType.I32)
                value = zero
            self.slots[name] = Stored(name, type_, "counter", spans, value)

    def start(self) -> Graph:
        """The graph that gives every slot its starting value."""
        for stored in self.slots.values():
            self.init.output(stored.name, stored.initial, "state", stored.span)
        return self.init.graph()
