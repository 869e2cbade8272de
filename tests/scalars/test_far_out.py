"""Slopes far out, exact powers and what a sign or an infinity means, in both precisions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import tapeless

DTYPES = ("float32", "float64")
# Texts of x, an argument, and the right derivative there.
FIRST = {
    "expm1(x)": (-40.0, math.exp(-40)), "sigmoid(x)": (40.0, 4.248354255291589e-18),
    "tanh(x)": (20.0, 4 * math.exp(-40)), "tanh(-x)": (20.0, -4 * math.exp(-40)),
    "selu(x)": (-40.0, 1.7580993408473766 * math.exp(-40)), "softplus(x)": (-40.0, math.exp(-40)),
    "gelu(x)": (-10.0, -7.618400096464814e-22),
    "arcsinh(x)": (1e9, 1e-9), "arccosh(x)": (1e9, 1e-9), "softsign(x)": (1e6, 1 / (1 + 1e6) ** 2),
    "x ** -2": (1e12, -2e-36), "mish(x)": (30.0, 1.0),
    "binary_cross_entropy(x, 1)": (17.0, -4.1399375473943306e-08),
    "binary_cross_entropy(x, 0)": (-17.0, 4.1399375473943306e-08),
}  # fmt: skip
SECOND = {"softplus(x)": (40.0, 4.248354255291589e-18), "sigmoid(x)": (40.0, -4.248354255291589e-18),
"tanh(x)": (20.0, -8 * math.exp(-40)), "expm1(x)": (-40.0, math.exp(-40)), "log_cosh_of(x)": (0.0, 1.0),
"binary_cross_entropy(x, 1)": (17.0, 4.139937376e-08),
          "sqrt(1 + x ** 2)": (1e4, (1 + 1e8) ** -1.5), "hypot(x, 2)": (-5000.0, 4 * (25e6 + 4) ** -1.5),
          "squareplus(x)": (1e4, 2 * (1e8 + 4) ** -1.5)}  # fmt: skip


def outputs(texts: Mapping[str, float], dtype: str, times: int = 0) -> list[float]:
    lines, inputs = ["model Far:"], {}
    for k, (text, at) in enumerate(texts.items()):
        lines += [
            f"input x{k}: [batch]",
            f"d{k}q0 = {text.replace('(x', f'(x{k}').replace('-x', f'-x{k}').replace('x **', f'x{k} **')}",
        ]
        lines += [f"d{k}q{n + 1} = grad(sum(d{k}q{n}), x{k})" for n in range(times)] + [
            f"output o{k} = d{k}q{times} + 0 * x{k}"
        ]
        inputs[f"x{k}"] = np.array([at], dtype)
    found = tapeless.load("\n    ".join(lines) + "\n").compile(dtype=dtype, batch=1, threads=1).predict(inputs)
    return [found[f"o{k}"][0] for k in range(len(texts))]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("times", "cases"), [(1, FIRST), (2, SECOND)])
def test_derivatives_far_out(dtype: str, times: int, cases: dict[str, tuple[float, float]]) -> None:
    found = outputs({text: at for text, (at, _) in cases.items()}, dtype, times)
    for (text, (at, right)), one in zip(cases.items(), found, strict=True):
        assert one == pytest.approx(right, rel=1e-12 if dtype == "float64" else 1e-5, abs=0), f"{text} at {at}"


@pytest.mark.parametrize("dtype", DTYPES)
def test_powers_of_ten_and_two_are_exact(dtype: str) -> None:
    tens = np.arange(23 if dtype == "float64" else 11)
    twos = np.arange(-1022, 1024)[::33] if dtype == "float64" else np.arange(-126, 128)
    rows = max(tens.size, twos.size)
    tens, twos = np.resize(tens, rows), np.resize(twos, rows)
    text = "model Powers:\n" + "".join(f"    input {n}: [batch]\n" for n in "abcd") + "".join(
        f"    output r_{f} = {f}({n})\n" for f,
        n in (("log10", "a"), ("exp10", "b"), ("log2", "c"), ("exp2", "d")))  # fmt: skip
    powers = np.array([float(10 ** int(k)) for k in tens], dtype), np.exp2(twos.astype(np.float64)).astype(dtype)
    found = (
        tapeless.load(text)
        .compile(dtype=dtype, batch=rows, threads=1)
        .predict({"a": powers[0], "b": tens.astype(dtype), "c": powers[1], "d": twos.astype(dtype)})
    )
    for name, right in (("log10", tens), ("exp10", powers[0]), ("log2", twos), ("exp2", powers[1])):
        np.testing.assert_array_equal(found[f"r_{name}"], right.astype(dtype), err_msg=name)


@pytest.mark.parametrize("dtype", DTYPES)
def test_signs_infinities_and_ends(dtype: str) -> None:
    largest = float(np.finfo(dtype).max)
    cases: dict[str, Any] = {
        "copysign(1, -0.0)": -1, "copysign(2, z)": -2, "copysign(-2, -z)": 2, "nan_to_num(1 / -z)": largest,
        "nan_to_num(1 / z)": -largest, "nan_to_num(z / z, nan = 5)": 5,
        "nan_to_num(1 / -z, posinf = 7)": 7, "nan_to_num(1 / z, neginf = 3)": 3, "lerp(1e16, 1, 1)": 1,
        "lerp(1e16, one, 1)": 1, "lerp(1e16, one, one)": 1, "lerp(2, 4, 0.25 * one)": 2.5,
        "xlogy(z, 0 * one)": 0, "xlogy(2, 3)": 2 * math.log(3), "xlogy(0, one)": 0,
        "xlogy(2, 3 * one)": 2 * math.log(3), "arccosh(one + 0.0000152587890625)": 0.005524264,
        "squareplus(0.9 * nan_to_num(1 / -z)) / nan_to_num(1 / -z)": 0.9, "copysign(1, z) * 2": -2,
        "grad(copysign(1, one), one)": 0, "xlogy(0, 2)": 0,
        "sparsemax(1e20 * stack(one, one, z, axis = 1))[:, 1]": 0.5, "log10(1000)": 3, "exp10(2)": 100,
    }  # fmt: skip
    text = "model Ends:\n    input z: [batch]\n    input one: [batch]\n" + "".join(
        f"    output o{k} = {one} + 0 * one\n" for k, one in enumerate(cases)
    )
    found = (
        tapeless.load(text)
        .compile(dtype=dtype, batch=1, threads=1)
        .predict({"z": np.array([-0.0], dtype), "one": np.ones(1, dtype)})
    )
    for k, (one, right) in enumerate(cases.items()):
        assert found[f"o{k}"][0] == pytest.approx(right, rel=1e-6), one


@pytest.mark.parametrize("start", ["elu(Dense(x, 6))", "celu(Dense(x, 6), 0.5)", "selu(Dense(x, 6))"])
def test_a_network_that_starts_at_zeros_learns(start: str) -> None:
    model = (
        f"model Zeros:\n    input x: [batch, 3]\n    target y: [batch]\n    h = {start}\n    loss mean((sum(h, axis "
        "= 1) - y) ** 2)\n"
    )
    program = tapeless.load(model).compile(batch=4, threads=1)
    for name in program.parameters:
        program.parameters[name][...] = 0
    gradients = program.gradients(np.ones((4, 3)), np.ones(4))
    assert all(np.abs(gradient).min() > 0.1 for gradient in gradients.values())


def test_batch_norm_takes_the_mean_off_first() -> None:
    """A mean a million deviations out: as good as (x - m) s with the rounded mean, in training and in evaluation."""
    x = (1e6 + np.random.default_rng(0).normal(size=(256, 4))).astype(np.float32)
    text = (
        "model Norm:\n    input x: [batch, 4]\n    target y: [batch, 4]\n    h = BatchNorm(x, momentum = 1)\n    "
        "output z = h\n    loss mean((h - y) ** 2)\ntrain Norm:\n    optimizer SGD(lr = 0)\n    batch 256\n"
    )
    program = tapeless.load(text).compile(batch=256, threads=1)
    wide = x.astype(np.float64)
    right = (wide - wide.mean(0)) / np.sqrt(wide.var(0) + 1e-5)
    plain = (x - x.mean(0, dtype=np.float64).astype(np.float32)) / np.sqrt(wide.var(0) + 1e-5)
    run = program.fit(x, right.astype(np.float32), epochs=1, progress=False)
    allowed = 2 * np.abs(plain - right).max() + 1e-6
    assert run.curves["loss"][0] <= allowed**2
    assert np.abs(program.predict(x) - right).max() <= allowed + 0.01  # running variances are those of n - 1


def test_mixed_slopes_where_one_of_two_is_zero() -> None:
    """The slope of x ** p by x is 0 at p = 0, and moves with p; that of x log q by q is 0 at x = 0, and moves with
    x.
    """
    text = """
model Mixed:
    input x: [batch]
    input p: [batch]
    output power = grad(grad(x ** p, x), p)
    output turned = grad(grad(x ** p, p), x)
    output bent = grad(grad(grad(x ** (p + 1), x), x), p)
    output share = grad(grad(xlogy(p, x), x), p)
    output other = grad(grad(xlogy(p, x), p), x)
"""
    found = (
        tapeless.load(text)
        .compile(dtype="float64", batch=2, threads=1)
        .predict({"x": np.array([2.0, 0.5]), "p": np.zeros(2)})
    )
    for name in ("power", "turned", "bent", "share", "other"):
        np.testing.assert_allclose(found[name], [0.5, 2.0], rtol=1e-15, err_msg=name)
