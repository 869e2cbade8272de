"""Formulas as books write them, where they overflow or cancel in float32: values and slopes are those of the stable
form.
"""

from __future__ import annotations

import numpy as np
import pytest

import tapeless

W = np.float64
BIG = np.array([[-200, -100.5, -30, -12], [-9, -1, -1e-4, -1e-7], [0, 1e-9, 1e-3, 0.5], [10, 20, 88, 150]], np.float32)
NEAR_ONE = 1 - np.array([[1e-7, 1e-6, 1e-5, 1e-4], [1e-3, 1e-2, 0.1, 0.5]] * 2, np.float32)
LONG = BIG * np.float32(1e30)
SHIFTED = (1e4 + np.random.default_rng(0).normal(size=(4, 4))).astype(np.float32)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def lse(x):
    return x.max(-1) + np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1))


def sigmoid(x):
    return np.where(x > 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))


def sech(x):
    return 2 * np.exp(-np.abs(x)) / (1 + np.exp(-2 * np.abs(x)))


def unit(x):
    return x / np.sqrt((x**2).sum(-1, keepdims=True))


# name: (formula, x, value, slope of its sum or None)
FORMS = {
    "log softmax": ("log(exp(x) / sum(exp(x), axis = -1, keepdims = true))", BIG, log_softmax,
        lambda x: 1 - 4 * softmax(x)),
    "softmax": ("exp(x) / sum(exp(x), axis = -1, keepdims = true)", BIG, softmax, None),
    "log of a sum": ("log(sum(exp(x), axis = -1))", BIG, lse, softmax),
    "log of a kept sum": ("log(sum(exp(x), axis = -1, keepdims = true))", BIG, lambda x: lse(x)[:, None], softmax),
    "log1p": ("log(1 + x)", NEAR_ONE - 1, np.log1p, lambda x: 1 / (1 + x)),
    "log of one less": ("log(1 - x)", 1 - NEAR_ONE, lambda x: np.log1p(-x), lambda x: -1 / (1 - x)),
    "expm1": ("exp(x) - 1", 1 - NEAR_ONE, np.expm1, np.exp),
    "one less exp": ("1 - exp(-x)", 1 - NEAR_ONE, lambda x: -np.expm1(-x), lambda x: np.exp(-x)),
    "log sigmoid": ("log(sigmoid(x))", BIG, lambda x: -np.logaddexp(0, -x), lambda x: sigmoid(-x)),
    "log of the other": ("log(1 - sigmoid(x))", BIG, lambda x: -np.logaddexp(0, x), lambda x: -sigmoid(x)),
    "softplus": ("log(1 + exp(x))", BIG, lambda x: np.logaddexp(0, x), sigmoid),
    "after tanh": ("sqrt(1 - tanh(x) ** 2)", BIG[:, 1:], sech, lambda x: -sech(x) * np.tanh(x)),
    "of an output": ("sqrt(1 - x * x)", NEAR_ONE, lambda x: np.sqrt((1 - x) * (1 + x)),
        lambda x: -x / np.sqrt((1 - x) * (1 + x))),
    "share of a root": ("x / sqrt(1 + x ** 2)", BIG * 100, lambda x: x / np.hypot(x, 1),
        lambda x: np.hypot(x, 1) ** -3),
    "unit vector": ("x / norm(x, axis = -1, keepdims = true)", LONG, unit, None),
    "tiny unit vector": ("x / sqrt(sum(x ** 2, axis = -1, keepdims = true))", BIG * np.float32(1e-32), unit, None),
    "variance": ("mean(x ** 2, axis = -1) - mean(x, axis = -1) ** 2", SHIFTED, lambda x: x.var(-1),
        lambda x: (x - x.mean(-1, keepdims=True)) / 2),
    "kept variance": ("mean(x * x, axis = -1, keepdims = true) - square(mean(x, axis = -1, keepdims = true))", SHIFTED,
                      lambda x: x.var(-1, keepdims=True), None),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_form(name):
    formula, x, value, slope = FORMS[name]
    source = (
        f"model M:\n    input x: [batch, {x.shape[1]}]\n    y = {formula}\n    output y = y\n    output d = "
        "grad(sum(y), x)\n"
    )
    made = tapeless.load(source).compile(batch=4).predict({"x": x})
    with np.errstate(all="ignore"):
        # An exponent of size 100 is rounded by 1e-5.
        np.testing.assert_allclose(
            made["y"], value(x.astype(W)), rtol=3e-5, atol=1e-7 if name == "log softmax" else 1e-37
        )
        if slope is not None:
            np.testing.assert_allclose(made["d"], slope(x.astype(W)), rtol=1e-4, atol=1e-6)


def test_unit_vectors_have_their_slope():
    """The scale, which the derivative leaves out, does not change it: first and second derivatives by differences."""
    program = tapeless.load("""
model M:
    input x: [batch, 3]
    input v: [batch, 3]
    input w: [batch, 3]
    y = sum(x / norm(x, axis = -1, keepdims = true) * v, axis = -1)
    d = grad(sum(y), x)
    output y = y
    output d = d
    output h = grad(sum(d * w), x)
""").compile(batch=1, dtype="float64")
    at, step = np.array([[0.3, -1.2, 0.7]]), 1e-5
    weights = {"v": np.array([[1.0, 2, -1]]), "w": np.array([[0.3, -1, 2]])}
    here = program.predict({"x": at, **weights})
    for k in range(3):
        up, down = (program.predict({"x": at + sign * step * np.eye(3)[k], **weights}) for sign in (1, -1))
        assert (up["y"] - down["y"]) / (2 * step) == pytest.approx(here["d"][0, k], rel=1e-8)
        moved = ((up["d"] - down["d"])[0] @ weights["w"][0]) / (2 * step)
        assert moved == pytest.approx(here["h"][0, k], rel=1e-7)


def test_the_gradient_of_a_cross_entropy_is_prediction_minus_target():
    source = """
model M:
    input x: [batch, 5]
    input label: int[batch] < 5
    p = exp(x) / sum(exp(x), axis = -1, keepdims = true)
    loss = -mean(log(pick(p, label)))
    output d = grad(loss, x)
"""
    program = tapeless.load(source).compile(batch=3)
    x = np.array([[0, 100, -100, 3, 4], [1, 2, 3, 4, 5], [-300, 0, 0, 0, 0]], np.float32)
    label = np.array([1, 4, 0])
    wanted = (softmax(x.astype(W)) - np.eye(5)[label]) / 3
    np.testing.assert_allclose(program.predict({"x": x, "label": label}), wanted, rtol=1e-5, atol=1e-7)
