"""Data on their way in: files and arrays become contiguous arrays of the declared types and shapes, checked.

Everything is checked here, once, so that native code never reads outside a table: shapes, types, bounds of labels,
finite numbers. The messages name the row and say what was expected.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeless.runtime import archive, checkpoint, csv_file
from tapeless.runtime.errors import DataError, UserError
from tapeless.runtime.foreign import NUMBERS, as_array
from tapeless.runtime.manifest import TensorSpec, multiple_of_rows

Array = npt.NDArray[Any]
PIECE_BYTES = 16 << 20  # of what is checked at a time
Data = npt.ArrayLike | Mapping[str, npt.ArrayLike] | None


@dataclass(frozen=True)
class Examples:
    """Checked arrays in the order of an entry's data, all with the same number of rows.

    They are contiguous and of the declared types, so that native code can read them where they lie, unless `streamed`:
    then some are files mapped into memory that have to be converted piece by piece.
    """

    arrays: tuple[Array, ...]
    rows: int
    streamed: bool = False


def load(path: str | Path, columns: Mapping[str, Sequence[str]] | None = None) -> dict[str, Any]:
    """Arrays by name from an `.npz` (its keys), an `.npy` (one array, named after the file, mapped and not read), a
    `.safetensors` or a `.csv`.

    In a CSV file, the column `label` is the array `label`, and `image.0`, `image.1`, ... are the columns of the array
    `image`. `columns` names them otherwise: {"image": ["p0", "p1"], "label": ["digit"]}.

    An array may be one that is still to be read: it has a shape, and `np.asarray` reads it, or says why it can't be.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if not path.is_file():
        raise DataError(f"there is no data file {path}" if not path.exists() else f"{path} is not a file")
    try:
        if kind == ".npz":
            return archive.load(path)
        if kind == ".npy":
            return {path.stem: np.load(path, allow_pickle=False, mmap_mode="r")}
        if kind == ".csv":
            return csv_file.load(path, columns)
        if kind == ".safetensors":
            return checkpoint.mapped(path)
    except UserError:
        raise
    except Exception as error:  # NumPy raises BadZipFile, ValueError, OSError, EOFError... for broken files
        raise DataError(f"{path} can't be read as {kind}: {error}") from error
    raise DataError(
        f"{path}: data come as .npz, .npy, .csv or .safetensors, not as {kind or 'a file without a suffix'}"
    )


def by_name(
    specs: Sequence[TensorSpec], inputs: Data, targets: Data = None, declared: Sequence[TensorSpec] = ()
) -> dict[str, npt.ArrayLike]:
    """The arrays that a caller gave, one at least for each spec: arrays where one is wanted, dicts where several are.

    `declared` are all that the model has; what of these is given and not among `specs` is let pass.
    """
    given: dict[str, npt.ArrayLike] = {}
    for role, value in (("input", inputs), ("target", targets)):
        wanted = [spec.name for spec in specs if spec.role == role]
        wanted = wanted or [spec.name for spec in declared if spec.role == role][:1]
        if isinstance(value, Mapping):
            # as in texts
            given.update((unicodedata.normalize("NFKC", str(name)), array) for name, array in value.items())
        elif value is not None:
            if len(wanted) != 1:
                raise DataError(
                    f"the program has no {role}, but one was given"
                    if not wanted
                    else f"the program has {len(wanted)} {role}s; give a dict with {_listed(wanted)}"
                )
            given[wanted[0]] = value
    missing = [spec for spec in specs if spec.name not in given]
    if missing:
        found, name = f"; found {_listed(given)}" if given else "", missing[0].name
        alike = [one for one in given if one.casefold().startswith(name.casefold())]
        columns = (
            f". The columns of a CSV file are `{name}.0`, `{name}.1` and so on; `--columns "
            f"{name}={alike[0]},...` takes others"
            if alike[1:]
            else ""
        )
        raise DataError(f"the {missing[0].role} `{missing[0]}` is missing{found}{columns}")
    return given


def bind(
    specs: Sequence[TensorSpec],
    inputs: Data,
    targets: Data = None,
    declared: Sequence[TensorSpec] = (),
    some: bool = True,
) -> Examples:
    """Checked, contiguous arrays for `specs`, those of `declared` that are needed. DataError says what does not fit,
    and, where `some` are wanted, that there are no rows. A model without data has one row.
    """
    given = by_name(specs, inputs, targets, declared)
    arrays = [_checked(spec, given[spec.name]) for spec in specs]
    counts: dict[str, int] = {}
    for spec, array in zip(specs, arrays, strict=True):
        if spec.shape and (multiple := multiple_of_rows(spec.shape[0])):
            if array.shape[0] % multiple:
                raise DataError(f"`{spec}` has {array.shape[0]} rows, which is not a multiple of {multiple}")
            counts[spec.name] = array.shape[0] // multiple
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"`{name}` has {count}" for name, count in counts.items())
        raise DataError(f"the arrays have different numbers of rows: {listed}")
    if not counts:  # nothing depends on the data: they say how many rows there are all the same
        others = {spec.name: spec for spec in declared if spec.name in given and np.ndim(given[spec.name])}
        for name, spec in others.items():
            counts[name] = len(as_array(name, given[name])) // max(
                multiple_of_rows(spec.shape[0]) if spec.shape else 1, 1
            )
        if not counts and declared:
            raise DataError(f"no data were given; the model takes {_listed(map(str, declared))}")
    rows = next(iter(counts.values()), 1)
    if counts and rows == 0 and some:
        raise DataError("the data are empty: there are no rows")
    for spec, array in zip(specs, arrays, strict=True):
        if array.shape != spec.concrete(rows):
            raise DataError(_shape_message(spec, array))
    streamed = any(not _is_native(spec, array) for spec, array in zip(specs, arrays, strict=True))
    return Examples(tuple(arrays), rows, streamed)


def leading(inputs: Data) -> int:
    """How many rows the first of some arrays has, unchecked; 0 where none has any."""
    first = next(iter(inputs.values()), None) if isinstance(inputs, Mapping) else inputs
    shape = np.shape(first) if first is not None else ()
    return shape[0] if shape else 0


def native(spec: TensorSpec, array: Array) -> Array:
    """An array as native code reads it: contiguous, of the declared type; the array itself if it is that already."""
    return np.ascontiguousarray(array, spec.dtype).reshape(array.shape)


def _is_native(spec: TensorSpec, array: Array) -> bool:
    return array.dtype == spec.dtype and array.flags.c_contiguous and array.flags.aligned


def _shape_message(spec: TensorSpec, array: Array) -> str:
    message = f"`{spec}` does not fit an array of shape {list(array.shape)}"
    inner = spec.shape[1:]
    if array.ndim and all(isinstance(dim, int) for dim in inner):
        size = int(np.prod([int(dim) for dim in inner]))
        if array.size == array.shape[0] * size:
            shape = ", ".join(map(str, (-1, *inner)))
            message += f"; `.reshape({shape})` would make it fit"
    return message


def _checked(spec: TensorSpec, value: npt.ArrayLike) -> Array:
    if isinstance(value, archive.Archived) and not value.dtype.hasobject:  # its shape is looked at before it is read
        if value.dtype.kind not in NUMBERS:
            raise DataError(f"`{spec.name}` holds {value.dtype}, not numbers")
        _shaped(spec, np.broadcast_to(np.empty((), value.dtype), value.shape))
    array = _shaped(spec, as_array(spec.name, value))
    if spec.dtype.kind == "f":
        _check_real(spec, array)
    elif spec.dtype.kind in "iu":
        _check_integer(spec, array)
    elif array.dtype.kind != "b":
        _check_truth(spec, array)
    # A mapped file may be larger than memory: it is converted only in pieces, on the way to native code.
    return array if isinstance(value, np.memmap) else native(spec, array)


def _shaped(spec: TensorSpec, array: Array) -> Array:
    """The array in the declared shape. DataError if it has another one."""
    if array.shape == (0,) and len(spec.shape) > 1:
        array = array.reshape(spec.concrete(0))  # an empty list is a table of no rows
    elif spec.shape[1:] == (1,) and array.ndim == 1:
        array = array[:, np.newaxis]  # a column is as good as a table of one column
    elif len(spec.shape) == 1 and array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != len(spec.shape) or any(
        isinstance(dim, int) and dim != size for dim, size in zip(spec.shape, array.shape, strict=True)
    ):
        raise DataError(_shape_message(spec, array))
    return array


def _pieces(array: Array) -> Iterator[tuple[int, Array]]:
    """The array in runs of rows of a few megabytes, each with the number of its first row."""
    if array.ndim == 0 or array.nbytes <= PIECE_BYTES:
        yield 0, array
        return
    rows = max(PIECE_BYTES // max(array.nbytes // len(array), 1), 1)
    for begin in range(0, len(array), rows):
        yield begin, array[begin : begin + rows]


def _check_real(spec: TensorSpec, array: Array) -> None:
    """DataError unless every number is finite in the program's type."""
    for begin, piece in _pieces(array):
        # A sum is finite when all its terms are, barring overflow; the full test runs only where it isn't.
        with np.errstate(over="ignore", invalid="ignore"):
            converted = piece.astype(spec.dtype, copy=False)
            suspicious = not np.isfinite(converted.sum())
        if suspicious and not (finite := np.isfinite(converted)).all():
            place = _first(~finite)
            raise DataError(
                f"`{spec.name}` has {piece[place]} at {_where(place, begin)}; every number has to be finite"
            )


def _check_integer(spec: TensorSpec, array: Array) -> None:
    """DataError unless every number is whole and within the declared bound, or what the type holds."""
    limits = np.iinfo(spec.dtype)
    low, high = (0, spec.bound) if spec.bound is not None else (int(limits.min), int(limits.max) + 1)
    for begin, piece in _pieces(array):
        if not piece.size:
            continue
        if piece.dtype.kind == "f":
            with np.errstate(invalid="ignore"):
                whole = (piece == np.floor(piece)) & np.isfinite(piece)
            if not whole.all():
                place = _first(~whole)
                raise DataError(f"`{spec.name}` has {piece[place]} at {_where(place, begin)}; it holds integers")
        if piece.min() < low or piece.max() >= high:
            outside = ((piece < low) | (piece >= high)) & ~np.isin(piece, spec.ignored)
            if outside.any():
                place = _first(outside)
                raise DataError(f"`{spec.name}` has {piece[place]:.0f} at {_where(place, begin)}{_allowed(spec)}")


def _check_truth(spec: TensorSpec, array: Array) -> None:
    """DataError unless every number is 0 or 1."""
    for begin, piece in _pieces(array):
        if (other := (piece != 0) & (piece != 1)).any():
            place = _first(other)
            raise DataError(f"`{spec.name}` has {piece[place]} at {_where(place, begin)}; it holds truths, as 0 or 1")


def _allowed(spec: TensorSpec) -> str:
    """What integers may come instead, in words."""
    if spec.bound is None:
        return f", which does not fit into {spec.dtype}"
    if besides := [label for label in spec.ignored if not 0 <= label < spec.bound]:
        ignored = " or ".join(map(str, besides))
        return f"; its labels run from 0 to {spec.bound - 1}, or are {ignored} where a row does not count"
    return f"; it is declared `< {spec.bound}`, so its values run from 0 to {spec.bound - 1}"


def _first(mask: npt.NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(int(k) for k in np.unravel_index(int(np.argmax(mask)), mask.shape))


def _where(place: tuple[int, ...], begin: int = 0) -> str:
    """In words; `begin` is the row at which the piece lies in which the place was found."""
    if not place:
        return "its only place"
    place = (place[0] + begin, *place[1:])
    return f"row {place[0]}" if len(place) == 1 else f"row {place[0]}, place [{', '.join(map(str, place))}]"


def _listed(names: Iterable[str], most: int = 8) -> str:
    names = list(names)
    shown = ", ".join(f"`{name}`" for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
