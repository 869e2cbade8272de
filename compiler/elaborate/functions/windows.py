"""Sliding windows over the last axes of a tensor and what adds them up again: what convolution and pooling are
written with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tapeless.compiler.elaborate.folding import Mismatch
from tapeless.compiler.elaborate.functions.movement import along, padded, parted
from tapeless.compiler.elaborate.functions.registry import CallSite, builtin
from tapeless.compiler.elaborate.values import Computed, describe
from tapeless.ir.ops.windows import reach
from tapeless.ir.types import Rows


def _numbers(call: CallSite, parameter: str, value: Any, count: int, least: int = 1) -> list[int]:
    """A whole number for each of so many axes, or a list of them."""
    items = value if isinstance(value, tuple) else (value,) * count
    if len(items) != count:
        axes = "one axis" if count == 1 else f"{count} axes"
        raise call.fault("E0213", f"`{parameter}` has {len(items)} numbers for {axes}", parameter)
    numbers = [call.whole(parameter, item) for item in items]
    if min(numbers) < least:
        raise call.fault("E0213", f"`{parameter}` is at least {least}, not {min(numbers)}", parameter)
    return numbers


def _axes(call: CallSite, x: Computed, size: Any) -> tuple[int, int]:
    """The first of the axes that windows slide over, and how many there are: as many as `size` lists, or all after
    the first two.
    """
    count = len(size) if isinstance(size, tuple) else x.rank - 2
    if not 1 <= count <= x.rank:
        hint = "Windows of one number slide over all axes after the first two; list a size for each of the last axes."
        raise call.fault("E0206", f"there is no axis to slide over in {describe(x)}", "x", call.label("x", x), hint)
    first = x.rank - count
    if any(isinstance(dim, Rows) for dim in x.shape[first:]):
        raise Mismatch("E0214", "the rows of `batch` stay together: windows do not slide over them")
    return first, count


def _paddings(
    call: CallSite, padding: Any, extents: Sequence[int], reaches: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """How many places go before and after each axis: 'valid' (none), 'same' (as many windows as the stride allows
    places), a number, or a list with a number or a pair for each axis.
    """
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise call.fault("E0213", f"`padding` is 'same', 'valid', a number or a list, not '{padding}'", "padding")
        if padding == "valid":
            return [(0, 0)] * len(extents)
        short = [
            max((-(-n // s) - 1) * s + reach - n, 0) for n, reach, s in zip(extents, reaches, strides, strict=True)
        ]
        return [(total // 2, total - total // 2) for total in short]
    pairs = padding if isinstance(padding, tuple) else (padding,) * len(extents)
    if len(pairs) != len(extents):
        raise call.fault("E0213", f"`padding` has {len(pairs)} items for {len(extents)} axes", "padding")
    made: list[tuple[int, int]] = []
    for pair in pairs:
        before, *after = _numbers(call, "padding", pair, len(pair) if isinstance(pair, tuple) else 1, least=0)
        made.append((before, after[0] if after else before))
    return made


@builtin("windows_meet")
def windows_meet(call: CallSite, x: Any, size: Any, stride: Any = 1, dilation: Any = 1, padding: Any = 0) -> bool:
    """Whether each window holds an element of `x`: none lies in the padding alone."""
    tensor = call.tensor("x", x)
    first, count = _axes(call, tensor, size)
    kernels, strides, dilations = (
        _numbers(call, name, value, count)
        for name, value in (("size", size), ("stride", stride), ("dilation", dilation))
    )
    reaches = [reach(1, kernel, 1, d) for kernel, d in zip(kernels, dilations, strict=True)]
    extents = [dim for dim in tensor.shape[first:] if isinstance(dim, int)]
    widths = _paddings(call, padding, extents, reaches, strides)
    for extent, kernel, step, apart, needed, (before, after) in zip(
        extents, kernels, strides, dilations, reaches, widths, strict=True
    ):
        stop, inner = extent + after - needed + 1, max(0, extent - needed + 1)  # those that start in between lie inside
        beyond = inner + (-before - inner) % step
        for start in (*range(-before, min(0, stop), step), *range(beyond, stop, step)):
            if not any(0 <= start + k * apart < extent for k in range(kernel)):
                return False
    return True


@builtin("windows")
def windows(
    call: CallSite, x: Any, size: Any, stride: Any = 1, dilation: Any = 1, padding: Any = 0, constant_values: Any = 0
) -> Computed:
    """Every window of a tensor's last axes: `[.., n] -> [.., size, places]`, for several axes all sizes first. A
    number stands for all axes after the first two. What padding adds holds `constant_values`.
    """
    tensor = call.tensor("x", x)
    first, count = _axes(call, tensor, size)
    kernels = _numbers(call, "size", size, count)
    strides, dilations = _numbers(call, "stride", stride, count), _numbers(call, "dilation", dilation, count)
    reaches = [reach(1, kernel, 1, d) for kernel, d in zip(kernels, dilations, strict=True)]
    extents = [dim for dim in tensor.shape[first:] if isinstance(dim, int)]
    widths = _paddings(call, padding, extents, reaches, strides)
    whole = padded(call.emit, tensor, [(0, 0)] * first + widths, call.number("constant_values", constant_values))
    value = whole.value
    for k, (kernel, step, apart, needed) in enumerate(zip(kernels, strides, dilations, reaches, strict=True)):
        extent = whole.shape[first + k]
        assert isinstance(extent, int)
        if extent < needed:
            hint = "Pad the axis: `padding = 'same'`." if widths[k] == (0, 0) else None
            raise call.fault("E0213",
                f"a window that reaches over {needed} places does not fit into an axis of {extent}", "size",
                             call.label("x", tensor), hint)  # fmt: skip
        value = call.emit.emit(
            "windows",
            value,
            axis=first + 2 * k,
            size=(extent - needed) // step + 1,
            kernel=kernel,
            step=step,
            dilation=apart,
        )
    if count > 1:
        order = (*range(first), *range(first + 1, value.type.rank, 2), *range(first, value.type.rank, 2))
        value = call.emit.emit("transpose", value, perm=order)
    else:
        value = call.emit.emit("transpose", value, perm=(*range(first), first + 1, first))
    return Computed(value, whole.bound)


@builtin("overlap_add")
def overlap_add(call: CallSite, x: Any, dims: Any, stride: Any = 1, dilation: Any = 1, padding: Any = 0) -> Computed:
    """The sum of windows at the places they would have been taken from: `[.., size, places] -> [.., n]`, the adjoint
    of `windows` with the same stride, dilation and padding over axes of the sizes `dims`.
    """
    tensor = call.emit.as_real(call.tensor("x", x))
    sizes = dims if isinstance(dims, tuple) else (dims,)
    count = len(sizes)
    first = tensor.rank - 2 * count
    if count < 1 or first < 0 or any(isinstance(dim, Rows) for dim in tensor.shape[first:]):
        raise call.fault("E0213", f"{describe(tensor)} holds no windows of {count} axes", "x", call.label("x", tensor))
    extents = _numbers(call, "dims", sizes, count)
    kernels, places = (
        [dim for dim in part if isinstance(dim, int)]
        for part in (tensor.shape[first : first + count], tensor.shape[first + count :])
    )
    strides, dilations = _numbers(call, "stride", stride, count), _numbers(call, "dilation", dilation, count)
    reaches = [reach(1, kernel, 1, d) for kernel, d in zip(kernels, dilations, strict=True)]
    widths = _paddings(call, padding, extents, reaches, strides)
    order = [*range(first)]
    for k in range(count):
        order += [first + count + k, first + k]
    value = call.emit.emit("transpose", tensor.value, perm=tuple(order))
    for k in range(count):
        needed = reach(places[k], kernels[k], strides[k], dilations[k])
        whole = extents[k] + sum(widths[k])
        if not needed <= whole < needed + strides[k]:
            raise call.fault("E0213",
                f"{places[k]} windows that span {needed} places are not those of an axis of {extents[k]}", "dims",
                             call.label("x", tensor))  # fmt: skip
        value = call.emit.emit("overlap_add", value, axis=first + k, size=whole, step=strides[k], dilation=dilations[k])
    made = Computed(value)
    for k, (before, _) in enumerate(widths):
        made = parted(call.emit, made, along(made, first + k, (before, extents[k], 1)))
    return made
