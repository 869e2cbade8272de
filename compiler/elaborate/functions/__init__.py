"""The functions that the language itself cannot express; all others are written in it, in `std`."""

from tapeless.compiler.elaborate.functions import (
    attention,
    derivatives,
    factors,
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

# Names of LANGUAGE that have no meaning in this version, with the code that says so.
UNSUPPORTED: dict[str, str] = {
    "einsum": "E0906",
}

__all__ = [
    "BUILTINS",
    "UNSUPPORTED",
    "CallSite",
    "attention",
    "derivatives",
    "factors",
    "indexed",
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
