"""What compiled programs make of scalar functions and their derivatives, and how far that is from what they are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import mpmath as mp
import numpy as np

import tapeless

from .table import Scalar

EPS = 2.0**-53
ORDERS = {1: ((0,), (1,), (2,)), 2: ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2), (1, 1))}  # mixed ones by both ways
# Products inside of a derivative may underflow where it does not yet: what is smaller than this counts for nothing, by
# the order.
NOTHING = (1e-305, 1e-280, 1e-140)
EVERYWHERE = (
    0.0,
    1.0,
    0.1,
    0.5,
    2.0,
    3.0,
    7.0,
    30.0,
    1e-5,
    1e-9,
    1e-17,
    1e-100,
    1e-300,
    5e-324,
    1e-310,
    1e3,
    1e5,
    1e9,
    1e17,
    1e100,
    1e300,
)
BESIDE = (1 - 1e-9, 1 - 2.0**-53, 1 + 2.0**-52, 1 + 1e-9)


@dataclass(frozen=True)
class Difference:
    """One result that is not what it should be."""

    text: str
    order: tuple[int, ...]
    at: tuple[float, ...]
    found: float
    right: float

    def __str__(self) -> str:
        return f"{self.text} {self.order} at {self.at!r}: {self.found!r}, not {self.right!r}"


def special(scalar: Scalar) -> list[tuple[float, ...]]:
    """Zeros, ones, tiny and huge numbers, the function's own points and what lies beside them, infinities."""
    numbers = [sign * number for number in EVERYWHERE for sign in (1, -1)]
    numbers += [point * factor for point in scalar.near for factor in (1, *BESIDE)]
    numbers = [number for number in numbers if abs(number) <= scalar.largest]
    if scalar.arguments == 1:
        return [(number,) for number in (*numbers, *((np.inf, -np.inf) if scalar.limit else ()))]
    few = [n for n in numbers if abs(n) in (0.0, 1.0, 0.5, 3.0, 1e-9, 1e5, 1e100, 1e-300)]
    return [(x, y) for x in few for y in few]


def drawn(scalar: Scalar, count: int, seed: int = 0) -> list[tuple[float, ...]]:
    """Half of them of any size, half typical."""
    rng = np.random.default_rng(seed)
    top = np.log10(scalar.largest)
    sizes = 10 ** rng.uniform(-min(300, 3 * top), top, (count // 2, scalar.arguments)) * rng.choice(
        [-1, 1], (count // 2, scalar.arguments)
    )
    typical = rng.uniform(scalar.low, scalar.high, (count - count // 2, scalar.arguments))
    return [tuple(row) for row in np.concatenate([sizes, typical])]


def computed(
    scalars: Sequence[Scalar], points: Sequence[Sequence[tuple[float, ...]]], orders: int = 2, dtype: str = "float64"
) -> list[list[np.ndarray[Any, Any]]]:
    """For each function and order, up to `orders`, the results at its points, from one program. Quotients make the
    infinities: data have to be finite.
    """
    lines, inputs = ["model Scalars:"], {}
    rows = max(map(len, points))
    for k, (scalar, own) in enumerate(zip(scalars, points, strict=True)):
        names = ("x", "y")[: scalar.arguments]
        for place, name in enumerate(names):
            value = np.resize([point[place] for point in own], rows).astype(dtype)
            inputs[f"{name}{k}a"] = np.where(
                np.isnan(value), 0, np.where(np.isinf(value), np.sign(value), value)
            ).astype(dtype)
            inputs[f"{name}{k}b"] = np.isfinite(value).astype(dtype)
            lines += [
                f"input {name}{k}a: [batch]",
                f"input {name}{k}b: [batch]",
                f"{name}{k} = {name}{k}a / {name}{k}b",
            ]
        text = re.sub(r"\b([xy])\b", rf"\g<1>{k}", scalar.text)
        lines += [f"v{k} = {text}", f"output o{k}q0 = v{k}"]
        made = {(0,) * scalar.arguments: f"v{k}"}
        for number, order in enumerate(ORDERS[scalar.arguments]):
            if not 0 < sum(order) <= orders:
                continue
            places = [p for p in range(scalar.arguments) if order[p]]
            place = places[-1] if order in made else places[0]
            before = tuple(times - (p == place) for p, times in enumerate(order))
            made[order] = f"g{k}q{number}"
            lines += [
                f"g{k}q{number} = grad(sum({made[before]}), {names[place]}{k})",
                f"output o{k}q{number} = g{k}q{number}",
            ]
    program = tapeless.load("\n    ".join(lines) + "\n").compile(dtype=dtype, batch=min(rows, 4096), threads=1)
    found = program.predict(inputs)
    return [
        [
            found[f"o{k}q{number}"][: len(own)]
            for number, order in enumerate(ORDERS[scalar.arguments])
            if sum(order) <= orders
        ]
        for k, (scalar, own) in enumerate(zip(scalars, points, strict=True))
    ]


def limit(scalar: Scalar, order: tuple[int, ...], sign: float) -> float | None:
    """The limit of a function of one argument, as two far points show it."""
    near, far = (scalar.at(order, sign * 10.0**size) for size in (20, 40))
    if near is None or far is None:
        return None
    if abs(far) < mp.mpf(10) ** -9 and abs(far) <= abs(near) * 0.75:
        return 0.0
    return float(mp.sign(far) * mp.inf) if abs(far) > 1.5 * abs(near) else float(far)


def differences(
    scalar: Scalar, points: Sequence[tuple[float, ...]], found: Sequence[np.ndarray[Any, Any]], relative: float = 1e-13
) -> Iterator[Difference]:
    """Where results are not right: relative to the value, and to what a rounding of the arguments would change."""
    for order, results in zip(ORDERS[scalar.arguments], found, strict=False):
        if scalar.given and ((scalar.arguments > 1 and any(order)) or sum(order) >= len(scalar.given)):
            continue
        for at, result in zip(points, results, strict=True):
            if any(map(np.isinf, at)):
                right = limit(scalar, order, np.sign(at[0])) if sum(order) < 2 else None
                if right is not None and not (
                    result == right or abs(result - right) <= relative * abs(right) + NOTHING[sum(order)]
                ):
                    yield Difference(scalar.text, order, at, float(result), right)
                continue
            if not scalar.exact(*at) or (
                any(order)
                and any(abs(one - kink) <= 1e-15 * abs(kink) for one in at for kink in (0, *scalar.near))
                and len(scalar.pieces) > 1
            ):
                continue
            if len(scalar.pieces) > 1 and any(order) and len(at) == 2 and at[0] == at[1]:
                continue
            if sum(order) > 1 and len(at) > 1 and any(0 < abs(one) < 1e-150 for one in at):
                continue  # squares of these vanish, and quotients by them overflow, with either sign
            right = scalar.at(order, *at)
            if right is None:
                continue
            if not _close(scalar, order, at, float(result), right, relative):
                yield Difference(scalar.text, order, at, float(result), float(right))


def _close(
    scalar: Scalar, order: tuple[int, ...], at: tuple[float, ...], found: float, right: Any, relative: float
) -> bool:
    if not np.isfinite(found):
        # Parts of a second derivative that overflow may have both signs.
        same = found == np.sign(float(right)) * np.inf or (sum(order) > 1 and np.isnan(found))
        return bool(same and abs(right) > 1.79e308)
    allowed = relative * abs(right) + NOTHING[sum(order)]
    if abs(found - right) <= allowed:
        return True
    for place, one in enumerate(at):
        further = tuple(times + (p == place) for p, times in enumerate(order))
        if scalar.given and sum(further) >= len(scalar.given):
            return abs(found - right) <= 1e-10 * max(1, abs(right))
        slope = scalar.at(further, *at)
        allowed += 4 * EPS * abs(one * (slope or 0))
    return bool(abs(found - right) <= allowed)
