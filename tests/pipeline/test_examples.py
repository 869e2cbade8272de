"""Every example model through every stage: passes keep values, text round-trips, gradients agree with differences."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

import tapeless
from tapeless.compiler import entries
from tapeless.compiler.model import Model, load
from tapeless.ir import text
from tapeless.ir.graph import Graph
from tapeless.ir.interpreter import run
from tapeless.ir.types import DType
from tapeless.ir.verifier import verify

from ..compiler.examples import EXAMPLES, name_of, sizes_of
from ..sweep import sweep
from .harness import check_passes

ROWS = 11


@cache
def model_of(path: Path) -> Model:
    return load(path.read_text(), path.name, sizes=sizes_of(path), dtype=DType.F64, model=name_of(path))


@cache
def state_of(path: Path) -> dict[str, np.ndarray]:
    """A state after one imagined step: initial values, moved a little, so that no slot is zero."""
    values = run(entries.init(model_of(path)), {"seed": [1, 2]})
    rng = np.random.default_rng(0)
    return {
        name: value + 0.01 * np.abs(rng.normal(size=value.shape)) if value.dtype == np.float64 else value
        for name, value in values.items()
    } | {"step": np.int32(3), "steps": np.int32(100)}


def data_of(model: Model, rows: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    return {
        d.name: rng.normal(size=d.type.at(rows))
        if d.type.dtype.is_float
        else rng.integers(0, d.bound or 5, d.type.at(rows))
        for d in model.data
    }


def inputs_of(path: Path, graph: Graph) -> dict[str, np.ndarray]:
    model, rng = model_of(path), np.random.default_rng(3)
    known = {**state_of(path), **data_of(model, ROWS), "seed": np.array([1, 2], np.uint32), "epoch": np.int32(0)}
    known |= {
        p.key: rng.normal(size=p.value.type.at(ROWS))
        for p in graph.inputs
        if p.role in ("gradient", "carry") and p.label[:8] != "position"
    }
    known |= {p.key: np.int32(2) for p in graph.inputs if p.label[:8] == "position"}
    if graph.name == "step":
        known |= {p.key: known[p.key][:, 0] for p in graph.inputs if p.role == "data"}
    return known


ALONG_SEQUENCES = ("gpt", "lstm")
CASES = [
    pytest.param(path, entry, id=f"{path.stem}-{entry}")
    for path in EXAMPLES
    for entry in entries.ENTRIES
    if entry != "step" or path.stem in ALONG_SEQUENCES
]


@pytest.mark.parametrize(("path", "entry"), sweep(CASES, every=13))
def test_passes_keep_values_and_text_round_trips(path: Path, entry: str) -> None:
    graph = entries.ENTRIES[entry](model_of(path))
    verify(graph)
    check_passes(graph, inputs_of(path, graph), ROWS, {"rtol": 1e-9, "atol": 1e-12})


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_stages_round_trip(path: Path) -> None:
    model = model_of(path)
    for graph in (
        model.forward[True],
        model.forward[False],
        model.init,
        model.update,
        entries.backward(model),
        entries.train_step(model),
    ):
        verify(graph)
        assert text.read(text.write(graph)) == graph


# Those fit curves whose parameters differ by many powers of ten: one step for all is no measure of a derivative.
NETWORKS = [path for path in EXAMPLES if path.parent.name != "scipy"]


@pytest.mark.parametrize("path", sweep(NETWORKS, every=6), ids=lambda path: path.stem)
def test_native_gradients_agree_with_central_differences(path: Path) -> None:
    """Float64, along random directions: relative error at most 1e-6."""
    program = tapeless.load(path, model=name_of(path), **sizes_of(path)).compile(dtype="float64", seed=3)
    model, rng = model_of(path), np.random.default_rng(5)
    data = data_of(model, ROWS)
    inputs = {d.name: data[d.name] for d in model.data if d.role == "input"}
    targets = {d.name: data[d.name] for d in model.data if d.role == "target"}
    here = program.vector() + 0.01 * rng.normal(size=program.vector().shape)
    _, gradient = program.value_and_grad(here, inputs, targets)
    for _ in range(5):
        direction = rng.normal(size=here.shape)
        direction /= np.linalg.norm(direction)
        step = 1e-5
        ahead, _ = program.value_and_grad(here + step * direction, inputs, targets)
        behind, _ = program.value_and_grad(here - step * direction, inputs, targets)
        difference = (ahead - behind) / (2 * step)
        assert gradient @ direction == pytest.approx(difference, rel=1e-6, abs=1e-9 * np.linalg.norm(gradient))
