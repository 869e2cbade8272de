"""Labels of classes, of which one number may say that its row does not count."""

from __future__ import annotations

from typing import Any

from tapeless.compiler.elaborate.emission import Emitter, Labelled
from tapeless.compiler.elaborate.functions.registry import CallSite, builtin
from tapeless.compiler.elaborate.functions.shaping import integers
from tapeless.compiler.elaborate.values import Computed
from tapeless.ir.graph import Value

_VIEWS = ("reshape", "transpose", "broadcast")


@builtin("labels")
def labels(call: CallSite, target: Any, classes: Any, ignore_index: Any = None) -> Any:
    """Labels as places among so many classes, and for each 1 if it counts and 0 if it is `ignore_index`. Any other
    label beyond the classes is refused where data enter; of one that is computed, the loss is not finite.
    """
    index = integers(call, "target", target)
    if ignore_index is None:
        return index, 1
    count, ignored = call.whole("classes", classes), call.whole("ignore_index", ignore_index)
    emit = call.emit
    source, whole = _source(emit, index.value)
    if source is not None:
        emit.root.labelled.append(Labelled(source, count, ignored, whole, call.frame.shown(call.span)))
    inside = emit.logical("logical_and", emit.binary("<=", 0, index), emit.binary("<", index, count))
    assert isinstance(inside, Computed)
    safe = emit.emit(
        "select", inside.value, index.value, emit.broadcast(emit.computed(0, index.dtype), index.shape).value
    )
    one, zero, beyond = (
        emit.broadcast(Computed(emit.constant(number)), index.shape).value for number in (1.0, 0.0, float("inf"))
    )
    counted = emit.emit("select", inside.value, one, beyond)
    left_out = emit.binary("==", index, ignored)
    assert isinstance(left_out, Computed)
    return Computed(safe, count), Computed(emit.emit("select", left_out.value, zero, counted))


def _source(emit: Emitter, value: Value) -> tuple[Value | None, bool]:
    """The input that labels are a view of, if they are, and whether they are all of it."""
    producers = {made: node for node in emit.builder.nodes for made in node.results}
    whole = True
    while value in producers:
        node = producers[value]
        if node.op not in (*_VIEWS, "slice"):
            return None, False
        whole = whole and node.op != "slice"
        (value,) = node.operands
    return (
        (value, whole)
        if any(port.value == value and port.role == "data" for port in emit.builder.graph().inputs)
        else (None, False)
    )
