"""Exact values of the elementary functions in 30 digits, by mpmath, and the float64 inputs to try them at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
DIGITS = 30
FAR = 2.0**30  # beyond, the angles of sin, cos and tan have lost their meaning


def _softplus(x: Any) -> Any:
    return mp.log1p(mp.exp(x)) if x < 0 else x + mp.log1p(mp.exp(-x))


def _lgamma(x: Any) -> Any:
    return mp.loggamma(x) if x > 0 else mp.log(mp.pi / abs(mp.sinpi(x))) - mp.loggamma(1 - x)


def _ndtri(p: Any) -> Any:
    """With as many digits more as 2 p - 1 loses."""
    with mp.workdps(DIGITS + int(-mp.log10(p)) + 1 if 0 < p < 0.5 else DIGITS):
        return mp.sqrt(2) * mp.erfinv(2 * p - 1)


def _sigmoid_slope(x: Any) -> Any:
    e = mp.exp(-abs(x))
    return e / (1 + e) ** 2


VALUES: dict[str, Callable[..., Any]] = {
    **{
        name: getattr(mp, name)
        for name in ("exp", "expm1", "log", "log1p", "tanh", "sin", "cos", "tan", "asin", "acos", "atan")
    },
    **{name: getattr(mp, name) for name in ("sinh", "cosh", "erf", "atan2")},
    "erfc": lambda x: mp.erfc(min(x, 1000)),  # mpmath's has no answer far out
    "exp2": lambda x: mp.power(2, x),
    "log2": lambda x: mp.log(x) / mp.log(2),
    "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
    "softplus": _softplus,
    "rsqrt": lambda x: 1 / mp.sqrt(x),
    "cbrt": lambda x: mp.sign(x) * mp.cbrt(abs(x)),
    "lgamma": _lgamma,
    "polygamma0": mp.digamma,
    "polygamma1": lambda x: mp.polygamma(1, x),
    "pow": mp.power,
    "hypot": mp.hypot,
    "hypot_slope": lambda x, y: x / mp.hypot(x, y),
    "erfinv": mp.erfinv,
    "ndtri": _ndtri,
    "log10": mp.log10,
    "exp10": lambda x: mp.power(10, x),
    # stays where it leaves the normal numbers
    "tanh_slope": lambda x: 4 * _sigmoid_slope(2 * min(abs(x), mp.mpf(354.9))),
    "sigmoid_slope": _sigmoid_slope,
}
# Where a function is neither constant nor overflowing, or has a value at all; elsewhere (-50, 50).
BUSY = {
    "exp": (-750, 715), "exp2": (-1080, 1030), "expm1": (-40, 715), "log": (0, 4), "log2": (0, 4), "log10": (0, 4),
    "exp10": (-330, 309), "tanh_slope": (-360, 360), "sigmoid_slope": (-715, 715), "log1p": (-1, 4), "rsqrt": (0, 4),
    "sigmoid": (-750, 40), "softplus": (-750, 40), "asin": (-1, 1), "acos": (-1, 1), "sinh": (-715, 715),
    "cosh": (-715, 715),
    "erf": (-6, 6), "erfc": (-6, 28), "lgamma": (-30, 60), "polygamma0": (-30, 60), "polygamma1": (-30, 60),
    "erfinv": (-1, 1), "ndtri": (0, 1),
}  # fmt: skip


def inputs(name: str, count: int) -> tuple[Array, Array]:
    """Two arrays (the second is for functions of two): a quarter each are bit patterns of all exponents, uniform
    where the function is busy, such numbers times 1e-3, and uniform between -2 and 2; only those where the function
    has a value.
    """
    rng = np.random.default_rng(2)
    low, high = BUSY.get(name, (-50, 50))
    quarter = -(-count // 4)

    def drawn() -> Array:
        with np.errstate(all="ignore"):
            bits = rng.integers(0, 1 << 64, quarter, dtype=np.uint64).view(np.float64)
        busy = rng.uniform(low, high, (2, quarter))
        return np.concatenate([np.nan_to_num(bits, nan=1.0), busy[0], busy[1] * 1e-3, rng.uniform(-2, 2, quarter)])

    x, y = drawn(), drawn()
    if name == "pow":
        x = np.abs(x)
        with np.errstate(all="ignore"):  # a quarter of the results are of any size
            y[::4] = np.nan_to_num(rng.uniform(-1080, 1026, y.size) / np.log2(x), nan=1.0)[::4]
    if name in ("sin", "cos", "tan"):
        x = np.where(np.abs(x) > FAR, np.fmod(x, FAR), x)
    outside = (x < low) if low in (0, -1) or name in ("lgamma", "polygamma0", "polygamma1") else np.zeros(x.shape, bool)
    if name in ("asin", "acos", "erfinv", "ndtri"):
        outside |= x > high
    return np.where(outside, rng.uniform(low, high, x.shape), x), y


def parts(name: str, x: Array, y: Array) -> tuple[Array, Array]:
    """The exact values as sums of two float64: the nearest one, and the rest."""
    function, nearest, rest = VALUES[name], np.empty_like(x), np.zeros_like(x)
    pairs = name in ("pow", "atan2", "hypot", "hypot_slope")
    with mp.workdps(DIGITS):
        for k, at in enumerate(x):
            value = function(mp.mpf(float(at)), mp.mpf(float(y[k]))) if pairs else function(mp.mpf(float(at)))
            nearest[k] = float(value)
            if np.isfinite(nearest[k]):
                rest[k] = float(value - mp.mpf(float(nearest[k])))
    return nearest, rest
