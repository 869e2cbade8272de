"""Arrays from a CSV file, column by column: what nobody asks for does not matter, and what is wrong is told with its
line and a way out.

Values are separated by commas and may stand in quotes, with line breaks in them; the first line names the columns.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from tapeless.runtime.errors import DataError

Array = npt.NDArray[Any]
Lines = list[tuple[int, list[str]]]
"""The values of each row, with the number of its first line in the file."""

_OTHER = {";": "semicolons", "\t": "tabs", "|": "bars"}
_COMMA = re.compile(r"[+-]?\d+,\d+")


class Unread:
    """A column or group of columns that is no array: whoever wants it is told why. Nobody else is."""

    def __init__(self, reason: str, shape: tuple[int, ...]) -> None:
        self.reason, self.shape, self.ndim = reason, shape, len(shape)

    def __array__(self, *_: object, **__: object) -> NoReturn:
        raise DataError(self.reason)

    def __len__(self) -> int:
        return self.shape[0]


def load(path: Path, columns: Mapping[str, Sequence[str]] | None) -> dict[str, Array | Unread]:
    """The arrays by name; see `data.load`. DataError where the file as a whole is no table."""
    header, lines = _table(path)
    arrays: dict[str, Array | Unread] = {}
    for name, members in (columns or _groups(header)).items():
        for member in members:
            if member not in header:
                shown = ", ".join(f"`{one}`" for one in header[:8]) + (
                    f" and {len(header) - 8} more" if len(header) > 8 else ""
                )
                raise DataError(f"{path} has no column {member!r}; it has {shown}")
        single = len(members) == 1 and (columns is not None or members[0] == name)
        shape = (len(lines),) if single else (len(lines), len(members))
        fault = _group_fault(name, members) if columns is None else None
        try:
            if fault is not None:
                raise DataError(f"{path}: {fault}")
            arrays[name] = np.column_stack([_numbers(path, header, member, lines) for member in members]).reshape(shape)
        except DataError as error:
            arrays[name] = Unread(str(error), shape)
    return arrays


def _table(path: Path) -> tuple[list[str], Lines]:
    """The names of the columns, and the rows, all of as many values."""
    lines: Lines = []
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, strict=True)
        begin = 1
        try:
            for values in reader:
                if values:
                    lines.append((begin, values))
                begin = reader.line_num + 1
        except csv.Error as error:
            raise DataError(f"{path}, line {begin}: {error}; a quote inside of quotes is written twice") from None
        except UnicodeDecodeError:
            raise DataError(
                f"{path} is not a text in UTF-8; other encodings are converted, for example with `iconv -t UTF-8`"
            ) from None
    if not lines:
        raise DataError(f"{path} is empty; its first line should name the columns")
    (_, names), *rows = lines
    header = [name.strip() for name in names]
    _check_header(path, header)
    count = len(header)
    for k, (number, values) in enumerate(rows):
        if len(values) == count + 1 and not values[-1].strip():
            rows[k] = number, values[:-1]  # each line ends with a comma
        elif len(values) == count - 1 and not header[-1]:
            rows[k] = number, [*values, ""]
        elif len(values) != count:
            raise DataError(f"{path}, line {number}: {len(values)} values for {count} columns")
    return header, rows


def _check_header(path: Path, header: Sequence[str]) -> None:
    """DataError where the first line shows that the file is written in another way."""
    for sign, name in _OTHER.items():
        if len(header) == 1 and sign in header[0]:
            raise DataError(
                f"{path} has one column, {header[0][:80]!r}: its values seem to be separated by {name}. They are "
                "separated by commas here: "
                f"`pandas.read_csv({str(path)!r}, sep={sign!r}).to_csv(..., index=False)` writes it so"
            )
    if all(_is_number(name) for name in header):
        raise DataError(
            f"{path}, line 1: {', '.join(header[:4])[:80]} are numbers; the first line names the columns, for "
            "example `x.0,x.1,y`"
        )


def _groups(header: Sequence[str]) -> dict[str, list[str]]:
    """`image.0, image.1, label` -> {"image": [...], "label": [...]}; numbered columns are put in order. Columns
    without a name are nobody's.
    """
    numbered: dict[str, list[tuple[int, str]]] = {}
    groups: dict[str, list[str]] = {}
    for column in filter(None, header):
        name, dot, number = column.rpartition(".")
        if dot and number.isascii() and number.isdigit() and len(number) < 10:
            numbered.setdefault(name, []).append((int(number), column))
            groups.setdefault(name, [])
        else:
            groups[column] = [column]
    for name, members in numbered.items():
        groups[name] = [column for _, column in sorted(members)]
    return groups


def _group_fault(name: str, members: Sequence[str]) -> str | None:
    """What is wrong with the columns of an array, if anything: they are numbered without a gap, from 0 or from 1."""
    if list(members) == [name]:
        return None
    numbers = [int(member.rpartition(".")[2]) for member in members]
    for before, number in zip([numbers[0] - 1 if numbers[0] in (0, 1) else -1, *numbers], numbers, strict=False):
        if number == before:
            return f"two columns are called `{name}.{number}`"
        if number != before + 1:
            return (
                f"the column `{name}.{before + 1}` is missing: there is `{name}.{number}`. `--columns "
                f"{name}={members[0]},...` names those to take"
            )
    return None


def _numbers(path: Path, header: Sequence[str], member: str, lines: Lines) -> npt.NDArray[np.float64]:
    """One column. DataError unless all of it is numbers."""
    if header.count(member) > 1:
        raise DataError(f"{path}: two columns are called `{member}`")
    place = header.index(member)
    found = np.empty(len(lines))
    for k, (number, values) in enumerate(lines):
        text = values[place]
        if not _is_number(text):
            raise DataError(
                f"{path}, line {number}: {text[:80]!r} in column {member!r} is not a number{_way_out(text)}"
            )
        found[k] = float(text)
    return found


def _is_number(text: str) -> bool:
    """Whether a text is a number in plain writing: Python's own takes `1_000` and other scripts' digits too."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text and text.isascii()


_MISSING = {"na", "n/a", "#n/a", "null", "none", "missing", "?", "-", "--"}


def _way_out(text: str) -> str:
    plain = text.strip()
    if not plain:
        return ": it is empty. Rows without a value are left out, or given one, before"
    if _COMMA.fullmatch(plain):
        return ": the decimal sign is a point, and thousands are not set apart"
    if _is_number(plain.replace("_", "").replace(" ", "").replace("'", "").replace(",", "")):
        return ": digits are not set apart by other characters"
    if plain.lower() in ("true", "false", "yes", "no"):
        return ": truth is written as 1 and 0"
    if plain.lower() in _MISSING:
        return ": it is a missing value. Rows without a value are left out, or given one, before"
    if any(character.isdigit() for character in plain):
        return ": units, signs and dates are turned into plain numbers before"
    return ". Words are numbered before, for example with `pandas.factorize`"
