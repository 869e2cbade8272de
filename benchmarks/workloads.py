"""The workloads: models, data and starting values that every peer is given alike.

Dense networks of three sizes. Values are float32; weights are normal with variance 2 / fan-in, biases zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Workload:
    """A network of dense layers. `loss` is "squared" or "cross_entropy", `optimizer` "sgd" or "adam"; `steps` is how
    many steps one timed repeat takes."""

    name: str
    widths: tuple[int, ...]
    activation: str
    loss: str
    optimizer: str
    rate: float
    batch: int
    steps: int

    @property
    def flops(self) -> int:
        """Of the matrix products of one step: forward, and both gradients but that of the data."""
        pairs = list(zip(self.widths[:-1], self.widths[1:], strict=True))
        return sum(2 * self.batch * i * o * (2 if k == 0 else 3) for k, (i, o) in enumerate(pairs))

    @property
    def source(self) -> str:
        """The model in the language."""
        inside = [f"    h{k} = Dense(h{k - 1}, {width}, {self.activation})" for k, width in enumerate(self.widths[1:-1], 1)]
        if inside:
            inside[0] = inside[0].replace("h0", "x")
        last = f"h{len(inside)}" if inside else "x"
        target = "y: int[batch] < " + str(self.widths[-1]) if self.loss == "cross_entropy" else f"y: [batch, {self.widths[-1]}]"
        loss = "cross_entropy(out, y)" if self.loss == "cross_entropy" else "mean((out - y) ** 2)"
        rule = {"sgd": "SGD", "adam": "Adam"}[self.optimizer]
        lines = [
            "model Workload():",
            f"    input  x: [batch, {self.widths[0]}]",
            f"    target {target}",
            *inside,
            f"    out = Dense({last}, {self.widths[-1]})",
            f"    loss {loss}",
            "",
            "train Workload:",
            f"    optimizer {rule}(lr = {self.rate})",
            f"    batch {self.batch}",
        ]
        return "\n".join(lines) + "\n"

    def parameters(self) -> list[Array]:
        """Weight and bias of each layer, in order."""
        rng = np.random.default_rng(0)
        found: list[Array] = []
        for i, o in zip(self.widths[:-1], self.widths[1:], strict=True):
            found += [(rng.normal(size=(i, o)) * (2 / i) ** 0.5).astype(np.float32), np.zeros(o, np.float32)]
        return found

    def data(self) -> tuple[Array, Array]:
        """One batch, used for every step."""
        rng = np.random.default_rng(1)
        x = rng.normal(size=(self.batch, self.widths[0])).astype(np.float32)
        if self.loss == "cross_entropy":
            return x, rng.integers(0, self.widths[-1], self.batch).astype(np.int32)
        return x, rng.normal(size=(self.batch, self.widths[-1])).astype(np.float32)


WORKLOADS: Sequence[Workload] = (
    Workload("tiny_mlp", (8, 16, 16, 1), "tanh", "squared", "sgd", 0.01, 32, 2000),
    Workload("logreg", (64, 10), "", "cross_entropy", "sgd", 0.1, 32, 2000),
    Workload("mlp", (784, 512, 256, 10), "relu", "cross_entropy", "adam", 1e-4, 64, 20),
)


def named(name: str) -> Workload:
    """The workload of that name. Raises StopIteration."""
    return next(workload for workload in WORKLOADS if workload.name == name)
