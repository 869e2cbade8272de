"""Functions of f32 computed in f64: rounded once, so right to the last bit but for one case in millions.

For functions that a program seldom spends its time in: two vectors of f64 cost about twice one of f32.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from tapeless.codegen.loops.builder import Builder
from tapeless.codegen.loops.language import Operand, Value

__all__ = ["in_double"]


def in_double(function: Callable[..., Value]) -> Callable[..., Value]:
    """`function`, written for f64, on values of either type."""

    @functools.wraps(function)
    def either(b: Builder, *operands: Operand, **options: Any) -> Value:
        if operands[0].type.kind == "f64":
            return function(b, *operands, **options)
        result = function(b, *(b.convert(operand, "f64") for operand in operands), **options)
        return b.convert(result, operands[0].type.kind)  # type: ignore[return-value]

    return either
