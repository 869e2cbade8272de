"""What an operator or a function asks of its operands before it computes with them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tapeless.compiler.elaborate.context import Context
from tapeless.compiler.elaborate.frames import Frame
from tapeless.compiler.elaborate.values import Computed, describe
from tapeless.compiler.language import ast
from tapeless.ir.graph import Span
from tapeless.ir.types import Rows

_NUMERIC = (Computed, int, float, Rows)


def tensor_of(context: Context, frame: Frame, syntax: ast.Expression, value: Any) -> Any:
    """A value where a tensor is wanted: a list is a vector there."""
    if not isinstance(value, tuple):
        return value
    return context.guarded(frame, syntax.span, lambda: context.emitter.vector(value))


def numeric(frame: Frame, syntax: ast.Expression, value: Any, user: str) -> Any:
    """The value, which must be a number or a tensor."""
    if not isinstance(value, _NUMERIC):
        raise frame.fault("E0401", f"{user} needs numbers, not {describe(value)}", syntax.span)
    return value


def elementwise(context: Context, frame: Frame, what: str, values: Iterable[Any], span: Span) -> None:
    """Elements of a line with index variables go into functions of one element only. Raises Fault."""
    indexed = context.emitter.indexed
    if indexed and any(isinstance(value, Computed) and value.value in indexed for value in values):
        raise frame.fault(
            "E1006",
            f"{what} works on whole tensors, and this is one element",
            span,
            hint="Reduce over an index (`sum[i] ...`), or call it on a line of its own.",
        )
