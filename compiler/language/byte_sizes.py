"""Amounts of memory as people write them: `512M`, `1.5G`, or a plain number of bytes. A unit is 1024 of the next
smaller one."""

from __future__ import annotations

import math
import re

UNITS = "KMGT"
SIZE = re.compile(rf"(\d[\d_]*(?:\.\d+)?)([{UNITS}]?)", re.ASCII)


def bytes_of(text: str) -> int | None:
    """The bytes that a text says, or None if it says none, or less than one."""
    match = SIZE.fullmatch(text)
    if match is None:
        return None
    number, unit = match.groups()
    return round(float(number.replace("_", "")) * 1024 ** (UNITS.find(unit) + 1 if unit else 0)) or None


def amount(count: int) -> str:
    """A number of bytes for people, rounded up so that it is enough: `1.5G`."""
    unit = max((k for k in range(len(UNITS) + 1) if count >= 1024**k), default=0)
    number = math.ceil(count * 10 / 1024**unit) / 10
    return f"{number:g}{UNITS[unit - 1]}" if unit else f"{count} bytes"
