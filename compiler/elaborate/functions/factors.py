"""Functions of square matrices of fixed size, one or each of a stack: Cholesky's factor and triangular systems."""

from __future__ import annotations

from typing import Any

from tapeless.compiler.elaborate.functions.registry import CallSite, builtin
from tapeless.compiler.elaborate.functions.shaping import reshaped
from tapeless.compiler.elaborate.values import Computed, shape_text
from tapeless.ir.types import Rows


def _square(call: CallSite, parameter: str, value: Any) -> Computed:
    matrix = call.emit.as_real(call.tensor(parameter, value))
    if matrix.rank < 2 or matrix.shape[-2] != matrix.shape[-1] or isinstance(matrix.shape[-1], Rows):
        message = f"`{call.name}` needs a square matrix of fixed size, not {shape_text(matrix.shape)}"
        raise call.fault("E0202", message, parameter, call.label(parameter, matrix))
    return matrix


@builtin("cholesky")
def cholesky(call: CallSite, a: Any) -> Computed:
    """The lower triangular L with L L^T = a, of each matrix of a stack; reads the lower triangle of `a`. NaN where
    `a` is not positive definite.
    """
    return Computed(call.emit.emit("cholesky", _square(call, "a", a).value))


@builtin("solve_triangular")
def solve_triangular(call: CallSite, a: Any, b: Any, transposed: Any = False) -> Computed:
    """X with a X = b, or a^T X = b if `transposed`; reads the lower triangle of `a`. `b` is a vector or a matrix, or
    a stack of them whose axes before broadcast to those of `a`.
    """
    emit = call.emit
    matrix = _square(call, "a", a)
    right = emit.as_real(call.tensor("b", b))
    vector = right.rank == 1 or right.shape == matrix.shape[:-1]
    columns = reshaped(emit, right, (*right.shape, 1)) if vector else right
    if not columns.rank > 1 or columns.shape[-2] != matrix.shape[-1] or isinstance(columns.shape[-1], Rows):
        message = (
            f"`solve_triangular` of {shape_text(matrix.shape)} needs a right side of {matrix.shape[-1]} rows, not "
            f"{shape_text(right.shape)}"
        )
        raise call.fault("E0202", message, "b", [*call.label("a", matrix), *call.label("b", right)])
    lead = emit.meet([matrix.shape[:-2], columns.shape[:-2]])
    factor, sides = (emit.broadcast(value, (*lead, *value.shape[-2:])) for value in (matrix, columns))
    solved = Computed(
        emit.emit("triangular_solve", factor.value, sides.value, transposed=call.flag("transposed", transposed))
    )
    return reshaped(emit, solved, solved.shape[:-1]) if vector else solved
