"""Values, gradients and second derivatives against PyTorch's, over the configurations of `tests/fixtures/pytorch`.

PyTorch is not needed: what it said was written down by `tests/fixtures/make_pytorch.py`. All configurations run in
the reference interpreter (a sample of them in the quick tests), a sample as machine code.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tapeless.ir.graph import Graph
from tapeless.ir.interpreter import run
from tapeless.ir.types import DType

from ..compiler.derivatives import DIRECTION, VALUE, declared, derived
from .harness import program_of, run_native

FIXTURES = Path(__file__).parents[1] / "fixtures"
TOLERANCE = {"float64": 1e-9, "float32": 1e-4}
DTYPES = {"float64": DType.F64, "float32": DType.F32}
SMALLEST = 1e-2  # what a difference is measured against where everything is smaller


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"fixtures_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made  # where dataclasses look for the names of annotations
    spec.loader.exec_module(made)
    return made


drawn = _module(FIXTURES / "drawn.py")
FAMILIES = sorted(path.stem for path in (FIXTURES / "pytorch").glob("*.npz"))


@dataclass(frozen=True)
class Configuration:
    """One configuration and what PyTorch said of it, by element type."""

    text: str
    tensors: Sequence[Any]
    rows: int
    training: bool
    shape: tuple[int, ...]
    second: bool
    seed: int
    said: Mapping[str, np.ndarray]

    @property
    def real(self) -> list[Any]:
        return [one for one in self.tensors if one.kind == "real"]

    def pieces(self) -> list[tuple[str, int]]:
        """The names of what was kept, in order, with how many numbers each has."""
        shapes: dict[str, tuple[int, ...]] = {VALUE: self.shape}
        shapes |= {one.name: one.at(self.rows) for one in self.real}
        if self.second:
            shapes |= {f"second_{one.name}": one.at(self.rows) for one in self.real}
        made: list[tuple[str, int]] = drawn.pieces(shapes)
        return made

    def program(self) -> str:
        """The whole program. The value enters the loss as sum(r * c); `free` is a parameter that reaches it whatever
        the value is made of.
        """
        lines = declared("free", [])
        for one in self.tensors:
            if "." not in one.name:
                lines += declared(one.name, one.shape, int(one.high) if one.kind == "int" else None)
        if not any("batch" in one.shape for one in self.tensors):
            lines += declared("unused", ["batch"])
        by_row = (
            bool(self.shape)
            and self.shape[0] == self.rows
            and any("batch" in one.shape for one in self.tensors)
            and self._leads()
        )
        return (
            f"model M:\n{lines}{declared(VALUE, ['batch', *self.shape[1:]] if by_row else self.shape)}    "
            f"{self.text}\n    loss sum(r * c) + free\n"
        )

    def _leads(self) -> bool:
        """Whether the result has a row for each row: all have, but reductions over axis 0."""
        return "axis = [0" not in self.text

    def graph(self, dtype: str) -> Graph:
        return derived(
            self.program(), [VALUE, *(one.name for one in self.real)], DTYPES[dtype], self.training, self.second
        )

    def inputs(self, graph: Graph, dtype: str) -> dict[str, Any]:
        made = drawn.draw(self.tensors, self.rows, self.seed)
        made |= {
            DIRECTION + name: value for name, value in drawn.directions(self.tensors, self.rows, self.seed).items()
        }
        made[VALUE] = drawn.cotangent(self.shape, self.seed)
        given = {port.key: made.get(port.label, np.zeros(port.value.type.at(self.rows))) for port in graph.inputs}
        return {
            key: value if np.asarray(value).dtype.kind == "i" else np.asarray(value, dtype)
            for key, value in given.items()
        }

    def errors(self, found: Mapping[str, np.ndarray], dtype: str) -> dict[str, float]:
        """The largest error of each tensor, relative to the largest number kept of it."""
        names = [name for name, _ in self.pieces()]
        ours = drawn.kept([np.asarray(found[name]).astype(dtype) for name in names], self.seed)
        assert ours.shape == self.said[dtype].shape
        made, place = {}, 0
        for name, count in self.pieces():
            part, other = (
                self.said[dtype][place : place + count].astype(np.float64),
                ours[place : place + count].astype(np.float64),
            )
            made[name] = float(np.abs(part - other).max(initial=0) / max(SMALLEST, np.abs(part).max(initial=0)))
            place += count
        return made


@cache
def configurations(family: str) -> list[Configuration]:
    held = np.load(FIXTURES / "pytorch" / f"{family}.npz")
    entries = json.loads(zlib.decompress(held["cases"].tobytes()))
    made, place = [], 0
    for entry in entries:
        tensors = [
            drawn.Drawn(name, tuple(shape), kind, low, high) for name, shape, kind, low, high in entry["tensors"]
        ]
        one = Configuration(
            entry["text"],
            tensors,
            entry["rows"],
            entry["training"],
            tuple(entry["shape"]),
            entry["second"],
            entry["seed"],
            {},
        )
        count = sum(size for _, size in one.pieces())
        said = {dtype: held[dtype][place : place + count] for dtype in TOLERANCE}
        made.append(Configuration(one.text, tensors, one.rows, one.training, one.shape, one.second, one.seed, said))
        place += count
    assert all(place == held[dtype].size for dtype in TOLERANCE)
    return made


def check(chosen: Sequence[Configuration], dtype: str, native: bool = False) -> None:
    """Every configuration's errors; those that are too large are reported together."""
    wrong = []
    for one in chosen:
        graph = one.graph(dtype)
        inputs = one.inputs(graph, dtype)
        if native:
            found = run_native(program_of(graph, DTYPES[dtype]), graph, inputs, one.rows, max(one.rows, 1))
        else:
            found = run(graph, inputs, rows=one.rows)
        errors = one.errors(found, dtype)
        if not max(errors.values()) <= TOLERANCE[dtype]:
            wrong.append(f"{one.text} {[(t.name, t.shape) for t in one.tensors]} rows {one.rows}: {errors}")
    assert not wrong, f"{len(wrong)} of {len(chosen)}:\n" + "\n".join(wrong[:20])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_sample(family: str, dtype: str) -> None:
    check(configurations(family)[5 if dtype == "float64" else 165 :: 320], dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("family", FAMILIES)
def test_all(family: str, dtype: str) -> None:
    check(configurations(family), dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("family", FAMILIES)
def test_machine_code(family: str, dtype: str) -> None:
    check(configurations(family)[7::40], dtype, native=True)


def test_there_are_enough() -> None:
    assert sum(len(configurations(family)) for family in FAMILIES) >= 2000
    assert sum(path.stat().st_size for path in (FIXTURES / "pytorch").iterdir()) <= 5_000_000
