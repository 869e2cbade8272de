"""A checkpoint taken over by a program: the whole of it is looked at before anything of the program changes.

First the file's own description of itself, then whether it belongs to the program and its tensors fit, then the
record of the run, then the tensors; and only then are they copied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeless.runtime import belonging, checkpoint, claims
from tapeless.runtime.belonging import Record
from tapeless.runtime.errors import CheckpointError
from tapeless.runtime.manifest import Entry, Manifest, Slot
from tapeless.runtime.resumption import LAST, Progress
from tapeless.runtime.tensors import Malformed, TensorFile

Array = npt.NDArray[Any]
COUNTERS = ("step", "steps", "epoch")


@dataclass
class Checkpoint:
    """What a file holds for a program: tensors by the names of slots, where its run stands, and of what program it is.

    `changed` are the numbers of the optimizer that the program's text gives otherwise than that of the checkpoint.
    """

    tensors: dict[str, Array]
    progress: Progress | None
    record: Record | None
    image: str | None
    alphabet: str | None
    changed: Mapping[str, float] = field(default_factory=dict)


def read(path: str | Path, manifest: Manifest) -> Checkpoint:
    """The weights of a file and all else that fits a program. CheckpointError if they don't."""
    return _read(path, manifest, None)


def read_run(path: str | Path, manifest: Manifest, entry: Entry) -> Checkpoint:
    """A checkpoint of this very program, as a whole, with its run. `entry` is the program's `train_step`.
    CheckpointError otherwise.
    """
    return _read(path, manifest, entry)


def read_some(path: str | Path, manifest: Manifest, patterns: Sequence[str]) -> dict[str, Array]:
    """The parameters and states of layers whose names match, from any safetensors file. CheckpointError unless all
    are there and fit.
    """
    with checkpoint.opened(path) as file:
        return {
            slot.name: checkpoint.tensor(file, slot.name, slot)
            for slot in checkpoint.chosen(file, manifest.state, patterns)
        }


def _read(path: str | Path, manifest: Manifest, entry: Entry | None) -> Checkpoint:
    here, whole = belonging.record(manifest), entry is not None
    with checkpoint.opened(path) as file:
        recorded = checkpoint.recorded(file)
        metadata = recorded.fields
        there = belonging.read(metadata["program"]) if "program" in metadata else None
        same = there is not None and there.same(here)
        if whole and there is not None and not same:
            raise CheckpointError(
                f"{path} was written by another program:{belonging.differences(there, here) or ' its text differs'}\n"
                "Its weights alone can be used (`--weights`, `Program.load`)"
            )
        if whole:
            _nothing_else(file, manifest)
        slots = checkpoint.fitting(file, manifest.state, whole)
        if whole and (there is None or "training" not in metadata):
            raise CheckpointError(f"{path} holds weights but no training run to resume; it can be used as weights")
        recorded.undamaged(file)
        tensors = {slot.name: checkpoint.tensor(file, slot.name, slot) for slot in slots}
        _count(tensors)
        progress = None
        if same and "training" in metadata:
            progress = claims.read(metadata["training"], lambda name: int(tensors[name]) if name in tensors else None)
            if entry is not None:
                claims.fits(progress, entry)
            _take_best(progress, file, manifest, tensors)
    changed = belonging.changed(there, here) if there is not None and same else {}
    return Checkpoint(tensors, progress, there, metadata.get("image"), metadata.get("alphabet"), changed)


def _nothing_else(file: TensorFile, manifest: Manifest) -> None:
    """A checkpoint has no tensors but the program's, and those at which its run stands."""
    known = {slot.name for slot in manifest.state.slots}
    for name in file:
        if name.removeprefix(LAST) not in known:
            raise CheckpointError(f"{file.path} does not belong to this program: there is no `{name[:80]}` here")


def _count(tensors: Mapping[str, Array]) -> None:
    """Malformed where a counter stands where none can."""
    for name in COUNTERS:
        if name in tensors and not 0 <= int(tensors[name]) <= claims.MOST - 1:
            raise Malformed(f"its counter `{name}` can't be {int(tensors[name])}")


def _take_best(progress: Progress, file: TensorFile, manifest: Manifest, tensors: Mapping[str, Array]) -> None:
    """The weights at which the run stands, where those that are the best so far are kept under the plain names."""
    slots: dict[str, Slot] = {slot.name: slot for slot in manifest.state.with_role("param", "state")}
    beside = {name.removeprefix(LAST) for name in file if name.startswith(LAST)}
    best = progress.best if progress.best is not None and progress.best.epoch else None
    if beside != (slots.keys() if best is not None else set()):
        raise Malformed("the weights at which its run stands are not those of the program")
    if best is not None:
        for name, slot in slots.items():
            if file[LAST + name].shape != slot.shape or file[LAST + name].dtype != slot.dtype:
                raise Malformed(f"`{LAST}{name}` does not fit `{name}`")
        progress.last = {name: checkpoint.tensor(file, LAST + name, slot) for name, slot in slots.items()}
        best.weights = {name: np.array(tensors[name]) for name in slots}
