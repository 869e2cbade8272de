"""Functions that make, move and pick elements."""

from __future__ import annotations

from typing import Any

from tapeless.compiler.elaborate.bounds import UNBOUNDED
from tapeless.compiler.elaborate.emission import Emitter
from tapeless.compiler.elaborate.folding import Mismatch, dims_product
from tapeless.compiler.elaborate.functions.registry import CallSite, builtin
from tapeless.compiler.elaborate.values import Computed, Hole, describe, shape_text
from tapeless.compiler.messages.diagnostics import Label
from tapeless.ir.types import Dim, DType, Rows


def shape_of(call: CallSite, parameter: str, value: Any) -> tuple[Dim, ...]:
    """An argument that is a shape: a list of sizes, or one size."""
    items = flattened(value)
    syntax = call.written.get(parameter)
    span = syntax.span if syntax else call.span
    return tuple(call.around.dim(call.frame, span, item) for item in items)


def flattened(value: Any) -> tuple[Any, ...]:
    """The sizes of a shape: a list in it stands for its items."""
    return tuple(size for item in value for size in flattened(item)) if isinstance(value, tuple) else (value,)


@builtin("shape")
def shape(call: CallSite, x: Any) -> tuple[Dim, ...]:
    """The sizes of a tensor's axes."""
    return call.tensor("x", x).shape


@builtin("ndim")
def ndim(call: CallSite, x: Any) -> int:
    """How many axes a tensor has; known when compiling."""
    return call.tensor("x", x).rank


@builtin("reshape")
def reshape(call: CallSite, x: Any, shape: Any) -> Any:
    """The same elements in another shape; one `_` stands for the size that follows."""
    tensor = call.tensor("x", x)
    wanted = flattened(shape)
    holes = [place for place, item in enumerate(wanted) if isinstance(item, Hole) or (type(item) is int and item == -1)]
    if len(holes) > 1:
        raise call.fault("E0207", "only one size can be left to follow from the others", "shape")
    total = dims_product(tensor.shape)
    known = shape_of(call, "shape", tuple(item for place, item in enumerate(wanted) if place not in holes))
    if holes:
        rest = _quotient(total, dims_product(known))
        if rest is None:
            raise call.fault(
                "E0207",
                f"no size in the place of `_` makes {shape_text(tensor.shape)} fit",
                "shape",
                call.label("x", tensor),
            )
        known = (*known[: holes[0]], rest, *known[holes[0] :])
    if dims_product(known) != total:
        raise call.fault("E0207",
            f"{shape_text(tensor.shape)} has {total} elements, {shape_text(known)} has {dims_product(known)}",
                         "shape", call.label("x", tensor),
                         "`_` stands for the size that follows from the others.")  # fmt: skip
    if known == tensor.shape:
        return tensor
    return Computed(call.emit.emit("reshape", tensor.value, shape=known), tensor.bound)


def _quotient(total: Dim, part: Dim) -> Dim | None:
    if isinstance(total, Rows) and isinstance(part, Rows):
        return total.multiple // part.multiple if total.multiple % part.multiple == 0 else None
    if isinstance(total, Rows) and isinstance(part, int):
        return Rows(total.multiple // part) if total.multiple % part == 0 else None
    if isinstance(total, int) and isinstance(part, int):
        return total // part if total % part == 0 else None
    return None


@builtin("transpose")
def transpose(call: CallSite, x: Any, axes: Any = None) -> Any:
    """The axes in another order; without one, in reverse."""
    tensor = call.tensor("x", x)
    order = tuple(reversed(range(tensor.rank))) if axes is None else axes if isinstance(axes, tuple) else (axes,)
    perm = tuple(call.axis("axes", axis, tensor) for axis in order)
    if sorted(perm) != list(range(tensor.rank)):
        raise call.fault(
            "E0206", f"`axes` must name each of the {tensor.rank} axes once", "axes", call.label("x", tensor)
        )
    if perm == tuple(range(tensor.rank)):
        return tensor
    return Computed(call.emit.emit("transpose", tensor.value, perm=perm), tensor.bound)


@builtin("expand_dims")
def expand_dims(call: CallSite, x: Any, axis: Any) -> Any:
    """The tensor with an axis of size 1 put in."""
    tensor = call.tensor("x", x)
    place = call.whole("axis", axis)
    if not -tensor.rank - 1 <= place <= tensor.rank:
        raise call.fault("E0206", f"an axis cannot be put in at {place}", "axis", call.label("x", tensor))
    place %= tensor.rank + 1
    return Computed(
        call.emit.emit("reshape", tensor.value, shape=(*tensor.shape[:place], 1, *tensor.shape[place:])), tensor.bound
    )


@builtin("squeeze")
def squeeze(call: CallSite, x: Any, axis: Any = None) -> Any:
    """The tensor without axes of size 1: all of them, or those named."""
    tensor = call.tensor("x", x)
    axes = (
        call.axes("axis", axis, tensor)
        if axis is not None
        else tuple(k for k, dim in enumerate(tensor.shape) if dim == 1)
    )
    for place in axes:
        if tensor.shape[place] != 1:
            raise call.fault(
                "E0206", f"axis {place} has the size {tensor.shape[place]}, not 1", "axis", call.label("x", tensor)
            )
    kept = tuple(dim for place, dim in enumerate(tensor.shape) if place not in axes)
    return (
        tensor if kept == tensor.shape else Computed(call.emit.emit("reshape", tensor.value, shape=kept), tensor.bound)
    )


def _filled(call: CallSite, value: Any, shape: Any) -> Computed:
    sizes = () if shape == () else shape_of(call, "shape", shape)
    filling = value if isinstance(value, Computed) and value.dtype is DType.I32 else call.emit.as_real(value)
    if filling.rank and call.emit.meet([filling.shape, sizes]) != sizes:
        raise call.fault(
            "E0201",
            f"{shape_text(filling.shape)} does not fill the shape {shape_text(sizes)}",
            "fill_value",
            call.label("fill_value", filling),
        )
    return call.emit.broadcast(filling, sizes)


@builtin("zeros")
def zeros(call: CallSite, shape: Any) -> Computed:
    """A tensor of zeros."""
    return _filled(call, 0.0, shape)


@builtin("ones")
def ones(call: CallSite, shape: Any) -> Computed:
    """A tensor of ones."""
    return _filled(call, 1.0, shape)


@builtin("full")
def full(call: CallSite, shape: Any, fill_value: Any) -> Computed:
    """A tensor of one number."""
    return _filled(call, call.number("fill_value", fill_value), shape)


@builtin("arange")
def arange(call: CallSite, stop: Any) -> Computed:
    """The integers 0, 1, ..., stop - 1."""
    written = call.written.get("stop")
    size = call.around.dim(call.frame, written.span if written else call.span, stop)
    return Computed(
        call.emit.emit("iota", axis=0, shape=(size,), dtype=DType.I32), None if isinstance(size, Rows) else size
    )


@builtin("one_hot")
def one_hot(call: CallSite, y: Any, n: Any) -> Computed:
    """For each integer a row of `n` numbers: 1 at its place, else 0."""
    index = integers(call, "y", y)
    count = call.whole("n", n)
    _bounded(call, "y", index, count, "a row of `one_hot`")
    emit = call.emit
    size = call.around.dim(call.frame, call.span, count)
    sizes = (*index.shape, size)
    places = emit.emit("iota", axis=len(sizes) - 1, shape=sizes, dtype=DType.I32)
    spread = emit.emit(
        "broadcast", index.value, name=f"{index.value.name}.b", shape=sizes, axes=tuple(range(index.rank))
    )
    return Computed(emit.emit("cast", emit.emit("eq", places, spread), dtype=emit.real))


def reshaped(emit: Emitter, x: Computed, shape: tuple[Dim, ...]) -> Computed:
    """The same elements in another shape."""
    return x if x.shape == shape else Computed(emit.emit("reshape", x.value, shape=shape), x.bound)


@builtin("pick")
def pick(call: CallSite, x: Any, index: Any) -> Computed:
    """The element of each row of `x` (its last axis) at that row's index."""
    scores = call.tensor("x", x)
    scores = scores if scores.dtype is DType.I32 else call.emit.as_real(scores)
    places = integers(call, "index", index)
    labels: list[Label] = [*call.label("x", scores), *call.label("index", places)]
    if not scores.rank or places.shape != scores.shape[:-1]:
        wanted = shape_text(scores.shape[:-1])
        hint = f"The labels need the shape {wanted}: one for each row of scores." if scores.rank else None
        if places.shape == scores.shape[:1]:
            hint = (
                f"{hint[:-1]}; or scores for each row of the batch, from an input made flat: `reshape(x, [batch, _])`."
                if hint
                else None
            )
        raise call.fault("E0210",
            f"labels of shape {shape_text(places.shape)} do not fit scores of shape {shape_text(scores.shape)}",
                         None, labels, hint)  # fmt: skip
    _bounded(call, "index", places, scores.shape[-1], "the last axis")
    return Computed(call.emit.emit("pick", scores.value, places.value), scores.bound)


def gather(emit: Emitter, table: Computed, index: Computed) -> Computed:
    """`table[index]`: the rows of a table at computed places. Raises Mismatch."""
    if index.dtype is not DType.I32:
        raise Mismatch("E0401", f"an index is made of ints, not {describe(index)}")
    if not table.rank:
        raise Mismatch("E0206", "a single number has no axis to index")
    indexes(index, table.shape[0])
    source = table if table.dtype is DType.I32 else emit.as_real(table)
    return Computed(emit.emit("gather", source.value, index.value), source.bound)


def indexes(index: Computed, rows: Dim) -> None:
    """Whether computed places can index an axis. Raises Mismatch."""
    if index.dtype is not DType.I32:
        raise Mismatch("E0401", f"an index is made of ints, not {describe(index)}")
    if isinstance(rows, Rows):
        raise Mismatch("E0214", "the rows of `batch` stay together: an index would take some of them")
    if index.bound is None or index.bound == UNBOUNDED:
        raise Mismatch(
            "E0402",
            "an integer that indexes needs a bound",
            f"Declare it with one, as in `input tokens: int[batch] < {rows}`.",
        )
    if index.bound > rows:
        raise Mismatch("E0403", f"the index can be as large as {index.bound - 1}, but the axis has {rows} places")


def integers(call: CallSite, parameter: str, value: Any) -> Computed:
    if isinstance(value, tuple):
        value = call.emit.vector(value)
    if not isinstance(value, Computed) or value.dtype is not DType.I32:
        hint = "Declare it as `int[batch] < n`." if isinstance(value, Computed) else None
        raise call.fault(
            "E0401",
            f"class labels and indices are ints, not {describe(value)}",
            parameter,
            call.label(parameter, value),
            hint,
        )
    return value


def _bounded(call: CallSite, parameter: str, index: Computed, size: Dim, axis: str) -> None:
    labels = call.label(parameter, index)
    if isinstance(size, Rows) and call.emit.counts(index.value, size):
        return
    if index.bound is None or index.bound == UNBOUNDED:
        raise call.fault(
            "E0402",
            "an integer that indexes needs a bound",
            parameter,
            labels,
            f"Declare it with one: `int[batch] < {size}`.",
        )
    if isinstance(size, int) and index.bound > size:
        raise call.fault("E0403", f"the labels go up to {index.bound - 1}, but {axis} has the size {size}", parameter,
            labels,
                         f"Make that size {index.bound}, or the bound of the labels {size}.")  # fmt: skip
