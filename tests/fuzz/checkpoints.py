"""Checkpoints that somebody has altered, by bytes, in their header, in their records (with a right digest), in their
tensors.

Each is resumed, loaded and taken apart by pattern; a UserError is right, and so is going on. `python -m
tests.fuzz.checkpoints --count 10000`.
"""

from __future__ import annotations

import json
import random
import struct
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import tapeless
from tapeless.runtime import checkpoint

from .children import run

TEXT = """
model M(n = 3):
    input x: [batch, 2]
    target y: [batch]
    h = dropout(BatchNorm(Dense(x, n, tanh)), 0.1)
    output z = reshape(Dense(h, 1), [batch])
    loss mean((z - y) ** 2) as miss
    metric size = mean(abs(z))

train M:
    optimizer Adam(lr = cosine(peak = 0.01, warmup = 2))
    batch 4
    epochs 3
    validation 0.2
    stop_early patience = 2
"""
NUMBERS: tuple[Any, ...] = (
    *(0, 1, -1, 2, 3, 4, 5, 7, 16, 17, 1000, -200000, 2**31 - 1, 2**31, -(2**31), 2**63, 2**64, 10**30, 10**400, 0.5,
        -0.5, 1e300),
    *(float("nan"), float("inf"), -float("inf"), None, True, False, "", "loss", "\x1b[31m", "x" * 1000, [], [1],
        [0.5, "a"], {}, {"a": 1}, [[]]),
)  # fmt: skip


@cache
def material() -> tuple[Any, np.ndarray, np.ndarray, Path, list[bytes]]:
    """A way to compile, data, a folder, and checkpoints of some runs."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    r = np.random.default_rng(0)
    x = r.normal(size=(21, 2)).astype(np.float32)
    y = x.sum(axis=1)

    def made() -> Any:
        return tapeless.load(TEXT).compile(cache=folder / "cache", threads=1)

    contents = []
    for steps in (0, 3, 5, 11, None):
        made().fit(x, y, save=folder / "c.safetensors", max_steps=steps, progress=False)
        contents.append((folder / "c.safetensors").read_bytes())
    made().save(folder / "c.safetensors")
    contents.append((folder / "c.safetensors").read_bytes())
    return made, x, y, folder, contents


def altered(r: random.Random, content: bytes, folder: Path) -> bytes:
    return r.choice((by_bytes, by_header, by_record, by_record, by_record, by_tensor))(r, content, folder)


def by_bytes(r: random.Random, content: bytes, _: Path) -> bytes:
    data = bytearray(content)
    for _ in range(r.randint(1, 4)):
        place = r.randrange(min(len(data), r.choice((8, 300, 10**9))) or 1)
        change = r.randrange(4)
        if change == 0 and data:
            data[place] ^= 1 << r.randrange(8)
        elif change == 1:
            del data[place : place + r.choice((1, 8, 1000, 10**9))]
        elif change == 2:
            data[place:place] = r.randbytes(r.randint(1, 9))
        else:
            data[place : place + 8] = r.choice(
                (b"\xff" * 8, b"\0" * 8, struct.pack("<Q", r.randrange(2**40)), b"[" * 100_000, b'{"a":' * 9_000)
            )
    return bytes(data)


def anywhere(r: random.Random, value: Any) -> Any:
    """The value with one thing inside of it replaced, left out or added."""
    if isinstance(value, dict) and value and r.random() < 0.9:
        key, made = r.choice(list(value)), dict(value)
        change = r.random()
        if change < 0.08:
            del made[key]
        elif change < 0.14:
            made[r.choice(("", "x", key + "2", "__metadata__", "last/" + key))] = r.choice((*NUMBERS, made[key]))
        else:
            made[key] = anywhere(r, made[key])
        return made
    if isinstance(value, list) and value and r.random() < 0.7:
        place = r.randrange(len(value))
        return [*value[:place], anywhere(r, value[place]), *value[place + r.choice((1, 1, 1, 0, 2)) :]]
    if isinstance(value, int | float) and not isinstance(value, bool) and r.random() < 0.4:
        return value + r.choice((-1, 1, 4, -4, 0.5, 2**32)) if r.random() < 0.8 else -value
    return r.choice(NUMBERS)


def by_header(r: random.Random, content: bytes, _: Path) -> bytes:
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    for _ in range(r.randint(1, 3)):
        header = anywhere(r, header)
    text = json.dumps(header).encode()
    return (
        struct.pack("<Q", len(text) + (r.choice((1, -1, 2**40)) if r.random() < 0.1 and len(text) else 0))
        + text
        + content[8 + length :]
    )


def _read(content: bytes, folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    path = folder / "whole.safetensors"
    path.write_bytes(content)
    return checkpoint.read(path)


def by_record(r: random.Random, content: bytes, folder: Path) -> bytes:
    state, metadata = _read(content, folder)
    for _ in range(r.randint(1, 3)):
        name = "training" if "training" in metadata and r.random() < 0.6 else r.choice(list(metadata))
        if name in ("training", "program") and r.random() < 0.95:
            try:
                value = json.loads(metadata[name])
            except (ValueError, RecursionError):  # as an alteration before has left it
                continue
            if name == "training" and isinstance(value, dict) and r.random() < 0.3:
                value |= {
                    key: r.choice((*NUMBERS, *range(20)))
                    for key in r.sample(("epochs", "steps", "position", "rows"), r.randint(1, 3))
                    if key in value
                }
            try:
                metadata[name] = json.dumps(anywhere(r, value))
            except ValueError:
                continue
        else:
            metadata[name] = r.choice(("", "{}", "[" * 100_000, "null", "\x1b[2J", '{"a":' * 50_000, "NaN"))
    return _written(state, metadata, folder)


def by_tensor(r: random.Random, content: bytes, folder: Path) -> bytes:
    state, metadata = _read(content, folder)
    for _ in range(r.randint(1, 3)):
        name = r.choice(list(state))
        tensor = np.array(state[name])
        change = r.randrange(6)
        if change == 0:
            del state[name]
        elif change == 1:
            state[name] = tensor.reshape(-1)[: r.randint(0, tensor.size)]
        elif change == 2:
            state[name] = tensor.astype(r.choice((np.float64, np.int64, np.int8, np.bool_, np.uint32, np.float16)))
        elif change == 3:
            state[r.choice(("x", "last/" + name, "last/x", name + ".m"))] = tensor
        else:
            limits = (
                (np.nan, np.inf, -np.inf, 1e30, 0)
                if tensor.dtype.kind == "f"
                else (-1, 0, 1, 2**31 - 1, -(2**31), 10**6)
            )
            with np.errstate(all="ignore"):
                tensor[...] = np.array(r.choice(limits)).astype(tensor.dtype)
            state[name] = tensor
    return _written(state, metadata, folder)


def _written(state: dict[str, Any], metadata: dict[str, str], folder: Path) -> bytes:
    if not state:
        return b""
    checkpoint.save(folder / "made.safetensors", state, metadata)
    return (folder / "made.safetensors").read_bytes()


def attempt(number: int) -> str | None:
    """One altered checkpoint."""
    made, x, y, folder, contents = material()
    r = random.Random(number)
    content = altered(r, r.choice(contents), folder)
    path = folder / "altered.safetensors"
    path.write_bytes(content)
    program = made()
    before = {name: np.array(view) for name, view in program.state.items()}
    with np.errstate(all="ignore"):
        for use in (
            lambda: program.fit(x, y, resume=path, epochs=4, max_steps=40, progress=False),
            lambda: program.load(path),
            lambda: program.load(path, only=["*.W", "*"][number % 2]),
        ):  # fmt: skip
            try:
                use()
            except tapeless.TrainingStopped:
                pass
            except tapeless.UserError as error:
                if "\x1b" in str(error) or len(str(error)) > 20_100:
                    return f"a message for a terminal to obey, or too long: {str(error)[:200]!r}"
                if isinstance(error, tapeless.CheckpointError):
                    for name, value in before.items():
                        if not np.array_equal(value, program.state[name], equal_nan=True):
                            return f"`{name}` has changed although: {error}"
            before = {name: np.array(view) for name, view in program.state.items()}
        program.predict(x)
    return None


if __name__ == "__main__":
    material()
    sys.exit(run(attempt, __doc__, 10_000))
