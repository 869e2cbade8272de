"""References of scalar operations that NumPy has no function for, element by element, in double precision where it has
to be.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tapeless.ir.ops.registry import Array


def sigmoid_of_number(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)) without overflow: exp of a number that is never positive."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def erf(x: Array) -> Array:
    """The error function, element by element: NumPy has none."""
    return np.asarray([math.erf(value) for value in np.ravel(x)], np.float64).reshape(np.shape(x))


def erfc(x: Array) -> Array:
    return np.asarray([math.erfc(value) for value in np.ravel(x)], np.float64).reshape(np.shape(x))


def by_double(function: Callable[..., Any]) -> Callable[..., Any]:
    """Floats in double precision, of which the result is rounded once; integers as they are (division by zero gives
    0).
    """
    return lambda *operands: function(*(x.astype(np.float64) if x.dtype.kind == "f" else x for x in operands))


def strong_product(x: Array, y: Array) -> Array:
    return np.where((x == 0) | (y == 0), 0, x * y)


def softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def sigmoid_slope(x: Array) -> Array:
    """exp(-x) / (1 + exp(-x)) ** 2, an even function."""
    e = np.exp(-np.abs(x))
    return np.asarray(e / (1 + e) ** 2)


def tanh_slope(x: Array) -> Array:
    """1 / cosh(x) ** 2 without overflow."""
    return 4 * sigmoid_slope(2 * x)


def hypot_slope(x: Array, y: Array) -> Array:
    """The cosine of the angle of (x, y), and 0 at the origin."""
    # so that the length neither overflows nor loses digits
    factor = np.where(np.maximum(np.abs(x), np.abs(y)) > 1, 0.25, 2.0**53)
    x, y = x * factor, y * factor
    length = np.hypot(x, y)
    return np.asarray(np.divide(x, length, out=np.zeros_like(length), where=length != 0))
