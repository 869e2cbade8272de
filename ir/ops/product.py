"""The matrix product. Either operand may be taken transposed, so that its derivatives are products again.

Axes before the last two are equal on both sides: one product for each of their places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tapeless.ir.correspondence import Axes, Over, kept
from tapeless.ir.ops.registry import Array, Gradients, Operation, Run, Sample, declare, expect, expect_count
from tapeless.ir.ranges import FINITE, products
from tapeless.ir.types import DType, Rows, Tensor

if TYPE_CHECKING:
    from tapeless.ir.graph import Builder, Graph, Node, Value


def _rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
    expect_count("matmul", operands, 2)
    left, right = operands
    expect(
        left.rank == right.rank >= 2 and left.shape[:-2] == right.shape[:-2],
        f"`matmul` needs two matrices, or stacks of equally many, not {left} and {right}",
    )
    expect(
        left.dtype is right.dtype and left.dtype.is_float,
        f"`matmul` needs one real element type, not {left} and {right}",
    )
    rows, inner = left.shape[-2:][::-1] if attrs["transpose_a"] else left.shape[-2:]
    other, columns = right.shape[-2:][::-1] if attrs["transpose_b"] else right.shape[-2:]
    expect(inner == other, f"`matmul` needs the inner dimensions to agree: {inner} in {left}, {other} in {right}")
    return (Tensor(left.dtype, (*left.shape[:-2], rows, columns)),)


def last_two_swapped(rank: int) -> tuple[int, ...]:
    """The permutation of axes that transposes each matrix of a stack."""
    return (*range(rank - 2), rank - 1, rank - 2)


def _derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    """With C = op(A) op(B): d op(A) = dC op(B)^T and d op(B) = op(A)^T dC, transposed back where op transposes."""
    (a, b), ta, tb = node.operands, node.attrs["transpose_a"], node.attrs["transpose_b"]

    def matmul(left: Value, right: Value, transpose_a: bool, transpose_b: bool) -> Value:
        return builder.emit("matmul", left, right, transpose_a=transpose_a, transpose_b=transpose_b)

    d_a = matmul(b, adjoint, tb, True) if ta else matmul(adjoint, b, False, not tb)
    d_b = matmul(adjoint, a, True, ta) if tb else matmul(a, adjoint, not ta, False)
    for made in (d_a, d_b):
        # an infinite adjoint makes NaN of a whole row here: no zero mends that further on
        builder.ranges.state(made, FINITE)
    return (d_a, d_b)


def _reference(run: Run, operands: Sequence[Array]) -> Array:
    left = operands[0].swapaxes(-1, -2) if run.attrs["transpose_a"] else operands[0]
    right = operands[1].swapaxes(-1, -2) if run.attrs["transpose_b"] else operands[1]
    product: Array = left @ right
    return product


def _axes(node: Node) -> Axes:
    rank = node.result.type.rank
    lead = tuple(kept(k) for k in range(rank - 2))
    a, b = (kept(rank - 2), Over()), (Over(), kept(rank - 1))
    return (
        (*lead, *(a[::-1] if node.attrs["transpose_a"] else a)),
        (*lead, *(b[::-1] if node.attrs["transpose_b"] else b)),
    )


def _matrix(*shape: int | Rows) -> Tensor:
    return Tensor(DType.F64, shape)


declare(
    Operation(
        "matmul",
        "product",
        _rule,
        _derivative,
        _reference,
        (
            Sample((_matrix(Rows(), 3), _matrix(3, 4)), {"transpose_a": False, "transpose_b": False}),
            Sample((_matrix(Rows(), 3), _matrix(4, 3)), {"transpose_a": False, "transpose_b": True}),
            Sample((_matrix(Rows(), 3), _matrix(Rows(), 4)), {"transpose_a": True, "transpose_b": False}),
            Sample((_matrix(3, 2), _matrix(4, 3)), {"transpose_a": True, "transpose_b": True}),
            Sample((_matrix(Rows(), 3, 5), _matrix(Rows(), 5, 4)), {"transpose_a": False, "transpose_b": False}),
            Sample((_matrix(2, 5, 3), _matrix(2, 4, 5)), {"transpose_a": True, "transpose_b": True}),
            Sample((_matrix(Rows(), 2, 3, 5), _matrix(Rows(), 2, 17, 5)), {"transpose_a": False, "transpose_b": True}),
        ),
        attributes=("transpose_a", "transpose_b"),
        range=products,
        axes=_axes,
    )
)
