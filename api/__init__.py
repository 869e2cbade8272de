"""Tapeless: a compiler for training.

    model = tapeless.load("digits.tl", hidden=256)
    program = model.compile(batch=64, seed=0)
    run = program.fit(X, y, validation=0.2)
    program.predict(Xt)

Importing this imports nothing else; each name brings what it needs when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tapeless.model import Model, load
    from tapeless.runtime.errors import CheckpointError, DataError, ModelWarning, TrainingStopped, UserError
    from tapeless.runtime.program import Program
    from tapeless.runtime.run import Callback, Options, Run

__version__ = "0.1.0"
__all__ = [
    "Callback",
    "CheckpointError",
    "DataError",
    "Model",
    "ModelWarning",
    "Options",
    "Program",
    "Run",
    "TrainingStopped",
    "UserError",
    "load",
]

_HOMES = {
    "Model": "tapeless.model",
    "load": "tapeless.model",
    "Program": "tapeless.runtime.program",
    "Callback": "tapeless.runtime.run",
    "Options": "tapeless.runtime.run",
    "Run": "tapeless.runtime.run",
    "CheckpointError": "tapeless.runtime.errors",
    "DataError": "tapeless.runtime.errors",
    "ModelWarning": "tapeless.runtime.errors",
    "TrainingStopped": "tapeless.runtime.errors",
    "UserError": "tapeless.runtime.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tapeless' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
