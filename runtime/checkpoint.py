"""Weights on disk: safetensors files of a program's state, slot by slot, written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeless.runtime.errors import CheckpointError
from tapeless.runtime.manifest import Block, Slot
from tapeless.runtime.tensors import Described, Malformed, TensorFile, parsed
from tapeless.runtime.writing import refusal, write_atomically

Array = npt.NDArray[Any]
METADATA = "tapeless"  # the key of our metadata among those of the file
DIGEST = "digest"


def save(path: str | Path, state: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Writes all tensors of `state` with `metadata` as text beside them. Equal content gives equal bytes."""
    from safetensors.numpy import save as serialise

    tensors = {name: np.array(view) for name, view in state.items()}
    # One entry alone: the library writes several in no fixed order.
    described = {METADATA: json.dumps({**metadata, DIGEST: _digest(tensors, metadata)}, sort_keys=True)}
    content = serialise(tensors, described)
    try:
        write_atomically(path, content)
    except OSError as error:
        raise CheckpointError(refusal(path, error)) from error


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[TensorFile]:
    """A file of weights, its tensors described and not yet read. CheckpointError for whatever is wrong with it."""
    if not Path(path).is_file():
        raise CheckpointError(f"there is no file of weights {path}")
    try:
        with TensorFile(path) as file:
            yield file
    except (Malformed, OSError) as error:
        raise CheckpointError(
            f"{path} can't be read as safetensors: {getattr(error, 'strerror', None) or error}"
        ) from error


@dataclass(frozen=True)
class Recorded:
    """What is recorded beside the tensors; empty for a file that `save` did not write. To be believed once it is
    `undamaged`.
    """

    fields: Mapping[str, str]
    digest: str | None

    def undamaged(self, file: TensorFile) -> None:
        """Malformed unless the file is what was written. Reads all of it, a few bytes at a time."""
        if self.digest is not None and self.digest != _digest_of(file, self.fields):
            raise Malformed("it is damaged: its content is not what was written")


def recorded(file: TensorFile) -> Recorded:
    """The record in a file."""
    if METADATA not in file.metadata:
        return Recorded({}, None)
    described = parsed(file.metadata[METADATA], "its record")
    if not all(isinstance(value, str) for value in described.values()):
        raise Malformed("its metadata are not those of a program")
    if DIGEST not in described:
        raise Malformed("its record has no digest")
    return Recorded({name: value for name, value in described.items() if name != DIGEST}, described[DIGEST])


def read(path: str | Path) -> tuple[dict[str, Array], dict[str, str]]:
    """The tensors of a file by name, and its metadata."""
    with opened(path) as file:
        record = recorded(file)
        record.undamaged(file)
        return {name: file.read(name) for name in file}, dict(record.fields)


def mapped(path: str | Path) -> dict[str, Array]:
    """The tensors of a file by name, where they lie in it: it may be larger than memory, and must not become
    shorter.
    """
    with opened(path) as file:
        return {name: file.mapped(name) for name in file}


def _digest(tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> str:
    """Of all that a file says, so that a byte changed on disk is noticed."""
    return _summed(
        (
            (name, tensors[name].dtype, tensors[name].shape, [np.ascontiguousarray(tensors[name]).data])
            for name in sorted(tensors)
        ),
        metadata,
    )


def _digest_of(file: TensorFile, metadata: Mapping[str, str]) -> str:
    """The same of a file, a few bytes at a time."""
    return _summed(((name, file[name].dtype, file[name].shape, file.pieces(name)) for name in sorted(file)), metadata)


def _summed(
    tensors: Iterable[tuple[str, np.dtype[Any], tuple[int, ...], Iterable[Any]]], metadata: Mapping[str, str]
) -> str:
    digest = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name, dtype, shape, pieces in tensors:
        digest.update(f"{name} {dtype} {shape}".encode())
        for piece in pieces:
            digest.update(piece)
    return digest.hexdigest()


def fitting(file: TensorFile, layout: Block, whole: bool = False) -> list[Slot]:
    """The slots that a file has tensors for, none of which has been read. CheckpointError unless they belong together.

    Parameters and layer state must be there with their shapes; what the optimizer keeps is taken where it fits, so
    that weights trained with one optimizer can go on with another; `whole` means that all must fit.
    """
    _check(file, [slot for slot in layout.slots if slot.role in ("param", "state") or whole])
    return [slot for slot in layout.slots if slot.name in file and not _unfit(file[slot.name], slot)]


def chosen(file: TensorFile, layout: Block, patterns: Iterable[str]) -> list[Slot]:
    """The parameters and states of layers whose names match a pattern. CheckpointError unless a file has all of
    them.
    """
    known = [slot for slot in layout.slots if slot.role in ("param", "state")]
    found = []
    for pattern in patterns:
        matching = [slot for slot in known if fnmatchcase(slot.name, pattern)]
        if not matching:
            names = ", ".join(slot.name for slot in known[:6]) + (", ..." if len(known) > 6 else "")
            raise CheckpointError(f"{pattern!r} matches no parameter; there are {names}")
        found += matching
    _check(file, found)
    return found


def tensor(file: TensorFile, name: str, slot: Slot) -> Array:
    """A tensor of a file as a slot takes it. Malformed if a number does not fit into the slot's type."""
    stored = file.read(name)
    with np.errstate(over="ignore", invalid="ignore"):
        made = stored.astype(slot.dtype, copy=False)
    lost = np.isinf(made) & ~np.isinf(stored) if made.dtype.kind == "f" else made != stored
    if lost.any():
        raise Malformed(f"`{name}` holds numbers that {slot.dtype} does not")
    return made


def _unfit(stored: Described, slot: Slot) -> str | None:
    """Why a tensor does not fit a slot, if so. Real numbers are converted, whatever their size."""
    if stored.shape != slot.shape:
        return f"is {list(stored.shape)} there and {list(slot.shape)} here"
    if stored.dtype.kind != slot.dtype.kind:
        return f"holds {stored.dtype} there and {slot.dtype} here"
    return None


def _check(file: TensorFile, slots: Iterable[Slot]) -> None:
    """Every slot must have a tensor of its name, shape and kind. CheckpointError with all that is wrong."""
    faults = []
    for slot in slots:
        if slot.name not in file:
            faults.append(f"`{slot.name}` is missing")
        elif (reason := _unfit(file[slot.name], slot)) is not None:
            faults.append(f"`{slot.name}` {reason}")
    if faults:
        listed = "; ".join(faults[:6]) + (f"; and {len(faults) - 6} more" if len(faults) > 6 else "")
        raise CheckpointError(f"{file.path} does not belong to this program: {listed}")
