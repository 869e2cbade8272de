"""Convolutions: a product of matrices whose right operand is all windows of pictures becomes `convolution`.

`convolve` is written with windows, and index notation becomes windows too: a stack of products, one for each picture,
of the same weights with the elements of each window side by side. As a convolution nothing is written out, and so it
is with what it is differentiated to. Pictures are taken channels last, and the result is transposed back;
`channels_last.py` then lays whole chains of layers that way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tapeless.compiler.passes.layout import spread_over_stack
from tapeless.compiler.passes.rewriter import Rewriter, Rule
from tapeless.ir.graph import Builder, Node, Value
from tapeless.ir.ops import POINTWISE
from tapeless.ir.ops.convolution import STEPS

LAST, FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
"""The permutations of axes that put channels last, and back before the places."""
SIDE_BY_SIDE = (0, 1, 3, 5, 2, 4)
"""Of windows over two axes, the permutation that puts the elements of each window before the places."""
THROUGH = (
    *sorted(POINTWISE),
    "with_derivative",
    "stop_gradient",
    "max",
    "sum",
    "transpose",
    "reshape",
    "windows",
    "pad",
)
FEWEST = 4  # channels: of fewer, places fill vectors better, as in a product of matrices
FARTHEST = 64  # values between two convolutions that are looked at


@dataclass(frozen=True)
class Slide:
    """How windows go over one axis: so many places of so many taps; `before` counts zeros before the first element,
    and of `inserted` places one holds an element.
    """

    size: int
    kernel: int
    step: int
    dilation: int
    before: int = 0
    inserted: int = 1


def _convolution(b: Rewriter, node: Node) -> Value | None:
    """broadcast(reshape(W)) @ reshape(windows(x)) = reshape(transpose(convolution(x, W)))"""
    left, right = (b.made_by(value, op) for value, op in zip(node.operands, ("broadcast", "reshape"), strict=True))
    if left is None or right is None or node.attrs["transpose_a"] or node.attrs["transpose_b"]:
        return None
    rank = node.operands[0].type.rank
    seen = b.made_by(right.operands[0], "transpose")
    if seen is None or tuple(seen.attrs["perm"]) != SIDE_BY_SIDE or not spread_over_stack(left):
        return None
    found = _windows(b, seen.operands[0])
    if found is None or (all(slide == Slide(slide.size, 1, 1, 1) for slide in found[1]) and not _in_chain(b, found[0])):
        return None
    x, slides = found
    rows, channels = x.type.shape[:2]
    stack, (units, taps) = node.operands[0].type.shape[:-2], node.operands[0].type.shape[-2:]
    kernel, size = (tuple(getattr(slide, part) for slide in slides) for part in ("kernel", "size"))
    places = size[0] * size[1]
    if (
        left.attrs["axes"][0] == 0
        or stack != (rows, 1)[: rank - 2]
        or rank > 4
        or taps != channels * kernel[0] * kernel[1]
    ):
        return None
    if channels == 0 or not isinstance(units, int) or units < FEWEST:
        return None
    if node.operands[1].type.shape != (*stack, taps, places):
        return None
    weights = b.emit("reshape", left.operands[0], shape=(units, channels, *kernel))
    steps = {part: tuple(getattr(slide, part) for slide in slides) for part in STEPS[:4]}
    (made,) = b.emit_node(
        "convolution",
        (transposed(b, x, LAST), transposed(b, weights, (2, 3, 1, 0))),
        {"size": size, "flipped": False, **steps},
    )
    return b.emit("reshape", transposed(b, made, FIRST), shape=(*stack, units, places))


def transposed(b: Builder, value: Value, perm: Sequence[int], name: str | None = None) -> Value:
    """The value with its axes in another order; a reshape where only axes of size 1 change places."""
    moved = [axis for axis in perm if value.type.shape[axis] != 1]
    if tuple(perm) == tuple(range(len(perm))):
        return value
    if moved == sorted(moved):
        return b.emit("reshape", value, name=name, shape=tuple(value.type.shape[axis] for axis in perm))
    return b.emit("transpose", value, name=name, perm=tuple(perm))


def _in_chain(b: Rewriter, value: Value) -> bool:
    """Whether pictures come from another convolution. Windows of one place each of other pictures are as well taken
    as they lie, channels first, by a product of matrices.
    """
    pending, visited = [value], {value}
    while pending and len(visited) < FARTHEST:
        node = b.made_by(pending.pop(), *THROUGH)
        if node is None:
            continue
        if node.op == "transpose" and b.made_by(node.operands[0], "convolution"):
            return True
        new = [one for one in node.operands if one.type.rank >= 4 and one not in visited]
        pending += new
        visited.update(new)
    return False


def _windows(b: Rewriter, value: Value) -> tuple[Value, tuple[Slide, Slide]] | None:
    """What windows over the last two of four axes are taken of, and how."""
    slides: list[Slide] = []
    for axis in (4, 2):
        node, shape = b.made_by(value, "windows", "reshape"), value.type.shape
        if node is not None and node.op == "windows" and node.attrs["axis"] == axis:
            slides.append(Slide(*(node.attrs[part] for part in ("size", "kernel", "step", "dilation"))))
            (value,) = node.operands
            continue
        size = shape[axis]
        if axis + 1 >= len(shape) or shape[axis + 1] != 1 or not isinstance(size, int):
            return None
        # windows of one place each are a reshape, and two reshapes are one
        slides.append(Slide(size, 1, 1, 1))
        before = node.operands[0] if node is not None and node.op == "reshape" else None
        if before is not None and before.type.shape == (*shape[: axis + 1], *shape[axis + 2 :]):
            value = before
        elif before is not None and axis == 4 and shape[3] == 1 and before.type.shape == (*shape[:3], size):
            return _after(b, before, slides[0], Slide(shape[2], 1, 1, 1)) if isinstance(shape[2], int) else None
        else:
            return None
    return _after(b, value, *slides) if value.type.rank == 4 else None


def _after(b: Rewriter, value: Value, across: Slide, down: Slide) -> tuple[Value, tuple[Slide, Slide]]:
    """Windows of a padded picture as windows of the picture."""
    while node := b.made_by(value, "pad"):
        start, step = node.attrs["start"], node.attrs["step"]
        if node.attrs["axis"] == 3 and across.inserted == 1:
            across = replace(across, before=across.before + start, inserted=step)
        elif node.attrs["axis"] == 2 and down.inserted == 1:
            down = replace(down, before=down.before + start, inserted=step)
        else:
            break
        (value,) = node.operands
    return value, (down, across)


def _slid(b: Builder, x: Value) -> Value:
    """All windows of two by two of x[n, 4] as a picture of one channel."""
    picture = b.emit("reshape", x, shape=(*x.type.shape[:1], 1, 2, 2))
    for axis in (2, 3):
        picture = b.emit("pad", picture, axis=axis, size=4, start=1, step=1)
    for axis in (2, 4):
        picture = b.emit("windows", picture, axis=axis, size=3, kernel=2, step=1, dilation=1)
    side = b.emit("transpose", picture, perm=SIDE_BY_SIDE)
    return b.emit("reshape", side, shape=(*x.type.shape[:1], 1, 4, 9))


def _example(b: Builder, x: Value, y: Value, r: Value, k: Value) -> Value:
    weights = b.emit("matmul", y, y, transpose_a=True, transpose_b=False)
    stacked = b.broadcast_to(weights, (*x.type.shape[:1], 1, 4, 4), (2, 3))
    return b.emit("matmul", stacked, _slid(b, x), transpose_a=False, transpose_b=False)


CONVOLUTION: tuple[Rule, ...] = (Rule("convolution", ("matmul",), _convolution, _example),)
