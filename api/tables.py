"""Arrays on their way out: files in NumPy's forms or as CSV, and short excerpts for the screen."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeless.runtime.errors import UserError
from tapeless.runtime.writing import refusal, write_atomically

Array = npt.NDArray[Any]


def as_csv(arrays: Mapping[str, Array]) -> str:
    """One line for each row; an array of several columns is `name.0`, `name.1`, ... Of arrays that differ in their
    rows a file in NumPy's form is needed: UserError.
    """
    header, blocks = [], []
    for name, array in arrays.items():
        rows = array.reshape(len(array), -1) if array.ndim else array.reshape(1, 1)
        header += [name] if array.ndim < 2 else [f"{name}.{k}" for k in range(rows.shape[1])]
        blocks.append([[_shortest(value) for value in row] for row in rows])
    if len({len(block) for block in blocks}) > 1:
        counts = ", ".join(f"`{name}` {len(block)}" for name, block in zip(arrays, blocks, strict=True))
        raise UserError(
            f"the outputs have different numbers of rows ({counts}), so they are no table; `--out "
            "predictions.npz` holds them"
        )
    lines = [",".join(header)]
    lines += [",".join(value for part in parts for value in part) for parts in zip(*blocks, strict=True)]
    return "\n".join(lines) + "\n"


def _shortest(value: Any) -> str:
    """The shortest text that reads back to the same number of its type."""
    return np.format_float_positional(value, trim="-") if isinstance(value, np.floating) else str(value)


def require(path: Path, count: int = 1) -> None:
    """UserError unless so many arrays can be written to a file of that name."""
    kind = path.suffix.lower()
    if kind not in (".npz", ".csv", *([".npy"] if count == 1 else [])):
        raise UserError(
            f"{path}: {count} array(s) can't be written as {kind or 'a file without a suffix'}; .npz and .csv take any"
        )


def write(path: Path, arrays: Mapping[str, Array]) -> None:
    """Writes a .npz, a .csv, or, for one array, a .npy. UserError if that is impossible."""
    require(path, len(arrays))
    kind = path.suffix.lower()
    buffer = io.BytesIO()
    if kind == ".npz":
        named: dict[str, Any] = dict(arrays)
        np.savez(buffer, **named)
    elif kind == ".npy":
        np.save(buffer, next(iter(arrays.values())))
    else:
        buffer.write(as_csv(arrays).encode())
    try:
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        raise UserError(refusal(path, error)) from error


def excerpt(array: Array) -> str:
    """A few numbers of an array, on one line."""
    return np.array2string(array, threshold=6, edgeitems=2, precision=6).replace("\n", "")


def confusion_text(table: Array, most: int = 20) -> str:
    """A confusion table: a row for each class that a label has, a column for each that was predicted. Of a large one,
    the classes most often taken for one another."""
    count = len(table)
    if count > most:
        wrong = table - np.diag(np.diag(table))
        pairs = [divmod(int(k), count) for k in np.argsort(wrong, axis=None, kind="stable")[::-1][:most]]
        lines = [
            f"  {label} taken for {seen}: {wrong[label, seen]:,} times" for label, seen in pairs if wrong[label, seen]
        ]
        return "most often confused:\n" + ("\n".join(lines) or "  none") + "\n"
    width = max(len(f"{int(table.max(initial=0)):,}"), len(str(count - 1))) + 2
    first = max(len("label"), len(str(count - 1)))
    lines = [f"{'label':>{first}} |" + "".join(f"{k:>{width}}" for k in range(count)) + "   recall"]
    lines.append("-" * (first + 1) + "+" + "-" * (width * count + 9))
    for k, row in enumerate(table):
        recall = f"{row[k] / row.sum():9.4f}" if row.sum() else f"{'-':>9}"
        lines.append(f"{k:>{first}} |" + "".join(f"{value:>{width},}" for value in row) + recall)
    return "predicted in columns:\n" + "\n".join(lines) + "\n"
