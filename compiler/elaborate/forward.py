"""One forward pass of a model as a graph: its arguments bound, its body run, and the ports of what it makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tapeless.compiler.elaborate.checks import check_labels, check_order, warn_of_company, warn_of_means
from tapeless.compiler.elaborate.elaborator import Common, Elaborator
from tapeless.compiler.elaborate.emission import Emitter
from tapeless.compiler.elaborate.frames import Frame
from tapeless.compiler.elaborate.interface import Interface
from tapeless.compiler.elaborate.modules import Module
from tapeless.compiler.elaborate.names import CONSTANTS
from tapeless.compiler.elaborate.over_batches import decomposed
from tapeless.compiler.elaborate.updates import Updates
from tapeless.compiler.elaborate.values import POISON, Binding, Computed, Fault, Poisoned
from tapeless.compiler.language import ast
from tapeless.compiler.language.statement_parser import made_by
from tapeless.ir.graph import Graph, Part, Span, Value


@dataclass(frozen=True, eq=False)
class Forward:
    """A forward pass: its graph, what it takes and makes, the values of the model's arguments, what `grad` and its kin
    asked for (see Emitter), and where statistics over the rows are used.
    """

    graph: Graph
    interface: Interface
    arguments: Mapping[str, Any]
    derived: Mapping[Span, tuple[int, int]]
    statistics: Span | None


def forward(common: Common, module: Module, definition: ast.Definition, training: bool) -> Forward:
    """Run a model's body once, as it is in training or in evaluation. Faults are reported, not raised."""
    reporter = common.reporter
    emitter = Emitter(definition.name, common.storage.init.real)
    emitter.gradients = common.gradients
    elaborator = Elaborator(common, emitter, training)
    interface, updates = elaborator.interface, elaborator.updates
    frame = Frame("model", definition.name, module, emitter, path="")
    frame.made = frozenset(name for statement in definition.body for name in made_by(statement))
    arguments = _bound_arguments(common, elaborator, frame, definition)
    elaborator.run_body(frame, definition.body)
    made = interface.given or interface.losses or interface.outputs or interface.metrics
    if not made and not frame.broken:
        hint = "For example `input x: [batch, 8]`, and a `loss`."
        message = f"model `{definition.name}` takes no data and makes nothing"
        reporter.report(frame.fault("E0509", message, definition.head, hint=hint).diagnostic)
    _results(emitter, interface, updates, training)
    if training:
        for slot, (value, span) in updates.stores.items():
            emitter.output(slot, value, "state", span)
    graph = emitter.graph()
    if not frame.broken:
        check_order(reporter, graph, interface, training)
        common.labelled.extend(emitter.labelled)
        check_labels(reporter, graph, interface, common.labelled)
    if not training:
        warn_of_means(reporter, graph, interface)
        warn_of_company(reporter, graph)
    return Forward(graph, interface, arguments, emitter.derived, updates.statistics)


def _bound_arguments(
    common: Common, elaborator: Elaborator, frame: Frame, definition: ast.Definition
) -> dict[str, Any]:
    """The model's own arguments: from whoever compiles, else the defaults."""
    arguments: dict[str, Any] = {}
    for parameter in definition.parameters:
        if parameter.name in frame.names or parameter.name in CONSTANTS:
            continue  # reported with the names
        binding = Binding(None, parameter.name, parameter.span, "declared", "argument", parameter)
        try:
            if parameter.name in common.sizes:
                binding.value = common.sizes[parameter.name]
            elif parameter.default is not None:
                binding.value = elaborator.evaluate(frame, parameter.default)
            else:
                raise frame.fault(
                    "E0205",
                    f"`{parameter.name}` has no value",
                    parameter.span,
                    hint=(f"Give it when compiling ({parameter.name}=64), or a default: `{parameter.name} = 64`."),
                )
        except Fault as fault:
            common.reporter.report(fault.diagnostic)
            binding.value = POISON
            frame.broken = True
        except Poisoned:
            binding.value = POISON
            frame.broken = True
        frame.names[parameter.name] = binding
        arguments[parameter.name] = binding.value
    return arguments


def _results(emitter: Emitter, interface: Interface, updates: Updates, training: bool) -> None:
    """Output ports: outputs, the sum of the losses, named losses, metrics."""
    for result in interface.outputs:
        emitter.output(result.name, result.value, "output", result.span)
    losses = interface.losses
    if losses:
        emitter.where = "loss"
        total = Computed(losses[0].value)
        for result in losses[1:]:
            emitter.span = result.span
            total = emitter.pointwise("add", total, Computed(result.value))
        emitter.claim(total, "loss")
        if training and total.value in emitter.lone:
            updates.statistics = updates.statistics or losses[0].span
        emitter.output("loss", total.value, "loss", losses[0].span)
        for result in losses:
            if result.name:
                emitter.output(result.name, result.value, "loss", result.span)
        _totals(emitter, "loss", total.value, losses[0].span)
        for result in losses:
            if result.name:
                _totals(emitter, result.name, result.value, result.span)
    for result in interface.metrics:
        emitter.output(result.name, result.value, "metric", result.span)
        _totals(emitter, result.name, result.value, result.span)


def _totals(emitter: Emitter, name: str, value: Value, span: Span) -> None:
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
