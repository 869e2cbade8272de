"""Operations that treat the places of a sequence, or an index, in ways of their own: what a step has in their place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tapeless.compiler.stepping.axis_parts import Axes, Part, is_marked, is_whole, left, plain, regroup, shape_at
from tapeless.compiler.stepping.causality import is_view
from tapeless.ir.graph import Node, Value
from tapeless.ir.ops.movement import whole
from tapeless.ir.types import DType

if TYPE_CHECKING:
    from tapeless.compiler.stepping.stepper import Stepper


def _iota(of: Stepper, node: Node, value: Value, view: Axes) -> Value:
    axis = view[node.attrs["axis"]]
    if not is_marked(axis):
        return of.emit(node, (), {**node.attrs, "shape": shape_at(view)})
    if not is_whole(axis):
        return of.verbatim(node, value, view)
    index = axis[0].mark
    dtype = node.attrs["dtype"]
    number = index if dtype is DType.I32 else of.builder.emit("cast", index, dtype=dtype)
    return of.builder.broadcast_to(number, shape_at(view), ())


def _constant(of: Stepper, node: Node, value: Value, view: Axes) -> Value:
    return of.builder.broadcast_to(of.builder.constant(node.attrs["value"], node.attrs["dtype"]), shape_at(view), ())


def _transpose(of: Stepper, node: Node, value: Value, view: Axes) -> Value:
    perm = node.attrs["perm"]
    return of.transposed(of.at(node.operands[0], tuple(view[perm.index(k)] for k in range(len(perm)))), perm)


def _reshape(of: Stepper, node: Node, value: Value, view: Axes) -> Value:
    asked = regroup(view, node.operands[0].type.shape)
    if asked is None:
        return of.verbatim(node, value, view)
    return of.reshaped(of.at(node.operands[0], asked), shape_at(view))


def _with_derivative(of: Stepper, node: Node, value: Value, view: Axes) -> Value:
    return of.at(node.operands[0], view)


def _slice(of: Stepper, node: Node, value: Value, view: Axes) -> Value:
    """A sequence's first place is carried; of what has no places, an index inside the slice is one inside the whole."""
    (operand,), own = node.operands, of.causality.facts[node.operands[0]].axes
    starts, sizes, steps = (list(node.attrs[part]) for part in ("start", "size", "step"))
    asked, first = list(view), False
    for k, size in enumerate(operand.type.shape):
        if whole(starts[k], sizes[k], steps[k], size):
            sizes[k] = left(view[k])
        elif is_marked(own[k]):
            first = first or (not is_marked(of.causality.facts[value].axes[k]) and not of.causality.facts[value].last)
            asked[k] = (Part(size, of.ahead(of.distance(view[k]) + starts[k]) if is_marked(view[k]) else of.position),)
            starts[k], sizes[k], steps[k] = 0, 1, 1
        elif is_whole(view[k]):
            index = of.builder.emit("mul", view[k][0].mark, of.builder.constant(steps[k], DType.I32))
            asked[k] = (Part(size, of.builder.emit("add", index, of.builder.constant(starts[k], DType.I32))),)
            starts[k], sizes[k], steps[k] = 0, 1, 1
        elif is_marked(view[k]):
            return of.verbatim(node, value, view)
        else:
            asked[k] = plain((size,))[0]
    taken_here = of.at(operand, tuple(asked))
    attrs = {"start": tuple(starts), "size": tuple(sizes), "step": tuple(steps)}
    made = of.emit(node, [taken_here], attrs)
    if not first:
        return made
    before, leave = of.carry(value.name, made.type)
    kept = of.at_first(made, before)
    leave(kept)
    return kept


def _pad(of: Stepper, node: Node, value: Value, view: Axes) -> Value:
    (operand,), axis, start = node.operands, node.attrs["axis"], node.attrs["start"]
    own = of.causality.facts[operand].axes
    if not is_marked(own[axis]):
        return of.alike(node, view)
    made = of.delayed(value, operand, axis, start, view[axis])
    size, distance = operand.type.shape[axis], of.distance(view[axis])
    if isinstance(size, int) and start + size < node.attrs["size"]:
        made = of.until(start + size - distance, made, of.filled(0, made))
    return of.chosen(made, of.here(value), view)


def _windows(of: Stepper, node: Node, value: Value, view: Axes) -> Value:
    """The last places, so many as zeros were put before the sequence, and this one: what the window takes of them."""
    (operand,), axis, dilation = node.operands, node.attrs["axis"], node.attrs["dilation"]
    if not is_marked(of.causality.facts[operand].axes[axis]):
        return of.alike(node, view)
    if is_view(node):
        return _reshape(of, node, value, view)
    here, distance, before = of.here(value), of.distance(view[axis]), of.causality.graph.producers.get(operand)
    reach = (node.attrs["kernel"] - 1) * dilation
    if (
        before is not None
        and before.op == "pad"
        and before.attrs["axis"] == axis
        and before.attrs["start"] >= reach
        and not distance
    ):
        now = of.at(before.operands[0], of.here(before.operands[0]))
        made, rank = of.recent(operand, now, before.attrs["start"], axis), now.type.rank
        size = tuple(node.attrs["kernel"] if k == axis else dim for k, dim in enumerate(now.type.shape))
        step = tuple(dilation if k == axis else 1 for k in range(rank))
        seen = of.builder.emit("slice", made, start=(0,) * rank, size=size, step=step, name=value.name)
    else:
        asked = [list(of.here(operand)) for _ in range(node.attrs["kernel"])]
        for k, axes in enumerate(asked):
            axes[axis] = (Part(operand.type.shape[axis], of.ahead(distance + k * dilation)),)
        seen = of.builder.emit("concat", *(of.at(operand, tuple(axes)) for axes in asked), axis=axis, name=value.name)
    return of.chosen(of.reshaped(seen, shape_at(here)), here, view)


def _overlap_add(of: Stepper, node: Node, value: Value, view: Axes) -> Value:
    """The sum of what the windows at the last places have for this one."""
    (operand,), axis, dilation = node.operands, node.attrs["axis"], node.attrs["dilation"]
    if not is_marked(of.causality.facts[operand].axes[axis]):
        return of.alike(node, view)
    now, kernel = of.at(operand, of.here(operand)), int(str(operand.type.shape[axis + 1]))
    reach = (kernel - 1) * dilation
    made = of.recent(value, now, reach, axis) if reach else now
    size = tuple(1 if k in (axis, axis + 1) else dim for k, dim in enumerate(now.type.shape))
    total = None
    for k in range(kernel):
        start = tuple(reach - k * dilation if j == axis else k if j == axis + 1 else 0 for j in range(len(size)))
        part = of.builder.emit("slice", made, start=start, size=size, step=(1,) * len(size))
        total = part if total is None else of.builder.emit("add", total, part)
    assert total is not None
    return of.chosen(of.reshaped(total, shape_at(of.here(value))), of.here(value), view)


def _concat(of: Stepper, node: Node, value: Value, view: Axes) -> Value:
    (*before, operand), axis = node.operands, node.attrs["axis"]
    if not is_marked(of.causality.facts[operand].axes[axis]):
        return of.alike(node, view)
    parts = [of.at(one, plain(one.type.shape)) for one in before]
    front = parts[0] if len(parts) == 1 else of.builder.emit("concat", *parts, axis=axis)
    size, distance = front.type.shape[axis], of.distance(view[axis])
    assert isinstance(size, int)
    made = of.delayed(value, operand, axis, size, view[axis])
    if distance < size:
        shown = tuple(
            (Part(size, of.ahead(distance)),) if k == axis else parts for k, parts in enumerate(plain(front.type.shape))
        )
        first = front if size == 1 else of.picked(front, plain(front.type.shape), shown)
        made = of.until(size - distance, first, made)
    return of.chosen(made, of.here(value), view)


def _running(of: Stepper, node: Node, value: Value, view: Axes) -> Value:
    here = of.here(value)
    if not is_marked(here[node.attrs["axis"]]):
        return of.alike(node, view)
    taken_here = [of.at(operand, here) for operand in node.operands]
    before, leave = of.carry(value.name, taken_here[0].type)
    if node.op == "cumprod":
        before = of.at_first(of.filled(1, before), before)
    if node.op in ("linear_scan", "strong_scan"):
        before = of.builder.emit("mul" if node.op == "linear_scan" else "strong_product", taken_here[0], before)
    made = of.builder.emit("mul" if node.op == "cumprod" else "add", before, taken_here[-1], name=value.name)
    leave(made)
    return of.chosen(made, here, view)


def _attention(of: Stepper, node: Node, value: Value, view: Axes) -> Value:
    """A query at a place sees as many keys as there are places up to it: `lengths` says so instead of `causal`."""
    rank, attrs = value.type.rank, dict(node.attrs)
    own = [plain(operand.type.shape) for operand in node.operands]
    lead = [
        (*view[: rank - 3], axes[rank - 3] if own[1][rank - 3] != own[0][rank - 3] else view[rank - 3])
        for axes in own[:3]
    ]
    asked = [
        (*lead[0][: rank - 3], view[rank - 3], view[rank - 2], own[0][rank - 1]),
        *((*lead[k], *own[k][rank - 2 :]) for k in (1, 2)),
    ]
    operands = [of.at(operand, each) for operand, each in zip(node.operands, asked, strict=False)]
    lengths = [of.at(operand, (view[0],)) for operand in node.operands[3:]]
    if attrs["causal"] and is_marked(view[rank - 2]):
        index = of.builder.emit("add", view[rank - 2][0].mark, of.builder.constant(1, DType.I32))
        seen = of.builder.broadcast_to(index, operands[0].type.shape[:1], ())
        lengths = [of.builder.emit("minimum", one, seen) for one in lengths] or [seen]
        attrs["causal"] = False
    shown = (*view[: rank - 1], own[2][rank - 1])
    return of.chosen(of.emit(node, [*operands, *lengths], attrs), shown, view)


def _scan(of: Stepper, node: Node, value: Value, view: Axes) -> Value:
    here = of.here(value)
    if (value, here) not in of.made:
        first, second = node.attrs["carries"], node.attrs["carries"] + node.attrs["sequences"]
        over_places = any(is_marked(of.causality.facts[one].axes[0]) for one in node.operands[first:second])
        made = _place_of(of, node) if over_places else of.turns(node)
        of.made.update(((one, of.here(one)), result) for one, result in zip(node.results, made, strict=True))
    return of.chosen(of.made[value, here], here, view)


def _place_of(of: Stepper, node: Node) -> list[Value]:
    """One step of a scan over the sequence, without the loop."""
    (body,), first, second = node.regions, node.attrs["carries"], node.attrs["carries"] + node.attrs["sequences"]
    bindings, leaves = [], []
    for k, operand in enumerate(node.operands):
        axes = plain(operand.type.shape)
        if first <= k < second:
            shown = of.at(operand, ((Part(node.attrs["length"], of.position),), *axes[1:]))
            bindings.append(of.reshaped(shown, shown.type.shape[1:]))
        elif k < first:
            before, leave = of.carry(node.results[k].name, operand.type)
            zero = of.causality.number_beyond(operand, None, None) == 0.0
            bindings.append(before if zero else of.at_first(of.at(operand, axes), before))
            leaves.append(leave)
        else:
            bindings.append(of.at(operand, axes))
    seen = {port.value: value for port, value in zip(body.inputs, bindings, strict=True)}
    of.builder.copy_nodes(body.nodes, seen)
    made = [seen[port.value] for port in body.outputs]
    for leave, value in zip(leaves, made, strict=False):
        leave(value)
    return [*made[:first], *(of.reshaped(value, (1, *value.type.shape)) for value in made[first:])]


ALWAYS = frozenset({"iota", "constant", "reshape", "transpose", "slice", "with_derivative"})
SPECIAL: Mapping[str, Callable[[Stepper, Node, Value, Axes], Value]] = {
    "iota": _iota,
    "constant": _constant,
    "reshape": _reshape,
    "transpose": _transpose,
    "with_derivative": _with_derivative,
    "slice": _slice,
    "pad": _pad,
    "windows": _windows,
    "overlap_add": _overlap_add,
    "concat": _concat,
    **dict.fromkeys(("cumsum", "cumprod", "linear_scan", "strong_scan"), _running),
    "attention": _attention,
    "scan": _scan,
}
