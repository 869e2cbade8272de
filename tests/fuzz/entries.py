"""Entries of the cache that have been altered: by bytes, cut, swapped, in what they are and whom they belong to.

Each program is asked for anew, and has to compute what its text says. `python -m tests.fuzz.entries --count 10000`.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import tapeless
from tapeless.runtime.image import MAGIC, pack, unpack

from .children import run

TEXT = "model M:\n    input x: [batch]\n    param w = {}\n    output y = x * w\n"
_DIGEST = 32


@cache
def material() -> tuple[list[tuple[Any, float]], Path, dict[str, bytes]]:
    """Two models, what they make of 1, a folder for the cache, and what lies in it."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-")) / "cache"
    models = [(tapeless.load(TEXT.format(factor)), float(factor)) for factor in (2, 3)]
    for model, factor in models:
        assert list(model.compile(cache=folder).predict([1])) == [factor]
    # So that what is not taken from the cache costs no compilation, each model's own pipeline keeps what it has made.
    return models, folder, {path.name: path.read_bytes() for path in folder.iterdir()}


def altered(r: random.Random, folder: Path, contents: dict[str, bytes]) -> None:
    """Changes one entry, or the folder."""
    name = r.choice(list(contents))
    r.choice((by_bytes, by_bytes, by_bytes, by_cutting, by_swapping, by_manifest, by_kind, by_rights))(
        r, folder / name, contents
    )


def put(path: Path, content: bytes) -> None:
    """Writes a file in the place of whatever an alteration before has left."""
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    path.chmod(0o600)


def by_bytes(r: random.Random, path: Path, contents: dict[str, bytes]) -> None:
    data = bytearray(contents[path.name])
    for _ in range(r.randint(1, 5)):
        data[r.randrange(min(len(data), r.choice((32, 60, 500, 10**9))))] ^= 1 << r.randrange(8)
    put(path, bytes(data))


def by_cutting(r: random.Random, path: Path, contents: dict[str, bytes]) -> None:
    data = contents[path.name]
    begin, end = sorted(r.randrange(len(data) + 1) for _ in range(2))
    put(
        path,
        r.choice(
            (
                data[:begin],
                data[begin:],
                data[begin:end],
                data + data[begin:end],
                data[:begin] + data[end:],
                r.randbytes(r.randrange(300)),
            )
        ),
    )


def by_swapping(r: random.Random, path: Path, contents: dict[str, bytes]) -> None:
    put(path, contents[r.choice([name for name in contents if name != path.name])])


def by_manifest(r: random.Random, path: Path, contents: dict[str, bytes]) -> None:
    """As a writer without the key's name would have put it: another manifest and code with a digest of their own."""
    import hashlib

    stored = contents[path.name][_DIGEST:]
    if not stored.startswith(MAGIC):  # what else is kept beside programs
        return by_bytes(r, path, contents)
    manifest, code = unpack(stored)
    place = r.choice(list(manifest))
    manifest[place] = r.choice((None, -1, 2**70, "x", [], {}, [[]], 0.5, float("nan")))
    content = pack(manifest, code[: r.randrange(len(code) + 1)])
    return put(path, hashlib.sha256(content).digest() + content)


def by_kind(r: random.Random, path: Path, contents: dict[str, bytes]) -> None:
    path.unlink()
    change = r.randrange(6)
    if change == 0:
        os.mkfifo(path)
    elif change == 1:
        path.mkdir()
    elif change == 2:
        path.symlink_to(r.choice(("/dev/zero", "/dev/null", "/etc/passwd", "nowhere", path.name, "/proc/self/mem")))
    elif change == 3:
        other = path.parent.parent / "other"
        other.write_bytes(contents[path.name])
        path.symlink_to(other)
    elif change == 4:
        path.touch()
        os.truncate(path, r.choice((1, 40, 1 << 28, 1 << 33, 1 << 42)))
    else:
        put(path, contents[path.name])
        os.link(path, path.with_suffix(".part"))


def by_rights(r: random.Random, path: Path, _: dict[str, bytes]) -> None:
    what = r.choice((path, path, path.parent))
    if os.geteuid() == 0 and r.random() < 0.5:
        os.chown(what, r.choice((1, 65534, 12345)), -1)
    else:
        what.chmod(r.choice((0, 0o777, 0o666, 0o620, 0o602, 0o1777, 0o7777, 0o444)))


def attempt(number: int) -> str | None:
    """One altered cache."""
    models, folder, contents = material()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    for name, content in contents.items():
        put(folder / name, content)
    r = random.Random(number)
    for _ in range(r.randint(1, 3)):
        try:
            altered(r, folder, contents)
        except OSError:  # what an alteration before has left is no file any more
            break
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for model, factor in models:
            found = list(model.compile(cache=folder).predict([1]))
            if found != [factor]:
                return f"{found} instead of {factor}"
    return None


def main() -> int:
    material()
    return run(attempt, __doc__, 10_000)


if __name__ == "__main__":
    sys.exit(main())
