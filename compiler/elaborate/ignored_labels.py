"""What losses over classes say of the labels that the data bring: which may come, and that nothing else reads a
table with one that is no class.
"""

from __future__ import annotations

from collections.abc import Sequence

from tapeless.compiler.elaborate.emission import Labelled
from tapeless.ir.graph import Graph, Node, Value
from tapeless.ir.types import DType

_INDEX = {"gather": 1, "pick": 1, "take_along": 1, "put_along": 1}  # which operand is the index


def allowed(found: Sequence[Labelled], bound: int | None) -> tuple[int | None, tuple[int, ...]]:
    """The bound of an input's integers, and the numbers that may come besides: those that do not count."""
    classes = [one.classes for one in found if one.whole]
    known = [each for each in (bound, *classes) if each is not None]
    return min(known, default=None), tuple(sorted({one.ignored for one in found}))


def labels_of(labelled: Sequence[Labelled], name: str) -> list[Labelled]:
    """What losses say of an input's labels."""
    return [one for one in labelled if one.source.name == name]


def beyond(found: Sequence[Labelled], bound: int | None) -> Labelled | None:
    """The first of them by which an input holds numbers that its declaration does not allow."""
    return next((one for one in found if bound is not None and not 0 <= one.ignored < bound), None)


def first_lookup(graph: Graph, source: Value) -> Node | None:
    """The first node that reads a table at places made of an input's integers as they come: what a `select` lets
    through is chosen.
    """
    reached = {source}
    for node in graph.nodes:
        place = _INDEX.get(node.op)
        if place is not None and node.operands[place] in reached:
            return node
        if node.op == "scan":
            (body,) = node.regions
            taken = [port.value for port, value in zip(body.inputs, node.operands, strict=True) if value in reached]
            if found := next((inner for value in taken if (inner := first_lookup(body, value))), None):
                return found
        elif node.op != "select" and any(value in reached for value in node.operands):
            reached.update(value for value in node.results if value.type.dtype is DType.I32)
    return None
