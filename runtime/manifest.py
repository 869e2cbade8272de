"""What an image says about itself: the layout of its state, its entries, its data; the typed form of the manifest.

The manifest is JSON. A dimension is an integer, or the text `batch` or `3*batch` for a multiple of the rows at run
time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tapeless.abi.dtypes import DType

FORMAT = 1
DTYPES: dict[str, np.dtype[Any]] = {dtype.value: np.dtype(dtype.numpy) for dtype in DType}


def multiple_of_rows(dim: int | str) -> int:
    """How many times `batch` a dimension is: 0 for a constant, 1 for `batch`, 3 for `3*batch`."""
    if isinstance(dim, int):
        return 0
    if dim == "batch":
        return 1
    factor, _, name = dim.partition("*")
    if name != "batch" or not factor.isdigit():
        raise ValueError(f"the manifest has a dimension {dim!r}")
    return int(factor)


@dataclass(frozen=True)
class TensorSpec:
    """A tensor that passes between host and program: data, or an output with one entry for each row.

    `bound` is the exclusive upper limit of an integer's values, where the program indexes with them; `ignored` are
    labels of rows that do not count, which may come besides.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str, ...]
    role: str = "output"
    bound: int | None = None
    ignored: tuple[int, ...] = ()

    def concrete(self, rows: int) -> tuple[int, ...]:
        return tuple(dim if isinstance(dim, int) else multiple_of_rows(dim) * rows for dim in self.shape)

    def bytes(self, rows: int) -> int:
        return math.prod(self.concrete(rows)) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.name}: [{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Slot:
    """A named tensor inside a block of memory; `offset` is in bytes from the block's start."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    role: str = ""

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Block:
    """One contiguous piece of memory and the tensors in it."""

    bytes: int
    slots: tuple[Slot, ...]

    def with_role(self, *roles: str) -> tuple[Slot, ...]:
        return tuple(slot for slot in self.slots if slot.role in roles)


@dataclass(frozen=True)
class Result:
    """A number that an entry adds up over its batches: a loss or a metric, times rows. `line` is where the source
    states it.

    With the role `part` it belongs to the loss or metric of its name, which is then no mean over rows: `part` says
    whether it is the numerator or the denominator of quotient `term`, added up as they are, or the `rest`, a mean
    over rows.
    """

    name: str
    role: str
    line: int | None = None
    part: str = ""
    term: int = 0


@dataclass(frozen=True)
class Entry:
    """One native function: what it reads, writes and adds up, in the order of its pointers: data, carries, outputs,
    carries. It takes `workspace` bytes, and `scratch` more for each thread. `effort` is an estimate of the nanoseconds
    that a full batch takes 1, 2, ... threads; more are of no use.

    Carries are what a step leaves for the next one, which starts from zeros; `places` is how many steps there can be
    from there, if that is limited.
    """

    name: str
    symbol: str
    workspace: int
    scratch: int
    effort: tuple[int, ...]
    data: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    results: tuple[Result, ...]
    carries: tuple[TensorSpec, ...] = ()
    places: int | None = None

    @property
    def seconds(self) -> tuple[float, ...]:
        """That a full batch takes 1, 2, ... threads, by the estimate."""
        return tuple(nanoseconds * 1e-9 for nanoseconds in self.effort or (0,))

    def working_memory(self, threads: int) -> int:
        """The bytes of workspace for a call by so many threads."""
        return self.workspace + threads * self.scratch

    def averages(self, sums: Iterable[float], rows: int) -> dict[str, float]:
        """Losses and metrics over all rows, by name, from the sums over batches: means, or quotients of totals.

        A quotient whose denominator is 0 counts as 0, as it does in a batch.
        """
        found: dict[str, float] = {}
        quotients: dict[tuple[str, int], dict[str, float]] = {}
        rest: dict[str, float] = {}
        for result, total in zip(self.results, sums, strict=False):
            if result.role != "part":
                found[result.name] = float(total) / rows
            elif result.part == "rest":
                rest[result.name] = float(total) / rows
            else:
                quotients.setdefault((result.name, result.term), {})[result.part] = float(total)
        for name, _ in quotients:
            found[name] = rest.get(name, 0.0)
        for (name, _), pair in quotients.items():
            found[name] += pair["numerator"] / pair["denominator"] if pair["denominator"] else 0.0
        return found


@dataclass(frozen=True)
class Settings:
    """The `train` section: what `fit` does unless told otherwise."""

    epochs: int = 10
    batch: int = 64
    validation: float = 0.0
    patience: int | None = None
    monitor: str | None = None
    rising: bool = False


@dataclass(frozen=True)
class Manifest:
    """`identity` says what the program is, for checkpoints: see `belonging.Record`. `statistics` is the line of the
    text, if there is one, by which training needs at least two rows in a batch.
    """

    model: str
    dtype: np.dtype[Any]
    capacity: int
    state: Block
    gradients: Block
    entries: Mapping[str, Entry]
    settings: Settings
    identity: Mapping[str, Any]
    target: Mapping[str, Any] = field(default_factory=dict)
    data: tuple[TensorSpec, ...] = ()  # all inputs and targets of the model; an entry may need fewer
    statistics: int | None = None

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Manifest:
        if value.get("format") != FORMAT:
            raise ValueError(f"the manifest has format {value.get('format')!r}; this version reads format {FORMAT}")
        known = Settings.__dataclass_fields__
        return Manifest(
            model=value["model"],
            dtype=DTYPES[value["dtype"]],
            capacity=int(value["capacity"]),
            state=_block(value["state"]),
            gradients=_block(value.get("gradients", {"bytes": 0, "slots": []})),
            entries={name: _entry(name, entry) for name, entry in value["entries"].items()},
            settings=Settings(**{k: v for k, v in value.get("settings", {}).items() if k in known}),
            identity=value["program"],
            target=value.get("target", {}),
            data=tuple(_tensor(t, "input") for t in value.get("data", ())),
            statistics=value.get("statistics"),
        )


def _block(value: Mapping[str, Any]) -> Block:
    return Block(
        int(value["bytes"]),
        tuple(
            Slot(s["name"], DTYPES[s["dtype"]], tuple(s["shape"]), int(s["offset"]), s.get("role", ""))
            for s in value["slots"]
        ),
    )


def _tensor(value: Mapping[str, Any], role: str) -> TensorSpec:
    return TensorSpec(
        value["name"],
        DTYPES[value["dtype"]],
        tuple(value["shape"]),
        value.get("role", role),
        value.get("bound"),
        tuple(value.get("ignored", ())),
    )


def _entry(name: str, value: Mapping[str, Any]) -> Entry:
    return Entry(
        name=name,
        symbol=value["symbol"],
        workspace=int(value.get("workspace", 0)),
        scratch=int(value.get("scratch", 0)),
        effort=tuple(value.get("effort", ())),
        data=tuple(_tensor(t, "input") for t in value.get("data", ())),
        outputs=tuple(_tensor(t, "output") for t in value.get("outputs", ())),
        results=tuple(
            Result(r["name"], r.get("role", "metric"), r.get("line"), r.get("part", ""), int(r.get("term", 0)))
            for r in value.get("results", ())
        ),
        carries=tuple(_tensor(t, "carry") for t in value.get("carries", ())),
        places=value.get("places"),
    )
