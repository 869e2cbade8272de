"""What a peer's process does: it is given a workload in a file, and trains or predicts on command.

`python with_X.py FILE VARIANT ROWS`: with ROWS 0 it trains, and first answers with the loss before each of the first
steps, from the given starting values, as JSON; else it predicts so many rows, and first answers with some of what it
predicts. Then one line in, a count, for one line out: the seconds of one of so many steps or predictions.

Knows no Tapeless: an interpreter that has the peer and NumPy runs it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

STEPS = 11
SHOWN = 8


class Given:
    """A workload as a peer gets it: its name, starting values and data in the model's order, and its optimizer."""

    def __init__(self, path: str) -> None:
        with np.load(path) as held:
            self.parameters = [held[f"p{k}"] for k in range(sum(name.startswith("p") for name in held.files))]
            self.data = [held[f"d{k}"] for k in range(sum(name.startswith("d") for name in held.files))]
            facts: dict[str, Any] = json.loads(str(held["facts"]))
        self.name: str = facts["name"]
        self.batch: int = facts["batch"]
        self.kind: str = facts["kind"]
        self.rate: float = facts["rate"]
        self.momentum: float = facts["momentum"]
        self.decay: float = facts["decay"]
        self.epochs = self.name == "logreg"

    @property
    def batches(self) -> int:
        """In an epoch: of rows that fill a batch."""
        return len(self.data[0]) // self.batch

    def first(self, step: int) -> list[np.ndarray]:
        """The batch of one of the first steps: rows in order, or always the one batch."""
        begin = step * self.batch if self.epochs else 0
        return [array[begin : begin + self.batch] for array in self.data]

    def shuffled(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """The rows of each batch of an epoch."""
        order = rng.permutation(len(self.data[0])).astype(np.int32)
        for k in range(self.batches):
            yield order[k * self.batch : (k + 1) * self.batch]

    def rows(self, count: int) -> list[np.ndarray]:
        """Inputs of so many rows, the data over again where they are fewer."""
        return [np.resize(array, (count, *array.shape[1:])) for array in self.data]


def given() -> tuple[Given, str, int]:
    """The workload, the variant of the peer, and the rows to predict (0: it trains)."""
    return Given(sys.argv[1]), sys.argv[2], int(sys.argv[3])


def train(first: Callable[[int], float], many: Callable[[int], object]) -> None:
    """`first(step)` takes one of the first steps and returns its loss; `many(n)` takes n steps."""
    print(json.dumps([float(first(step)) for step in range(STEPS)]), flush=True)
    answer(many)


def predict(once: Callable[[], np.ndarray]) -> None:
    """`once()` predicts."""
    print(json.dumps(np.asarray(once(), np.float64).reshape(-1)[:SHOWN].tolist()), flush=True)

    def many(count: int) -> None:
        for _ in range(count):
            once()

    answer(many)


def answer(many: Callable[[int], object]) -> None:
    """Seconds of one, for each line with a count."""
    for line in sys.stdin:
        count = int(line)
        begin = time.perf_counter()
        many(count)
        print((time.perf_counter() - begin) / count, flush=True)
