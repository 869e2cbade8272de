"""The functions that the language itself cannot express; all others are written in it, in `std`.

Each module of this folder enters some into the table: all are imported here, in the order of their names.
"""

from importlib import import_module
from pkgutil import iter_modules

from tapeless.compiler.elaborate.functions.registry import BUILTINS, CallSite, Surroundings

for _module in sorted(module.name for module in iter_modules(__path__)):
    import_module(f"{__name__}.{_module}")

__all__ = ["BUILTINS", "CallSite", "Surroundings"]
