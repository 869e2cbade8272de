"""Why a step went wrong: its forward and backward pass once more, in the reference interpreter, up to the line whose
value is not finite.

Asked when a loss or a gradient has stopped being finite. What matters is not the first such value, which a `where`
may have thrown away, but the one that the result comes from: so the way goes back from the result, while operands
are not finite either.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

import numpy as np
import numpy.typing as npt

from tapeless.ir import interpreter
from tapeless.ir.graph import Graph, Node, Value
from tapeless.ir.types import Rows as Batch
from tapeless.pipeline import Pipeline

Rows = npt.NDArray[np.int32]
Values = Mapping[Value, npt.NDArray[np.generic]]


def first_not_finite(
    pipeline: Pipeline, state: Mapping[str, npt.ArrayLike], batch: Mapping[str, npt.ArrayLike], rows: Rows
) -> tuple[str, bool] | None:
    """A sentence about the step that comes next from `state`, over `batch`, which are those rows of the data, and
    whether weights may be what brought it about; None where the interpreter finds all of it finite.
    """
    graph = pipeline.entry("gradients")
    given = {**state, **batch}
    if any(port.label not in given for port in graph.inputs):
        return None
    values = interpreter.values(graph, {port.key: given[port.label] for port in graph.inputs})
    loss = graph.output("loss").value
    if not _finite(values[loss]):
        found = _source_of(graph, values, loss)
        weights = {port.value for port in graph.inputs if port.role in ("param", "state")}
        return _sentence(pipeline, graph, values, found, rows), not weights.isdisjoint(_leading_to(graph, found))
    for port in graph.outputs:
        if port.role == "gradient" and not _finite(values[port.value]):
            told = _sentence(pipeline, graph, values, _source_of(graph, values, port.value), rows, derivative=True)
            return f"all values up to the loss are finite, but {told}", False
    return None


def _source_of(graph: Graph, values: Values, result: Value) -> Value:
    """The value that is not finite, of finite operands, from which `result` has it."""
    made = {value: node for node in graph.nodes for value in node.results}
    while result in made:
        spoilt = [operand for operand in made[result].operands if not _finite(values[operand])]
        if not spoilt:
            break
        result = spoilt[0]
    return result


def _leading_to(graph: Graph, value: Value) -> Set[Value]:
    """The value and all those that it is made of."""
    made = {value: node for node in graph.nodes for value in node.results}
    seen, pending = set(), [value]
    while pending:
        one = pending.pop()
        if one not in seen:
            seen.add(one)
            pending += made[one].operands if one in made else ()
    return seen


def _sentence(
    pipeline: Pipeline, graph: Graph, values: Values, value: Value, rows: Rows, derivative: bool = False
) -> str:
    """What is not finite, where, and the line it comes from."""
    array = values[value]
    place = tuple(int(k) for k in np.argwhere(~np.isfinite(array))[0])
    node = next((node for node in graph.nodes if value in node.results), None)
    at = _place(value, place, rows)
    if node is None:
        label = next(port.label for port in graph.inputs if port.value is value)
        return f"`{label}` is {array[place]:.6g}{at}, and was so before this step"
    of = [
        f"{values[one][place]:.6g}"
        for one in node.operands
        if values[one].shape == array.shape and values[one].dtype.kind == "f"
    ]
    text, line = _expression(pipeline, node)
    subject = f"the derivative of {text}" if derivative else text + (f" of {' and '.join(of)}" if of else "")
    return f"{subject} is {array[place]:.6g}{at}{line}"


def _place(value: Value, place: tuple[int, ...], rows: Rows) -> str:
    """In words; the first axis of what goes by rows is told as the row of the data."""
    shape = value.type.shape
    if place and shape and isinstance(shape[0], Batch) and shape[0].multiple == 1:
        return f", in row {int(rows[place[0]])}" + (f", place {list(place[1:])}" if place[1:] else "")
    return f", at {list(place)}" if place else ""


def _expression(pipeline: Pipeline, node: Node) -> tuple[str, str]:
    """The piece of text that a node comes from, and the line that it stands in, on a line of its own."""
    source = next((one for one in pipeline.model.sources if node.span is not None and one.file == node.span.file), None)
    if node.span is None or source is None:
        return f"`{node.op}`", ""
    return (
        f"`{source.slice(node.span).strip()}`",
        f"\n  --> {node.span.file}:{node.span.line}: {source.line(node.span.line).strip()}",
    )


def _finite(array: npt.NDArray[np.generic]) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())
