"""The operations of the IR, one declaration each; `operation(name)` looks one up.

Each module of this folder declares some: all are imported here, in the order of their names.
"""

from importlib import import_module
from pkgutil import iter_modules

from tapeless.ir.ops.registry import OPERATIONS, Cost, JointDerivative, NoDerivative, Operation, Run, Sample
from tapeless.ir.types import IRTypeError

for _module in sorted(module.name for module in iter_modules(__path__)):
    import_module(f"{__name__}.{_module}")

POINTWISE = frozenset(name for name, operation in OPERATIONS.items() if operation.family == "pointwise")
VIEWS = frozenset({"reshape", "after", "only_row"})  # results lie where their first operand does


def operation(name: str) -> Operation:
    """The operation of that name. Raises IRTypeError if there is none."""
    try:
        return OPERATIONS[name]
    except KeyError:
        raise IRTypeError(f"there is no operation `{name}`") from None


__all__ = [
    "OPERATIONS",
    "POINTWISE",
    "VIEWS",
    "Cost",
    "JointDerivative",
    "NoDerivative",
    "Operation",
    "Run",
    "Sample",
    "operation",
]
