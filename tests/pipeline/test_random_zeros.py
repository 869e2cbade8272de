"""Random expressions with `where`, `clip`, logarithms, roots and quotients at special points: no gradient is NaN
where the value and the true derivatives from both sides are finite, and the value has not been lost to rounding.
What is true is found by mpmath, from the same expression beside the point.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

import tapeless

POINTS = (0.0, 1.0, -1.0, 0.5, 2.0, 1e10, -1e10, 1e-10, -3.0)
DEPTH = 4
Function = Callable[[Any], Any]
# sqrt(u log u) where u = 1 and u' = 0: the infinite adjoint of u goes two ways, which cancel. No zero adjoint is
# involved.
CANCELLING = ("sqrt(where((((where((x) > 0, (x) * log(x), 0)) + ((1 / (x))))) > 0",)


def real(value: Any) -> Any:
    """A number, or NaN for what is no real one."""
    return value if isinstance(value, mpmath.mpf) or (isinstance(value, mpmath.mpc) and value.imag == 0) else mpmath.nan


def grown(rng: random.Random, depth: int) -> tuple[str, Function]:
    """An expression of x in the language, and what it means."""
    if depth == 0 or rng.random() < 0.1:
        if rng.random() < 0.75:
            return "x", lambda x: x
        number = rng.choice((0.5, 1.0, 2.0, 3.0))
        return f"({number} + 0 * x)", lambda x: mpmath.mpf(number)
    (a, f), (b, g), (c, h) = (grown(rng, depth - 1) for _ in range(3))
    if a == b:  # x - x under a root: its two adjoints are infinite and cancel
        b, g = f"(1 + {b})", lambda x, g=g: 1 + g(x)
    limit = rng.choice((0, 1, 0.5))
    forms: tuple[tuple[str, Function], ...] = (
        (f"(({a}) + ({b}))", lambda x: f(x) + g(x)),
        (f"(({a}) - ({b}))", lambda x: f(x) - g(x)),
        (f"(({a}) * ({b}))", lambda x: f(x) * g(x)),
        (f"(({a}) / ({b}))", lambda x: f(x) / g(x)),
        (f"log({a})", lambda x: real(mpmath.log(f(x)))),
        (f"log1p({a})", lambda x: real(mpmath.log(1 + f(x)))),
        (f"sqrt({a})", lambda x: real(mpmath.sqrt(f(x)))),
        (f"(({a}) ** 2)", lambda x: f(x) ** 2),
        (f"(1 / ({a}))", lambda x: 1 / f(x)),
        (f"tanh({a})", lambda x: mpmath.tanh(f(x))),
        (f"exp(-({a}) ** 2)", lambda x: mpmath.exp(-(f(x) ** 2))),
        (f"clip({a}, -2, 3)", lambda x: min(max(f(x), -2), 3)),
        (f"where(({a}) > {limit}, {b}, {c})", lambda x: g(x) if f(x) > limit else h(x)),
        (
            f"where(({a}) > 0, ({a}) * log({a}), 0)",
            lambda x: f(x) * real(mpmath.log(f(x))) if f(x) > 0 else mpmath.mpf(0),
        ),
    )
    return rng.choice(forms)


def value(function: Function, x: Any) -> Any:
    try:
        found = function(x)
    except (ZeroDivisionError, ValueError, OverflowError, TypeError):
        return mpmath.nan
    return found if isinstance(found, mpmath.mpf) else real(found)


def tame(function: Function, at: float) -> bool:
    """Whether the function is finite and has finite slopes from both sides, which two distances agree on."""
    x, size = mpmath.mpf(at), max(abs(at), 1e-8)
    slopes = []
    for side in (1, -1):
        pair = []
        for step in (mpmath.mpf(10) ** -30 * size, mpmath.mpf(10) ** -34 * size):
            pair.append((value(function, x + side * step) - value(function, x)) / step)
        if not all(mpmath.isfinite(one) and abs(one) < 1e30 for one in pair) or abs(pair[0] - pair[1]) > 1e-6 * (
            1 + abs(pair[1])
        ):
            return False
        slopes.append(pair[1])
    return bool(mpmath.isfinite(value(function, x)))


def broken(seeds: range) -> tuple[list[str], int]:
    """Cases with a gradient of NaN, and how many were looked at."""
    mpmath.mp.dps = 90
    made = [grown(random.Random(seed), DEPTH) for seed in seeds]
    lines = ["model Zeros:", "input x: [batch]"]
    for k, (expression, _) in enumerate(made):
        lines += [f"y{k} = ({expression}) + 0 * x", f"output g{k} = grad(y{k}, x)", f"output v{k} = y{k}"]
    program = tapeless.load("\n    ".join(lines) + "\n").compile(dtype="float64", batch=len(POINTS), threads=1)
    found = program.predict(np.asarray(POINTS))
    wrong, count = [], 0
    for k, (expression, function) in enumerate(made):
        for place, at in enumerate(POINTS):
            exact = value(function, mpmath.mpf(at))
            if (
                np.isfinite(found[f"v{k}"][place])
                and abs(found[f"v{k}"][place] - exact) <= 1e-6 * abs(exact)
                and tame(function, at)
            ):
                count += 1
                if np.isnan(found[f"g{k}"][place]) and not expression.startswith(CANCELLING):
                    wrong.append(f"{expression} at {at}")
    return wrong, count


def test_a_few() -> None:
    wrong, count = broken(range(30))
    assert not wrong, "\n".join(wrong)
    assert count > 90


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_a_thousand(part: int) -> None:
    wrong, _ = broken(range(100 * part, 100 + 100 * part))
    assert not wrong, "\n".join(wrong)
