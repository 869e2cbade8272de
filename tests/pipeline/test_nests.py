"""Loops in loops with all that may stand in them, at random: value and gradients are those of the unrolled program,
and machine code gives what the interpreter gives. What a seed stands for is told by `nests`.
"""

from __future__ import annotations

import numpy as np
import pytest

import tapeless
from tapeless.compiler import entries
from tapeless.compiler.model import load
from tapeless.ir.interpreter import run
from tapeless.ir.stacking import turn_names
from tapeless.ir.types import DType
from tapeless.ir.verifier import verify

from .nests import SIZES, programs

ROWS = 3
Arrays = dict[str, np.ndarray]


def data(seed: int) -> Arrays:
    rng = np.random.default_rng(seed)
    sequences = {f"s{axis}": rng.normal(size=(ROWS, size, 3)) for axis, size in SIZES.items()}
    return {"x": rng.normal(size=(ROWS, 3)), **sequences, "n": rng.integers(0, 5, ROWS).astype(np.int32)}


def interpreted(text: str, given: Arrays) -> Arrays:
    """Output, loss, and gradients by the names that the turns' parameters have."""
    model = load(text, dtype=DType.F64)
    known = {**run(model.init, {"seed": np.array((1, 0), np.uint32)}), **given}
    made: Arrays = {}
    for graph in (entries.gradients(model), entries.predict(model)):
        verify(graph)
        made |= run(graph, {port.key: known[port.key] for port in graph.inputs}, rows=ROWS)
    for slot in model.slots:
        if slot.role == "param":
            stack = made.pop(f"grad({slot.name})")
            turns = stack.reshape(-1, *stack.shape[len(slot.turns) :]) if slot.turns else [stack]
            made.update(zip(turn_names(slot.name, slot.turns), turns, strict=True))
    return made


def agree(found: Arrays, expected: Arrays) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-9, atol=1e-9 * (1 + np.abs(value).max()), err_msg=key)


def check_unrolled(seed: int, depth: int, breadth: int) -> None:
    looped, unrolled = programs(seed, depth, breadth)
    agree(interpreted(looped, data(seed)), interpreted(unrolled, data(seed)))


def check_native(seed: int, depth: int, breadth: int) -> None:
    given, text = data(seed), programs(seed, depth, breadth)[0]
    program = tapeless.load(text).compile(batch=4, dtype="float64", cache=False, seed=1)
    expected = interpreted(text, given)
    del expected["loss"]
    agree({"r": program.predict(given), **program.gradients(given)}, expected)


@pytest.mark.parametrize("seed", range(6))
def test_unrolled(seed: int) -> None:
    check_unrolled(seed, depth=3, breadth=1)


@pytest.mark.parametrize("seed", range(2))
def test_native(seed: int) -> None:
    check_native(seed, depth=2, breadth=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_unrolled_at_length(seed: int) -> None:
    check_unrolled(seed, depth=2 + seed % 2, breadth=2 + seed % 2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(15))
def test_native_at_length(seed: int) -> None:
    check_native(seed, depth=2 + seed % 2, breadth=2)
