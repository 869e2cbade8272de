"""Where a run stands, as a record that goes into a checkpoint and from which training continues bit for bit.

The order of an epoch comes from the seed and the epoch's number, and random draws from the seed and the step, all of
which are part of the program's state; so besides that state it takes only a position, the sums so far, and what early
stopping remembers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeless.runtime.belonging import ANEW
from tapeless.runtime.data import Examples, native
from tapeless.runtime.errors import DataError, UserError
from tapeless.runtime.manifest import Settings, TensorSpec
from tapeless.runtime.stopping import Best

Array = npt.NDArray[Any]
LAST = "last/"  # before the names of the weights at which training stands, where the best ones are kept beside them
SAMPLED_ROWS = 64


@dataclass
class Progress:
    """One run, between two steps. `position` is the number of rows done in the current epoch, `sums` what its losses
    and metrics add up to so far. `last` holds the weights at which training stands while the best ones are in the
    program's state; None while training runs."""

    settings: Settings
    rows: int
    data: str
    own_validation: bool = False
    epochs: int = 0
    steps: int = 0
    position: int = 0
    sums: list[float] = field(default_factory=list)
    curves: dict[str, list[float]] = field(default_factory=dict)
    best: Best | None = None
    last: dict[str, Array] | None = None

    def to_json(self) -> str:
        best = None if self.best is None else {k: v for k, v in vars(self.best).items() if k != "weights"}
        plain = {k: v for k, v in vars(self).items() if k not in ("settings", "best", "last")}
        return json.dumps({**plain, "settings": asdict(self.settings), "best": best})

    def go_on(self, **settings: Any) -> None:
        """Takes over settings that may be given anew while a run goes on."""
        self.settings = replace(self.settings, **settings)
        if self.best is not None:
            self.best.patience = self.settings.patience or self.settings.epochs + 1


def contents(state: Mapping[str, Array], progress: Progress | None) -> dict[str, Array]:
    """The tensors of a checkpoint: the weights to use by their names and, where the run stands at others, those too."""
    tensors = dict(state)
    if progress is not None and progress.best is not None and progress.best.weights:
        weights = progress.best.weights
        at = progress.last if progress.last is not None else {name: state[name] for name in weights}
        tensors |= {LAST + name: at[name] for name in weights}
        if progress.last is None:
            tensors |= weights
    return tensors


def rest(state: Mapping[str, Array], progress: Progress) -> None:
    """Puts the best weights into the program's state and those at which the run stands aside."""
    if progress.best is not None and progress.best.weights and progress.last is None:
        progress.last = {name: state[name].copy() for name in progress.best.weights}
        for name, value in progress.best.weights.items():
            state[name][...] = value


def wake(state: Mapping[str, Array], progress: Progress) -> None:
    """The reverse of `rest`."""
    if progress.last is not None:
        for name, value in progress.last.items():
            state[name][...] = value
        progress.last = None


def fingerprint(specs: Sequence[TensorSpec], examples: Examples) -> str:
    """A digest of the number of rows and of a sample of them, as the program sees them, to notice other data."""
    digest = hashlib.sha256(str(examples.rows).encode())
    for spec, array in zip(specs, examples.arrays, strict=True):
        if array.ndim and len(array):
            chosen = np.unique(np.linspace(0, len(array) - 1, SAMPLED_ROWS).astype(np.int64))
            digest.update(native(spec, array[chosen]).tobytes())
    return digest.hexdigest()


def continued(progress: Progress, given: Settings, asked: Mapping[str, Any], data: str) -> None:
    """Holds the record against what this call brings, and takes over new `epochs` and `patience`.

    `given` are the settings as the call has them, `asked` the options that were given for them, `data` the fingerprint
    of its data.
    """
    if data != progress.data:
        raise DataError(
            f"training can't be resumed with other data: the run was begun with {progress.rows} rows to train on, "
            "and these differ from them. To go on from its weights with new data, load them instead (`--weights`)"
        )
    for name in ("batch", "validation", "monitor", "rising"):
        if name in asked and getattr(given, name) != getattr(progress.settings, name):
            raise UserError(
                f"training can't be resumed with {name} {getattr(given, name)}: it was begun with "
                f"{getattr(progress.settings, name)}"
            )
    progress.go_on(**{name: asked[name] for name in ANEW if name in asked})
