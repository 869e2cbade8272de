"""Reverse-mode differentiation of a graph: one sweep from seeds to the values that are wanted.

The sweep accumulates adjoints and calls each operation's vector-Jacobian product; it knows no operation by name and
repairs no shapes. It serves whole programs (`compiler.passes.differentiate`) and the bodies of loops (`ops.scan`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set

from tapeless.ir.graph import Builder, Graph, Node, Value
from tapeless.ir.ops.registry import OPERATIONS, JointDerivative, NoDerivative
from tapeless.ir.types import DType


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
                raise DifferentiationError(maker, "an integer has no derivative")
            known = adjoints.get(value)
            adjoints[value] = gradient if known is None else builder.emit("add", known, gradient)
    builder.span, builder.prefix = None, ""
    for value in wanted:
        if value not in adjoints and value.type.dtype.is_float:
            adjoints[value] = builder.full(0.0, seen[value])
    return adjoints


def moving(graph: Graph, sources: Iterable[Value]) -> set[Value]:
    """Values that depend on a source, other than through a stopped gradient or a comparison, whose derivative is
    zero.
    """
    found = set(sources)
    for node in graph.nodes:
        found.update(moved(node, found))
    return found


def moved(node: Node, moving: Set[Value]) -> Sequence[Value]:
    """The results of a node that move where some of its operands do. Booleans jump, and have the derivative zero, as
    do the places that indexing takes from or puts to; whether an integer that a loop makes comes from such jumps
    alone is told by the loop's body.
    """
    taken_from = node.operands[:1] if OPERATIONS[node.op].family == "indexing" else node.operands
    if node.op == "stop_gradient" or moving.isdisjoint(taken_from):
        return ()
    kept = [value for value in node.results if value.type.dtype is not DType.BOOL]
    if "carries" not in node.attrs or all(value.type.dtype.is_float for value in kept):
        return kept
    (body,), carries = node.regions, node.attrs["carries"]
    taken = [port.value for port, operand in zip(body.inputs, node.operands, strict=True) if operand in moving]
    inside = moving_in_loop(body, carries, taken)[1]
    leaving = {result for result, port in zip(node.results, body.outputs, strict=True) if port.value in inside}
    entering = {
        result for result, port in zip(node.results, body.inputs[:carries], strict=False) if port.value in taken
    }
    return [value for value in kept if value in leaving or value in entering]


def moving_in_loop(body: Graph, carries: int, sources: Iterable[Value]) -> tuple[set[Value], set[Value]]:
    """Of a loop's body, the inputs that move: the sources, and the carries that come to depend on them; and all that
    moves.
    """
    wanted = set(sources)
    while True:
        reached = moving(body, wanted)
        pairs = zip(body.inputs[:carries], body.outputs[:carries], strict=True)
        fresh = {entering.value for entering, leaving in pairs if leaving.value in reached} - wanted
        if not fresh:
            return wanted, reached
        wanted |= fresh


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
