"""Weights on disk: safetensors files of a program's state, slot by slot, written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeless.runtime.errors import CheckpointError
from tapeless.runtime.manifest import Block

Array = npt.NDArray[Any]
METADATA = "tapeless"  # the key of our metadata among those of the file


def write_atomically(path: str | Path, content: bytes) -> None:
    """Writes a file so that a reader, or a crash, finds either the old content or the new, never a part."""
    path = Path(path)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _permissions())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _permissions() -> int:
    """What a newly created file would have got; mkstemp's own are private."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def save(path: str | Path, state: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Writes all tensors of `state` with `metadata` as text beside them. Equal content gives equal bytes."""
    from safetensors.numpy import save as serialise

    # One entry alone: the library writes several in no fixed order.
    described = {METADATA: json.dumps(dict(metadata), sort_keys=True)}
    content = serialise({name: np.array(view) for name, view in state.items()}, described)
    try:
        write_atomically(path, content)
    except OSError as error:
        raise CheckpointError(f"{path} can't be written: {error.strerror or error}") from error


def read(path: str | Path) -> tuple[dict[str, Array], dict[str, str]]:
    """The tensors of a file by name, and its metadata."""
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise CheckpointError(f"there is no file of weights {path}")
    try:
        with safe_open(str(path), "numpy") as file:
            names = list(file.keys())
            described = json.loads((file.metadata() or {}).get(METADATA, "{}"))
            return {name: file.get_tensor(name) for name in names}, described
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} can't be read as safetensors: {error}") from error


def restore(path: str | Path, state: Mapping[str, Array], layout: Block) -> dict[str, str]:
    """Copies a file's tensors into the views of `state`; its metadata. Nothing is copied unless all of it fits.

    Parameters and layer state must be there with the shapes of `layout`; what the optimizer keeps is taken where it
    fits, so that weights trained with one optimizer can go on with another. Real tensors are converted between
    float32 and float64.
    """
    tensors, metadata = read(path)
    wanted = {slot.name: slot for slot in layout.slots}
    faults = []
    for slot in layout.slots:
        if slot.role not in ("param", "state"):
            continue
        if slot.name not in tensors:
            faults.append(f"`{slot.name}` is missing")
        elif tensors[slot.name].shape != slot.shape:
            faults.append(f"`{slot.name}` is {list(tensors[slot.name].shape)} there and {list(slot.shape)} here")
    if faults:
        listed = "; ".join(faults[:6]) + (f"; and {len(faults) - 6} more" if len(faults) > 6 else "")
        raise CheckpointError(f"{path} does not belong to this program: {listed}")
    for name, tensor in tensors.items():
        slot_here = wanted.get(name)
        if slot_here and tensor.shape == slot_here.shape and tensor.dtype.kind == slot_here.dtype.kind:
            state[name][...] = tensor
    return metadata
