"""The functions that the language itself cannot express; all others are written in it, in `std`."""

from tapeless.compiler.elaborate.functions import pointwise, random, reductions, shaping
from tapeless.compiler.elaborate.functions.registry import BUILTINS, CallSite
from tapeless.compiler.elaborate.functions.shaping import gather

# Names of LANGUAGE that have no meaning in this version, with the code that says so.
UNSUPPORTED: dict[str, str] = {
    "grad": "E0904",
    **dict.fromkeys(
        ("prod", "cumsum", "concat", "stack", "split", "pad", "flip", "round", "orthogonal", "erf", "unbiased", "sort", "einsum"), "E0906"
    ),
}

__all__ = ["BUILTINS", "UNSUPPORTED", "CallSite", "gather", "pointwise", "random", "reductions", "shaping"]
