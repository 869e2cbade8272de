"""Functions of the order along an axis: sort, argsort, topk, and reading at places along an axis."""

from __future__ import annotations

from typing import Any

from tapeless.compiler.elaborate.bounds import UNBOUNDED
from tapeless.compiler.elaborate.functions.movement import along, parted, rows_stay
from tapeless.compiler.elaborate.functions.reductions import number
from tapeless.compiler.elaborate.functions.registry import CallSite, builtin
from tapeless.compiler.elaborate.values import Computed, describe, shape_text
from tapeless.ir.types import DType


def _places(call: CallSite, x: Any, axis: Any, descending: Any) -> tuple[Computed, int, Computed]:
    """A tensor of numbers, an axis of it that is not the batch, and where its elements go when sorted."""
    tensor = number(call, x)
    place = call.axis("axis", axis, tensor)
    rows_stay(call, tensor, (place,), f"`{call.name}` along axis 0 would put them in another order")
    size = tensor.shape[place]
    assert isinstance(size, int)
    order = call.emit.emit("argsort", tensor.value, axis=place, descending=call.flag("descending", descending))
    return tensor, place, Computed(order, size)


@builtin("argsort")
def argsort(call: CallSite, x: Any, axis: Any = -1, descending: Any = False) -> Computed:
    """Where the elements along an axis are when sorted; equal ones keep their order, NaN comes last."""
    return _places(call, x, axis, descending)[2]


@builtin("sort")
def sort(call: CallSite, x: Any, axis: Any = -1, descending: Any = False) -> Computed:
    """The elements along an axis in order."""
    tensor, place, order = _places(call, x, axis, descending)
    return Computed(call.emit.emit("take_along", tensor.value, order.value, axis=place), tensor.bound)


@builtin("topk")
def topk(call: CallSite, x: Any, k: Any, axis: Any = -1) -> tuple[Computed, Computed]:
    """The `k` largest elements along an axis, the largest first, and where they are."""
    tensor, place, order = _places(call, x, axis, True)
    count, size = call.whole("k", k), tensor.shape[place]
    assert isinstance(size, int)
    if not 1 <= count <= size:
        raise call.fault("E0213", f"an axis of {size} has no {count} largest elements", "k", call.label("x", tensor))
    first = parted(call.emit, order, along(order, place, (0, count, 1)))
    return Computed(call.emit.emit("take_along", tensor.value, first.value, axis=place), tensor.bound), first


@builtin("take_along_axis")
def take_along_axis(call: CallSite, x: Any, indices: Any, axis: Any = -1) -> Computed:
    """The elements at computed places along an axis; the other axes of both tensors go together."""
    tensor = number(call, x)
    if not isinstance(indices, Computed) or indices.dtype is not DType.I32:
        raise call.fault(
            "E0401", f"an index is made of ints, not {describe(indices)}", "indices", call.label("indices", indices)
        )
    place = call.axis("axis", axis, tensor)
    rows_stay(call, tensor, (place,), "`take_along_axis` along axis 0 would take some of them")
    labels = [*call.label("x", tensor), *call.label("indices", indices)]
    if indices.rank != tensor.rank or any(
        a != b for k, (a, b) in enumerate(zip(indices.shape, tensor.shape, strict=True)) if k != place
    ):
        message = (
            f"`take_along_axis` needs equal sizes but for axis {place}: {shape_text(tensor.shape)} and "
            f"{shape_text(indices.shape)}"
        )
        raise call.fault("E0213", message, None, labels)
    size = tensor.shape[place]
    if indices.bound in (None, UNBOUNDED):
        raise call.fault(
            "E0402",
            "an integer that indexes needs a bound",
            "indices",
            labels,
            f"Declare it with one: `int[batch, k] < {size}`.",
        )
    if isinstance(size, int) and isinstance(indices.bound, int) and indices.bound > size:
        raise call.fault(
            "E0403",
            f"the index can be as large as {indices.bound - 1}, but the axis has {size} places",
            "indices",
            labels,
        )
    return Computed(call.emit.emit("take_along", tensor.value, indices.value, axis=place), tensor.bound)
