"""The record of a run in a checkpoint, which anybody may have written, held against what a run can be before
anything is done by it.

Native code walks the rows from the position that the record names, and the loop ends by the counts in it; so every
number is of its type and in its range, and all of them agree with each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from tapeless.runtime.errors import CheckpointError
from tapeless.runtime.manifest import Entry, Settings
from tapeless.runtime.order import MOST_ROWS, held_rows
from tapeless.runtime.resumption import Progress
from tapeless.runtime.stopping import Best
from tapeless.runtime.tensors import Malformed, parsed

MOST = 2**31 - 1  # steps and epochs are counted in 32 bits
Check = Callable[[Any], bool]


def _count(least: int = 0, most: int = MOST) -> Check:
    return lambda value: type(value) is int and least <= value <= most


def _number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**63)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _truth(value: Any) -> bool:
    return isinstance(value, bool)


def _maybe(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and all(map(_number, value))


SETTINGS: Mapping[str, Check] = {
    "epochs": _count(),
    "batch": _count(1, MOST_ROWS),
    "validation": lambda value: _number(value) and 0 <= value < 1,
    "patience": _maybe(_count()),
    "monitor": _maybe(_text),
    "rising": _truth,
}
BEST: Mapping[str, Check] = {
    "key": _text,
    "rising": _truth,
    "patience": _count(1, MOST + 1),
    "value": _maybe(lambda value: _number(value) and not math.isnan(value)),
    "epoch": _count(),
}
RUN: Mapping[str, Check] = {
    "settings": lambda value: isinstance(value, dict),
    "best": _maybe(lambda value: isinstance(value, dict)),
    "rows": _count(1, MOST_ROWS),
    "data": _text,
    "own_validation": _truth,
    "epochs": _count(),
    "steps": _count(),
    "position": _count(0, MOST_ROWS),
    "sums": _numbers,
    "curves": lambda value: isinstance(value, dict) and all(map(_numbers, value.values())),
}


def read(text: str, count: Callable[[str], int | None]) -> Progress:
    """The record of a run; `count` says what a counter of the checkpoint's state is at. CheckpointError if there can
    be no such run.
    """
    try:
        value = parsed(text, "it")
        settings = Settings(**_fields(SETTINGS, "settings", value.get("settings")))
        best = None if value.get("best") is None else Best(**_fields(BEST, "best", value["best"]))
        progress = Progress(**{**_fields(RUN, "run", value), "settings": settings, "best": best})
        _agree(progress, count)
    except Malformed as error:
        raise CheckpointError(f"the record of the training run in the checkpoint can't be read: {error}") from error
    return progress


def _fields(checks: Mapping[str, Check], what: str, value: Any) -> dict[str, Any]:
    """The fields of a part of the record, all there and each as it can be."""
    if not isinstance(value, dict) or value.keys() != checks.keys():
        raise Malformed(f"its {what} are not what is recorded of a run")
    for name, check in checks.items():
        if not check(value[name]):
            raise Malformed(f"`{name}` can't be {str(value[name])[:40]}")
    return value


def _agree(run: Progress, count: Callable[[str], int | None]) -> None:
    """Malformed unless the numbers can be those of one run."""
    train = run.rows - (0 if run.own_validation else held_rows(run.rows, run.settings.validation))
    batch = run.settings.batch
    per_epoch = -(-train // batch)
    best = run.best
    wrong = {
        "validation": train < 1 or (run.own_validation and run.settings.validation != 0),
        "position": run.position >= max(train, 1) or run.position % batch != 0,
        "steps": run.steps != run.epochs * per_epoch + run.position // batch or (count("step") or 0) < run.steps,
        "epochs": (count("epoch") or 0) < run.epochs,
        "sums": bool(run.sums) != bool(run.position),
        "curves": any(len(values) != run.epochs for values in run.curves.values())
        or bool(run.curves) != bool(run.epochs),
        "best": best is not None and (best.epoch > run.epochs or (best.value is None) != (best.epoch == 0)),
        "patience": best is not None and best.patience != (run.settings.patience or run.settings.epochs + 1),
    }
    for name, is_wrong in wrong.items():
        if is_wrong:
            raise Malformed(f"`{name}` does not agree with the rest")


def fits(run: Progress, entry: Entry) -> None:
    """CheckpointError unless the run measures what the program's training does."""
    names = {result.name for result in entry.results}
    known = names | {f"validation_{name}" for name in names}
    watched = {run.best.key} if run.best is not None else set()
    if not (run.curves.keys() | watched) <= known or len(run.sums) not in (0, len(entry.results)):
        raise CheckpointError("the training run in the checkpoint measures something else than this program")
