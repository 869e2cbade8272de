"""What operations declare of their axes, against what their references make of an operand in which one element has
moved.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tapeless.ir.correspondence import All, At, Axes, By, Over, correspondence
from tapeless.ir.graph import Builder, Graph
from tapeless.ir.interpreter import run
from tapeless.ir.ops import OPERATIONS, Sample
from tapeless.ir.types import DType, Tensor

ROWS = 3
SAMPLES = [(name, index) for name, op in OPERATIONS.items() if op.axes is not None for index in range(len(op.samples))]
Place = tuple[int, ...]


def applied(name: str, sample: Sample) -> Graph:
    b = Builder("sample", DType.F64)
    operands = [b.input(f"x{k}", type, "data") for k, type in enumerate(sample.operands)]
    b.output("y", b.emit(name, *operands, **dict(sample.attrs or {})), "output")
    return b.graph()


def drawn(rng: np.random.Generator, type: Tensor, sample: Sample) -> np.ndarray:
    shape = type.at(ROWS)
    return (
        rng.uniform(sample.low, sample.high, shape)
        if type.dtype.is_float
        else rng.integers(0, 2 if type.dtype is DType.BOOL else 4, shape)
    )


def made_of(axes: Axes, operand: int, taken: Place, made: Place, arrays: list[np.ndarray]) -> bool:
    """Whether the declaration lets a result's element be made of an operand's."""
    return all(
        _reaches(axes, one, place, made, arrays, size)
        for one, place, size in zip(axes[operand], taken, arrays[operand].shape, strict=True)
    )


def _reaches(axes: Axes, one: object, place: int, made: Place, arrays: list[np.ndarray], size: int) -> bool:
    if isinstance(one, At):
        return place * one.every == one.first + sum(step * made[axis] for axis, step in one.moves)
    if isinstance(one, By):
        index = arrays[one.operand][tuple(made[at.moves[0][0]] for at in axes[one.operand] if isinstance(at, At))]
        return place == min(max(int(index), 0), size - 1)
    assert isinstance(one, (Over, All))
    return True


def test_who_declares_nothing() -> None:
    """What has no operands, works on all of them at once, or holds a region."""
    whole = {
        "constant",
        "iota",
        "count",
        "random_uniform",
        "permutation",
        "scatter_add",
        "global_norm",
        "attention",
        "attention_gradient",
        "after",
        "only_row",
    }
    assert {name for name, op in OPERATIONS.items() if op.axes is None} == whole | {"scan", "loop", "kernel", "task"}


@pytest.mark.parametrize(("name", "index"), SAMPLES)
def test_nothing_else_moves(name: str, index: int) -> None:
    sample, rng = OPERATIONS[name].samples[index], np.random.default_rng(0)
    graph = applied(name, sample)
    arrays = [drawn(rng, type, sample) for type in sample.operands]
    axes = correspondence(graph.nodes[0])
    assert axes is not None and [len(one) for one in axes] == [type.rank for type in sample.operands]

    def result() -> np.ndarray:
        with np.errstate(all="ignore"):
            return np.asarray(run(graph, {f"x{k}": array for k, array in enumerate(arrays)}, rows=ROWS)["y"])

    before = result()
    for operand, array in enumerate(arrays):
        for taken in itertools.islice(np.ndindex(array.shape), 60):
            kept = array[taken]
            allowed = {made for made in np.ndindex(before.shape) if made_of(axes, operand, taken, made, arrays)}
            array[taken] = (
                kept + 0.37 if array.dtype.kind == "f" else 1 - kept if array.dtype.kind == "b" else (kept + 1) % 4
            )
            allowed |= {made for made in np.ndindex(before.shape) if made_of(axes, operand, taken, made, arrays)}
            moved = {
                tuple(map(int, place))
                for place in np.argwhere(~np.isclose(result(), before, rtol=1e-12, atol=0, equal_nan=True))
            }
            array[taken] = kept
            assert moved <= allowed, f"operand {operand} at {taken} moves {sorted(moved - allowed)[:5]}"


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, op in OPERATIONS.items()
        if op.family in ("reduction", "product", "recurrence", "movement") and op.axes
    ],
)
def test_no_axis_is_declared_wider_than_it_is(name: str) -> None:
    """Where an operation is said to read all places along an axis, some element of a result is made of two of them."""
    wide, found = set(), set()
    for sample in OPERATIONS[name].samples:
        graph, rng = applied(name, sample), np.random.default_rng(0)
        arrays = [drawn(rng, type, sample) for type in sample.operands]
        axes = correspondence(graph.nodes[0])
        assert axes is not None
        for operand, own in enumerate(axes):
            for k, one in enumerate(own):
                if isinstance(one, (Over, All)) and arrays[operand].shape[k] > 1:
                    wide.add((operand, one))
                    movers: dict[Place, set[int]] = {}
                    for taken in np.ndindex(arrays[operand].shape):
                        array = arrays[operand]
                        before = run(graph, {f"x{j}": each for j, each in enumerate(arrays)}, rows=ROWS)["y"]
                        for far in (7, -7):
                            kept, array[taken] = array[taken], array[taken] + far
                            after = run(graph, {f"x{j}": each for j, each in enumerate(arrays)}, rows=ROWS)["y"]
                            array[taken] = kept
                            for made in np.argwhere(np.asarray(before != after)):
                                movers.setdefault(tuple(map(int, made)), set()).add(taken[k])
                    if any(len(places) > 1 for places in movers.values()):
                        found.add((operand, one))
    assert wide == found
