"""A comparison counts as a number, 0 or 1, whose derivative is zero: as it would inside of `stop_gradient`."""

from __future__ import annotations

import numpy as np
import pytest

from tapeless.compiler.messages.diagnostics import ProgramErrors
from tapeless.compiler.model import load
from tapeless.ir.interpreter import run
from tapeless.ir.types import DType

from .derivatives import derived

# Comparisons stand in {}. They are tried as they are, and stopped.
PROGRAM = """
fn half(c) = 0.5 * c

layer Scanned(s[b, t, d]):
    scan over t with h: [b, d] = 0, n: [b, d] = 0:
        h = h + {s[t] > h} * s[t]
        n = n + where({h > 1}, 2, 1)
        u = h * n
        yield u
    return h * n + sum(stacked u, axis = 1)

model M:
    input y: [batch, 3]
    input s: [batch, 4, 3]
    input w: [batch, 3]
    param W: [3, 3] = 0
    z = y @ W
"""
EXPRESSIONS = [
    "{z > 0} * z",
    "where({z > y}, 2, 1) * (z - y) ** 2",
    "-{z < y} * z + {z <= 1} - z",
    "z * sum({z > 0.1}, axis = 1, keepdims = true) / mean({y > 0})",
    "z ** (1 + {z > 0})",
    "half({z > 0}) * z + z * maximum({z > 0}, 0.5)",
    "z * ({z > 0} + {z < y}) ** 2",
    "where({z > 0} and not {z > 1}, z, 0.1 * z)",
    "z + cumsum({z > 0} * z, axis = 1) * abs({z > 1} - 1)",
    "({z > 0} * 1.0) @ W * z",
    "z * max({z > y}, axis = 1, keepdims = true)",
    "z * expand_dims({argmax(z) != 1}, 1)",
    "grad(sum({z > 0} * z ** 3), z) * z",
    "vjp({z > 0} * z ** 2, z, y) + jvp({z > 0} * z ** 2, z, y) + hvp(sum({z > 0} * z ** 3), z, y)",
    "Scanned(s * expand_dims(z, 1))",
]


def text(expression: str, stopped: bool) -> str:
    program = f"{PROGRAM}    loss sum(({expression}) * w)\n"
    opened, closed = ("(stop_gradient(real(", ")) > 0.5)") if stopped else ("(", ")")
    return program.replace("{", opened).replace("}", closed)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_derivatives_are_those_of_a_constant(expression: str) -> None:
    rng = np.random.default_rng(3)
    data = {
        "y": rng.normal(size=(5, 3)),
        "w": rng.normal(size=(5, 3)),
        "s": rng.normal(size=(5, 4, 3)),
        "W": rng.normal(size=(3, 3)),
        "direction_W": rng.normal(size=(3, 3)),
    }
    found, expected = (
        run(graph, {port.key: data[port.label] for port in graph.inputs}, rows=5)
        for graph in (derived(text(expression, stopped), ["W"], DType.F64) for stopped in (False, True))
    )
    assert np.abs(expected["W"]).max() > 1e-3
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-12, atol=1e-12, err_msg=name)


def test_the_derivative_of_a_comparison_is_zero_and_by_one_an_error() -> None:
    program = "model M:\n    input x: [batch, 3]\n    c = x > 0\n    y = sum(c * x, axis = 1)\n    output g = {}\n"
    (warning,) = load(program.format("grad(sum(c), x)"), "model.tl").warnings
    assert warning.code == "W0103" and "only by comparisons" in warning.message
    assert not load(program.format("grad(y, x)"), "model.tl").warnings
    with pytest.raises(ProgramErrors, match="E0703"):
        load(program.format("grad(y, c)"), "model.tl")


LOSSES = {
    "mean((h > 0) != (y > 0))": "E0511",
    "mean(sign(h) * y)": "E0511",
    "mean(y ** 2)": "E0511",
    "mean(where(h > 0, 2, 1) * (q - y) ** 2)": "W0102",
    "mean((h > 0) * h ** 2 + q)": None,
    "mean(Counted(h) * (q - y) ** 2)": "W0102",
}


@pytest.mark.parametrize("loss", LOSSES)
def test_what_no_loss_feels_is_told(loss: str) -> None:
    program = f"""
layer Counted(h[b, t]):
    scan over t with n: [b] = 0:
        n = n + (h[t] > 0)
    return expand_dims(n, 1)

model M:
    input  x: [batch, 3]
    target y: [batch, 1]
    h = Dense(x, 1)
    {"q = Dense(x, 1)" if "q" in loss else ""}
    loss {loss}
"""
    try:
        found = {warning.code for warning in load(program, "model.tl").warnings}
    except ProgramErrors as errors:
        found = {fault.code for fault in errors.diagnostics}
    assert found == ({LOSSES[loss]} if LOSSES[loss] else set())
