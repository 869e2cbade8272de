"""The operations of the IR, one declaration each; `operation(name)` looks one up."""

from tapeless.ir.ops import (
    attention,
    factor,
    gamma,
    indexing,
    movement,
    norm,
    ordering,
    product,
    random,
    recurrence,
    reduction,
    scalar,
    scan,
    shape,
    special,
    stated,
    structure,
    windows,
)
from tapeless.ir.ops.registry import OPERATIONS, Cost, JointDerivative, NoDerivative, Operation, Run, Sample
from tapeless.ir.types import IRTypeError


def operation(name: str) -> Operation:
    """The operation of that name. Raises IRTypeError if there is none."""
    try:
        return OPERATIONS[name]
    except KeyError:
        raise IRTypeError(f"there is no operation `{name}`") from None


__all__ = [
    "OPERATIONS",
    "Cost",
    "JointDerivative",
    "NoDerivative",
    "Operation",
    "Run",
    "Sample",
    "attention",
    "factor",
    "gamma",
    "indexing",
    "movement",
    "norm",
    "operation",
    "ordering",
    "product",
    "random",
    "recurrence",
    "reduction",
    "scalar",
    "scan",
    "shape",
    "special",
    "stated",
    "structure",
    "windows",
]
