"""Arrays from an `.npz`, read one by one when somebody wants them: names, types and shapes are known before.

A few bytes of a compressed file can become gigabytes. So nothing is unpacked but what the program takes, and that
not before its shape is found to be the declared one; and no more of it than the shape has room for.
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from tapeless.runtime.errors import DataError

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class Archived:
    """An array in an archive."""

    def __init__(self, path: Path, member: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._path, self._member = path, member
        self.shape, self.dtype, self.ndim = shape, dtype, len(shape)
        self._array: npt.NDArray[Any] | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if self._array is None:
            self._array = self._read()
        return self._array if dtype is None else self._array.astype(dtype)

    def _read(self) -> npt.NDArray[Any]:
        """DataError where the file is damaged, has changed, or holds Python's own objects: reading those would run
        what it says.
        """
        try:
            with zipfile.ZipFile(self._path) as archive, archive.open(self._member) as file:
                if _described(file) != (self.shape, self.dtype):
                    raise ValueError("it has changed")
                file.seek(0)
                return np.asarray(npy.read_array(file, allow_pickle=False))
        except Exception as error:
            raise DataError(
                f"{self._path} can't be read as .npz: `{self._member.removesuffix('.npy')}`: {error}"
            ) from error


def load(path: Path) -> dict[str, Archived]:
    """The arrays by name. Raises whatever zipfile and NumPy do for what is no such file."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            with archive.open(info) as file:
                shape, dtype = _described(file)
                if not dtype.hasobject and math.prod(shape) * dtype.itemsize > info.file_size - file.tell():
                    raise ValueError(f"`{name}` is smaller than it says")
            if name in found:
                raise ValueError(f"`{name}` is in it twice")
            found[name] = Archived(path, info.filename, shape, dtype)
    return found


def _described(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of an array, from its header."""
    version = npy.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"it is of version {version} of the format")
    shape, _, dtype = _HEADERS[version](file)
    if any(type(size) is not int or size < 0 for size in shape):
        raise ValueError(f"its shape can't be {str(shape)[:80]}")
    return shape, dtype
