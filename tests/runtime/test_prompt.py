"""Predictions of few numbers, again and again: the numbers of those that go the long way, and refused alike."""

from __future__ import annotations

import sys
import weakref
from typing import Any

import numpy as np
import pytest

import tapeless
from tapeless.runtime.errors import DataError
from tapeless.runtime.program import Program
from tapeless.runtime.prompt import KEPT

TEXT = """
model M:
    input  x: [batch, 3]
    input  kind: int[batch] < 4
    target y: [batch, 1]
    out = Dense(Dense(x, 5, tanh), 1) + Embedding(kind, 4, 1)
    output out
    output twice = 2 * out
    loss mean((out - y) ** 2)

train M:
    optimizer SGD(lr = 0.1)
    batch 8
"""
MODEL = tapeless.load(TEXT)
X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
KIND = (np.arange(40) % 4).astype(np.int32)
Result = dict[str, np.ndarray]


def asked(program: Program, x: Any, kind: Any) -> Result:
    made = program.predict({"kind": kind, "x": x})
    assert isinstance(made, dict)
    return made


def prompted(program: Program, rows: int = 5) -> Program:
    """The program, after it was asked about as many rows three times."""
    for _ in range(3):
        asked(program, X[:rows], KIND[:rows])
    return program


def long_way(program: Program, x: np.ndarray, kind: np.ndarray) -> Result:
    """Lists are never kept a call for."""
    return asked(program, x.tolist(), kind.tolist())


def calls(program: Program, x: np.ndarray, kind: np.ndarray) -> int:
    """How many Python functions a prediction calls."""
    count = 0

    def see(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event == "call"

    inputs = {"x": x, "kind": kind}
    sys.setprofile(see)
    program.predict(inputs)
    sys.setprofile(None)
    return count


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 40])
def test_the_same_numbers_in_new_arrays(rows: int) -> None:
    program = prompted(MODEL.compile(), rows)
    first = asked(program, X[:rows], KIND[:rows])
    kept = first["out"].copy()
    second = asked(program, 2 * X[:rows], KIND[:rows])
    wanted, other = long_way(program, X[:rows], KIND[:rows]), long_way(program, 2 * X[:rows], KIND[:rows])
    for name in ("out", "twice"):
        np.testing.assert_array_equal(first[name], wanted[name])
        np.testing.assert_array_equal(second[name], other[name])
    np.testing.assert_array_equal(first["out"], kept)


def test_the_way_is_short() -> None:
    program = MODEL.compile()
    assert calls(program, X[:5], KIND[:5]) > 20
    asked(program, X[:5], KIND[:5])
    assert calls(prompted(program), X[:5], KIND[:5]) <= 14
    assert calls(prompted(program, 40), X[:40], KIND[:40]) <= 14


@pytest.mark.parametrize(
    ("x", "kind", "said"),
    [
        (np.where(X[:5] == X[4, 2], np.float32(np.nan), X[:5]), KIND[:5], "finite"),
        (np.where(X[:5] == X[0, 0], np.float32(-np.inf), X[:5]), KIND[:5], "finite"),
        (X[:5], np.array([0, 1, 2, 3, 4], np.int32), "4"),
        (X[:5], np.array([0, 1, 2, 3, -1], np.int32), "-1"),
        (X[:5], KIND[:4], "rows"),
        (X[:5, :2], KIND[:5], "x"),
    ],
)
def test_wrong_numbers_are_refused_as_at_first(x: np.ndarray, kind: np.ndarray, said: str) -> None:
    with pytest.raises(DataError, match=said) as first:
        asked(MODEL.compile(), x, kind)
    with pytest.raises(DataError) as later:
        asked(prompted(MODEL.compile()), x, kind)
    assert str(first.value) == str(later.value)


@pytest.mark.parametrize(
    "x",
    [
        X[:5].astype(np.float64),
        np.asfortranarray(X[:5]),
        np.repeat(X[:5], 2, axis=1)[:, ::2],
        np.full((5, 3), 1e30, np.float32),  # of which the squares are infinite
        np.full((5, 3), 1e-42, np.float32),
    ],
)
@pytest.mark.filterwarnings("error")
def test_other_arrays_are_taken(x: np.ndarray) -> None:
    program = prompted(MODEL.compile())
    np.testing.assert_array_equal(asked(program, x, KIND[:5])["out"], long_way(program, x, KIND[:5])["out"])


def test_weights_settings_and_memory_may_change() -> None:
    program = prompted(MODEL.compile())
    before = asked(program, X[:5], KIND[:5])["out"]
    program.predict({"x": np.tile(X, (50, 1)), "kind": np.tile(KIND, 50)})
    program.gradients({"x": X, "kind": KIND}, X[:, :1])  # its workspace is larger, and takes the other's place
    np.testing.assert_array_equal(asked(program, X[:5], KIND[:5])["out"], before)
    program.threads, program.batch = 1, 3
    np.testing.assert_array_equal(asked(prompted(program), X[:5], KIND[:5])["out"], before)
    for view in program.parameters.values():
        view[...] = 0
    assert (asked(program, X[:5], KIND[:5])["out"] == 0).all()
    program.reset(0)
    np.testing.assert_array_equal(asked(program, X[:5], KIND[:5])["out"], before)


def test_many_sizes_in_turn() -> None:
    program = MODEL.compile()
    wanted = asked(program, X, KIND)["out"]
    for rows in range(1, KEPT + 4):
        prompted(program, rows)
    for rows in range(1, KEPT + 4):
        np.testing.assert_array_equal(asked(program, X[:rows], KIND[:rows])["out"], wanted[:rows])


def test_a_workspace_that_another_has_replaced_is_given_back() -> None:
    program = prompted(MODEL.compile())
    before = weakref.ref(program.memory().workspace(0))
    program.gradients({"x": X, "kind": KIND}, X[:, :1])
    assert before() is None
