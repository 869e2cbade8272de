"""Batches by an order: gathered, or read where they lie if it has them in sequence. The same bytes either way."""

from __future__ import annotations

import numpy as np
import pytest

import tapeless
from tapeless.runtime.call import Call

TEXT = """
model Net:
    input  x: [batch, 7]
    target y: int[batch] < 3
    loss cross_entropy(Dense(Dense(x, 9, tanh), 3), y)

train Net:
    optimizer Adam
    batch 4
"""


def weights(order: list[int] | None, x: np.ndarray, y: np.ndarray, threads: int = 1) -> bytes:
    program = tapeless.load(TEXT).compile(threads=threads)
    given = None if order is None else np.array(order, np.int32)
    call = Call(program.image("train"), "train_step", program.memory(), threads, [x, y], order=given)
    count = len(x) if order is None else len(order)
    assert call.run(0, count) == count
    return b"".join(program.parameters[name].tobytes() for name in sorted(program.parameters))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(30, 7)).astype(np.float32), rng.integers(0, 3, 30).astype(np.int32)


@pytest.mark.parametrize(
    "order",
    [
        list(range(10)),  # in sequence, from the beginning
        [*range(5, 9), *range(20, 24), 3],  # each batch in sequence, a last one of one row
        [4, 5, 6, 8, 9, 10, 11, 13],  # broken in the last row
        [7, 6, 5, 4],
        [2, 2, 2, 2],
        [*range(12, 16), 29, 3, 11, 12, *range(22, 25)],  # by turns
    ],
    ids=str,
)
def test_bytes_do_not_depend_on_how_rows_are_found(order, data):
    x, y = data
    wanted = weights(None, np.ascontiguousarray(x[order]), y[order])
    for threads in (1, 3):
        assert weights(order, x, y, threads) == wanted
