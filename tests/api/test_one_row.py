"""One value has no variance: a batch of one row updates no statistics over the rows, and a program of nothing else
is refused.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import tapeless
from tapeless.compiler.messages.diagnostics import ProgramErrors
from tapeless.compiler.model import load
from tapeless.runtime.order import shuffle

from ..sweep import sweep

TEXT = """
layer Own(x[n, c], rate = 0.1):
    state centre: [c] = 0
    state spread: [c] = 1
    if training:
        m, v = moments(x, over = all but c)
        centre = (1 - rate) * centre + rate * m
        spread = (1 - rate) * spread + rate * sum((x - m) ** 2, axis = 0) / (batch - 1)
    return (x - centre) / sqrt(spread + 1e-5)

model M:
    input x: {shape}
    target y: [batch, 1]
    h = {norm}
    output h
    z = Dense(reshape(h, [batch, _]), 1)
    loss mean((z - y) ** 2)

train M:
    optimizer SGD(lr = 0)
"""
RNG = np.random.default_rng(0)
STATES = ("mean", "var", "centre", "spread")
X, Y = RNG.normal(size=(65, 3)) * 2 + 1, RNG.normal(size=(65, 1))
IMAGES = RNG.normal(size=(5, 3, 2, 2))


def trained(x: np.ndarray, batch: int, norm: str = "BatchNorm(x)", shape: str = "[batch, 3]") -> dict[str, np.ndarray]:
    """The states after an epoch in the order of the rows' shuffle."""
    program = tapeless.load(TEXT.format(norm=norm, shape=shape)).compile(
        batch=batch, dtype="float64", cache=False, seed=1
    )
    program.fit(x, Y[: len(x)], epochs=1, progress=False)
    return {name: np.array(value) for name, value in program.state.items() if name.startswith("h.")}


def followed(batches: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    mean, var = np.zeros(3), np.ones(3)
    for rows in batches:
        if len(rows) > 1:
            mean, var = 0.9 * mean + 0.1 * rows.mean(axis=0), 0.9 * var + 0.1 * rows.var(axis=0, ddof=1)
    return mean, var


@pytest.mark.parametrize("norm", ["BatchNorm(x)", "Own(x)"])
@pytest.mark.parametrize(("rows", "batch"), [(65, 64), (7, 2), (3, 64), (8, 3)])
def test_a_last_batch_of_one_row_updates_nothing(rows: int, batch: int, norm: str) -> None:
    program = tapeless.load(TEXT.format(norm=norm, shape="[batch, 3]")).compile(
        batch=batch, dtype="float64", cache=False, seed=1
    )
    program.fit(X[:rows], Y[:rows], epochs=1, progress=False)
    order = np.empty(rows, np.int32)
    shuffle(program, np.arange(rows, dtype=np.int32), order, 0)
    expected = followed([X[order[begin : begin + batch]] for begin in range(0, rows, batch)])
    found = [
        value
        for name, value in program.state.items()
        if name.startswith("h.") and value.shape == (3,) and name.split(".")[1] in STATES
    ]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11)


MAIN = """
#include <stdio.h>
#include <string.h>
#include "rows.h"

static _Alignas(64) unsigned char state[ROWS_STATE_BYTES],
    gradients[ROWS_GRADIENT_BYTES], workspace[ROWS_WORKSPACE_BYTES];

int main(void) {
    rows_memory memory = {state, gradients, workspace};
    float x[6] = {1, 2, 3, 5, 7, 9}, y[2] = {0, 1};
    int32_t order[2] = {0, 1};
    double results[ROWS_RESULTS];
    rows_init(memory, 1);
    for (int64_t rows = 1; rows <= 2; rows++) {
        rows_train_step(memory, order, 0, rows, x, y, results);
        for (size_t k = 0; k < sizeof rows_tensors / sizeof *rows_tensors; k++)
            if (!strcmp(rows_tensors[k].name, "h.var")) printf("%.9g ", ((float *)(state + rows_tensors[k].offset))[0]);
    }
    return 0;
}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_step_of_one_row_in_c(tmp_path: Path) -> None:
    """The model is called as an argument of its functions is."""
    tapeless.load(
        TEXT.format(norm="BatchNorm(x)", shape="[batch, 3]")
        .replace("model M", "model Rows")
        .replace("train M", "train Rows")
    ).build(tmp_path, batch=4)
    (tmp_path / "main.c").write_text(MAIN)
    subprocess.run(
        ["cc", "-I", tmp_path, "-o", tmp_path / "main", tmp_path / "main.c", tmp_path / "rows.o"], check=True
    )
    printed = subprocess.run([tmp_path / "main"], check=True, capture_output=True, text=True).stdout
    assert [float(word) for word in printed.split()] == pytest.approx([1, 0.9 + 0.1 * np.var([1, 5], ddof=1)])


BY_HAND = (
    "mean((x - m) ** 2, axis = 0) * batch / (maximum(batch, 2) - 1)",
    "mean(square(x - mean(x, axis = 0, keepdims = true)), axis = 0)",
    "sum((x - m) * (x - m), axis = 0) * (1 / batch)",
    "sum((x - m) * x, axis = 0) / batch",
    "maximum(mean(x * x, axis = 0) - m ** 2, 0)",
    "diagonal(transpose(x - m) @ (x - m)) / maximum(batch - 1, 1)",
    "einsum('bi,bi->i', x - m, x - m) / batch",
    "max(x, axis = 0) - min(x, axis = 0)",
    "mean(abs(x - m), axis = 0)",
    "std(x, axis = 0) ** 2",
    "cumulative(x - m)",
    "mean((x - m) ** 2)",
    "sum(square(x - m), axis = [0, 1]) / (3 * batch)",
    "mean((-m + x) ** 2, axis = 0)",
    "mean((2 * x - 2 * m) ** 2, axis = 0)",
    "mean((x - m)[:, ::-1] ** 2, axis = 0)",
    "mean(minimum((x - m) ** 2, 9), axis = 0)",
    "mean(clip((x - m) ** 2, 0, 9), axis = 0)",
    "mean(where(x > m, (x - m) ** 2, 0), axis = 0)",
    "mean(relu(x - m) ** 2, axis = 0)",
    "mean(abs(x - m) ** 1.5, axis = 0)",
    "log(mean(exp(x - m), axis = 0))",
    "in_turns(x)",
    "by_columns(x)",
    "pairs(x)",
)
ONE = """
fn cumulative(d) = mean(d * tanh(d), axis = 0)
fn pairs(x):
    v[j] = mean[a, b] (x[a, j] - x[b, j]) ** 2
    return v
fn in_turns(x):
    v = zeros([3])
    repeat k in 0..2:
        v = v + var(x, axis = 0)
    return v
fn by_columns(x[b, c]):
    scan over c:
        v = var(x[:, c])
        yield v
    return stacked v
layer Own(x[n, c], rate = 0.1):
    state centre: [c] = 0
    state spread: [c] = 1
    if training:
        m = mean(x, axis = 0)
        centre = (1 - rate) * centre + rate * m
        spread = (1 - rate) * spread + rate * ({body})
    return (x - centre) / sqrt(spread + 1e-5)
"""


def by_hand(body: str, rows: np.ndarray) -> np.ndarray:
    """The spread after an epoch of these rows in batches of two."""
    text = ONE.format(body=body) + TEXT[TEXT.index("model M") :].format(norm="Own(x)", shape="[batch, 3]")
    program = tapeless.load(text).compile(batch=2, dtype="float64", cache=False, seed=1)
    program.fit(rows, np.zeros((len(rows), 1)), epochs=1, progress=False)
    return np.array(program.state["h.spread"])


@pytest.mark.parametrize("body", sweep(BY_HAND, every=8))
def test_statistics_written_by_hand(body: str) -> None:
    """A last batch of one row leaves the spread as it was after the two before it."""
    program = tapeless.load(
        ONE.format(body=body) + TEXT[TEXT.index("model M") :].format(norm="Own(x)", shape="[batch, 3]")
    ).compile(batch=2, dtype="float64", cache=False, seed=1)
    order = np.empty(3, np.int32)
    shuffle(program, np.arange(3, dtype=np.int32), order, 0)
    of_two = by_hand(body, X[order[:2]])
    assert not np.allclose(of_two, 1)
    np.testing.assert_allclose(by_hand(body, X[:3]), of_two, rtol=1e-12)
    with pytest.raises(tapeless.UserError, match="one value has no variance"):
        by_hand(body, X[:1])


@pytest.mark.parametrize(
    "body",
    [
        "mean(x ** 2, axis = 0)",
        "mean((x - centre) ** 2, axis = 0)",
        "max(x, axis = 0)",
        "sum(x, axis = 0) / maximum(batch, 2)",
    ],
)
def test_what_one_row_tells_is_stored(body: str) -> None:
    assert not np.allclose(by_hand(body, X[:1]), 1)


def test_places_count_as_values() -> None:
    state = trained(IMAGES, 1, shape="[batch, 3, 2, 2]")
    assert np.all(state["h.var"] > 0) and not np.allclose(state["h.var"], 1)


@pytest.mark.parametrize(("rows", "batch"), [(1, 64), (5, 1)])
@pytest.mark.parametrize("norm", ["BatchNorm(x)", "Own(x)", "(x - mean(x, axis = 0)) / (std(x, axis = 0) + 1e-3)"])
def test_batches_of_one_row_are_refused(norm: str, rows: int, batch: int) -> None:
    with pytest.raises(
        tapeless.UserError, match=r"line \d+ uses the variance over the rows of a batch.*one value has no variance"
    ):
        trained(X[:rows], batch, norm)


@pytest.mark.parametrize(
    "norm",
    [
        "LayerNorm(x)",
        "GroupNorm(x, 1)",
        "x - mean(x, axis = 0)",
        "x - stop_gradient(x)",
        "tanh(x) - tanh(stop_gradient(x)) + mean(abs(x)) - stop_gradient(mean(abs(x)))",
    ],
)
def test_other_programs_take_batches_of_one_row(norm: str) -> None:
    trained(X[:3], 1, norm)


@pytest.mark.parametrize(
    "call",
    [
        "GroupNorm(x, 3)",
        "InstanceNorm(x)",
        "x * unbiased(var(x[:, :1], axis = 1, keepdims = true))",
        "x * std(x[:, 0:1], axis = 1, ddof = 1, keepdims = true)",
    ],
)
def test_one_value_of_a_row_has_no_variance(call: str) -> None:
    with pytest.raises(ProgramErrors, match=r"one value has no variance"):
        load(TEXT.format(norm=call, shape="[batch, 3]"), "model.tl")
