"""Reverse-mode differentiation of a graph: one sweep from seeds to the values that are wanted.

The sweep accumulates adjoints and calls each operation's vector-Jacobian product; it knows no operation by name and
repairs no shapes. It serves whole programs (`compiler.differentiate`) and the bodies of loops (`ops.scan`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tapeless.ir.graph import Builder, Graph, Node, Value
from tapeless.ir.ops.registry import OPERATIONS, JointDerivative, NoDerivative


class DifferentiationError(Exception):
    """A seed depends on a wanted value through an operation that has no derivative."""

    def __init__(self, node: Node, reason: str) -> None:
        super().__init__(f"`{node.op}` stands between the loss and a parameter: {reason}")
        self.node = node
        self.reason = reason


def sweep(
    builder: Builder, graph: Graph, seen: Mapping[Value, Value], seeds: Mapping[Value, Value], wanted: Sequence[Value]
) -> dict[Value, Value]:
    """Emit into `builder` the adjoints of every value on the way from the seeds to `wanted`.

    `graph` has been copied into the builder by the translation `seen`; `seeds` gives values of `graph` their adjoints,
    which are values of the builder. A wanted value that no seed depends on has an adjoint of zeros. Raises
    DifferentiationError where an operation on the way has no derivative.
    """
    active = moving(graph, wanted) & graph.ancestors(seeds)
    adjoints: dict[Value, Value] = dict(seeds)
    for node in reversed(graph.nodes):
        given = [adjoints.get(value) if value in active else None for value in node.results]
        if not any(given):
            continue
        builder.span, builder.prefix = node.span, f"d_{node.results[0].name}."
        produced = _produced(builder, node, seen, given, [value in active for value in node.operands])
        for value, gradient in zip(node.operands, produced, strict=True):
            if gradient is None or value not in active:
                continue
            if not value.type.dtype.is_float:
                maker = graph.producers.get(value, node)
                raise DifferentiationError(maker, "an integer or a comparison has no derivative")
            known = adjoints.get(value)
            adjoints[value] = gradient if known is None else builder.emit("add", known, gradient)
    builder.span, builder.prefix = None, ""
    for value in wanted:
        if value not in adjoints:
            adjoints[value] = builder.full(0.0, seen[value])
    return adjoints


def moving(graph: Graph, sources: Iterable[Value]) -> set[Value]:
    """Values that depend on a source, other than through a stopped gradient."""
    found = set(sources)
    for node in graph.nodes:
        if node.op != "stop_gradient" and any(value in found for value in node.operands):
            found.update(node.results)
    return found


def _produced(
    builder: Builder, node: Node, seen: Mapping[Value, Value], given: Sequence[Value | None], active: Sequence[bool]
) -> Sequence[Value | None]:
    """What a node's rule makes of its results' adjoints: an adjoint, or None, for each operand."""
    rule = OPERATIONS[node.op].derivative
    if isinstance(rule, NoDerivative):
        raise DifferentiationError(node, rule.reason)
    operands, results = tuple(seen[v] for v in node.operands), tuple(seen[v] for v in node.results)
    here = Node(node.op, operands, results, node.attrs, node.regions, node.span)
    if isinstance(rule, JointDerivative):
        return rule.apply(builder, here, given, active)
    (adjoint,) = given
    assert adjoint is not None
    return rule(builder, here, adjoint)
