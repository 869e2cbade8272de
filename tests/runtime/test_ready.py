"""Arrays that pass at a glance are those that the full checks leave as they are, and calls made again share nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tapeless
from tapeless.runtime import data
from tapeless.runtime.errors import DataError
from tapeless.runtime.manifest import TensorSpec
from tapeless.runtime.ready import Ready

X = TensorSpec("x", np.dtype("float32"), ("batch", 3), "input")
TRUTHS = TensorSpec("on", np.dtype("bool"), ("2*batch",), "input")
Y = TensorSpec("y", np.dtype("int32"), ("batch",), "target", bound=4, ignored=(-1,))
ROWS, LABELS, SWITCHES = np.ones((5, 3), np.float32), np.arange(5, dtype=np.int32) % 4, np.ones(10, bool)


def spoilt(array: np.ndarray, value: float) -> np.ndarray:
    made = array.copy()
    made.flat[-1] = value
    return made


def test_what_fits_is_taken_as_it_is() -> None:
    fixed = ROWS.copy()
    fixed.flags.writeable = False
    for inputs in ({"x": fixed, "on": SWITCHES}, {"on": SWITCHES, "x": fixed}):
        found = Ready((X, TRUTHS, Y)).examples(inputs, LABELS)
        assert found is not None and found.rows == 5 and not found.streamed
        assert found.arrays[0] is fixed and found.arrays[1] is SWITCHES and found.arrays[2] is LABELS
        known = data.bind((X, TRUTHS, Y), inputs, LABELS)
        assert all(np.shares_memory(one, other) for one, other in zip(found.arrays, known.arrays, strict=True))


@pytest.mark.parametrize(
    ("inputs", "targets"),
    [
        (ROWS.astype(np.float64), LABELS),
        (ROWS.astype(">f4"), LABELS),
        (np.asfortranarray(np.ones((5, 3), np.float32)), LABELS),
        (np.ones((5, 6), np.float32)[:, ::2], LABELS),
        (np.frombuffer(b"\0" + ROWS.tobytes(), np.float32, 15, 1).reshape(5, 3), LABELS),
        (np.ma.masked_array(ROWS), LABELS),
        (ROWS.tolist(), LABELS),
        (spoilt(ROWS, np.nan), LABELS),
        (spoilt(ROWS, -np.inf), LABELS),
        (ROWS, spoilt(LABELS, 4)),
        (ROWS, spoilt(LABELS, -1)),
        (ROWS, spoilt(LABELS, -2)),
        (ROWS, LABELS[:4]),
        (ROWS[:4], LABELS),
        (ROWS[:, :2].copy(), LABELS),
        (ROWS[0], LABELS),
        (ROWS[:0], LABELS[:0]),
        (ROWS, None),
        (None, LABELS),
        ({"x": ROWS, "z": ROWS}, LABELS),
        ({"z": ROWS}, LABELS),
        ({"x": ROWS, "y": LABELS}, None),
    ],
)
def test_all_else_goes_to_the_full_checks(inputs: Any, targets: Any) -> None:
    assert Ready((X, Y)).examples(inputs, targets) is None


def test_rows_may_change_from_call_to_call() -> None:
    ready = Ready((X, Y))
    for rows in (5, 1, 3, 5):
        found = ready.examples(ROWS[:rows], LABELS[:rows])
        assert found is not None and found.rows == rows
        assert ready.examples(ROWS[:rows], LABELS[: rows - 1]) is None


TEXT = """
model M:
    input x: [batch, 3]
    target y: [batch, 1]
    out = Dense(x, 1)
    output out
    loss mean((out - y) ** 2)

train M:
    optimizer SGD(lr = 0.1)
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_calls_made_again_share_no_results(threads: int) -> None:
    program = tapeless.load(TEXT).compile(batch=4, threads=threads)
    x = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    y = np.ones((9, 1), np.float32)
    first = program.predict(x)
    kept = first.copy()
    second = program.predict(x * 2)
    assert (first == kept).all() and not np.shares_memory(first, second) and (second != first).all()
    for rows in (1, 3, 4, 5, 9):
        np.testing.assert_array_equal(program.predict(x[:rows]), kept[:rows])
        np.testing.assert_array_equal(program.predict(x[:rows].tolist()), kept[:rows])
    assert program.evaluate(x, y) == program.evaluate(x, y) == program.evaluate(x.tolist(), y)
    before = program.gradients(x, y)
    again = program.gradients(x, y)
    assert all((before[name] == again[name]).all() for name in before)
    program.parameters["out.W"][...] = 0
    program.parameters["out.b"][...] = 2
    assert (program.predict(x) == 2).all() and program.evaluate(x, y) == {"loss": 1.0}
    with pytest.raises(DataError, match="every number has to be finite"):
        program.predict(spoilt(x, np.nan))
    assert len(program.predict(x[:0])) == 0
