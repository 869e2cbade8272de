"""Whole programs for vectors of every width: a gradient is the same number whatever the machine's vectors hold."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest

import tapeless
from tapeless.ir.target import Target
from tapeless.runtime.image import Image
from tapeless.runtime.program import GROUPS, Program

from ..codegen.kernels import SCALAR, WIDTHS

TOLERANCE = {"float32": 2e-6, "float64": 1e-14}  # of the greatest element
LINEAR = """
model Linear(n = 256, m = 36):
    input  x: [batch, n]
    target y: [batch, m]
    param W: [n, m] ~ normal(0, 0.1)
    loss mean((x @ W - y) ** 2)
"""
MIXED = """
model Mixed:
    input  x: [batch, 12]
    target k: int[batch] < 5
    param A: [12, 33] ~ orthogonal
    param v: [33] ~ normal(0, 0.1)
    h = LayerNorm(tanh(x @ A) + dropout(v, 0.25))
    logits = Dense(cumsum(h, axis = 1), 5)
    loss cross_entropy(logits, k) + 0.01 * sum(sort(v)[:3])
"""


def programs_for(
    target: Target, text: str, dtype: str, batch: int, threads: Sequence[int], **sizes: int
) -> list[Program]:
    """The same program for each count of threads."""
    pipeline = tapeless.load(text, **sizes).pipeline(dtype)

    @cache
    def images(group: str, capacity: int | None) -> Image:
        made = pipeline.image(GROUPS[group], target, capacity or batch)
        return Image.from_object(made.manifest, made.code)

    return [Program(images, seed=3, threads=count, batch=batch) for count in threads]


def by_hand(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    x, y, weights = (array.astype(np.float64) for array in (x, y, weights))
    return 2 * x.T @ (x @ weights - y) / y.size


SHAPES = (
    (256, 36, 1100),
    *(
        pytest.param(shape, marks=pytest.mark.slow)
        for shape in ((256, 36, 1024), (256, 36, 1025), (256, 70, 2048), (257, 70, 2048), (257, 70, 2049))
    ),
)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("lanes", WIDTHS)
def test_gradient_of_weights(lanes: int, dtype: str, shape: tuple[int, int, int]) -> None:
    """By a transposed left operand of about 2 MiB: blocks of it are copied, and tiles may have more rows than a
    vector has elements.
    """
    rng = np.random.default_rng(0)
    n, m, batch = shape
    alone, together = programs_for(WIDTHS[lanes], LINEAR, dtype, batch, (1, 3), n=n, m=m)
    for rows in (batch, 129):
        x, y = (rng.normal(size=(rows, columns)).astype(dtype) for columns in (n, m))
        made, wanted = alone.gradients(x, y)["W"], by_hand(x, y, alone.parameters["W"])
        assert np.abs(made - wanted).max() <= TOLERANCE[dtype] * np.abs(wanted).max(), rows
        assert together.gradients(x, y)["W"].tobytes() == made.tobytes(), rows


@pytest.mark.parametrize(
    "lanes",
    (max(WIDTHS), *(pytest.param(lanes, marks=pytest.mark.slow) for lanes in WIDTHS if 1 < lanes < max(WIDTHS))),
)
@pytest.mark.skipif(1 not in WIDTHS, reason="runs x86-64 code")
def test_one_model_on_two_machines(lanes: int) -> None:
    """Starting values, which draw orthogonal matrices, and gradients: as without vectors."""
    rng = np.random.default_rng(1)
    x, k = rng.normal(size=(19, 12)), rng.integers(0, 5, 19)
    wide, scalar = (programs_for(target, MIXED, "float64", 8, (1,))[0] for target in (WIDTHS[lanes], SCALAR))
    for name, value in wide.parameters.items():
        np.testing.assert_allclose(value, scalar.parameters[name], rtol=1e-12, atol=1e-13, err_msg=name)
    exact = scalar.gradients(x, k)
    for name, value in wide.gradients(x, k).items():
        np.testing.assert_allclose(value, exact[name], rtol=1e-11, atol=1e-12, err_msg=name)
