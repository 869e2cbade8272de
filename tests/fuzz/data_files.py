"""Files of data that have been altered: archives, arrays and tables, by bytes, in their headers, cell by cell.

Each is read and bound to what a program takes; a DataError is right, and so are arrays. `python -m
tests.fuzz.data_files --count 5000`.
"""

from __future__ import annotations

import io
import random
import sys
import tempfile
import zipfile
from functools import cache
from pathlib import Path

import numpy as np

from tapeless.runtime import data
from tapeless.runtime.errors import DataError
from tapeless.runtime.manifest import TensorSpec

from .children import run

SPECS = [
    TensorSpec("x", np.dtype(np.float32), ("batch", 2), "input"),
    TensorSpec("y", np.dtype(np.int32), ("batch",), "target", 4),
]
CELLS = (
    *("", " ", "1_000", "nan", "inf", "-1", "1e999", "1,5", '"', '"a""b"', "a", "\x1b[2J", "\0", "\n", "\r",
        "9" * 400, "x" * 200_000, "٣", "0x10", "--1"),
    *(";", "\t", ",", ",,,,", "\ufeff", "x.0", "x.2", "y", "3", "0", "2.5"),
)  # fmt: skip
DESCRS = (
    "<f4",
    "<f8",
    "|O",
    "|V100000000",
    "<U1000000",
    "|S0",
    ">i8",
    "<M8[s]",
    "[('a','<f4')]",
    "|b1",
    "<c16",
    "<f16",
    "junk",
)
SHAPES = (
    "(3, 2)",
    "(3,)",
    "()",
    "(-1, 2)",
    "(10**12,)",
    "(9223372036854775807, 2)",
    "(4294967296, 4294967296)",
    "(True, 2)",
    "(3.0, 2)",
    "[3, 2]",
    "(0, 2)",
    "(0, 10**18)",
    "(" * 3000,
    "(1,)*40",
    "'a'",
)


@cache
def folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="fuzz-"))


def npy(r: random.Random) -> bytes:
    """An array, whose header may lie."""
    rows = r.choice((0, 1, 3, 50))
    array = r.choice(
        (
            np.ones((rows, 2), np.float32),
            np.arange(rows) % 4,
            np.full((rows, 2), r.choice((np.nan, 1e300, 0.5))),
            np.ones((rows, 3), np.int8),
        )
    )
    file = io.BytesIO()
    np.save(file, array)
    content = file.getvalue()
    if r.random() < 0.5:
        header = (
            f"{{'descr': {r.choice(DESCRS)!r}, 'fortran_order': {r.choice(('False', 'True', '3'))}, "
            f"'shape': {r.choice(SHAPES)}, }}\n"
        ).encode()
        content = (
            b"\x93NUMPY"
            + bytes([r.choice((1, 1, 2, 3, 9)), 0])
            + len(header).to_bytes(r.choice((2, 2, 4)), "little")
            + header
            + content[128:]
        )
    return by_bytes(r, content) if r.random() < 0.4 else content


def npz(r: random.Random) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(
        file, "w", r.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    ) as archive:
        for name in r.sample(("x.npy", "y.npy", "x", "../x.npy", "\x1b[2J.npy", "z.npy"), r.randint(0, 4)) + r.choice(
            ([], ["x.npy", "y.npy"])
        ):
            if name not in archive.namelist():
                archive.writestr(name, npy(r) if r.random() < 0.9 else b"")
    return by_bytes(r, file.getvalue()) if r.random() < 0.4 else file.getvalue()


def csv(r: random.Random) -> bytes:
    table = [
        ["x.0", "x.1", "y", "name"],
        *([str(k), str(k / 2), str(k % 4), "word"] for k in range(r.choice((0, 1, 5)))),
    ]
    for _ in range(r.randint(0, 4)):
        line = r.choice(table)
        if not line:
            continue
        change, place = r.randrange(4), r.randrange(len(line))
        if change == 0:
            del line[place]
        elif change == 1:
            line.insert(place, r.choice(CELLS))
        else:
            line[place] = r.choice(CELLS)
    text = r.choice(("\n", "\n", "\r\n", "\r", "\n\n")).join(
        r.choice((",", ",", ",", ";", "\t")).join(line) if r.random() < 0.05 else ",".join(line) for line in table
    )
    content = text.encode(r.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16")), "replace")
    return by_bytes(r, content) if r.random() < 0.2 else content


def by_bytes(r: random.Random, content: bytes) -> bytes:
    made = bytearray(content)
    for _ in range(r.randint(1, 5)):
        place = r.randrange(len(made) + 1)
        change = r.randrange(3)
        if change == 0 and place < len(made):
            made[place] ^= 1 << r.randrange(8)
        elif change == 1:
            made[place:place] = r.choice((b"\xff" * 8, b"\0" * 8, r.randbytes(4), b"\n", b'"'))
        else:
            del made[place : place + r.choice((1, 4, 100))]
    return bytes(made)


MAKERS = {".npz": npz, ".npy": npy, ".csv": csv}


def attempt(number: int) -> str | None:
    """One altered file."""
    r = random.Random(number)
    suffix = r.choice(list(MAKERS))
    path = folder() / f"d{suffix}"
    path.write_bytes(MAKERS[suffix](r))
    try:
        with np.errstate(all="ignore"):
            found = data.load(path, r.choice((None, None, {"x": ["x.0", "x.1"], "y": ["y"]})))
            if suffix == ".npy":
                found = {"x": found["d"], "y": np.zeros(1, np.int32)}
            examples = data.bind(SPECS, found)
    except DataError as error:
        text = str(error)
        return (
            None
            if text.replace("\n", "").replace("\t", "").isprintable() and len(text) < 21_000
            else f"a message for a terminal: {text[:200]!r}"
        )
    x, y = examples.arrays
    if not np.isfinite(np.asarray(x, np.float64)).all() or ((y < 0) | (y >= 4)).any():
        return f"what no program takes has passed: {x!r:.200} {y!r:.200}"
    return None


if __name__ == "__main__":
    sys.exit(run(attempt, __doc__, 5_000))
