"""Loops over time whose rows are shared out: the bytes are those of one thread, and those of a loop that is not cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import tapeless
from tapeless.ir.target import Target, host

from .test_widths import programs_for

HEAD = """
model Walk(units = 9, t = 6, n = 3):
    input  x: [batch, t, 5]
    input  z: [batch, n, units]
    target y: int[batch] < 3
"""
TAIL = "    loss cross_entropy(Dense(h, 3), y)\n"
CELLS = {
    "lstm": "    h = LSTM(x, units, last = true)\n",
    "gru backwards": "    h = GRU(x, units, reverse = true, last = true)\n",
    "checkpoints": """
    a = Dense(x, units)
    scan over t checkpoint every = 2 with h: [batch, units] = 0:
        h = tanh(a[t] + h * softmax(h))
""",
    "nested": """
    a = Dense(x, units)
    scan over t with h: [batch, units] = 0:
        scan over n with v = h:
            v = tanh(v + z[n] * a[t])
            yield v
        h = mean(stacked v, axis = 1)
""",
}
MEETING = """
    a = Dense(x, units)
    scan over t with h: [batch, units] = 0:
        h = tanh(a[t] + h - mean(h, axis = 0))
"""
BATCH = 19  # rows, of which neither two nor three threads have equal shares


def eager(vectors: Target) -> Target:
    """A target for which all work is worth cutting, however small."""
    return replace(vectors, machine=replace(vectors.machine, part_microseconds=1e-3))  # type: ignore[arg-type]


def parts_of(text: str, target: Target) -> list[int]:
    image = tapeless.load(text).pipeline("float32").image(("gradients",), target, BATCH)
    return [node.attrs["parts"] for node in image.schedules["gradients"].graph.nodes if node.op == "loop"]


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CELLS)
def test_bytes_are_those_of_one_thread(name: str, dtype: str) -> None:
    """For a full batch, one with fewer rows than threads, and one row."""
    text = HEAD + CELLS[name] + TAIL
    assert all(parts > 1 for parts in parts_of(text, eager(host())))
    (whole,) = programs_for(host(), text, dtype, BATCH, (1,))
    cut = programs_for(eager(host()), text, dtype, BATCH, (1, 2, 3, 4))
    rng = np.random.default_rng(0)
    for rows in (BATCH, 3, 1):
        shapes = {"x": (rows, 6, 5), "z": (rows, 3, 9)}
        data = {key: rng.normal(size=shape).astype(dtype) for key, shape in shapes.items()}
        labels = rng.integers(0, 3, rows)
        one, *others = [program.gradients(data, labels) for program in cut]
        for key, value in whole.gradients(data, labels).items():
            np.testing.assert_allclose(one[key], value, rtol=1e-5, atol=1e-7)
            assert all(other[key].tobytes() == one[key].tobytes() for other in others), (rows, key)


def test_rows_that_meet_are_not_cut() -> None:
    assert parts_of(HEAD + MEETING + TAIL, eager(host())) == [1, 1]


def test_what_is_too_short_is_not_cut() -> None:
    assert parts_of(HEAD + CELLS["lstm"] + TAIL, host()) == [1, 1]


@pytest.mark.parametrize(("units", "cut"), [(128, True), (512, False)])
def test_weights_that_fit_no_cache(units: int, cut: bool) -> None:
    """512 units have 4 MiB of weights: no thread is to read all of them in each step."""
    text = HEAD.replace("units = 9", f"units = {units}") + CELLS["lstm"] + TAIL
    assert [parts > 1 for parts in parts_of(text, host())] == [cut, cut]


@pytest.mark.parametrize(("units", "meets"), [(128, False), (512, True)])
def test_what_is_printed_of_a_loop(units: int, meets: bool) -> None:
    """How its rows are cut, and whether threads meet inside."""
    shown = tapeless.load(HEAD + CELLS["lstm"] + TAIL, units=units).inspect().stage("scheduled", "gradients")
    first = shown[shown.index("loop over 6 steps") :]
    assert ("parts of the rows" in first[: first.index("\n")]) is not meets
    assert ("\n      # ---- phase 1, after all threads have met" in first) is meets
