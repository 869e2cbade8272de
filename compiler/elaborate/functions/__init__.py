"""The functions that the language itself cannot express; all others are written in it, in `std`."""

from tapeless.compiler.elaborate.functions import (
    attention,
    derivatives,
    einsum,
    factors,
    labels,
    movement,
    ordering,
    penalties,
    pointwise,
    random,
    reductions,
    shaping,
    windows,
)
from tapeless.compiler.elaborate.functions.movement import indexed
from tapeless.compiler.elaborate.functions.reductions import quotient_of_totals
from tapeless.compiler.elaborate.functions.registry import BUILTINS, CallSite

__all__ = [
    "BUILTINS",
    "CallSite",
    "attention",
    "derivatives",
    "einsum",
    "factors",
    "indexed",
    "labels",
    "movement",
    "ordering",
    "penalties",
    "pointwise",
    "quotient_of_totals",
    "random",
    "reductions",
    "shaping",
    "windows",
]
