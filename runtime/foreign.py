"""Arrays as people have them: of pandas, polars and torch, masked, of Python objects. Knows these by what they can
do and imports none.

Whatever comes out is a plain array of numbers; nothing is guessed: what is missing, masked or no number is refused,
with the way out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeless.runtime.errors import DataError

Array = npt.NDArray[Any]
NUMBERS = "fiub"
_HINTS = {
    "M": "a time becomes a number as a difference: `(times - times.min()) / np.timedelta64(1, 's')`",
    "m": "a span of time becomes a number by a unit: `spans / np.timedelta64(1, 's')`",
    "c": "complex numbers go in as two arrays, `.real` and `.imag`",
    "V": "the fields of a structured array go in one by one, as columns",
    "U": "texts are numbered by `np.unique(texts, return_inverse=True)`",
    "S": "texts are numbered by `np.unique(texts, return_inverse=True)`",
}


def as_array(name: str, value: Any) -> Array:
    """The value as an array of numbers. DataError if it is none."""
    if isinstance(value, np.ma.MaskedArray):
        return _unmasked(name, value)
    if isinstance(value, list | tuple) and value and hasattr(value[0], "detach"):
        value = [_detached(item) for item in value]
    try:
        array = np.asarray(_detached(value))
    except DataError:  # of a file that is read only now
        raise
    except Exception as error:  # whatever a foreign type raises
        raise DataError(f"`{name}` is not an array: {error}") from None
    if array.dtype.kind in NUMBERS:
        return array
    columns = _columns(value)
    if columns is not None:
        arrays = [as_array(f"{name}: {title}", column) for title, column in columns]
        return np.stack(arrays, axis=1)
    if array.dtype.kind == "O":
        return _of_objects(name, array, value)
    raise DataError(
        f"`{name}` holds {array.dtype}, not numbers; {_HINTS.get(array.dtype.kind, 'give an array of numbers')}"
    )


def _detached(value: Any) -> Any:
    """A tensor that takes part in a gradient elsewhere, or lies on another device, as one that NumPy can read."""
    if not hasattr(value, "detach"):
        return value
    tensor = value.detach()
    tensor = tensor.cpu() if hasattr(tensor, "cpu") else tensor
    narrow = str(getattr(tensor, "dtype", "")).rpartition(".")[2]
    return tensor.float() if narrow.startswith(("bfloat", "float8")) else tensor  # which NumPy has not got


def _unmasked(name: str, value: np.ma.MaskedArray[Any, Any]) -> Array:
    mask = np.ma.getmaskarray(value)
    if mask.any():
        place = [int(k) for k in np.argwhere(mask)[0]]
        raise DataError(
            f"`{name}` is masked at {place}, and {int(mask.sum()):,} place(s) in all: what a model is to make of "
            "a gap has to be said; "
            "`.filled(value)` fills them, `.compressed()` leaves them out"
        )
    return as_array(name, value.data)


def _columns(value: Any) -> Iterable[tuple[object, Any]] | None:
    """Titles and columns of a table of pandas or polars; None for anything else."""
    if hasattr(value, "iloc") and hasattr(value, "columns"):
        return [(title, value.iloc[:, k]) for k, title in enumerate(value.columns)]
    if hasattr(value, "get_columns"):
        return [(column.name, column) for column in value.get_columns()]
    return None


def _of_objects(name: str, array: Array, value: Any) -> Array:
    """Python's numbers in an array of objects, as of columns that may have gaps."""
    if array.ndim == 0:
        raise DataError(f"`{name}` is {type(value).__name__}, not an array of numbers")
    for place, item in np.ndenumerate(array):
        if isinstance(item, str | bytes) or not hasattr(item, "__float__"):
            missing = item is None or type(item).__name__ in ("NAType", "NaTType")
            what = "nothing (a missing value)" if missing else f"{item!r:.60}"
            way = (
                "fill gaps before (`.fillna(...)`), or leave the rows out (`.dropna()`)"
                if missing
                else _way_out(item, value)
            )
            raise DataError(
                f"`{name}` has {what} at row {place[0]}{f', place {list(place[1:])}' if place[1:] else ''}, not "
                f"a number; {way}"
            )
    exact = np.array(array.tolist())
    return exact if exact.dtype.kind in NUMBERS and exact.shape == array.shape else array.astype(np.float64)


def _way_out(item: object, value: Any) -> str:
    if isinstance(item, str | bytes):
        return "categories are numbered by `.cat.codes`" if hasattr(value, "cat") else _HINTS["U"]
    return _HINTS["V"] if isinstance(item, list | tuple | np.ndarray) else "give numbers"
