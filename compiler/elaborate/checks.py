"""What is said of a whole graph of a model: of labels, of the order and the company of rows, of means over batches, and
of parameters that the loss cannot feel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tapeless.compiler.elaborate.emission import Labelled
from tapeless.compiler.elaborate.ignored_labels import beyond, first_lookup, labels_of
from tapeless.compiler.elaborate.influence import felt
from tapeless.compiler.elaborate.interface import Interface
from tapeless.compiler.elaborate.over_batches import is_average, meeting
from tapeless.compiler.elaborate.reporter import Reporter
from tapeless.compiler.elaborate.row_order import by_place
from tapeless.compiler.elaborate.storage import TURN, Stored
from tapeless.compiler.language import ast
from tapeless.compiler.messages.diagnostics import Diagnostic, Label
from tapeless.compiler.messages.near_names import nearest
from tapeless.ir.graph import Graph


def check_labels(reporter: Reporter, graph: Graph, interface: Interface, labelled: Sequence[Labelled]) -> None:
    """Numbers of labels that do not count: one among the classes of a target is warned of, and one beyond them
    is no index.
    """
    for given in interface.given.values():
        found = labels_of(labelled, given.name)
        for one in found:
            if given.role == "target" and 0 <= one.ignored < one.classes:
                message = (
                    f"`ignore_index` {one.ignored} is one of the {one.classes} classes, so rows of this class "
                    "are never learned"
                )
                reporter.report(
                    Diagnostic(
                        "W0111",
                        message,
                        one.span,
                        (Label(f"`{given.name}`", "has the labels", given.span, "declared"),),
                        (f"A number that is no class marks rows that do not count: {one.classes}, 255 or -100."),
                    )
                )
        besides = beyond(found, given.bound)
        node = first_lookup(graph, besides.source) if besides else None
        if besides and node:
            where = (Label(f"`{given.name}`", f"may be {besides.ignored} as well,", besides.span, "written"),)
            reporter.report(
                Diagnostic(
                    "E0403",
                    f"`{given.name}` is an index here, and holds labels that do not count besides its classes",
                    node.span,
                    where,
                    (f"Replace them: `where({given.name} == {besides.ignored}, 0, {given.name})`."),
                )
            )


def check_order(reporter: Reporter, graph: Graph, interface: Interface, training: bool) -> None:
    """Outputs whose rows depend on where they stand in a batch, which is a fault, and losses and metrics, which
    are warned of.
    """
    roles = ("loss", "metric") if training else ("output", "loss", "metric")
    ports = [port for port in graph.outputs if port.role in roles]
    found = by_place(graph, ports, {given.name: given.bound for given in interface.given.values()})
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
            reporter.report(Diagnostic("E0214", message, port.span, where, hint))
        else:
            message = f"`{port.label}` depends on the order of the rows in a batch, and training shuffles them"
            reporter.report(
                Diagnostic("W0110", message, port.span, where, "What tells rows apart is an input of the model.")
            )


def warn_of_company(reporter: Reporter, graph: Graph) -> None:
    """Outputs whose rows depend on the rows beside them: rows are predicted a batch at a time, in any company."""
    for port in graph.outputs:
        node = meeting(graph, port.value) if port.role == "output" else None
        if node is None:
            continue
        where = (Label("", "the rows meet in a step", node.span, "written"),) if node.span else ()
        reporter.report(
            Diagnostic(
                "W0105",
                f"a row of the output `{port.label}` depends on the other rows of the batch",
                port.span,
                where,
                ("Rows are predicted a batch at a time. What all rows share is kept in a `state`, as in `BatchNorm`."),
            )
        )


def warn_of_means(reporter: Reporter, graph: Graph, interface: Interface) -> None:
    """Losses and metrics whose value over all data is not what weighing batches by their rows gives."""
    spans = {result.name: result.span for result in interface.metrics} | {
        result.name or "loss": result.span for result in interface.losses
    }
    named = any(result.name for result in interface.losses)
    divided = {port.label for port in graph.outputs if port.role == "part"}
    for port in graph.outputs:
        name, summed = port.label, port.part is not None and port.part.kind != "rest"
        if port.role not in ("loss", "metric", "part") or (name == "loss" and named) or summed:
            continue
        if (name in divided and port.role != "part") or is_average(graph, port.value):
            continue
        message = f"`{name}` is not a mean over the batch, so over several batches it is only the mean of their values"
        reporter.report(Diagnostic("W0101", message, spans.get(name, port.span)))


def check_influence(reporter: Reporter, graph: Graph, interface: Interface, slots: Mapping[str, Stored]) -> None:
    """Parameters that the optimizer is to change, and that the loss cannot feel; a fault where it can feel none
    at all.
    """
    losses = [port.value for port in graph.outputs if port.role == "loss" and port.label == "loss"]
    if not losses:
        return
    reached, used = felt(graph, losses), graph.ancestors(losses)
    trained = [
        port for port in graph.inputs if port.role == "param" and port.label in slots and not slots[port.label].frozen
    ]
    idle = [port for port in trained if port.value not in reached]
    why = {
        port.label: "every path from it to the loss has derivative zero"
        if port.value in used
        else "the loss does not depend on it"
        for port in idle
    }
    frozen = any(stored.role == "param" and stored.frozen for stored in slots.values())
    if idle and len(idle) == len(trained) and not frozen:
        shown = [Label(f"`{TURN.sub('*', port.label)}`", why[port.label], slots[port.label].span) for port in idle[:4]]
        others = [Label("", f"and {len(idle) - 4} more parameters")] if len(idle) > 4 else []
        reporter.report(
            Diagnostic(
                "E0511",
                "no parameter reaches the loss, so training would change nothing",
                interface.losses[0].span,
                (*shown, *others),
                "Compute the loss from what they make, by a way that has a derivative.",
            )
        )
        return
    for port in idle:
        hint = "Say `frozen param`, or `freeze` it, if that is meant."
        reporter.report(
            Diagnostic(
                "W0102",
                f"`{TURN.sub('*', port.label)}` never changes: {why[port.label]}",
                slots[port.label].span,
                hint=hint,
            )
        )


def check_sizes(
    reporter: Reporter, definition: ast.Definition, sizes: Iterable[str], free_sizes: Iterable[str]
) -> None:
    """Every size given from outside must be one that the model knows."""
    known = [parameter.name for parameter in definition.parameters] + sorted(free_sizes)
    for name in sizes:
        if name not in known:
            near = nearest(name, known)
            hint = (
                f"Did you mean `{near}`?"
                if near
                else f"It has {', '.join(f'`{one}`' for one in known)}."
                if known
                else None
            )
            message = f"model `{definition.name}` has no size or argument `{name}`"
            reporter.report(Diagnostic("E0508", message, definition.head, hint=hint))
