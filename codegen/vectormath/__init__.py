"""Elementary functions on vectors, as loop IR. FUNCTIONS names those of one argument."""

from __future__ import annotations

from collections.abc import Callable

from tapeless.codegen.builder import Builder
from tapeless.codegen.loops import Operand, Value
from tapeless.codegen.vectormath.error import erf
from tapeless.codegen.vectormath.exponential import exp, expm1, log, log1p, power, sigmoid, softplus, tanh
from tapeless.codegen.vectormath.trigonometric import cos, sin

__all__ = ["FUNCTIONS", "power"]

FUNCTIONS: dict[str, Callable[[Builder, Operand], Value]] = {
    "exp": exp, "expm1": expm1, "log": log, "log1p": log1p, "tanh": tanh, "sigmoid": sigmoid, "softplus": softplus,
    "sin": sin, "cos": cos, "erf": erf,
}
