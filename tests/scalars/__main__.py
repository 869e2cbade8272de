"""Every scalar function and its first two derivatives at many random points: python -m tests.scalars [--count 10000]
[--seed 0] [TEXT...]

Prints what differs, a line for each function, and ends with 1 if anything does. A function takes some ten seconds.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from .compared import computed, differences, drawn
from .table import SCALARS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="*", help="functions, as the table has them; all if none is given")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    total = 0
    for scalar in SCALARS:
        if given.texts and scalar.text not in given.texts:
            continue
        points = drawn(scalar, given.count, given.seed)
        with np.errstate(all="ignore"):
            wrong = [str(one) for one in differences(scalar, points, computed((scalar,), [points])[0])]
        total += len(wrong)
        print("\n    ".join([f"{scalar.text}: {len(points)} points, {len(wrong)} differ", *wrong[:5]]), flush=True)
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
