"""Convolution, pooling and resizing against references in plain NumPy, over sampled strides, paddings, dilations,
groups and odd sizes; their gradients against differences; machine code against the interpreter.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

import tapeless
from tapeless.compiler import entries
from tapeless.compiler.model import load
from tapeless.ir.graph import Graph
from tapeless.ir.interpreter import run
from tapeless.ir.types import DType

from ..sweep import sweep

Pads = Sequence[tuple[int, int]]


def program(shape: Sequence[int], call: str) -> str:
    """A model whose loss feels every element of a call's result, and every element of what it is called on."""
    return (
        f"model M:\n    input x: [batch, {', '.join(map(str, shape))}]\n    param shift: {list(shape)} ~ normal(0, 1)\n"
        f"    h = x + shift\n    output y = {call}\n    loss mean(sin(y) + 0.1 * y ** 2)\n"
    )


def inputs_of(graph: Graph, rows: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {port.key: rng.normal(size=port.value.type.at(rows)) for port in graph.inputs}


def windows_of(
    x: np.ndarray, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], pads: Pads, fill: float = 0.0
):
    """Each place with its window: index of the place, [rows, channels, kernel...]."""
    x = np.pad(x, [(0, 0), (0, 0), *pads], constant_values=fill)
    sizes = [(n - (k - 1) * d - 1) // s + 1 for n, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True)]
    for place in itertools.product(*map(range, sizes)):
        parts = [
            slice(p * s, p * s + (k - 1) * d + 1, d) for p, k, s, d in zip(place, kernel, stride, dilation, strict=True)
        ]
        yield place, x[(slice(None), slice(None), *parts)], sizes


def convolved(
    x: np.ndarray, w: np.ndarray, stride: Sequence[int], dilation: Sequence[int], pads: Pads, groups: int
) -> np.ndarray:
    out, y = w.shape[0] // groups, None
    for place, window, sizes in windows_of(x, w.shape[2:], stride, dilation, pads):
        y = np.zeros((len(x), len(w), *sizes)) if y is None else y
        for g in range(groups):
            part = window[:, g * w.shape[1] : (g + 1) * w.shape[1]]
            kernels = w[g * out : (g + 1) * out]
            y[(slice(None), slice(g * out, (g + 1) * out), *place)] = np.tensordot(
                part, kernels, (range(1, part.ndim), range(1, w.ndim))
            )
    assert y is not None
    return y


def transposed(
    x: np.ndarray, w: np.ndarray, stride: Sequence[int], dilation: Sequence[int], padding: int, extra: int, groups: int
) -> np.ndarray:
    out, part = w.shape[1], x.shape[1] // groups
    full = [
        (n - 1) * s + (k - 1) * d + 1 + extra
        for n, s, k, d in zip(x.shape[2:], stride, w.shape[2:], dilation, strict=True)
    ]
    y = np.zeros((len(x), groups * out, *full))
    for place in itertools.product(*map(range, x.shape[2:])):
        for u in itertools.product(*map(range, w.shape[2:])):
            at = tuple(p * s + q * d for p, s, q, d in zip(place, stride, u, dilation, strict=True))
            for g in range(groups):
                channels = slice(g * part, (g + 1) * part)
                y[(slice(None), slice(g * out, (g + 1) * out), *at)] += (
                    x[(slice(None), channels, *place)] @ w[(channels, slice(None), *u)]
                )
    return y[(slice(None), slice(None), *(slice(padding, n - padding) for n in full))]


def pooled(
    x: np.ndarray, kind: str, size: Sequence[int], stride: Sequence[int], dilation: Sequence[int], padding: int
) -> np.ndarray:
    pads, y = [(padding, padding)] * len(size), None
    for place, window, sizes in windows_of(x, size, stride, dilation, pads, -np.inf if kind == "max" else 0.0):
        y = np.zeros((*x.shape[:2], *sizes)) if y is None else y
        y[(slice(None), slice(None), *place)] = getattr(window, kind)(axis=tuple(range(2, x.ndim)))
    assert y is not None
    return y


def same(extents: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Pads:
    total = [
        max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        for n, k, s, d in zip(extents, kernel, stride, dilation, strict=True)
    ]
    return [(t // 2, t - t // 2) for t in total]


def check(shape: Sequence[int], call: str, reference, seed: int, native: bool = False) -> None:
    """The call's value against the reference; every gradient along one direction against differences; both in
    machine code.
    """
    model = load(program(shape, call), "model.tl", dtype=DType.F64)
    predict, gradients = entries.predict(model), entries.gradients(model)
    rows = 1 + seed % 3
    known = inputs_of(gradients, rows, seed)
    expected = reference(known["x"] + known["shift"], known)
    made = run(predict, {port.key: known[port.key] for port in predict.inputs}, rows=rows)
    np.testing.assert_allclose(made["y"], expected, rtol=1e-9, atol=1e-11)

    found = run(gradients, known, rows=rows)
    keys = {port.label: port.key for port in gradients.outputs if port.role == "gradient"}
    labels = list(keys)
    rng = np.random.default_rng(seed)
    direction = {label: rng.normal(size=known[label].shape) for label in labels}

    def loss(step: float) -> float:
        moved = {**known, **{label: known[label] + step * direction[label] for label in labels}}
        y = reference(moved["x"] + moved["shift"], moved)
        return float(np.mean(np.sin(y) + 0.1 * y**2))

    slope = sum(float(np.sum(found[keys[label]] * direction[label])) for label in labels)
    assert slope == pytest.approx((loss(1e-6) - loss(-1e-6)) / 2e-6, rel=1e-5, abs=1e-8)
    if native:
        compiled = tapeless.load(program(shape, call)).compile(dtype="float64", batch=4, seed=1)
        for label in labels:
            compiled.parameters[label][...] = known[label]
        np.testing.assert_allclose(compiled.predict(known["x"]), expected, rtol=1e-9, atol=1e-11)
        both = compiled.gradients(known["x"])
        for label in labels:
            np.testing.assert_allclose(both[label], found[keys[label]], rtol=1e-9, atol=1e-11)


def configurations(count: int, seed: int):
    """Sampled shapes and settings that leave at least one window."""
    rng = np.random.default_rng(seed)
    while count:
        rank = int(rng.choice((1, 2, 3), p=(0.3, 0.5, 0.2)))
        extents = [int(n) for n in rng.integers(3, 12 if rank < 3 else 6, rank)]
        kernel, stride, dilation = ([int(n) for n in rng.integers(1, most + 1, rank)] for most in (4, 3, 2))
        padding = int(rng.integers(0, 3))
        groups = int(rng.choice((1, 1, 1, 2, 3)))
        if all(n + 2 * padding >= (k - 1) * d + 1 for n, k, d in zip(extents, kernel, dilation, strict=True)):
            count -= 1
            yield extents, kernel, stride, dilation, padding, groups


CASES = [
    pytest.param(number, case, marks=() if number < 16 else pytest.mark.slow)
    for number, case in enumerate(configurations(48, 1))
]
NATIVE = (0, 6, 9, 16, 20, 24, 28, 32, 36, 40)  # in machine code too


@pytest.mark.parametrize(("number", "case"), sweep(CASES, every=3))
def test_convolution(number: int, case) -> None:
    extents, kernel, stride, dilation, padding, groups = case
    shape = (groups * (1 + number % 3), *extents)
    units = groups * (1 + number % 2 * 4) if number % 5 else groups
    written, pads = str(padding), [(padding, padding)] * len(extents)
    if number % 4 == 1:
        written, pads = "'same'", same(extents, kernel, stride, dilation)
    call = (
        f"Conv(h, {units}, kernel = {kernel}, stride = {stride}, padding = {written}, dilation = {dilation}, groups "
        f"= {groups})"
    )

    def reference(h: np.ndarray, known: Mapping[str, np.ndarray]) -> np.ndarray:
        bias = known["y.b"].reshape(-1, *[1] * len(extents))
        return convolved(h, known["y.W"], stride, dilation, pads, groups) + bias

    check(shape, call, reference, number, native=number in NATIVE)


@pytest.mark.parametrize(("number", "case"), sweep(CASES[:10], every=3))
def test_transposed_convolution(number: int, case) -> None:
    extents, kernel, stride, dilation, padding, groups = case
    extra = number % 2 if min(*stride, 9) > 1 else 0
    padding = min(padding, min((k - 1) * d for k, d in zip(kernel, dilation, strict=True)) // 2)
    settings = (
        f"stride = {stride}, padding = {padding}, output_padding = {extra}, dilation = {dilation}, groups = {groups}"
    )
    call = f"ConvTranspose(h, {2 * groups}, kernel = {kernel}, {settings})"

    def reference(h: np.ndarray, known: Mapping[str, np.ndarray]) -> np.ndarray:
        bias = known["y.b"].reshape(-1, *[1] * len(extents))
        return transposed(h, known["y.W"], stride, dilation, padding, extra, groups) + bias

    check((2 * groups, *extents), call, reference, number, native=number in NATIVE)


@pytest.mark.parametrize("kind", ("max", "mean"))
@pytest.mark.parametrize(("number", "case"), sweep(CASES[:10], every=3))
def test_pooling(number: int, case, kind: str) -> None:
    extents, kernel, stride, dilation, padding, _ = case
    padding = min(padding, min(k // 2 for k in kernel))
    fits = all(n + 2 * padding > (k - 1) * d for n, k, d in zip(extents, kernel, dilation, strict=True))
    dilation = dilation if kind == "max" and fits else [1] * len(dilation)
    call = f"{'max' if kind == 'max' else 'avg'}_pool(h, {kernel}, stride = {stride}, padding = {padding}"
    call += f", dilation = {dilation})" if kind == "max" else ")"
    check(
        (2, *extents),
        call,
        lambda h, _: pooled(h, kind, kernel, stride, dilation, padding),
        number,
        native=number in NATIVE,
    )


def adapted(x: np.ndarray, kind: str, size: int) -> np.ndarray:
    for axis in range(2, x.ndim):
        n = x.shape[axis]
        parts = [(i * n // size, -(-(i + 1) * n // size)) for i in range(size)]
        x = np.stack([getattr(np.take(x, range(a, b), axis), kind)(axis=axis) for a, b in parts], axis=axis)
    return x


def bilinear(x: np.ndarray, size: Sequence[int], corners: bool) -> np.ndarray:
    for axis, m in enumerate(size, start=2):
        n = x.shape[axis]
        at = (
            np.arange(m) * ((n - 1) / max(m - 1, 1))
            if corners
            else np.clip((np.arange(m) + 0.5) * n / m - 0.5, 0, n - 1)
        )
        low = np.floor(at).astype(int)
        high, share = np.minimum(low + 1, n - 1), (at - low).reshape([-1 if k == axis else 1 for k in range(x.ndim)])
        x = np.take(x, low, axis) * (1 - share) + np.take(x, high, axis) * share
    return x


def nearest(x: np.ndarray, size: Sequence[int]) -> np.ndarray:
    for axis, m in enumerate(size, start=2):
        x = np.take(x, np.arange(m) * x.shape[axis] // m, axis)
    return x


SHAPED = {
    "adaptive_avg_pool(h, 3)": ((2, 7, 10), lambda h: adapted(h, "mean", 3)),
    "adaptive_avg_pool(h, 5)": ((2, 7), lambda h: adapted(h, "mean", 5)),
    "adaptive_max_pool(h, 3)": ((2, 7, 10), lambda h: adapted(h, "max", 3)),
    "adaptive_max_pool(h, 2)": ((2, 5, 3, 4), lambda h: adapted(h, "max", 2)),
    "global_avg_pool(h)": ((3, 5, 4), lambda h: h.mean(axis=(2, 3))),
    "global_max_pool(h)": ((3, 5), lambda h: h.max(axis=2)),
    "resize_nearest(h, [9, 4])": ((2, 6, 7), lambda h: nearest(h, (9, 4))),
    "resize_nearest(h, 14)": ((2, 7), lambda h: nearest(h, (14,))),
    "resize_bilinear(h, [9, 4])": ((2, 6, 7), lambda h: bilinear(h, (9, 4), False)),
    "resize_bilinear(h, [9, 4], align_corners = true)": ((2, 6, 7), lambda h: bilinear(h, (9, 4), True)),
    "resize_bilinear(h, [3, 4, 5])": ((1, 2, 6, 3), lambda h: bilinear(h, (3, 4, 5), False)),
    "avg_pool(h, 3, stride = 2, padding = 1, count_padding = false)": ((2, 7, 6), lambda h: adjusted(h)),
    "DepthwiseConv(h, multiplier = 1)": ((3, 5, 6), None),
    "DepthwiseConv(h, 2, multiplier = 2, padding = [[1, 0], [0, 1]])": ((3, 5, 6), None),
}


def adjusted(h: np.ndarray) -> np.ndarray:
    """The mean of each window of three, two apart, over the places that exist."""
    ones = np.ones_like(h)
    return pooled(h, "mean", (3, 3), (2, 2), (1, 1), 1) / pooled(ones, "mean", (3, 3), (2, 2), (1, 1), 1)


@pytest.mark.parametrize("call", SHAPED)
def test_other_layers(call: str) -> None:
    shape, expected = SHAPED[call]

    def depthwise(h: np.ndarray, known: Mapping[str, np.ndarray]) -> np.ndarray:
        pads = [(1, 0), (0, 1)] if "padding" in call else [(0, 0), (0, 0)]
        return convolved(h, known["y.W"], (1, 1), (1, 1), pads, shape[0]) + known["y.b"].reshape(-1, 1, 1)

    check(
        shape, call, depthwise if expected is None else lambda h, _: expected(h), len(call), native=len(call) % 3 == 0
    )


def test_a_step_is_the_same_for_any_number_of_threads() -> None:
    """Shares of pictures follow from the shapes, bands and tiles change nothing."""
    text = """
model M:
    input  x: [batch, 2, 20, 20]
    target y: int[batch] < 3
    h = max_pool(relu(Conv(x, 17, padding = 1)), 2)
    h = relu(Conv(h, 16, stride = 2, padding = 1))
    output z = Dense(mean(h, axis = [2, 3]), 3)
    loss cross_entropy(z, y)

train M:
    optimizer SGD(lr = 0.1)
    batch 32
"""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(70, 2, 20, 20)).astype(np.float32), rng.integers(0, 3, 70).astype(np.int32)
    trained = []
    for threads in (1, 2, 3, 4):
        program = tapeless.load(text).compile(threads=threads, seed=1)
        program.fit(x, y, epochs=2, progress=False)
        trained.append(b"".join(np.ascontiguousarray(value).tobytes() for value in program.parameters.values()))
    assert len(set(trained)) == 1
