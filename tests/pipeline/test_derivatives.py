"""Derivatives as expressions: through machine code, against closed forms, central differences and the interpreter."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

import tapeless
from tapeless.compiler import entries
from tapeless.compiler.model import load
from tapeless.ir.interpreter import run
from tapeless.ir.text import read, write
from tapeless.ir.types import DType
from tapeless.ir.verifier import verify

from ..sweep import sweep

FORMULAS = """
model Formulas:
    input x: [batch]
    input t: [batch]
    w   = x * t
    u   = sin(2 * x) * exp(-t) + w ** 3
    u_x = grad(u, x)
    output u_x
    output u_t = grad(u, t)
    output u_xx = grad(u_x, x)
    output u_xt = grad(grad(u, t), x)
    output u_xxx = grad(grad(grad(u, x), x), x)
    output u_w = grad(u, w)
    output itself = grad(x, x)
    output sums = grad(sum(u ** 2), x)
    output held = grad(x * stop_gradient(w), x)
    m = mean(stack(x, t, x * t), axis = 1, keepdims = true)
    output kept = grad(sum((stack(x, t) - m) ** 2), m)
    output safe = grad(log(sigmoid(100 * x)), x)
    output above = grad(where(x > 0, x ** 2, 3 * x), x)
"""

NETWORK = """
model Network:
    input x: [batch, 1]
    input t: [batch, 1]
    param rate = 0.7
    param W: [2, 9] ~ normal(0, 1)
    h    = softplus(concat(x, t) @ W)
    g    = Dense(h, 7, gelu)
    u    = Dense(LayerNorm(g), 1, tanh)
    u_x  = grad(u, x)
    u_xx = grad(u_x, x)
    u_xxx = grad(u_xx, x)
    output u
    output u_x
    output u_xx
    output u_xxx
    penalty = grad(mean(u ** 2) * rate, W)
    loss mean((grad(u, t) - rate * u_xx) ** 2) + 0.1 * sum(penalty ** 2)
    loss mean(vjp(h, x, h) * jvp(g, t, x)) + grad(sum(u), rate) as products
    loss 0.01 * mean(hvp(mean(h ** 2), W, W)) + 0.1 * mean(jacobian(g, W)[:, 2, :, 1] ** 2) as curvature
"""


@cache
def compiled(text: str, dtype: str = "float64") -> Any:
    return tapeless.load(text).compile(dtype=dtype, batch=16, seed=1)


def points(rows: int, *names: str, columns: tuple[int, ...] = ()) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(rows)
    return {name: rng.normal(size=(rows, *columns)) for name in names}


@pytest.mark.parametrize("rows", (1, 3, 7, 17, 64, 65, 129))
def test_closed_forms(rows: int) -> None:
    data = points(rows, "x", "t")
    x, t = data["x"], data["t"]
    found = compiled(FORMULAS).predict(data)
    s, c, e = np.sin(2 * x), np.cos(2 * x), np.exp(-t)
    m = (x + t + x * t) / 3
    expected = {
        "u_x": 2 * c * e + 3 * x**2 * t**3,
        "u_t": -s * e + 3 * x**3 * t**2,
        "u_xx": -4 * s * e + 6 * x * t**3,
        "u_xt": -2 * c * e + 9 * x**2 * t**2,
        "u_xxx": -8 * c * e + 6 * t**3,
        "u_w": 3 * (x * t) ** 2,
        "itself": np.ones(rows),
        "sums": 2 * (s * e + (x * t) ** 3) * (2 * c * e + 3 * x**2 * t**3),
        "held": x * t,
        "kept": (-2 * ((x - m) + (t - m)))[:, None],
        "safe": 100 / (1 + np.exp(100 * x)),
        "above": np.where(x > 0, 2 * x, 3),
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-12, atol=1e-12, err_msg=name)


def test_far_from_overflow() -> None:
    """The derivative is that of the stable form, as in training: in float32, exp(100) is out of range."""
    x = np.array([-2.0, 2.0], np.float32)
    found = compiled(FORMULAS, "float32").predict({"x": x, "t": x})
    np.testing.assert_allclose(found["safe"], [100, 0], atol=1e-6)


def test_values_agree_with_central_differences() -> None:
    """The first three derivatives of a network, each against differences of the one before."""
    program, step, data = compiled(NETWORK), 1e-5, points(7, "x", "t", columns=(1,))
    here = program.predict(data)
    up, down = (program.predict({**data, "x": data["x"] + sign * step}) for sign in (1, -1))
    for before, after in (("u", "u_x"), ("u_x", "u_xx"), ("u_xx", "u_xxx")):
        np.testing.assert_allclose(here[after], (up[before] - down[before]) / (2 * step), rtol=1e-6, atol=1e-7)


def test_training_differentiates_them_again() -> None:
    """The gradient of a loss made of derivatives, along random directions of all parameters."""
    program, data = compiled(NETWORK), points(9, "x", "t", columns=(1,))
    start = program.vector()
    _, gradient = program.value_and_grad(start, data)
    for seed in range(3):
        direction, step = np.random.default_rng(seed).normal(size=start.size), 1e-6
        up, down = (program.value_and_grad(start + sign * step * direction, data)[0] for sign in (1, -1))
        assert gradient @ direction == pytest.approx((up - down) / (2 * step), rel=2e-6, abs=1e-8)


@pytest.mark.parametrize("dtype", sweep((DType.F64, DType.F32), every=2), ids=str)
def test_machine_code_agrees_with_the_interpreter(dtype: DType) -> None:
    data = {name: value.astype(dtype.numpy) for name, value in points(7, "x", "t", columns=(1,)).items()}
    graph = entries.gradients(load(NETWORK, "model.tl", dtype=dtype))
    program = compiled(NETWORK, "float64" if dtype is DType.F64 else "float32")
    known = {**program.state, **data}
    expected = run(graph, {port.key: np.asarray(known[port.key]) for port in graph.inputs}, rows=7, precision=DType.F64)
    found = program.gradients(data)
    tolerance = 2e-4 if dtype is DType.F32 else 1e-11
    for port in graph.outputs:
        if port.role == "gradient":
            scale = np.abs(expected[port.key]).max()
            np.testing.assert_allclose(found[port.label], expected[port.key], rtol=tolerance, atol=tolerance * scale)


PRODUCTS = """
model Products:
    input x: [batch, 3]
    param W: [3, 4] ~ normal(0, 1)
    param a: [2] = 0.5
    h = tanh(x @ W)
    q = stack(a[0] * a[1] ** 2, exp(a[0]), a[0] + a[1])
    one = ones([batch])
    output J = jacobian(h, x)
    output JW = jacobian(h, W)
    output wide = jacobian(x[:, :2] * x[:, 1:], x)
    output back = vjp(h, x, arange(4))
    output along = jvp(h, x, x ** 2)
    output turned = jvp(h, W, ones([3, 4]))
    output bent = hvp(sum(h ** 2, axis = 1), x, x)
    output small = reshape(one, [batch, 1, 1]) * jacobian(q, a)
    output moved = expand_dims(one, 1) * jvp(q, a, stack(2.0 + 0 * a[0], 3.0 + 0 * a[0]))
    output total = transpose(jacobian(stack(sum(h), sum(h ** 2)), x), [1, 0, 2])
"""


def test_products_and_jacobians() -> None:
    program, x = compiled(PRODUCTS), points(7, "x", columns=(3,))["x"]
    found, W = program.predict(x), program.parameters["W"]
    h = np.tanh(x @ W)
    J = (1 - h**2)[:, :, None] * W.T
    np.testing.assert_allclose(found["J"], J, rtol=1e-12)
    JW = np.einsum("nj,ni,jk->njik", 1 - h**2, x, np.eye(4))
    np.testing.assert_allclose(found["JW"], JW, rtol=1e-12, atol=1e-15)
    wide = np.zeros((7, 2, 3))
    for j in range(2):
        wide[:, j, j], wide[:, j, j + 1] = x[:, j + 1], x[:, j]
    np.testing.assert_allclose(found["wide"], wide, rtol=1e-12)
    np.testing.assert_allclose(found["back"], np.einsum("nji,j->ni", J, np.arange(4)), rtol=1e-12)
    np.testing.assert_allclose(found["along"], np.einsum("nji,ni->nj", J, x**2), rtol=1e-12)
    np.testing.assert_allclose(found["turned"], JW.sum((2, 3)), rtol=1e-12)
    H = np.einsum("nj,ij,kj->nik", 2 * (1 - h**2) ** 2 - 4 * h**2 * (1 - h**2), W, W)
    np.testing.assert_allclose(found["bent"], np.einsum("nik,nk->ni", H, x), rtol=1e-11)
    a = 0.5
    small = np.array([[a**2, 2 * a**2], [np.exp(a), 0], [1, 1]])
    np.testing.assert_allclose(found["small"], np.broadcast_to(small, (7, 3, 2)), rtol=1e-12)
    np.testing.assert_allclose(found["moved"], np.broadcast_to(small @ [2, 3], (7, 3)), rtol=1e-12)
    np.testing.assert_allclose(found["total"], np.stack([J.sum(1), (2 * h[:, :, None] * J).sum(1)], 1), rtol=1e-12)


def nodes(text: str) -> int:
    return len(load(text, "model.tl").forward[True].nodes)


def test_cost_is_that_of_the_part_between() -> None:
    """A second derivative by another name shares all that the first one made; depth adds its own work and no more."""
    deep = (
        "model M(n = 4):\n    input x: [batch, 1]\n    u = x\n    for k in 0..n:\n        u = tanh(1.5 * u)\n    "
        "output y = u\n"
    )
    sizes = [nodes(deep.replace("n = 4", f"n = {n}") + "    output g = grad(u, x)\n") for n in (10, 20, 40)]
    assert sizes[2] - sizes[1] == 2 * (sizes[1] - sizes[0])
    twice = deep + "    output g = grad(u, x)\n    output again = grad(u, x) + 1\n"
    assert nodes(twice) <= nodes(deep + "    output g = grad(u, x)\n") + 3


@pytest.mark.parametrize(
    ("body", "codes"),
    (
        ("u = x ** 2\noutput y = grad(u, x)", []),
        ("u = x ** 2\noutput y = grad(u, t)", ["W0103"]),
        ("u = x ** 2\noutput y = grad(stop_gradient(u), x)", ["W0103"]),
        ("output y = grad(grad(3 * x, x), x)", ["W0103"]),
        ("u = BatchNorm(concat(x, t))\noutput y = grad(sum(u, axis = 1), x)", ["W0104"]),
        ("u = x - mean(x)\noutput y = grad(u, x)", ["W0104"]),
        ("u = x - mean(x)\noutput y = x * grad(sum(u ** 2), x)", []),
        ("u = x - mean(t)\noutput y = grad(u, x)", []),
    ),
)
def test_warnings(body: str, codes: list[str]) -> None:
    head = "model M:\n    input x: [batch, 1]\n    input t: [batch, 1]\n"
    found = load(head + "".join(f"    {line}\n" for line in body.splitlines()), "model.tl").warnings
    assert [warning.code for warning in found if warning.code in ("W0103", "W0104")] == codes


def test_zeros_where_nothing_leads() -> None:
    program = compiled(
        "model M:\n    input x: [batch, 2]\n    input t: [batch, 3]\n    output y = x[:, :1] + grad(sum(x ** 2), t)\n"
    )
    x = points(5, "x", columns=(2,))["x"]
    np.testing.assert_array_equal(program.predict({"x": x, "t": np.ones((5, 3))}), np.repeat(x[:, :1], 3, axis=1))


STATED = """
fn leaky(x) = maximum(x, 0)
    derivative where(x > 0, 1, 0.01)

fn logistic(x) = 1 / (1 + exp(-x))
    derivative out * (1 - out)

fn through(x) = round(x)
    derivative 1

fn area(x, y, scale = 2) = scale * x * y
    derivative scale * y, scale * x, x * y

model Stated:
    input x: [batch, 3]
    param a = 0.7
    param b: [3] = 1.2
    u = logistic(x)
    u_x = grad(sum(u), x)
    u_xx = grad(sum(u_x), x)
    output u
    output u_x
    output u_xx
    output u_xxx = jvp(u_xx, x, ones([3]))
    output leak = grad(sum(leaky(x)), x)
    output straight = grad(sum(through(x) ** 2), x)
    output folded = through(2.7) * x
    p = area(x, a)
    q = area(b, x, a)
    output p_x = grad(sum(p), x)
    output q_x = grad(sum(q), x)
    loss mean(p ** 2) + mean(q ** 2) + sum(grad(sum(q), a)) / batch + mean(logistic(x @ b) ** 2)
"""


@pytest.mark.parametrize("rows", (1, 7, 64, 65))
def test_stated_derivatives(rows: int) -> None:
    program, x = compiled(STATED), points(rows, "x", columns=(3,))["x"]
    found, s = program.predict(x), 1 / (1 + np.exp(-x))
    expected = {
        "u": s,
        "u_x": s * (1 - s),
        "u_xx": s * (1 - s) * (1 - 2 * s),
        "u_xxx": s * (1 - s) * (1 - 6 * s + 6 * s**2),
        "leak": np.where(x > 0, 1, 0.01),
        "straight": 2 * np.round(x),
        "folded": 3 * x,
        "p_x": np.full_like(x, 1.4),
        "q_x": np.full_like(x, 0.84),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-12, atol=1e-15, err_msg=name)


def test_stated_derivatives_in_training() -> None:
    program, x = compiled(STATED), points(9, "x", columns=(3,))["x"]
    start = program.vector()
    _, gradient = program.value_and_grad(start, x)
    direction, step = np.random.default_rng(0).normal(size=start.size), 1e-6
    up, down = (program.value_and_grad(start + sign * step * direction, x)[0] for sign in (1, -1))
    assert gradient @ direction == pytest.approx((up - down) / (2 * step), rel=2e-6)


@pytest.mark.parametrize("text", (NETWORK, STATED), ids=("network", "stated"))
def test_graphs_are_valid_and_read_back(text: str) -> None:
    model = load(text, "model.tl", dtype=DType.F64)
    for graph in (*model.forward.values(), entries.backward(model), entries.train_step(model)):
        verify(graph)
        assert read(write(graph)) == graph


RECURRENT = """
layer Net(x[b, t, d], units):
    param Wx: [d, units] ~ normal(0, 0.5)
    param Wh: [units, units] ~ normal(0, 0.5)
    scan over t with h: [b, units] = 0:
        h = tanh(x[t] @ Wx + h @ Wh)
    return h

layer Descend(x[b, t]):
    param rate = 0.7
    scan over t with h: [b] = 0:
        u = sin(rate * x[t] + h)
        h = h + 0.1 * u * grad(u, h)
        yield u
    return stacked u

model Recurrent:
    input x: [batch, 5, 2]
    u = sum(Net(x, 3) ** 2, axis = 1)
    output u
    output g = grad(u, x)
    output along = jvp(u, x, x)
    output bent = hvp(u, x, x)
    output y = Descend(x[:, :, 0])
    loss mean(grad(u, x) ** 2) + mean(y ** 2)
"""


def test_through_scans_and_inside_of_them() -> None:
    program, x, step = compiled(RECURRENT), points(7, "x", columns=(5, 2))["x"], 1e-5
    found = program.predict(x)
    direction = np.random.default_rng(1).normal(size=x.shape)
    up, down = (program.predict(x + sign * step * direction) for sign in (1, -1))
    np.testing.assert_allclose(
        (found["g"] * direction).sum((1, 2)), (up["u"] - down["u"]) / (2 * step), rtol=1e-6, atol=1e-8
    )
    up, down = (program.predict(x + sign * step * x) for sign in (1, -1))
    np.testing.assert_allclose(found["along"], (up["u"] - down["u"]) / (2 * step), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found["bent"], (up["g"] - down["g"]) / (2 * step), rtol=1e-6, atol=1e-8)
    h = np.zeros(7)
    for k in range(5):
        z = 0.7 * x[:, k, 0] + h
        np.testing.assert_allclose(found["y"][:, k], np.sin(z), rtol=1e-12)
        h = h + 0.1 * np.sin(z) * np.cos(z)
    start = program.vector()
    _, gradient = program.value_and_grad(start, x)
    direction = np.random.default_rng(0).normal(size=start.size)
    up, down = (program.value_and_grad(start + sign * step * direction, x)[0] for sign in (1, -1))
    assert gradient @ direction == pytest.approx((up - down) / (2 * step), rel=1e-6)


# A loss and, under the same names, the parameters of its layers.
LAYERS = {
    "named": ("h = Dense(x, 3, tanh)\ne = mean(h ** 2)", "h.W h.b"),
    "numbered": ("h = Dense(x, 5, tanh)\nh = Dense(h, 2, tanh)\ne = mean(h ** 2)", "h.W h_2.W"),
    "nested": ("h = 2 * Dense(tanh(Dense(x, 3)), 2)\ne = mean(h ** 2)", "h.dense.W h.dense_2.b"),
    "turns": ("h = x\nfor k in 0..3:\n    h = Dense(h, 4, tanh)\ne = mean(h ** 2)", "h.0.W h.2.b"),
    "shared": ("use f = Dense(units = 4)\nh = tanh(f(tanh(f(x))))\ne = mean(h ** 2)", "f.W f.b"),
    "inner": ("y = Pair(x)\ny = Pair(y)\ne = mean(y ** 2)", "y.h.W y_2.h.W"),
    "recurrent": ("h = LSTM(stack(x, x, 2 * x, axis = 1), 3)\ne = mean(h ** 2)", "h.Wx h.Wh h.bias"),
}


@pytest.mark.parametrize("kind", sweep(LAYERS, every=3))
def test_by_parameters_of_layers(kind: str) -> None:
    """What `grad(e, h.W)` puts into a loss is what training finds, and it is trained through."""
    lines, names = LAYERS[kind]
    tied = "layer Pair(x[b, i]):\n    h = Dense(x, 3, tanh)\n    return h @ transpose(h.W)\n\n"
    body = "".join(f"    {line}\n" for line in ["input x: [batch, 4]", *lines.split("\n")])
    head = f"{tied if kind == 'inner' else ''}model M:\n{body}"
    data = {"x": np.random.default_rng(5).normal(size=(7, 4))}
    plain = tapeless.load(f"{head}    loss e\n").compile(dtype="float64", batch=8, seed=1)
    slopes = plain.gradients(data)
    sums = " + ".join(f"sum(grad(e, {name}) ** 2)" for name in names.split())
    squared = tapeless.load(f"{head}    loss {sums}\n").compile(dtype="float64", batch=8, seed=1)
    start = squared.vector()
    value, gradient = squared.value_and_grad(start, data)
    assert value == pytest.approx(sum((slopes[name] ** 2).sum() for name in names.split()), rel=1e-12)
    direction = np.random.default_rng(6).normal(size=start.size)
    up, down = (squared.value_and_grad(start + step * direction, data)[0] for step in (1e-6, -1e-6))
    assert gradient @ direction == pytest.approx((up - down) / 2e-6, rel=1e-6)


def test_by_the_parameter_of_a_turn() -> None:
    """In a loop `h.W` is that of the turn at hand, in `repeat` as in `for`."""
    text = (
        "model M:\n    input x: [batch, 4]\n    h = x\n    {} k in 0..3:\n        h = Dense(h, 4, tanh)\n        e = "
        "mean(h ** 2)\n        h = h + sum(grad(e, h.W))\n    loss mean(h ** 2)\n"
    )
    data = {"x": np.random.default_rng(5).normal(size=(7, 4))}
    one, other = (
        tapeless.load(text.format(word)).compile(dtype="float64", batch=8, seed=1) for word in ("for", "repeat")
    )
    for name, slope in one.gradients(data).items():
        np.testing.assert_allclose(other.gradients(data)[name], slope, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 2e-5), ("float64", 1e-13)])
def test_derivatives_of_sinc_near_zero(dtype: str, bound: float) -> None:
    """The quotients of their formulas cancel there, as the function is flat; mpmath differentiates it in 60 digits."""
    mp = pytest.importorskip("mpmath")
    source = """
model M:
    input x: [batch, 1]
    y = sinc(x)
    d = grad(sum(y), x)
    output y = y
    output d = d
    output h = grad(sum(d), x)
"""
    x = np.array([[0.0], [1e-20], [1e-6], [-1e-3], [0.01], [0.1], [-0.29], [0.31], [0.7], [-3.2], [1e20]], dtype)
    with mp.workdps(60):
        expected = {
            name: [float(mp.diff(mp.sincpi, mp.mpf(float(v)), order)) for v in x[:-1, 0]]
            for name, order in (("y", 0), ("d", 1), ("h", 2))
        }
    found = compiled(source, dtype).predict({"x": x})
    for name, wanted in expected.items():
        np.testing.assert_allclose(found[name][:-1, 0], wanted, rtol=bound, atol=bound / 10, err_msg=name)
    assert all(abs(found[name][-1, 0]) < 1e-18 for name in found)
