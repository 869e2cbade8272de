"""Decomposition: operations that exist for readers and for derivatives become what kernels are made of.

`logsumexp(x)` becomes its shifted form, a norm the root of one of three sums of squares, `exp(x - logsumexp(x))`
(the softmax) becomes the shifted exponentials over their sum, so that each exponential is computed once; a division
by one number becomes a product; a concatenation becomes a choice among its parts; overlapping windows are lined up
and summed; stopped gradients and stated derivatives have done their work and go. Valid graph in, valid graph out,
same values up to rounding.
"""

from __future__ import annotations

from tapeless.compiler.passes.rewriter import Rewriter, Rule
from tapeless.ir.graph import Builder, Node, Value
from tapeless.ir.ops.norm import root_of_squares
from tapeless.ir.ops.reduction import spread
from tapeless.ir.types import DType


def _shifted(b: Rewriter, x: Value, axes: tuple[int, ...]) -> tuple[Value, Value, Value]:
    """The shift (the greatest element, 0 where that is infinite), exp(x - shift) and its sum."""
    top = b.emit("max", x, name="top", axes=axes)
    finite = b.emit("lt", b.emit("abs", top), b.full(float("inf"), top))
    shift = b.emit("select", finite, top, b.full(0.0, top), name="shift")
    exponentials = b.emit("exp", b.emit("sub", x, spread(b, shift, x, axes)), name="exponentials")
    return shift, exponentials, b.emit("sum", exponentials, name="total", axes=axes)


def _logsumexp(b: Rewriter, node: Node) -> Value | None:
    shift, _, total = _shifted(b, node.operands[0], tuple(node.attrs["axes"]))
    return b.emit("add", shift, b.emit("log", total))


def _norm(b: Rewriter, node: Node) -> Value | None:
    every = [node.attrs.get("axes", tuple(range(x.type.rank))) for x in node.operands]
    return root_of_squares(b, node.operands, every)


def _softmax(b: Rewriter, node: Node) -> Value | None:
    """exp(x - broadcast(shift(x) + log(total(x)))), as `_logsumexp` leaves it, is exponentials / total."""
    difference = b.made_by(node.operands[0], "sub")
    scale = difference and b.made_by(difference.operands[1], "broadcast")
    added = scale and b.made_by(scale.operands[0], "add")
    if not (difference and scale and added):
        return None
    x, kept = difference.operands[0], tuple(scale.attrs["axes"])
    axes = tuple(k for k in range(x.type.rank) if k not in kept)
    for shift, log in (added.operands, added.operands[::-1]):
        top, logarithm = b.made_by(shift, "select"), b.made_by(log, "log")
        total = logarithm and b.made_by(logarithm.operands[0], "sum")
        if not (top and logarithm and total):
            continue
        total_value = logarithm.operands[0]
        expected_shift, exponentials, expected_total = _shifted(b, x, axes)
        if (expected_shift, expected_total) == (shift, total_value):
            inverse = b.emit("reciprocal", expected_total)
            return b.emit("mul", exponentials, spread(b, inverse, x, axes))
    return None


def _division_by_number(b: Rewriter, node: Node) -> Value | None:
    """x / broadcast(s) = x * broadcast(1 / s) for one scalar s: a division for each element costs four products."""
    spread = b.made_by(node.operands[1], "broadcast")
    if spread is None or spread.operands[0].type.shape:
        return None
    inverse = b.emit("reciprocal", spread.operands[0])
    return b.emit("mul", node.operands[0], b.emit("broadcast", inverse, **dict(spread.attrs)))


def _numbers_first(b: Rewriter, node: Node) -> Value | None:
    """(x * s) * t = x * (s * t) for scalars s and t stretched to the shape of x, which meet before they are stretched.

    Learning rates and corrections for bias are such scalars; where s * t would leave the float's range, so does the
    step that they scale.
    """
    for outer, other in (node.operands, node.operands[::-1]):
        inner = b.made_by(other, "mul")
        if inner is None or not _is_number(b, outer):
            continue
        for one, rest in (inner.operands, inner.operands[::-1]):
            if _is_number(b, one) and not _is_number(b, rest) and not (b.number(one) and b.number(outer)):
                return b.emit("mul", rest, b.emit("mul", one, outer))
    return None


def _is_number(b: Rewriter, value: Value) -> bool:
    """Whether a value is one scalar, broadcast."""
    spread = b.made_by(value, "broadcast")
    return spread is not None and not spread.operands[0].type.shape


def _stopped(b: Rewriter, node: Node) -> Value | None:
    return node.operands[0]


def _concat(b: Rewriter, node: Node) -> Value | None:
    """Each element comes from the part that its place lies in: a choice among the parts, each padded to the whole."""
    axis = node.attrs["axis"]
    sizes = [value.type.shape[axis] for value in node.operands]
    offset = total = sum(size for size in sizes if isinstance(size, int))
    first = node.operands[0].type.shape
    shape = (*first[:axis], total, *first[axis + 1 :])
    place = b.emit("iota", axis=axis, shape=shape, dtype=DType.I32)
    result: Value | None = None
    for value, size in zip(reversed(node.operands), reversed(sizes), strict=True):
        assert isinstance(size, int)
        end, offset = offset, offset - size
        part = b.emit("pad", value, axis=axis, size=total, start=offset, step=1) if size != total else value
        if result is None:
            result = part
        else:
            limit = b.broadcast_to(b.constant(end, DType.I32), shape, ())
            result = b.emit("select", b.emit("lt", place, limit), part, result)
    return result


def _with_derivative(b: Builder, x: Value, y: Value, r: Value, k: Value) -> Value:
    """The square root of x**2, with the derivative 1."""
    region = Builder("derivative", DType.F64)
    for label in ("x", "out"):
        region.input(label, x.type, "operand")
    region.output("x", region.full(1.0, x), "result")
    return b.emit("with_derivative", b.emit("sqrt", b.emit("square", x)), x, regions=(region.graph(),))


def _overlap_add(b: Rewriter, node: Node) -> Value | None:
    """The elements of all windows at their places, summed over the window."""
    return b.emit("sum", b.emit("align_windows", node.operands[0], **dict(node.attrs)), axes=(node.attrs["axis"] + 1,))


DECOMPOSE: tuple[Rule, ...] = (
    Rule("logsumexp", ("logsumexp",), _logsumexp, lambda b, x, y, r, k: b.emit("logsumexp", x, axes=(1,))),
    Rule("norm", ("norm", "global_norm"), _norm, lambda b, x, y, r, k: b.emit("norm", x, axes=(1,))),
    Rule(
        "softmax of logsumexp",
        ("exp",),
        _softmax,
        lambda b, x, y, r, k: b.emit("exp", b.emit("sub", x, spread(b, b.emit("logsumexp", x, axes=(1,)), x, (1,)))),
    ),
    Rule("division by a number", ("div",), _division_by_number, lambda b, x, y, r, k: b.emit("div", x, b.full(3.0, x))),
    Rule("concatenation", ("concat",), _concat, lambda b, x, y, r, k: b.emit("concat", x, y, axis=1)),
    Rule(
        "numbers first",
        ("mul",),
        _numbers_first,
        lambda b, x, y, r, k: b.emit(
            "mul",
            b.emit("mul", x, b.broadcast_to(b.emit("sum", r, axes=(0,)), x.type.shape, ())),
            b.broadcast_to(b.emit("max", r, axes=(0,)), x.type.shape, ()),
        ),
    ),
    Rule("stated derivative", ("with_derivative",), _stopped, _with_derivative),
    Rule(
        "overlapping windows",
        ("overlap_add",),
        _overlap_add,
        lambda b, x, y, r, k: b.emit(
            "overlap_add",
            b.emit("windows", x, axis=1, size=3, kernel=2, step=1, dilation=1),
            axis=1,
            size=4,
            step=1,
            dilation=1,
        ),
    ),
    Rule("stopped gradient", ("stop_gradient",), _stopped, lambda b, x, y, r, k: b.emit("stop_gradient", x)),
)
