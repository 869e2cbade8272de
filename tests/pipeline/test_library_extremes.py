"""Functions of the standard library where a formula written naively fails: far out, at ties, at zero; compiled, both
precisions.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

import tapeless

ROW = [0.0, 200.0, -1000.0, 300.0, 5.0]
FAR = [0.0, 1e-5, 1e20, -3e19, 5.0]

# Expression of x, its values, and its derivative by the sum of the row.
CASES = {
    "logcumsumexp(x)": (ROW, [0, 200, 200, 300, 300], [1, 2, 0, 2, 0]),
    "logaddexp(x, x[:, ::-1])": ([1.0, -3.0, 2.0, 7.0, 1.0], np.logaddexp([1, -3, 2, 7, 1], [1, 7, 2, -3, 1]), None),
    "logaddexp(x, 0 * x)": ([0.0, 1.0, -1.0, 90.0, -90.0], None, 1 / (1 + np.exp([0.0, -1.0, 1.0, -90.0, 90.0]))),
    "arcsinh(x)": (FAR, np.arcsinh(FAR), 1 / np.hypot(1, FAR)),
    "arccosh(x)": ([1.5, 2.0, 1e10, 1e20, 3e30], np.arccosh([1.5, 2.0, 1e10, 1e20, 3e30]), None),
    "std(x, axis = 1, keepdims = true) + 0 * x": ([1.0] * 5, [0] * 5, [0] * 5),
    "real(any(x, axis = 1, keepdims = true)) + 0 * stop_gradient(x)": ([-1.0, 0, 0, 0, 0], [1] * 5, None),
    "real(all(x, axis = 1, keepdims = true)) + 0 * stop_gradient(x)": ([-1.0] * 5, [1] * 5, None),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_and_slopes(dtype: str) -> None:
    lines = ["model Extremes:"]
    for k, (expression, (_, _, slope)) in enumerate(CASES.items()):
        value = re.sub(r"\bx\b", f"x{k}", expression)
        lines += [f"input x{k}: [batch, 5]", f"y{k} = {value}", f"output v{k} = y{k}"]
        lines += [f"output g{k} = grad(sum(y{k}, axis = 1), x{k})"] if slope is not None else []
    program = tapeless.load("\n    ".join(lines) + "\n").compile(dtype=dtype, batch=2, threads=1)
    found = program.predict({f"x{k}": [x, x] for k, (x, _, _) in enumerate(CASES.values())})
    for k, (expression, (_, values, slope)) in enumerate(CASES.items()):
        for name, expected in ((f"v{k}", values), (f"g{k}", slope)):
            if expected is not None:
                np.testing.assert_allclose(found[name], [expected] * 2, rtol=1e-5, atol=1e-12, err_msg=expression)


def test_sums_of_nothing_stay_nothing() -> None:
    """Minus infinity is the logarithm of nothing: two of them add up to it."""
    program = tapeless.load(
        "model M:\n    input x: [batch, 3]\n    output y = logcumsumexp(where(x > 0, x, -inf))\n"
    ).compile(threads=1)
    np.testing.assert_allclose(program.predict([[-1, -1, 2]]), [[-np.inf, -np.inf, 2]])
