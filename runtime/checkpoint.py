"""Weights on disk: safetensors files of a program's state, slot by slot, written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import secrets
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeless.runtime.errors import CheckpointError
from tapeless.runtime.manifest import Block, Slot

Array = npt.NDArray[Any]
METADATA = "tapeless"  # the key of our metadata among those of the file
DIGEST = "digest"
SUFFIX = ".part"  # of a file that is being written


def write_atomically(path: str | Path, content: bytes) -> None:
    """Writes a file so that a reader, or a crash, finds either the old content or the new, never a part."""
    path = Path(path)
    with _beside(path) as (descriptor, temporary):
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    _clear_away(path)


def check_writable(path: str | Path) -> None:
    """Finds out, before any work is done for it, whether a file can be written. CheckpointError if not."""
    path = Path(path)
    try:
        if path.is_dir():
            raise CheckpointError(f"{path} can't be written: it is a folder")
        if not path.absolute().parent.is_dir():
            raise CheckpointError(f"{path} can't be written: there is no folder {path.parent}")
        with contextlib.suppress(FileNotFoundError):
            os.lstat(path)  # finds a name that is too long
        with _beside(path) as (descriptor, temporary):
            os.close(descriptor)
            os.unlink(temporary)
    except OSError as error:
        raise CheckpointError(f"{path} can't be written: {error.strerror or error}") from error


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[tuple[int, str]]:
    """A temporary file in the same folder, removed if anything goes wrong. Its name holds machine and process."""
    temporary = str(path.parent / f"{_prefix(path)}{os.getpid()}.{secrets.token_hex(4)}{SUFFIX}")
    # Not by tempfile, whose files are private: this one is as readable as any new file.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        yield descriptor, temporary
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _prefix(path: Path) -> str:
    # File systems allow 255 bytes, and a folder may be shared with other machines, whose processes are not ours.
    return f".{path.name[:160]}.{platform.node()[:40]}."


def _clear_away(path: Path) -> None:
    """Removes what processes that were killed while they wrote this file have left behind."""
    with contextlib.suppress(OSError):
        for name in os.listdir(path.absolute().parent):
            if not (name.startswith(_prefix(path)) and name.endswith(SUFFIX)):
                continue
            process = name.removeprefix(_prefix(path)).split(".")[0]
            if process.isdigit() and not _alive(int(process)):
                (path.parent / name).unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it belongs to someone else
    return True


def _sync_folder(folder: Path) -> None:
    """Makes a new name durable, where the system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


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
            if not isinstance(described, dict):
                raise ValueError("its metadata are not those of a program")
            tensors = {name: file.get_tensor(name) for name in names}
            if DIGEST in described and described.pop(DIGEST) != _digest(tensors, described):
                raise ValueError("it is damaged: its content is not what was written")
            return tensors, described
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} can't be read as safetensors: {error}") from error


def _digest(tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> str:
    """Of all that a file says, so that a byte changed on disk is noticed."""
    digest = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
        digest.update(np.ascontiguousarray(tensor).data)
    return digest.hexdigest()


def restore(
    path: str | Path, tensors: Mapping[str, Array], state: Mapping[str, Array], layout: Block, whole: bool = False
) -> None:
    """Copies the tensors of a file into the views of `state`. Nothing is copied unless all of it fits.

    Parameters and layer state must be there with the shapes of `layout`; what the optimizer keeps is taken where it
    fits, so that weights trained with one optimizer can go on with another; `whole` means that all must fit. Real
    tensors are converted between float32 and float64.
    """
    wanted = {slot.name: slot for slot in layout.slots}
    _check(path, tensors, [slot for slot in layout.slots if slot.role in ("param", "state") or whole])
    for name, tensor in tensors.items():
        slot_here = wanted.get(name)
        if slot_here and tensor.shape == slot_here.shape and tensor.dtype.kind == slot_here.dtype.kind:
            state[name][...] = tensor


def restore_some(
    path: str | Path, tensors: Mapping[str, Array], state: Mapping[str, Array], layout: Block, patterns: Iterable[str]
) -> None:
    """Copies those parameters and states of layers whose names match a pattern. Nothing is copied unless all of it fits."""
    known = [slot for slot in layout.slots if slot.role in ("param", "state")]
    chosen = []
    for pattern in patterns:
        matching = [slot for slot in known if fnmatchcase(slot.name, pattern)]
        if not matching:
            names = ", ".join(slot.name for slot in known[:6]) + (", ..." if len(known) > 6 else "")
            raise CheckpointError(f"{pattern!r} matches no parameter; there are {names}")
        chosen += matching
    _check(path, tensors, chosen)
    for slot in chosen:
        state[slot.name][...] = tensors[slot.name]


def _check(path: str | Path, tensors: Mapping[str, Array], slots: Iterable[Slot]) -> None:
    """Every slot must have a tensor of its name, shape and kind. CheckpointError with all that is wrong."""
    faults = []
    for slot in slots:
        if slot.name not in tensors:
            faults.append(f"`{slot.name}` is missing")
        elif tensors[slot.name].shape != slot.shape:
            faults.append(f"`{slot.name}` is {list(tensors[slot.name].shape)} there and {list(slot.shape)} here")
        elif tensors[slot.name].dtype.kind != slot.dtype.kind:
            faults.append(f"`{slot.name}` holds {tensors[slot.name].dtype} there and {slot.dtype} here")
    if faults:
        listed = "; ".join(faults[:6]) + (f"; and {len(faults) - 6} more" if len(faults) > 6 else "")
        raise CheckpointError(f"{path} does not belong to this program: {listed}")
