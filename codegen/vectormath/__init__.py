"""Elementary functions on vectors, as loop IR. FUNCTIONS names those of one argument, PAIRS those of two, FAMILIES
those of one with an order known when compiling.
"""

from __future__ import annotations

from collections.abc import Callable

from tapeless.codegen.loops.builder import Builder
from tapeless.codegen.loops.language import Operand, Value
from tapeless.codegen.vectormath.decimal import exp10, log10
from tapeless.codegen.vectormath.division import floor_divide, remainder
from tapeless.codegen.vectormath.error import erf, erfc
from tapeless.codegen.vectormath.exponential import (
    exp,
    exp2,
    expm1,
    log,
    log1p,
    log2,
    sigmoid,
    sigmoid_slope,
    softplus,
    tanh,
    tanh_slope,
)
from tapeless.codegen.vectormath.gamma import lgamma, polygamma
from tapeless.codegen.vectormath.hyperbolic import cosh, sinh
from tapeless.codegen.vectormath.inverse import acos, asin, atan, atan2
from tapeless.codegen.vectormath.power import power
from tapeless.codegen.vectormath.roots import cbrt, hypot, hypot_slope, rsqrt
from tapeless.codegen.vectormath.special import bessel_i, erfcx, erfinv, ndtri
from tapeless.codegen.vectormath.trigonometric import cos, sin, tan

__all__ = ["FAMILIES", "FUNCTIONS", "PAIRS", "polygamma", "power"]

FUNCTIONS: dict[str, Callable[[Builder, Operand], Value]] = {
    "exp": exp,
    "exp2": exp2,
    "expm1": expm1,
    "log": log,
    "log2": log2,
    "log1p": log1p,
    "exp10": exp10,
    "log10": log10,
    "tanh": tanh,
    "tanh_slope": tanh_slope,
    "sigmoid": sigmoid,
    "sigmoid_slope": sigmoid_slope,
    "softplus": softplus,
    "sin": sin,
    "cos": cos,
    "tan": tan,
    "asin": asin,
    "acos": acos,
    "atan": atan,
    "sinh": sinh,
    "cosh": cosh,
    "erf": erf,
    "erfc": erfc,
    "rsqrt": rsqrt,
    "cbrt": cbrt,
    "lgamma": lgamma,
    "erfinv": erfinv,
    "ndtri": ndtri,
}
# of an order
FAMILIES: dict[str, Callable[..., Value]] = {"polygamma": polygamma, "erfcx": erfcx, "bessel_i": bessel_i}
PAIRS: dict[str, Callable[[Builder, Operand, Operand], Operand]] = {
    "pow": power,
    "hypot": hypot,
    "hypot_slope": hypot_slope,
    "atan2": atan2,
    "remainder": remainder,
    "floor_divide": floor_divide,
}
