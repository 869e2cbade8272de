"""What a loss can feel: the values whose small changes change it. For errors and warnings about parameters that
never learn.
"""

from __future__ import annotations

from collections.abc import Iterable

from tapeless.ir.graph import Graph, Node, Value
from tapeless.ir.types import DType

# Constant in steps, or by declaration: their derivative is zero (almost) everywhere.
_FLAT = frozenset({"floor", "ceil", "trunc", "round", "sign", "stop_gradient"})


def felt(graph: Graph, results: Iterable[Value]) -> set[Value]:
    """The values whose small changes some results can feel. What leads through a comparison is not felt; what leads
    through the place of a maximum would be, if that had a derivative: it is an error where it is differentiated.
    """
    found = set(results)
    for node in reversed(graph.nodes):
        if node.op not in _FLAT and not found.isdisjoint(node.results):
            found.update(value for value in _passing(node, found) if value.type.dtype is not DType.BOOL)
    return found


def _passing(node: Node, found: set[Value]) -> Iterable[Value]:
    """The operands that a node passes on; of a loop, those that its body passes on, from step to step."""
    if "carries" not in node.attrs:
        return node.operands
    (body,), carries = node.regions, node.attrs["carries"]
    wanted = {port.value for result, port in zip(node.results, body.outputs, strict=True) if result in found}
    while True:
        inside = felt(body, wanted)
        fresh = {leaving.value for entering, leaving in zip(body.inputs[:carries], body.outputs[:carries], strict=True)
                 if entering.value in inside} - wanted  # fmt: skip
        if not fresh:
            break
        wanted |= fresh
    return [operand for operand, port in zip(node.operands, body.inputs, strict=True) if port.value in inside]
