"""Functions of one square matrix that has no batch: Cholesky's factor and triangular systems."""

from __future__ import annotations

from typing import Any

from tapeless.compiler.elaborate.functions.registry import CallSite, builtin
from tapeless.compiler.elaborate.values import Computed, shape_text
from tapeless.ir.types import Rows


def _square(call: CallSite, parameter: str, value: Any) -> Computed:
    matrix = call.emit.as_real(call.tensor(parameter, value))
    if matrix.rank != 2 or matrix.shape[0] != matrix.shape[1] or isinstance(matrix.shape[0], Rows):
        message = f"`{call.name}` needs a square matrix of fixed size, not {shape_text(matrix.shape)}"
        raise call.fault("E0202", message, parameter, call.label(parameter, matrix))
    return matrix


@builtin("cholesky")
def cholesky(call: CallSite, a: Any) -> Computed:
    """The lower triangular L with L L^T = a; reads the lower triangle of `a`. NaN where `a` is not positive definite."""
    return Computed(call.emit.emit("cholesky", _square(call, "a", a).value))


@builtin("solve_triangular")
def solve_triangular(call: CallSite, a: Any, b: Any, transposed: Any = False) -> Computed:
    """X with a X = b, or a^T X = b if `transposed`; reads the lower triangle of `a`. `b` is a vector or a matrix."""
    matrix = _square(call, "a", a)
    right = call.emit.as_real(call.tensor("b", b))
    if right.rank not in (1, 2) or right.shape[0] != matrix.shape[0] or any(isinstance(dim, Rows) for dim in right.shape):
        message = f"`solve_triangular` of {shape_text(matrix.shape)} needs a right side of {matrix.shape[0]} rows, not {shape_text(right.shape)}"
        raise call.fault("E0202", message, "b", [*call.label("a", matrix), *call.label("b", right)])
    columns = right.value if right.rank == 2 else call.emit.emit("reshape", right.value, shape=(*right.shape, 1))
    solved = call.emit.emit("triangular_solve", matrix.value, columns, transposed=call.flag("transposed", transposed))
    return Computed(solved if right.rank == 2 else call.emit.emit("reshape", solved, shape=right.shape))
