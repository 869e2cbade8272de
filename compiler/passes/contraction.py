"""Contractions: a sum of products of two tensors over axes that both have becomes a product of matrices.

`sum[c, u] x[n, c, i + u] * K[o, c, u]`, as index notation writes it, is a sum of two broadcast tensors times each
other. Each axis of the sum's operand belongs to one factor alone or to both; those summed over, which both have, are
the inner dimension, and the rows and columns are what is left of one factor and of the other. Axes that both keep,
and as many leading axes of the result as it takes to have rows and columns lie side by side in it, make a stack of
products; a factor without such an axis is broadcast over the stack, which costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tapeless.compiler.passes.layout import ROWS
from tapeless.compiler.passes.rewriter import Rewriter, Rule
from tapeless.ir.graph import Builder, Node, Value
from tapeless.ir.types import Dim, DType, Rows, product

SMALLEST = 4  # rows and columns of a product: below this, registers that hold a tile would be idle


@dataclass(frozen=True)
class Factor:
    """One side of a product: a tensor and, for each of its axes, the axis of the product that it is."""

    value: Value
    axes: tuple[int, ...]


def factor_of(b: Rewriter, value: Value) -> Factor:
    """A value seen through a broadcast."""
    spread = b.made_by(value, "broadcast")
    return (
        Factor(spread.operands[0], tuple(spread.attrs["axes"]))
        if spread
        else Factor(value, tuple(range(value.type.rank)))
    )


def _contraction(b: Rewriter, node: Node) -> Value | None:
    """sum(broadcast x * broadcast y) = reshape(x' @ y')"""
    multiplied = b.made_by(node.operands[0], "mul")
    if multiplied is None:
        return None
    left, right = (factor_of(b, value) for value in multiplied.operands)
    return contracted(b, left, right, node.operands[0].type.shape, tuple(node.attrs["axes"]))


def _scaled_sum(b: Rewriter, node: Node) -> Value | None:
    """sum(x * y * s) = sum(x * y) * s and sum(x * y / s) = sum(x * y) / s for one number s, where sum(x * y) is a
    contraction.
    """
    outer = b.made_by(node.operands[0], "mul", "div")
    if outer is None:
        return None
    for scale, inner in (outer.operands[::-1], outer.operands) if outer.op == "mul" else (outer.operands[::-1],):
        spread, multiplied = b.made_by(scale, "broadcast"), b.made_by(inner, "mul")
        if spread is None or multiplied is None or spread.operands[0].type.rank:
            continue
        left, right = (factor_of(b, value) for value in multiplied.operands)
        made = contracted(b, left, right, node.operands[0].type.shape, tuple(node.attrs["axes"]))
        if made is not None:
            return b.emit(outer.op, made, b.broadcast_to(spread.operands[0], made.type.shape, ()))
    return None


def _factor_out(b: Rewriter, node: Node) -> Value | None:
    """sum(x * y * z) = sum(sum(x * y) * z), the inner sum over the axes that z does not have: of three factors, two
    at a time.
    """
    outer = b.made_by(node.operands[0], "mul")
    if outer is None:
        return None
    axes, shape = tuple(node.attrs["axes"]), node.operands[0].type.shape
    for inner, last in (outer.operands, outer.operands[::-1]):
        multiplied, z = b.made_by(inner, "mul"), factor_of(b, last)
        loose = tuple(k for k in axes if k not in z.axes)
        if multiplied is None or not z.axes or not loose or len(z.axes) == len(shape):
            continue
        total = b.emit("sum", inner, axes=loose)
        kept = [k for k in range(len(shape)) if k not in loose]
        rest = b.broadcast_to(z.value, tuple(shape[k] for k in kept), tuple(kept.index(k) for k in z.axes))
        made = b.emit("mul", total, rest)
        summed = tuple(kept.index(k) for k in axes if k not in loose)
        return b.emit("sum", made, axes=summed) if summed else made
    return None


def contracted(b: Builder, left: Factor, right: Factor, shape: Sequence[Dim], summed: tuple[int, ...]) -> Value | None:
    """The product of matrices that a sum of products is, over the axes `summed` of a tensor of this shape; None
    where none pays.
    """
    if not summed or not set(summed) <= set(left.axes) & set(right.axes) or not left.value.type.dtype.is_float:
        return None
    every = [k for k in range(len(shape)) if k not in summed]
    kept = [k for k in every if k in left.axes or k in right.axes]  # along the others the result is stretched
    stack = [k for k in kept if k in left.axes and k in right.axes]
    plan = _plan(kept, stack, left, right, shape) or _apart(kept, stack, left, right, shape)
    if plan is None or _size(shape, summed) < 2 or any(_rows(shape, part) > 1 for part in (*plan[1:], summed)):
        return None
    stack, rows, columns = plan
    first, second = (left, right) if set(rows) <= set(left.axes) else (right, left)
    a = _matrix(b, first, stack, rows, summed, shape)
    c = _matrix(b, second, stack, summed, columns, shape)
    made = b.emit("matmul", a, c, transpose_a=False, transpose_b=False)
    order = [*stack, *rows, *columns]
    made = b.emit("reshape", made, shape=tuple(shape[k] for k in order))
    perm = tuple(order.index(k) for k in kept)
    made = made if perm == tuple(range(len(kept))) else b.emit("transpose", made, perm=perm)
    return b.broadcast_to(made, tuple(shape[k] for k in every), tuple(every.index(k) for k in kept))


Plan = tuple[list[int], list[int], list[int]]


def _plan(kept: Sequence[int], stack: Sequence[int], left: Factor, right: Factor, shape: Sequence[Dim]) -> Plan | None:
    """Stack, rows and columns in the order of the result, with as short a stack as that allows."""
    for start in range(len(kept) - 1):
        rest = kept[start:]
        if any(k in stack for k in rest):
            continue
        owner = [k in left.axes for k in rest]
        change = next((k for k, one in enumerate(owner) if one != owner[0]), None)
        if change is None or any(one == owner[0] for one in owner[change:]):
            continue
        rows, columns = list(rest[:change]), list(rest[change:])
        return (list(kept[:start]), rows, columns) if _pays(shape, rows, columns) else None
    return None


def _apart(kept: Sequence[int], stack: Sequence[int], left: Factor, right: Factor, shape: Sequence[Dim]) -> Plan | None:
    """Stack, rows and columns whatever their order in the result, which is a transpose then."""
    rows = [k for k in kept if k not in right.axes]
    columns = [k for k in kept if k not in left.axes]
    return (list(stack), rows, columns) if _pays(shape, rows, columns) else None


def _pays(shape: Sequence[Dim], rows: Sequence[int], columns: Sequence[int]) -> bool:
    return min(_size(shape, rows), _size(shape, columns)) >= SMALLEST


def _size(shape: Sequence[Dim], axes: Sequence[int]) -> int:
    total = 1
    for k in axes:
        dim = shape[k]
        total *= dim if isinstance(dim, int) else dim.at(ROWS)
    return total


def _rows(shape: Sequence[Dim], axes: Sequence[int]) -> int:
    return sum(isinstance(shape[k], Rows) for k in axes)


def _matrix(
    b: Builder, factor: Factor, stack: Sequence[int], rows: Sequence[int], columns: Sequence[int], shape: Sequence[Dim]
) -> Value:
    """A factor as a stack of matrices of these rows and columns."""
    own = [k for k in stack if k in factor.axes]
    order = [*own, *rows, *columns]
    value = factor.value
    perm = tuple(factor.axes.index(k) for k in order)
    if perm != tuple(range(len(perm))):
        value = b.emit("transpose", value, perm=perm)
    sizes = tuple(product([shape[k] for k in part]) for part in (rows, columns))
    value = b.emit("reshape", value, shape=(*(shape[k] for k in own), *sizes))
    whole = (*(shape[k] for k in stack), *sizes)
    axes = (*(list(stack).index(k) for k in own), len(stack), len(stack) + 1)
    return b.broadcast_to(value, whole, axes)


def _pair(b: Builder, x: Value, y: Value) -> Value:
    """x[n, i] * m[i, o] over [n, i, o]."""
    shape = (*x.type.shape, 5)
    places = b.emit("cast", b.emit("iota", axis=1, shape=(4, 5), dtype=DType.I32), dtype=x.type.dtype)
    matrix = b.emit("mul", b.broadcast_to(b.emit("max", y, axes=(0,)), (4, 5), (0,)), places)
    return b.emit("mul", b.broadcast_to(x, shape, (0, 1)), b.broadcast_to(matrix, shape, (1, 2)))


CONTRACTION: tuple[Rule, ...] = (
    Rule(
        "contraction",
        ("sum",),
        _contraction,
        lambda b, x, y, r, k: b.emit("sum", _pair(b, x, y), axes=(1,)),
    ),
    Rule(
        "contraction times a number",
        ("sum",),
        _scaled_sum,
        lambda b, x, y, r, k: b.emit(
            "sum", b.emit("div", _pair(b, x, y), b.broadcast_to(b.constant(3.0), (*x.type.shape, 5), ())), axes=(1,)
        ),
    ),
    Rule(
        "factor out of a sum",
        ("sum",),
        _factor_out,
        lambda b, x, y, r, k: b.emit(
            "sum", b.emit("mul", _pair(b, x, y), b.broadcast_to(r, (*x.type.shape, 5), (0,))), axes=(1,)
        ),
    ),
)
