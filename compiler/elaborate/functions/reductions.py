"""Functions over whole axes, with NumPy's argument names."""

from __future__ import annotations

from typing import Any

from tapeless.compiler.elaborate.functions.registry import CallSite, builtin
from tapeless.compiler.elaborate.values import Computed
from tapeless.ir.types import Rows


def _enter(name: str) -> None:
    def run(call: CallSite, x: Any, axis: Any = None, keepdims: Any = False) -> Any:
        tensor = call.tensor("x", x)
        return call.emit.reduce(name, tensor, call.axes("axis", axis, tensor), call.flag("keepdims", keepdims))

    builtin(name)(run)


for _name in ("sum", "max", "min"):
    _enter(_name)


def averaged(call: CallSite, tensor: Computed, axes: tuple[int, ...], keepdims: bool) -> Computed:
    """The sum over axes divided by the number of elements summed."""
    emit = call.emit
    total = emit.reduce("sum", tensor, axes)
    count = emit.size([tensor.shape[axis] for axis in axes])
    mean = emit.pointwise("div", total, count) if count != 1 else total
    return emit.keep(mean, tensor.shape, axes) if keepdims else mean


@builtin("mean")
def mean(call: CallSite, x: Any, axis: Any = None, keepdims: Any = False) -> Any:
    """The arithmetic mean."""
    tensor = call.tensor("x", x)
    return averaged(call, tensor, call.axes("axis", axis, tensor), call.flag("keepdims", keepdims))


def deviations(call: CallSite, tensor: Computed, axes: tuple[int, ...]) -> tuple[Computed, Computed]:
    """The mean with its axes kept, and the squared distances from it."""
    center = averaged(call, tensor, axes, True)
    return center, call.emit.pointwise("square", call.emit.pointwise("sub", tensor, center), dtype=call.emit.real)


@builtin("var")
def var(call: CallSite, x: Any, axis: Any = None, keepdims: Any = False) -> Any:
    """The variance: the mean squared distance from the mean."""
    tensor = call.emit.as_real(call.tensor("x", x))
    axes = call.axes("axis", axis, tensor)
    return averaged(call, deviations(call, tensor, axes)[1], axes, call.flag("keepdims", keepdims))


@builtin("moments")
def moments(call: CallSite, x: Any, over: Any = None) -> Any:
    """Mean and variance over axes, shaped to broadcast against `x`."""
    tensor = call.emit.as_real(call.tensor("x", x))
    axes = call.axes("over", over, tensor)
    center, squares = deviations(call, tensor, axes)
    return center, averaged(call, squares, axes, True)


@builtin("logsumexp")
def logsumexp(call: CallSite, x: Any, axis: Any = -1, keepdims: Any = False) -> Any:
    """log(sum(exp(x))) without overflow, along the last axis unless told otherwise."""
    tensor = call.tensor("x", x)
    return call.emit.reduce("logsumexp", tensor, call.axes("axis", axis, tensor), call.flag("keepdims", keepdims))


@builtin("argmax")
def argmax(call: CallSite, x: Any, axis: Any = -1) -> Any:
    """The place of the largest element along an axis, the first of equal ones."""
    return _place(call, call.emit.as_real(call.tensor("x", x)), axis)


@builtin("argmin")
def argmin(call: CallSite, x: Any, axis: Any = -1) -> Any:
    """The place of the smallest element along an axis, the first of equal ones."""
    return _place(call, call.emit.pointwise("neg", call.emit.as_real(call.tensor("x", x))), axis)


def _place(call: CallSite, tensor: Computed, axis: Any) -> Computed:
    along = call.axis("axis", axis, tensor)
    size = tensor.shape[along]
    return Computed(call.emit.emit("argmax", tensor.value, axis=along), None if isinstance(size, Rows) else size)
