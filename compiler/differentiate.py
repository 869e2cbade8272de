"""Reverse-mode differentiation, graph to graph: one sweep from the loss to the parameters.

The sweep accumulates adjoints and calls each operation's vector-Jacobian product; it knows no operation by name and
repairs no shapes. Backward nodes carry the span of the forward line they differentiate, and an adjoint is named after
its primal: the adjoint of `h` is `d_h`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tapeless.compiler.diagnostics import Diagnostic
from tapeless.ir.graph import Builder, Graph, Node, Value
from tapeless.ir.ops import NoDerivative, operation


class DifferentiationError(Exception):
    """The loss depends on a parameter through an operation that has no derivative."""

    def __init__(self, node: Node, reason: str) -> None:
        super().__init__(f"`{node.op}` stands between the loss and a parameter: {reason}")
        self.node = node
        self.reason = reason

    def diagnostic(self) -> Diagnostic:
        """What to tell the user, at the place in the source."""
        return Diagnostic(
            "E0401",
            f"the loss depends on a parameter through this step, which has no derivative: {self.reason}",
            self.node.span,
            hint="Choose with `where(c, a, b)`, whose derivative is that of the side chosen.",
        )


def differentiate(
    builder: Builder, graph: Graph, seen: Mapping[Value, Value], loss: Value, wanted: Sequence[Value]
) -> dict[Value, Value]:
    """Emit into `builder` the gradient of the scalar `loss`; returns the adjoint of every value on the way to `wanted`.

    `graph` is the forward graph, already copied into the builder by the translation `seen`; `loss` and `wanted` are
    values of `graph`. A wanted value that the loss does not depend on has an adjoint of zeros. Raises
    DifferentiationError where an operation on the way has no derivative.
    """
    active = _active(graph, loss, wanted)
    adjoints: dict[Value, Value] = {loss: builder.full(1.0, seen[loss])}
    for node in reversed(graph.nodes):
        adjoint = adjoints.get(node.results[0])
        if adjoint is None or node.results[0] not in active:
            continue
        rule = operation(node.op).derivative
        if isinstance(rule, NoDerivative):
            raise DifferentiationError(node, rule.reason)
        builder.span, builder.prefix = node.span, f"d_{node.results[0].name}."
        operands, results = tuple(seen[v] for v in node.operands), tuple(seen[v] for v in node.results)
        produced = rule(builder, Node(node.op, operands, results, node.attrs, node.regions), adjoint)
        for value, gradient in zip(node.operands, produced, strict=True):
            if gradient is None or value not in active:
                continue
            if not value.type.dtype.is_float:
                raise DifferentiationError(graph.producers.get(value, node), "an integer or a comparison has no derivative")
            known = adjoints.get(value)
            adjoints[value] = gradient if known is None else builder.emit("add", known, gradient)
    builder.span, builder.prefix = None, ""
    for value in wanted:
        adjoints.setdefault(value, builder.full(0.0, seen[value]))
    return adjoints


def _active(graph: Graph, loss: Value, wanted: Sequence[Value]) -> set[Value]:
    """Values that depend on a wanted one, other than through a stopped gradient, and that the loss depends on."""
    moving = set(wanted)
    for node in graph.nodes:
        if node.op != "stop_gradient" and any(value in moving for value in node.operands):
            moving.update(node.results)
    return moving & graph.ancestors([loss])

