"""The functions that the language itself cannot express; all others are written in it, in `std`."""

from tapeless.compiler.elaborate.functions import (
    derivatives,
    dot_product_attention,
    einsum,
    factors,
    labels,
    movement,
    penalties,
    pointwise,
    random,
    reductions,
    shaping,
    sorting,
    windows,
)
from tapeless.compiler.elaborate.functions.movement import indexed
from tapeless.compiler.elaborate.functions.reductions import quotient_of_totals
from tapeless.compiler.elaborate.functions.registry import BUILTINS, CallSite, Surroundings

__all__ = [
    "BUILTINS",
    "CallSite",
    "Surroundings",
    "derivatives",
    "dot_product_attention",
    "einsum",
    "factors",
    "indexed",
    "labels",
    "movement",
    "penalties",
    "pointwise",
    "quotient_of_totals",
    "random",
    "reductions",
    "shaping",
    "sorting",
    "windows",
]
