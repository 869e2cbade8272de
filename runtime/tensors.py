"""A safetensors file, held against its own header before a byte of its tensors is read.

The format is eight bytes that say how long the header is, the header (JSON: for each tensor its type, its shape and
where it lies), and the tensors without gaps. A file may come from anybody, so nothing in the header is believed:
lengths are held against the size of the file, shapes against lengths. A tensor is read when it is asked for, so that
names and shapes can be looked at first.
"""

from __future__ import annotations

import json
import math
import os
import stat
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
MOST_HEADER = 32 << 20  # bytes; a run of 100,000 epochs with four curves takes 8 MB
MOST_BRACKETS = 400_000  # in the header: each becomes an object of Python's that is 30 times as large
MOST_AXES = 32  # NumPy has no more, in versions before 2
PIECE = 1 << 20
_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1", "BF16": "<u2", "F8_E4M3": "|u1",
    "F8_E5M2": "|u1",
}  # fmt: skip
# Types that NumPy has not got: mantissa bits, bias and whether the topmost exponent is an infinity; they become
# float32.
_NARROW = {"F8_E4M3": (3, 7, False), "F8_E5M2": (2, 15, True)}


class Malformed(ValueError):
    """The file is none in this format, or not whole."""


@dataclass(frozen=True)
class Described:
    """A tensor as the header describes it; `begin` counts from the first tensor."""

    kind: str
    shape: tuple[int, ...]
    begin: int
    bytes: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """What it is read as."""
        return np.dtype(np.float32 if self.kind == "BF16" or self.kind in _NARROW else _TYPES[self.kind])


class TensorFile(Mapping[str, Described]):
    """An open file: its tensors as described, by name, and its `metadata`. Raises Malformed, or OSError."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        # A pipe would be waited for.
        waitless = getattr(os, "O_NONBLOCK", 0)
        self._file: BufferedReader = open(path, "rb", opener=lambda name, flags: os.open(name, flags | waitless))  # noqa: SIM115
        try:
            status = os.fstat(self._file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise Malformed("it is no regular file")
            self._start, header = _header(self._file, status.st_size)
            self.metadata: dict[str, str] = _metadata(header.pop("__metadata__", None))
            self._tensors = _described(header, status.st_size - self._start)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __getitem__(self, name: str) -> Described:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def read(self, name: str) -> Array:
        """A tensor. Malformed if the file has become shorter."""
        described = self._tensors[name]
        buffer = np.empty(described.bytes, np.uint8)
        self._file.seek(self._start + described.begin)
        if self._file.readinto(buffer.data) != described.bytes:
            raise Malformed("it has become shorter")
        return _numbers(described, buffer.view(_TYPES[described.kind])).reshape(described.shape)

    def pieces(self, name: str) -> Iterator[bytes]:
        """The bytes of a tensor, a few at a time."""
        described = self._tensors[name]
        self._file.seek(self._start + described.begin)
        left = described.bytes
        while left:
            piece = self._file.read(min(left, PIECE))
            if not piece:
                raise Malformed("it has become shorter")
            left -= len(piece)
            yield piece

    def mapped(self, name: str) -> Array:
        """A tensor where it lies in the file, which must not become shorter as long as it is in use."""
        described = self._tensors[name]
        if not described.bytes or described.dtype != np.dtype(_TYPES[described.kind]) or described.kind == "BOOL":
            return self.read(name)
        return np.memmap(self.path, described.dtype, "r", self._start + described.begin, described.shape)


def _header(file: BufferedReader, size: int) -> tuple[int, dict[str, Any]]:
    """Where the first tensor lies, and the header."""
    length = file.read(8)
    if len(length) < 8:
        raise Malformed("it is too short")
    (count,) = struct.unpack("<Q", length)
    if count > size - 8:
        raise Malformed("it is shorter than it says")
    if count > MOST_HEADER:
        raise Malformed(f"its header is longer than {MOST_HEADER >> 20} MB")
    content = file.read(count)
    if content.count(b"{") + content.count(b"[") > MOST_BRACKETS:
        raise Malformed("its header has too many parts")
    return 8 + count, parsed(content, "its header")


def parsed(content: bytes | str, what: str) -> dict[str, Any]:
    """An object in JSON. Malformed if it is none, names a thing twice, or is nested too deeply."""
    try:
        value = json.loads(content, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"{what} can't be read") from error
    if not isinstance(value, dict):
        raise Malformed(f"{what} is no object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _metadata(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise Malformed("its metadata are no texts")
    return value


def _described(header: Mapping[str, Any], size: int) -> dict[str, Described]:
    """The tensors, which lie one after the other and fill the file."""
    found = {name: _one(name, value) for name, value in header.items()}
    end = 0
    for name, tensor in sorted(found.items(), key=lambda item: (item[1].begin, item[1].bytes)):
        if tensor.begin != end:
            raise Malformed(f"its tensors overlap, or leave a gap, at {name[:80]!r}")
        end += tensor.bytes
    if end != size:
        raise Malformed("its tensors don't fill it")
    return found


def _one(name: str, value: object) -> Described:
    fault = Malformed(f"its tensor {name[:80]!r} is not described as it should be")
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise fault
    kind, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if (
        not isinstance(kind, str)
        or not _whole(shape)
        or not _whole(offsets)
        or len(offsets) != 2
        or len(shape) > MOST_AXES
    ):
        raise fault
    if kind not in _TYPES:
        raise Malformed(f"its tensor {name[:80]!r} holds {kind[:20]!r}, which is not known here")
    begin, end = offsets
    if math.prod(shape) * np.dtype(_TYPES[kind]).itemsize != end - begin:
        raise fault
    return Described(kind, tuple(shape), begin, end - begin)


def _whole(value: object) -> bool:
    return isinstance(value, list) and all(type(number) is int and 0 <= number < 1 << 62 for number in value)


def _numbers(described: Described, stored: Array) -> Array:
    """What is stored as numbers of a type that NumPy has."""
    if described.kind == "BOOL":
        return np.not_equal(stored.view(np.uint8), 0)  # any other byte would be no truth value
    if described.kind == "BF16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    if described.kind in _NARROW:
        return _narrow(*_NARROW[described.kind])[stored]
    return stored.astype(stored.dtype.newbyteorder("="), copy=False)


def _narrow(mantissa: int, bias: int, infinite: bool) -> npt.NDArray[np.float32]:
    """The values of all numbers of eight bits: a sign, an exponent, `mantissa` bits (arXiv:2209.05433)."""
    codes = np.arange(256)
    exponent, fraction = (codes & 127) >> mantissa, codes & ((1 << mantissa) - 1)
    normal = exponent > 0
    sizes = np.ldexp(normal + fraction / (1 << mantissa), np.maximum(exponent, 1) - bias)
    top = exponent == (127 >> mantissa)
    if infinite:
        sizes = np.where(top, np.where(fraction == 0, np.inf, np.nan), sizes)
    else:
        sizes = np.where(codes & 127 == 127, np.nan, sizes)
    return np.where(codes & 128, -sizes, sizes).astype(np.float32)
