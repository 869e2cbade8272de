"""Functions over whole axes, with NumPy's argument names."""

from __future__ import annotations

import math
from typing import Any

from tapeless.compiler.elaborate.emission import Emitter
from tapeless.compiler.elaborate.folding import Mismatch
from tapeless.compiler.elaborate.functions.registry import CallSite, builtin
from tapeless.compiler.elaborate.values import AllBut, Computed, describe
from tapeless.compiler.messages.newcomers_words import OF_TWO
from tapeless.ir.types import DType, Rows


def _enter(name: str) -> None:
    def run(call: CallSite, x: Any, axis: Any = None, keepdims: Any = False) -> Any:
        tensor = call.tensor("x", x)
        if name in OF_TWO:
            call.bound_meant("axis", axis, OF_TWO[name])
        return call.emit.reduce(name, tensor, call.axes("axis", axis, tensor), call.flag("keepdims", keepdims))

    builtin(name)(run)


for _name in ("sum", "max", "min"):
    _enter(_name)


@builtin("prod")
def prod(call: CallSite, x: Any, axis: Any = None, keepdims: Any = False) -> Any:
    """The product of all elements, or over axes."""
    tensor = number(call, x)
    axes = call.axes("axis", axis, tensor)
    if any(isinstance(tensor.shape[k], Rows) for k in axes):
        hint = (
            f"Name other axes: `prod(x, axis = {tensor.rank - 1})`."
            if tensor.rank > 1
            else "Sum the logarithms: `exp(sum(log(x)))`."
        )
        raise Mismatch("E0214", "a product over the rows of `batch` is not supported", hint)
    result = tensor
    for k in sorted(axes, reverse=True):
        result = call.emit.reduce("prod", result, (k,))
    return call.emit.keep(result, tensor.shape, axes) if call.flag("keepdims", keepdims) else result


def averaged(call: CallSite, tensor: Computed, axes: tuple[int, ...], keepdims: bool) -> Computed:
    """The sum over axes divided by the number of elements summed."""
    emit = call.emit
    total = emit.reduce("sum", emit.as_real(tensor), axes)
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
    variance = averaged(call, deviations(call, tensor, axes)[1], axes, call.flag("keepdims", keepdims))
    dims = tuple(tensor.shape[axis] for axis in axes)
    call.emit.averaged[variance.value] = dims
    return variance


@builtin("std")
def std(call: CallSite, x: Any, axis: Any = None, ddof: Any = 0, keepdims: Any = False) -> Any:
    """The standard deviation: the length of the distances from the mean by the root of their count, less `ddof`."""
    emit = call.emit
    tensor = emit.as_real(call.tensor("x", x))
    axes = call.axes("axis", axis, tensor)
    distances = emit.pointwise("sub", tensor, averaged(call, tensor, axes, True))
    length = emit.reduce("norm", distances, axes, call.flag("keepdims", keepdims))
    dims = [tensor.shape[k] for k in axes]
    count, less = emit.size(dims), call.whole("ddof", ddof)
    if less:
        several(call, count, less, "x", tensor)
        count = (
            count - less
            if isinstance(count, int)
            else emit.pointwise("maximum", emit.binary("-", count, less), 1, dtype=emit.real)
        )
    root = math.sqrt(count) if isinstance(count, int) else emit.pointwise("sqrt", count)
    return emit.binary("/", length, root)


@builtin("euclidean_norm")
def euclidean_norm(call: CallSite, x: Any, axis: Any = None, keepdims: Any = False) -> Any:
    """The root of the sum of squares, where no square overflows or vanishes; its slope at the origin is 0."""
    tensor = call.tensor("x", x)
    axes, kept = call.axes("axis", axis, tensor), call.flag("keepdims", keepdims)
    return (
        call.emit.reduce("norm", tensor, axes, kept)
        if axes
        else call.emit.pointwise("abs", tensor, dtype=call.emit.real)
    )


@builtin("moments")
def moments(call: CallSite, x: Any, over: Any = None) -> Any:
    """Mean and variance over axes, shaped to broadcast against `x`; over `all but c` they have the axis c alone."""
    emit = call.emit
    tensor = emit.as_real(call.tensor("x", x))
    axes = call.axes("over", over, tensor)
    center, squares = deviations(call, tensor, axes)
    variance = averaged(call, squares, axes, not isinstance(over, AllBut))
    dims = tuple(tensor.shape[axis] for axis in axes)
    emit.averaged[variance.value] = dims
    shown = Computed(emit.reduced.get(center.value, center.value)) if isinstance(over, AllBut) else center
    emit.beside_a_variance(dims, shown.value)
    return shown, variance


@builtin("unbiased")
def unbiased(call: CallSite, v: Any) -> Any:
    """A variance that divides by n - 1 instead of n (by 1 in a batch of one row); n is how many numbers it was taken
    of.
    """
    dims = call.emit.averaged.get(v.value) if isinstance(v, Computed) else None
    if dims is None:
        raise call.fault("E0401", "`unbiased` needs a variance as `moments` or `var` gives it", "v", call.label("v", v))
    count = call.emit.size(dims)
    several(call, count, 1, "v", v)
    if isinstance(count, int):
        return call.emit.binary("*", v, count / (count - 1))
    rest = call.emit.pointwise("maximum", call.emit.binary("-", count, 1), 1, dtype=call.emit.real)
    return call.emit.binary("*", v, call.emit.binary("/", count, rest))


def several(call: CallSite, count: Any, less: int, parameter: str, value: Computed) -> None:
    """A fault where a variance would be divided by zero whatever the data."""
    if isinstance(count, int) and count <= less:
        values = "one value has" if count == 1 else f"{count} values have"
        raise call.fault("E0213", f"{values} no variance that is divided by {count} - {less}", parameter,
            call.label(parameter, value),
                         "Take it over an axis of more values, or without this correction.")  # fmt: skip


@builtin("total")
def total(call: CallSite, a: Any, b: Any) -> Computed:
    """`a / b`, two sums over the batch; over several batches the sum of all `a` by that of all `b`. Where `b` is 0,
    so is `a`.
    """
    emit = call.emit
    above, below = (emit.as_real(call.number(name, value)) for name, value in (("a", a), ("b", b)))
    for name, value in (("a", above), ("b", below)):
        if value.rank:
            raise call.fault(
                "E0211",
                f"`total` divides one number by another; this is {describe(value)}",
                name,
                call.label(name, value),
            )
    return quotient_of_totals(emit, above, below)


def quotient_of_totals(emit: Emitter, above: Computed, below: Computed) -> Computed:
    """The quotient for one batch, and a note that over several the sums come first."""
    safe = emit.emit("select", emit.emit("eq", below.value, emit.constant(0.0)), emit.constant(1.0), below.value)
    quotient = emit.emit("div", above.value, safe)
    emit.totals[quotient] = (above.value, below.value)
    return Computed(quotient)


@builtin("logsumexp")
def logsumexp(call: CallSite, x: Any, axis: Any = -1, keepdims: Any = False) -> Any:
    """log(sum(exp(x))) without overflow, along the last axis unless told otherwise."""
    tensor = call.tensor("x", x)
    return call.emit.reduce("logsumexp", tensor, call.axes("axis", axis, tensor), call.flag("keepdims", keepdims))


@builtin("argmax")
def argmax(call: CallSite, x: Any, axis: Any = -1) -> Any:
    """The place of the largest element along an axis, the first of equal ones."""
    return place(call, number(call, x), axis)


def number(call: CallSite, x: Any) -> Computed:
    """A tensor of reals or of ints; booleans count as 0 and 1."""
    tensor = call.tensor("x", x)
    return tensor if tensor.dtype is DType.I32 else call.emit.as_real(tensor)


@builtin("argmin")
def argmin(call: CallSite, x: Any, axis: Any = -1) -> Any:
    """The place of the smallest element along an axis, the first of equal ones."""
    tensor = number(call, x)
    # no int overflows
    turned = call.emit.pointwise("neg", tensor) if tensor.dtype.is_float else call.emit.pointwise("sub", -1, tensor)
    return place(call, turned, axis)


def place(call: CallSite, tensor: Computed, axis: Any) -> Computed:
    along = call.axis("axis", axis, tensor)
    size = tensor.shape[along]
    return Computed(call.emit.emit("argmax", tensor.value, axis=along), None if isinstance(size, Rows) else size)
