"""Nonlinear regression with SciPy's optimizer: the gradient, exact, comes from the compiled model, in float64.

    python examples/scipy/misra1a.py

The data and the certified answer are those of Misra1a in NIST's Statistical Reference Datasets
(https://www.itl.nist.gov/div898/strd/nls/data/misra1a.shtml, public domain), where the certified values have eleven
digits; the starting point is NIST's first, the farther one (500, 0.0001).
"""

from pathlib import Path

import numpy as np
from scipy.optimize import minimize

import tapeless

PRESSURE = np.array([77.6, 114.9, 141.1, 190.8, 239.9, 289.0, 332.8, 378.4, 434.8, 477.3, 536.8, 593.1, 689.1, 760.0])
VOLUME = np.array([10.07, 14.73, 17.94, 23.93, 29.61, 35.18, 40.02, 44.82, 50.76, 55.05, 61.01, 66.40, 75.47, 81.78])
CERTIFIED = {"b1": 2.3894212918e02, "b2": 5.5015643181e-04, "sum of squares": 1.2455138894e-01}


def fit() -> dict[str, float]:
    """The parameters and the sum of squared residuals at the minimum."""
    program = tapeless.load(Path(__file__).parent / "misra1a.tl").compile(dtype="float64")
    found = minimize(
        program.value_and_grad,
        program.vector(),
        args=(PRESSURE, VOLUME),
        jac=True,
        method="BFGS",
        options={"gtol": 1e-12},
    )
    b1, b2 = found.x
    return {"b1": 100 * b1, "b2": 1e-4 * b2, "sum of squares": found.fun * len(VOLUME)}


def main() -> None:
    for name, value in fit().items():
        error = abs(value / CERTIFIED[name] - 1)
        print(f"{name:<14} {value:.10e}   certified {CERTIFIED[name]:.10e}   relative error {error:.1e}")


if __name__ == "__main__":
    main()
