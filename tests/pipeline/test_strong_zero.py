"""A zero adjoint stays zero, whatever infinite slope it meets: compiled, both precisions, in every kind of
derivative.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

import tapeless

# Expression of x, the point, its value and slope there, and the second derivative where that is finite from one side at
# least.
CASES: tuple[tuple[str, float, float, float, float | None], ...] = (
    ("where(x > 0, x * log(x), 0)", 0, 0, 0, 0),
    ("where(x > 0, x * log(x), 0)", 1, 0, 1, 1),
    ("clip(log(x), -10, 10)", 0, -10, 0, 0),
    ("maximum(log(x), -100)", 0, -100, 0, 0),
    ("where(x > 0, x, 0) * where(x > 0, 1 / x, 0)", 0, 0, 0, 0),
    ("where(x > 0, sqrt(x), 0)", 0, 0, 0, 0),
    ("where(x > 0, x ** 0.3, 0)", 0, 0, 0, 0),
    ("where(x > 0, cbrt(x) + rsqrt(x), 0)", 0, 0, 0, 0),
    ("where(x != 0, 1 / x, 0)", 0, 0, 0, 0),
    ("where(x == 0, 1, sin(x) / x)", 0, 1, 0, 0),
    ("where(x < 50, exp(x), 0)", 1000, 0, 0, 0),
    ("where(x < 9, sinh(x) + cosh(x) + expm1(x) + exp2(x), 0)", 2000, 0, 0, 0),
    ("where(abs(x) < 1, arcsin(x) * arccos(x), 0)", 1, 0, 0, 0),
    ("where(x > 0, lgamma(x) + digamma(x), 0)", 0, 0, 0, 0),
    ("where(x > 0, arctan2(x, x), 0)", 0, 0, 0, 0),
    ("where(x > 0, 5 % x, 0)", 0, 0, 0, 0),
    ("where(x > 0, log1p(x - 1) * log2(x), 0)", 0, 0, 0, 0),
    ("where(x > 0, prod(stack(x, 1 / x, log(x)), axis = -1), 0)", 0, 0, 0, 0),
    ("where(x > 0, sum(cumprod(stack(x, log(x), 1 / x), axis = -1), axis = -1), 0)", 0, 0, 0, 0),
    ("where(x > 0, logsumexp(stack(log(x), 1 / x)), 0)", 0, 0, 0, 0),
    ("where(x > 0, softmax(stack(log(x), -1 / x))[:, 0], 0)", 0, 0, 0, 0),
    ("where(x > 0, max(stack(log(x), 1 / x), axis = -1), 0)", 0, 0, 0, 0),
    ("sqrt(x ** 2)", 0, 0, 0, None),
    ("sqrt(x ** 2)", -2, 2, -1, 0),
    ("sqrt(sum(stack(x, 2 * x) ** 2, axis = -1))", 0, 0, 0, None),
    ("x ** 0.5 * x ** 0.5", 0, 0, 0, None),
    ("exp(log(x))", 0, 0, 0, None),
    ("1 / (1 / x)", 0, 0, 0, 0),
    ("exp(-1 / x ** 2)", 0, 0, 0, 0),
    ("tanh(log(x))", 0, -1, 0, 0),
    ("sigmoid(-1 / x ** 2)", 0, 0, 0, 0),
    ("1 / (1 + exp(-x))", -1000, 0, 0, 0),
    ("exp(-exp(-x))", -1000, 0, 0, 0),
    ("(1 - x) ** 0.5 * log(x)", 1, 0, 0, None),
    ("x ** (0 * x)", 0, 1, 0, None),
    ("maximum(x, 0) ** 1.5 / 3", -1, 0, 0, 0),
)  # fmt: skip
KINDS = {
    "grad": "grad(y{k}, x{k})",
    "vjp": "vjp(y{k}, x{k}, 1)",
    "jvp": "jvp(y{k}, x{k}, 1)",
    "jacobian": "jacobian(y{k}, x{k})",
    "second": "grad(grad(y{k}, x{k}), x{k})",
    "hvp": "hvp(y{k}, x{k}, 1)",
    "forward": "jvp(grad(y{k}, x{k}), x{k}, 1)",
}  # fmt: skip


def renamed(expression: str, name: str) -> str:
    return re.sub(r"\bx\b", name, expression)


@pytest.mark.parametrize(
    ("dtype", "every"),
    [
        ("float32", 4),
        pytest.param("float32", 1, marks=pytest.mark.slow),
        pytest.param("float64", 1, marks=pytest.mark.slow),
    ],
)
def test_every_kind_of_derivative(dtype: str, every: int) -> None:
    cases = CASES[::every]
    lines = ["model Zeros:"]
    for k, (expression, *_) in enumerate(cases):
        lines += [f"input x{k}: [batch]", f"y{k} = {renamed(expression, f'x{k}')}", f"output value{k} = y{k}"]
        lines += [f"output {name}{k} = {written.format(k=k)}" for name, written in KINDS.items()]
    program = tapeless.load("\n    ".join(lines) + "\n").compile(dtype=dtype, batch=4, threads=1)
    found = program.predict({f"x{k}": [at] * 3 for k, (_, at, *_) in enumerate(cases)})
    for k, (expression, at, value, slope, curvature) in enumerate(cases):
        expected = {"value": value} | dict.fromkeys(("grad", "vjp", "jvp", "jacobian"), slope)
        expected |= {} if curvature is None else dict.fromkeys(("second", "hvp", "forward"), curvature)
        for name, number in expected.items():
            np.testing.assert_allclose(
                np.ravel(found[f"{name}{k}"]),
                [number] * 3,
                rtol=1e-5,
                atol=1e-6,
                err_msg=f"{name} of {expression} at {at}",
            )


# Each step of a loop takes every case's value and slope at what the step is given, and adds them up.
LOOP = """
model Loops(t = 3):
    input x: [batch, t, {count}]
    param w: [{count}] = 0
    {loop}
    loss mean(s)
    output s
"""
WALK = """scan over t with s: [batch] = 0:
        {body}
        s = s + {total}"""
REST = (("scan", "float32"), ("repeat", "float32"), ("repeat", "float64"))
TURNS = """s = 0 * x[:, 0, 0]
    repeat k in 0..3:
        {body}
        s = s + {total}"""


@pytest.mark.parametrize(
    ("loop", "dtype"), [("scan", "float64"), *(pytest.param(*rest, marks=pytest.mark.slow) for rest in REST)]
)
def test_inside_loops(loop: str, dtype: str) -> None:
    body, total = [], []
    for k, (expression, *_) in enumerate(CASES):
        body += [
            f"u{k} = {'x[t]' if loop == 'scan' else 'x[:, 0]'}[:, {k}] + w[{k}]",
            f"y{k} = {renamed(expression, f'u{k}')}",
        ]
        total += [f"y{k}"]
    form = {"scan": WALK, "repeat": TURNS}[loop]
    text = LOOP.format(count=len(CASES), loop=form.format(body="\n        ".join(body), total=" + ".join(total)))
    program = tapeless.load(text).compile(dtype=dtype, batch=4, threads=1)
    x = np.broadcast_to([at for _, at, *_ in CASES], (4, 3, len(CASES)))
    np.testing.assert_allclose(program.predict(x), [3 * sum(value for _, _, value, *_ in CASES)] * 4, rtol=1e-5)
    slopes = [slope for _, _, _, slope, _ in CASES]
    np.testing.assert_allclose(program.gradients(x)["w"], np.multiply(slopes, 3), rtol=1e-5, atol=1e-6)
