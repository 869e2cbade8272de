"""The eight workloads: models, data and starting values that every peer is given alike.

The models are the texts of `models/`. Values are float32 and drawn from fixed seeds: weights are normal with
variance 2 / fan-in, tables of embeddings with a deviation of 0.02, scales one, biases and shifts zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tapeless.compiler.model import Model, load
from tapeless.ir.types import Tensor

Array = np.ndarray[Any, np.dtype[Any]]
HERE = Path(__file__).parent
DIGITS = HERE.parent / "examples" / "digits" / "digits.npz"


@dataclass(frozen=True)
class Optimizer:
    """What peers need of a model's `train` section: `kind` is "sgd", "adam" or "adamw"."""

    kind: str
    rate: float
    momentum: float = 0.0
    decay: float = 0.0


@dataclass(frozen=True)
class Workload:
    """A model of `models/`, the operations of its products in a step, and how many steps one timed repeat takes.
    `predicted` is what its text calls that which it predicts.
    """

    name: str
    flops: float
    steps: int
    optimizer: Optimizer
    predicted: str = "out"

    @cached_property
    def source(self) -> str:
        """The model in the language."""
        return (HERE / "models" / f"{self.name}.tl").read_text("utf-8")

    @property
    def predicting(self) -> str:
        """The model with an output, for inference."""
        return self.source.replace("    loss ", f"    output predicted = {self.predicted}\n    loss ", 1)

    @cached_property
    def model(self) -> Model:
        """The model, elaborated."""
        return load(self.source, f"{self.name}.tl")

    @property
    def batch(self) -> int:
        """The rows of a step."""
        return self.model.settings.batch

    def parameters(self) -> dict[str, Array]:
        """The starting values, by name."""
        rng = np.random.default_rng(0)
        return {slot.name: _started(rng, slot.name, slot.type) for slot in self.model.slots if slot.role == "param"}

    def data(self) -> dict[str, Array]:
        """All rows, by name: one batch, or for logreg the pictures of an epoch."""
        if self.name == "logreg":
            held = np.load(DIGITS)
            return {"x": held["image"].astype(np.float32), "y": held["label"].astype(np.int32)}
        rng = np.random.default_rng(1)
        if self.name == "elementwise":
            return _options(rng, self.model.data[0].type.at(self.batch))
        return {
            one.name: rng.normal(size=one.type.at(self.batch)).astype(np.float32)
            if one.bound is None
            else rng.integers(0, one.bound, one.type.at(self.batch)).astype(np.int32)
            for one in self.model.data
        }

    def first_batch(self) -> list[Array]:
        """The rows of the first batch, in the order in which the model names them."""
        return [array[: self.batch] for array in self.data().values()]


def _started(rng: np.random.Generator, name: str, tensor: Tensor) -> Array:
    shape, last = tensor.at(0), name.rpartition(".")[2]
    if last == "v":
        return np.full(shape, 0.5, np.float32)
    if len(shape) < 2:
        return np.full(shape, 1 if last == "scale" else 0, np.float32)
    if name in ("tokens.W", "places.W"):
        return rng.normal(scale=0.02, size=shape).astype(np.float32)
    fan_in = math.prod(shape[1:]) if len(shape) == 4 else shape[0]
    return rng.normal(scale=(2 / fan_in) ** 0.5, size=shape).astype(np.float32)


def _options(rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Array]:
    """Calls on a share that stands at 1, at a rate of 2%, priced by Black and Scholes with volatilities from 0.1 to
    0.6.
    """
    strike, years, v = rng.uniform(0.7, 1.4, shape), rng.uniform(0.1, 2, shape), rng.uniform(0.1, 0.6, shape)
    spread = v * np.sqrt(years)
    d = (0.02 * years - np.log(strike)) / spread + 0.5 * spread
    normal = np.vectorize(lambda x: 0.5 * math.erfc(-x / math.sqrt(2)), otypes=[float])
    price = normal(d) - strike * np.exp(-0.02 * years) * normal(d - spread)
    return {"strike": strike.astype(np.float32), "years": years.astype(np.float32), "price": price.astype(np.float32)}


WORKLOADS: Sequence[Workload] = (
    Workload("tiny_mlp", 68e3, 2000, Optimizer("sgd", 0.01)),
    Workload("logreg", 82e3, 1120, Optimizer("sgd", 0.1)),
    Workload("mlp", 154e6, 100, Optimizer("adam", 1e-5)),
    Workload("mlp_large", 11.7e9, 2, Optimizer("sgd", 0.01, momentum=0.9)),
    Workload("cnn", 2.96e9, 5, Optimizer("adam", 1e-5)),
    Workload("lstm", 1.36e9, 10, Optimizer("adam", 1e-3)),
    Workload("gpt", 5.3e9, 2, Optimizer("adamw", 1e-3, decay=0.01)),
    Workload("elementwise", 0, 40, Optimizer("sgd", 1e5), "made"),
)


def named(name: str) -> Workload:
    """The workload of that name. Raises StopIteration."""
    return next(workload for workload in WORKLOADS if workload.name == name)
