"""Errors of all functions of one number and of their first two derivatives, near zero and far out, against exact
values:

    python -m benchmarks.derivatives [--write]

From the root of the repository; `--write` puts the table into docs/numerics.md. The functions and what is right are
those of tests/scalars.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from tests.scalars.compared import EPS, ORDERS, computed
from tests.scalars.table import SCALARS, Scalar

PAGE = Path(__file__).parents[1] / "docs" / "numerics.md"
NEAR = 10.0 ** np.linspace(-17, -1, 17)
FAR = 10.0 ** np.linspace(0, 2.8, 17)
SIZE = 12


def errors(scalar: Scalar, points: list[tuple[float, ...]], found: list[np.ndarray]) -> list[float]:
    """The greatest error of each derivative, relative to the value and to what a rounding of the argument changes,
    in roundings.
    """
    worst = []
    for (order,), results in zip(ORDERS[1], found, strict=True):
        greatest = 0.0
        for at, result in zip(points, results, strict=True):
            known = [_right(scalar, order + more, at) for more in (0, 1)]
            kink = order and len(scalar.pieces) > 1 and at[0] in scalar.near
            if kink or not scalar.exact(*at) or known[0] is None or not 1e-290 < abs(known[0]) < 1e290:
                continue
            allowed = EPS * (abs(known[0]) + abs(at[0] * (known[1] or 0)))
            greatest = max(greatest, float(abs(result - known[0]) / allowed))
        worst.append(greatest)
    return worst


def _right(scalar: Scalar, order: int, at: tuple[float, ...]) -> object | None:
    if scalar.given and order >= len(scalar.given):
        return None
    return scalar.at((order,), *at)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    wanted = [scalar for scalar in SCALARS if scalar.arguments == 1]
    lines = []
    for start in range(0, len(wanted), SIZE):
        chunk = wanted[start : start + SIZE]
        points = [
            [(sign * float(x),) for x in (*NEAR, *FAR) for sign in (1, -1) if x <= scalar.largest] for scalar in chunk
        ]
        for scalar, own, found in zip(chunk, points, computed(chunk, points), strict=True):
            near = [k for k, (x,) in enumerate(own) if abs(x) < 1]
            far = [k for k, (x,) in enumerate(own) if abs(x) >= 1]
            columns = [
                errors(scalar, [own[k] for k in places], [one[places] for one in found]) for places in (near, far)
            ]
            lines.append(
                f"| `{scalar.text}` |"
                + "".join(f" {error:.1f} |" for pair in zip(*columns, strict=True) for error in pair)
            )
            print(lines[-1], flush=True)
    if options.write:
        before, middle, after = PAGE.read_text("utf-8").partition("\n## Sums")
        before = before.partition("\n## Derivatives")[0]
        PAGE.write_text(before + HEAD + "\n".join(lines) + "\n" + middle + after, "utf-8")


HEAD = """
## Derivatives

All functions of one number and their first two derivatives in float64 against ball arithmetic (Arb), as `python -m
benchmarks.derivatives --write` found: near zero at sizes from 10**-17 to 0.1, far out from 1 to 630, of both signs.
Errors are in roundings (2**-53), relative to the right value and what a rounding of the argument changes in it, the
greatest of each. `tests/scalars` holds all functions, also those of two numbers, to 10**-13 at 10**4 random points of
all sizes and at their own special ones. At infinite arguments values and first derivatives have their limits, but for
`silu`, `gelu`, `mish` and `hard_swish`, where a product of zero and infinity is NaN, as in PyTorch. What is below
10**-280 in a first derivative, or 10**-140 in a second one, may be zero.

| function | value near | far | slope near | far | second near | far |
|---|---|---|---|---|---|---|
"""

if __name__ == "__main__":
    main()
