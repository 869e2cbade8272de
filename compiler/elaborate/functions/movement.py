"""Functions that take parts of tensors and put tensors together: slices and indices, concat, stack, split, pad,
flip, cumsum.

All places are known when compiling, but for an int tensor as an index, which gathers. The rows of the batch stay
together: what would part them is refused here.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from tapeless.compiler.elaborate.bounds import bound_of
from tapeless.compiler.elaborate.emission import Emitter
from tapeless.compiler.elaborate.folding import Mismatch
from tapeless.compiler.elaborate.functions.registry import CallSite, builtin
from tapeless.compiler.elaborate.functions.shaping import gather
from tapeless.compiler.elaborate.values import Computed, describe, shape_text
from tapeless.compiler.messages.diagnostics import Label
from tapeless.ir.types import Dim, DType, Rows


def parted(emit: Emitter, x: Computed, parts: Sequence[tuple[int, Dim, int]]) -> Computed:
    """A slice: for each axis where it starts, how many places it takes, and the step between them."""
    if all(part == (0, dim, 1) for part, dim in zip(parts, x.shape, strict=True)):
        return x
    start, size, step = (tuple(column) for column in zip(*parts, strict=True))
    return Computed(emit.emit("slice", x.value, start=start, size=size, step=step), x.bound)


def along(x: Computed, axis: int, part: tuple[int, Dim, int]) -> list[tuple[int, Dim, int]]:
    """A slice of one axis, the others whole."""
    return [part if k == axis else (0, dim, 1) for k, dim in enumerate(x.shape)]


def without(emit: Emitter, x: Computed, axes: Sequence[int]) -> Computed:
    """The tensor without some axes of size 1."""
    shape = tuple(dim for k, dim in enumerate(x.shape) if k not in axes)
    return x if len(shape) == x.rank else Computed(emit.emit("reshape", x.value, shape=shape), x.bound)


def together(doing: str, hint: str | None = None) -> Mismatch:
    """The fault of taking the batch apart."""
    return Mismatch(
        "E0214", f"the rows of `batch` stay together: {doing}", hint or "Along the axis after it: `axis = 1`."
    )


def sliced(part: slice, extent: Dim, written: str) -> tuple[int, Dim, int]:
    """Python's meaning of `start:stop:step` on an axis. Raises Mismatch."""
    if part.step == 0:
        raise Mismatch("E0212", f"the step of the slice `{written}` is 0")
    if isinstance(extent, Rows):
        if part.start in (None, 0) and part.stop is None and part.step in (None, 1):
            return (0, extent, 1)
        raise together(f"`{written}` would take a part of them", f"Axis 0 is `batch`; of axis 1 take `[:, {written}]`.")
    places = range(*part.indices(extent))
    if not places:
        raise Mismatch("E0212", f"the slice `{written}` of an axis of {extent} is empty")
    return (places[0], len(places), places.step)


def indexed(
    emit: Emitter, x: Computed, items: Sequence[slice | int | Computed | tuple[int, ...] | None], written: Sequence[str]
) -> Computed:
    """`x[items]` as NumPy has it; None stands for `...`. Raises Mismatch."""
    if sum(item is None for item in items) > 1:
        raise Mismatch("E0212", "`...` can stand only once in an index")
    given = len(items) - (None in items)
    if given > x.rank:
        axes = "one axis" if x.rank == 1 else f"{x.rank} axes" if x.rank else "no axis"
        raise Mismatch("E0212", f"{given} indices for a tensor of {axes}")
    tensors = sum(isinstance(item, Computed) for item in items)
    if tensors > 1 or (tensors and any(type(item) is int for item in items)):
        raise Mismatch("E0906", "an int tensor together with other indices is not supported in this version",
                       "Take one after the other: `x[:, 0][k]`.")  # fmt: skip
    parts: list[tuple[int, Dim, int]] = []
    dropped: list[int] = []
    gathered: tuple[int, Computed] | None = None
    lists: list[tuple[int, tuple[int, ...]]] = []
    for item, text in zip(items, written, strict=True):
        axis = len(parts)
        if item is None:
            parts += [(0, dim, 1) for dim in x.shape[axis : axis + x.rank - given]]
            continue
        extent = x.shape[axis]
        if isinstance(item, slice):
            parts.append(sliced(item, extent, text))
        elif isinstance(item, Computed):
            gathered = axis, item
            parts.append((0, extent, 1))
        elif isinstance(extent, Rows):
            raise together(
                f"`{text}` would take {'some' if isinstance(item, tuple) else 'one'} of them",
                f"Axis 0 is `batch`; of axis 1 take `[:, {text}]`.",
            )
        elif isinstance(item, tuple):
            lists.append((axis - len(dropped), tuple(inside(place, extent) for place in item)))
            parts.append((0, extent, 1))
        else:
            dropped.append(axis)
            parts.append((inside(item, extent), 1, 1))
    parts += [(0, dim, 1) for dim in x.shape[len(parts) :]]
    if lists and (len(lists) > 1 or gathered is not None):
        raise Mismatch(
            "E0906",
            "two lists of places in one index are not supported in this version",
            "Take one after the other: `x[:, [0, 2]][:, :, [1, 3]]`.",
        )
    if gathered is None:
        taken = without(emit, parted(emit, x, parts), dropped)
        return chosen(emit, taken, *lists[0]) if lists else taken
    return gathered_along(emit, parted(emit, x, parts), *gathered)


def inside(place: int, extent: int) -> int:
    """A place counted from the front. Raises Mismatch where there is none."""
    if not -extent <= place < extent:
        last = f"The last place is {extent - 1}, or -1." if place > 0 else f"The first place is 0, or -{extent}."
        raise Mismatch("E0212", f"index {place} is outside an axis of {extent}", last)
    return place % extent


def chosen(emit: Emitter, x: Computed, axis: int, places: Sequence[int]) -> Computed:
    """Some places of an axis, in their order: what stands evenly apart is one slice."""
    runs: list[list[int]] = []
    for place in places:
        run = runs[-1] if runs else None
        if run and (len(run) == 1 or place - run[-1] == run[1] - run[0]) and place != run[-1]:
            run.append(place)
        else:
            runs.append([place])
    slices = [parted(emit, x, along(x, axis, (run[0], len(run), run[1] - run[0] if run[1:] else 1))) for run in runs]
    return (
        Computed(emit.emit("concat", *(one.value for one in slices), axis=axis), x.bound)
        if len(slices) > 1
        else slices[0]
    )


def gathered_along(emit: Emitter, x: Computed, axis: int, index: Computed) -> Computed:
    """The places of one axis that an int tensor names, the axis replaced by the tensor's axes."""
    if axis == 0:
        return gather(emit, x, index)
    first = (axis, *(k for k in range(x.rank) if k != axis))
    table = Computed(emit.emit("transpose", x.value, perm=first), x.bound)
    taken = gather(emit, table, index)
    if not index.rank:
        return taken
    back = (*range(index.rank, index.rank + axis), *range(index.rank), *range(index.rank + axis, taken.rank))
    return Computed(emit.emit("transpose", taken.value, perm=back), taken.bound)


# --- Putting together


def _parts(call: CallSite, tensors: tuple[Any, ...]) -> list[Computed]:
    """The tensors that `concat` and `stack` take: several, or one list of them; ints beside reals become real."""
    if len(tensors) == 1 and isinstance(tensors[0], tuple):
        tensors = tensors[0]
    if not tensors:
        raise call.fault("E0305", f"`{call.name}` needs tensors to put together")
    tensors = tuple(call.number(str(k), value) for k, value in enumerate(tensors))
    dtype = call.emit.common(tensors)
    if all(isinstance(value, Computed) and value.dtype is DType.BOOL for value in tensors):
        dtype = DType.BOOL
    made = [call.emit.computed(value, dtype) for value in tensors]
    bounds = [bound_of(value) for value in tensors]
    bound = max((one for one in bounds if one is not None), default=None) if None not in bounds else None
    return [Computed(value.value, bound) for value in made]


def _labels(call: CallSite, parts: Sequence[Computed]) -> list[Label]:
    found: list[Label] = []
    for k, part in enumerate(parts):
        for label in call.label(str(k), part):
            if label not in found:
                found.append(label)
    return found


@builtin("concat")
def concat(call: CallSite, *tensors: Any, axis: Any = -1) -> Computed:
    """Tensors one after the other along an axis, the last one unless told otherwise."""
    parts = _parts(call, tensors)
    first = parts[0]
    place = call.axis("axis", axis, first, "0")
    for part in parts[1:]:
        if part.rank != first.rank or any(
            a != b for k, (a, b) in enumerate(zip(part.shape, first.shape, strict=True)) if k != place
        ):
            message = (
                f"`concat` along axis {place} needs equal sizes on all other axes: {shape_text(first.shape)} and "
                f"{shape_text(part.shape)}"
            )
            raise call.fault("E0213", message, None, _labels(call, parts), _other_axis(first, part))
    if isinstance(first.shape[place], Rows):
        raise together("`concat` along axis 0 would add to them")
    if len(parts) == 1:
        return first
    return Computed(call.emit.emit("concat", *(part.value for part in parts), axis=place), first.bound)


def _other_axis(first: Computed, other: Computed) -> str | None:
    differing = [k for k, (a, b) in enumerate(zip(first.shape, other.shape, strict=False)) if a != b]
    if first.rank != other.rank or len(differing) != 1 or isinstance(first.shape[differing[0]], Rows):
        return None
    return f"Did you mean `axis = {differing[0]}`?"


@builtin("stack")
def stack(call: CallSite, *tensors: Any, axis: Any = -1) -> Computed:
    """Tensors of one shape side by side along a new axis, the last one unless told otherwise."""
    parts = _parts(call, tensors)
    first = parts[0]
    for part in parts[1:]:
        if part.shape != first.shape:
            raise call.fault("E0213",
                f"`stack` needs tensors of one shape: {shape_text(first.shape)} and {shape_text(part.shape)}",
                             None, _labels(call, parts))  # fmt: skip
    place = call.whole("axis", axis)
    if not -first.rank - 1 <= place <= first.rank:
        raise call.fault("E0206", f"an axis cannot be put in at {place}", "axis", call.label("0", first))
    return stacked(call.emit, parts, place % (first.rank + 1))


def stacked(emit: Emitter, parts: Sequence[Computed], axis: int) -> Computed:
    """Tensors of one shape along a new axis."""
    first = parts[0]
    shape = (*first.shape[:axis], 1, *first.shape[axis:])
    lifted = [emit.emit("reshape", part.value, shape=shape) for part in parts]
    return Computed(emit.emit("concat", *lifted, axis=axis) if len(lifted) > 1 else lifted[0], first.bound)


@builtin("split")
def split(call: CallSite, x: Any, sections: Any, axis: Any = -1) -> tuple[Computed, ...]:
    """Parts of a tensor along an axis, the last one unless told otherwise: so many equal ones, or cut before the
    places listed.
    """
    tensor = call.tensor("x", x)
    place = call.axis("axis", axis, tensor)
    extent = tensor.shape[place]
    if isinstance(extent, Rows):
        raise together("`split` along axis 0 would part them")
    if isinstance(sections, tuple):
        cuts = [0, *(call.whole("sections", cut) for cut in sections), extent]
        if any(a >= b for a, b in pairwise(cuts)):
            raise call.fault(
                "E0213",
                f"the cuts of `split` must rise and lie inside the axis of {extent}",
                "sections",
                call.label("x", tensor),
            )
    else:
        count = call.whole("sections", sections)
        if count < 1 or extent % count:
            fitting = [str(n) for n in range(2, extent + 1) if extent % n == 0][:6]
            raise call.fault("E0213", f"an axis of {extent} has no {count} equal parts", "sections",
                call.label("x", tensor),
                             (f"It can have {', '.join(fitting)}; unequal ones are "
                                 "cut at places, as in `split(x, "
                                 f"[{max(1, extent // 2)}])`.") if extent > 1 else None)  # fmt: skip
        cuts = [k * (extent // count) for k in range(count + 1)]
    return tuple(parted(call.emit, tensor, along(tensor, place, (a, b - a, 1))) for a, b in pairwise(cuts))


# --- Moving along an axis


@builtin("flip")
def flip(call: CallSite, x: Any, axis: Any = None) -> Computed:
    """The elements in reverse order along axes, all of them unless told otherwise."""
    tensor = call.tensor("x", x)
    axes = call.axes("axis", axis, tensor)
    rows_stay(call, tensor, axes, "`flip` along axis 0 would put them in another order")
    parts: list[tuple[int, Dim, int]] = []
    for k, dim in enumerate(tensor.shape):
        parts.append((dim - 1, dim, -1) if k in axes and isinstance(dim, int) and dim > 1 else (0, dim, 1))
    return parted(call.emit, tensor, parts)


def rows_stay(call: CallSite, x: Computed, axes: Sequence[int], doing: str) -> None:
    """Refuse what would touch the batch's axis. Raises Mismatch."""
    if any(isinstance(x.shape[axis], Rows) for axis in axes):
        if "axis" not in call.written and x.rank > 1:
            raise Mismatch(
                "E0214", f"the rows of `batch` stay together: {doing}", f"Name an axis: `{call.name}(x, axis = 1)`."
            )
        raise together(doing)


@builtin("pad")
def pad(call: CallSite, x: Any, pad_width: Any, constant_values: Any = 0) -> Computed:
    """A tensor with so many elements before and after it on each axis: a number, a pair, or a list of pairs, one for
    each axis.
    """
    tensor = call.tensor("x", x)
    widths = _widths(call, pad_width, tensor)
    fill = call.number("constant_values", constant_values)
    if isinstance(fill, Computed) and fill.rank:
        raise call.fault("E0401", f"`constant_values` is one number, not {describe(fill)}", "constant_values")
    for axis, (before, after) in enumerate(widths):
        if (before or after) and isinstance(tensor.shape[axis], Rows):
            raise Mismatch("E0214", "the rows of `batch` stay together: `pad` would add to them",
                           ("Give a pair for each axis: `pad(x, "
                               f"[{', '.join(['[0, 0]'] + ['[1, 1]'] * (tensor.rank - 1))}])`."))  # fmt: skip
    return padded(call.emit, tensor, widths, fill)


def padded(emit: Emitter, x: Computed, widths: Sequence[tuple[int, int]], fill: Any) -> Computed:
    """A tensor with so many elements, all `fill`, before and after it on each axis; none go to an axis of rows."""
    value = x.value
    for axis, (before, after) in enumerate(widths):
        dim = value.type.shape[axis]
        if (before or after) and isinstance(dim, int):
            value = emit.emit("pad", value, axis=axis, size=before + dim + after, start=before, step=1)
    if value is x.value or (type(fill) in (int, float) and fill == 0):
        return Computed(value, x.bound)
    inside = _inside(emit, x, widths)
    return Computed(emit.emit("select", inside.value, *_alike(emit, Computed(value), fill)))


def _alike(emit: Emitter, x: Computed, fill: Any) -> list[Any]:
    dtype = emit.common((x, fill))
    shape = x.shape
    return [emit.broadcast(emit.computed(value, dtype), shape).value for value in (x, fill)]


def _inside(emit: Emitter, x: Computed, widths: Sequence[tuple[int, int]]) -> Computed:
    """Where a padded tensor holds the old one."""
    shape = tuple(
        dim + before + after if isinstance(dim, int) else dim
        for dim, (before, after) in zip(x.shape, widths, strict=True)
    )
    found: Any = None
    for axis, (before, after) in enumerate(widths):
        if before or after:
            place = Computed(emit.emit("iota", axis=axis, shape=shape, dtype=DType.I32))
            dim = x.shape[axis]
            assert isinstance(dim, int)
            borders = [emit.binary("<=", before, place)] * (before > 0) + [emit.binary("<", place, before + dim)] * (
                after > 0
            )
            for here in borders:
                found = here if found is None else emit.logical("logical_and", found, here)
    result: Computed = found
    return result


def _widths(call: CallSite, value: Any, x: Computed) -> list[tuple[int, int]]:
    """How many elements go before and after each axis."""
    pairs = (
        value
        if isinstance(value, tuple) and value and all(isinstance(item, tuple) for item in value)
        else (value,) * x.rank
    )
    if len(pairs) != x.rank:
        raise call.fault(
            "E0213",
            f"`pad_width` needs a pair for each of the {x.rank} axes, not {len(pairs)}",
            "pad_width",
            call.label("x", x),
        )
    widths: list[tuple[int, int]] = []
    for pair in pairs:
        both = pair if isinstance(pair, tuple) else (pair, pair)
        if len(both) != 2:
            raise call.fault("E0213", "`pad_width` is a number, a pair, or a list of pairs", "pad_width")
        before, after = (call.whole("pad_width", one) for one in both)
        if before < 0 or after < 0:
            raise call.fault(
                "E0213",
                "`pad_width` takes nothing away: it is at least 0",
                "pad_width",
                hint="Take a part with a slice: `x[:, 1:]`.",
            )
        widths.append((before, after))
    return widths


def _running(name: str, what: str) -> None:
    def run(call: CallSite, x: Any, axis: Any = -1) -> Computed:
        tensor = call.tensor("x", x)
        tensor = tensor if tensor.dtype is DType.I32 else call.emit.as_real(tensor)
        place = call.axis("axis", axis, tensor)
        rows_stay(call, tensor, (place,), f"`{name}` along axis 0 would make one depend on those before it")
        return Computed(call.emit.emit(name, tensor.value, axis=place, reverse=False))

    run.__doc__ = f"{what} of all elements up to each place of an axis, the last one unless told otherwise."
    builtin(name)(run)


_running("cumsum", "Sums")
_running("cumprod", "Products")

__all__ = ["indexed", "rows_stay", "sliced"]
