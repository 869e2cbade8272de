"""Cholesky's factor and the solution of triangular systems, for Gaussian models and orthogonal starting values; of
one matrix, or of each of a stack along the axes before the last two.

cholesky(A) is the lower triangular L with A = L L^T; only A's lower triangle is read. triangular_solve(L, B) is X with
L X = B, or L^T X = B where it is `transposed`; only L's lower triangle is read. Derivatives: Murray, Differentiation of
the Cholesky decomposition, 2016. A matrix that is not positive definite gives NaN; for ranges, all are taken to be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tapeless.ir.correspondence import last_two
from tapeless.ir.ops.product import last_two_swapped
from tapeless.ir.ops.registry import Array, Gradients, Operation, Run, Sample, declare, expect, expect_count
from tapeless.ir.ranges import unbounded
from tapeless.ir.types import DType, Rows, Tensor

if TYPE_CHECKING:
    from tapeless.ir.graph import Builder, Graph, Node, Value


def _square(name: str, x: Tensor) -> None:
    expect(x.rank >= 2 and x.dtype.is_float, f"`{name}` needs a matrix, not {x}")
    expect(isinstance(x.shape[-1], int) and x.shape[-2] == x.shape[-1], f"`{name}` needs a square matrix, not {x}")


def _matmul(b: Builder, x: Value, y: Value, transpose_a: bool = False, transpose_b: bool = False) -> Value:
    return b.emit("matmul", x, y, transpose_a=transpose_a, transpose_b=transpose_b)


def _weighted(b: Builder, x: Value, below: float, on: float) -> Value:
    """x with its part below the diagonal times `below`, its diagonal times `on`, and 0 above."""
    shape = x.type.shape
    row, column = (b.emit("iota", axis=axis, shape=shape, dtype=DType.I32) for axis in (len(shape) - 2, len(shape) - 1))
    zero = b.full(0.0, x)

    def times(factor: float) -> Value:
        return x if factor == 1.0 else b.emit("mul", x, b.full(factor, x))

    kept = b.emit("select", b.emit("eq", row, column), times(on), zero)
    return b.emit("select", b.emit("lt", column, row), times(below), kept)


def _cholesky_rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
    expect_count("cholesky", operands, 1)
    _square("cholesky", operands[0])
    return (operands[0],)


def _cholesky_derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    """S = L^-T Phi(L^T dL) L^-1, with Phi the lower triangle and half of the diagonal. As only the lower triangle of A
    is read, its elements below the diagonal take their share of both sides: S + S^T there."""
    factor = node.result
    inner = _weighted(
        builder, _matmul(builder, factor, _weighted(builder, adjoint, 1.0, 1.0), transpose_a=True), 1.0, 0.5
    )
    left = builder.emit("triangular_solve", factor, inner, transposed=True)
    swapped = last_two_swapped(left.type.rank)
    turned = builder.emit("transpose", left, perm=swapped)
    whole = builder.emit("triangular_solve", factor, turned, transposed=True)
    both = builder.emit("add", whole, builder.emit("transpose", whole, perm=swapped))
    return (_weighted(builder, both, 1.0, 0.5),)


def _cholesky_reference(run: Run, operands: Sequence[Array]) -> Array:
    a = operands[0]
    made = np.zeros_like(a)
    for j in range(a.shape[-1]):
        column = a[..., j:, j] - (made[..., j:, :j] @ made[..., j, :j, None])[..., 0]
        made[..., j:, j] = column / np.sqrt(column[..., :1])
    return made


_MATRIX = Tensor(DType.F64, (4, 4))
# Of the matrices that samples are drawn as, only this size is positive definite; larger ones have tests of their own.
declare(
    Operation(
        "cholesky",
        "factor",
        _cholesky_rule,
        _cholesky_derivative,
        _cholesky_reference,
        (
            Sample((Tensor(DType.F64, (1, 1)),), low=1.0, high=2.0),
            Sample((Tensor(DType.F64, (Rows(), 3, 1, 1)),), low=1.0, high=2.0),
        ),
        8.0,
        kernel="cholesky",
        range=unbounded,
        axes=last_two,
    )
)


def _solve_rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
    expect_count("triangular_solve", operands, 2)
    factor, right = operands
    _square("triangular_solve", factor)
    expect(
        right.rank == factor.rank and right.dtype is factor.dtype and right.shape[:-1] == factor.shape[:-1],
        (
            f"`triangular_solve` needs matrices of {factor.shape[-1]} rows on the right, as many as of {factor}, "
            f"not {right}"
        ),
    )
    return (right,)


def _solve_derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    (factor, _), transposed = node.operands, node.attrs["transposed"]
    d_right = builder.emit("triangular_solve", factor, adjoint, transposed=not transposed)
    pair = (node.result, d_right) if transposed else (d_right, node.result)
    d_factor = builder.emit("neg", _matmul(builder, *pair, transpose_b=True))
    return (_weighted(builder, d_factor, 1.0, 1.0), d_right)


def _solve_reference(run: Run, operands: Sequence[Array]) -> Array:
    lower = np.tril(operands[0])
    made = np.array(operands[1])
    order, transposed = range(lower.shape[-1]), run.attrs["transposed"]
    for k in reversed(order) if transposed else order:
        known = slice(k + 1, None) if transposed else slice(0, k)
        row = lower[..., known, k] if transposed else lower[..., k, known]
        others = (row[..., None, :] @ made[..., known, :])[..., 0, :]
        made[..., k, :] = (made[..., k, :] - others) / lower[..., k, k, None]
    return made


declare(
    Operation(
        "triangular_solve",
        "factor",
        _solve_rule,
        _solve_derivative,
        _solve_reference,
        (
            Sample((_MATRIX, Tensor(DType.F64, (4, 3))), {"transposed": False}, low=0.5),
            Sample((_MATRIX, Tensor(DType.F64, (4, 17))), {"transposed": True}, low=0.5),
            Sample(
                (Tensor(DType.F64, (Rows(), 2, 3, 3)), Tensor(DType.F64, (Rows(), 2, 3, 2))),
                {"transposed": False},
                low=0.5,
            ),
            Sample((Tensor(DType.F64, (2, 3, 3)), Tensor(DType.F64, (2, 3, 9))), {"transposed": True}, low=0.5),
        ),
        8.0,
        ("transposed",),
        kernel="triangular_solve",
        range=unbounded,
        axes=last_two,
    )
)
