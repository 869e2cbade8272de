"""Lists where tensors are wanted: vectors and matrices, columns, the items of a loop."""

from __future__ import annotations

import numpy as np
import pytest

from tapeless.compiler.messages.diagnostics import ProgramErrors
from tapeless.compiler.model import load

from .programs import evaluated, model, value

X = np.arange(12.0).reshape(4, 3) + 0.5
V = np.array([1.0, 2.0, 3.0])
HELPERS = "fn f(a, w) = a * w + w\nfn g(a[.., n], w[n]) = a * w\n"
VALUES = {
    "x * [1, 2, 3]": X * V,
    "2 * [1, 2, 3] + x - [1, 2, 3] * 2 - -[1, 2, 3]": X + V,
    "x / [1, 2, 3] ** 2": X / V**2,
    "x @ [[1, 2], [3, 4], [5, 6]]": X @ np.arange(1.0, 7).reshape(3, 2),
    "x * expand_dims(x @ [0.1, 0.9, 0.2], 1)": X * (X @ [0.1, 0.9, 0.2])[:, None],
    "transpose([[1, 2, 3]] @ transpose(x))": (X @ V)[:, None],
    "where(x > [1, 5, 9], x, [0, 0, 1])": np.where(X > [1, 5, 9], X, [0, 0, 1]),
    "where([true, false, true], x, 0)": np.where([True, False, True], X, 0),
    "x * concat([1, 2], [3]) + x * stack(1, 2, 3)": 2 * X * V,
    "maximum(x, [2, 3, 100]) + clip(x, [1, 2, 3], 4)": np.maximum(X, [2, 3, 100]) + np.clip(X, V, 4),
    "f(x, [1, 2, 3]) + g(x, [1, 2, 3])": 2 * X * V + V,
    "x * [mean(0 * x) + 2, pi, 3000000000]": X * np.array([2, np.pi, 3e9]),
    "x * ([2] + [1] * 2) + mean([1, 2, 3])": X * [2, 1, 1] + 2,
    "x * one_hot([0, 2, 1], 3)[0] + [5, 7][1]": X * [1, 0, 0] + 7,
    "x // [1, 2, 3] + x % [1, 2, 3]": X // V + X % V,
    "real(x == [0.5, 1, 2.5])": X == [0.5, 1, 2.5],
    "x[:, [0, 2]]": X[:, [0, 2]],
    "x[:, [2, 0, -1, 1, 1]] + x[..., [1]]": X[:, [2, 0, -1, 1, 1]] + X[..., [1]],
    "expand_dims(x, 1)[:, 0, [1, 2]]": X[:, [1, 2]],
}


@pytest.mark.parametrize("expression", VALUES)
def test_values(expression: str) -> None:
    np.testing.assert_allclose(value(expression, HELPERS, x=X), VALUES[expression], rtol=1e-12)


def test_lines_of_index_notation_read_lists() -> None:
    np.testing.assert_allclose(value("q", before="w = [1, 2, 3]\nq[n, i] = x[n, i] * w[i]", x=X), X * V)


FAULTS = {
    "x * [1, 2]": "E0201",
    "x * [1, 'a', 2]": "E0401",
    "x * [[1, 2], [3]]": "E0213",
    "x * []": "E0401",
    "relu(split(x, 3))": "E0401",
    "[1, 2] - [1, 2, 3] + x": "E0201",
    "x[:, [0, 3]]": "E0212",
    "x[:, [0, -4]]": "E0212",
    "x[[0, 1]]": "E0214",
}


@pytest.mark.parametrize("expression", FAULTS)
def test_faults(expression: str) -> None:
    with pytest.raises(ProgramErrors) as caught:
        value(expression, x=X)
    assert {fault.code for fault in caught.value.diagnostics} == {FAULTS[expression]}


def test_weights_of_classes_and_starting_values() -> None:
    program = """
model M:
    input  x: [batch, 3]
    target y: int[batch] < 3
    param b: [3] = [1, 2, 3]
    state s: [2, 2] = [[1, 2], [3, 4]]
    z = x + b
    loss cross_entropy(z, y, weight = [1, 2, 5])
    output o = z
"""
    found = evaluated(program, x=X, y=np.array([0, 1, 2, 2]))
    np.testing.assert_allclose(found["o"], X + V)
    scores, weights = X + V, np.array([1, 2, 5, 5])
    distance = np.log(np.exp(scores).sum(1)) - scores[range(4), [0, 1, 2, 2]]
    np.testing.assert_allclose(found["loss"], (weights * distance).sum() / weights.sum())


LOOP = (
    "model M(n = 16):\n    input x: [batch, 4]\n    h = x\n    for {}:\n        h = {}\n    loss mean(Dense(h, 1) ** "
    "2)\n"
)


@pytest.mark.parametrize(("head", "body", "shapes"), [
    ("w in [64, n, 8]", "Dense(h, w)", {"h.0.W": (4, 64), "h.1.W": (64, 16), "h.2.W": (16, 8)}),
    ("w in 2 * [n, 4]", "Dense(h, w)", {"h.0.W": (4, 32), "h.1.W": (32, 8)}),
    ("f in [relu, tanh]", "Dense(f(h), 5, f)", {"h.0.W": (4, 5), "h.1.W": (5, 5)}),
    ("part in split(x, 2)", "Dense(concat(h, part), 3)", {"h.0.W": (6, 3), "h.1.W": (5, 3)}),
])  # fmt: skip
def test_a_loop_takes_the_items_of_a_list(head: str, body: str, shapes: dict[str, tuple[int, ...]]) -> None:
    slots = {slot.name: slot.type.shape for slot in model(LOOP.format(head, body)).slots}
    assert shapes.items() <= slots.items()


@pytest.mark.parametrize(("head", "hint"), [
    ("k in n", "for k in 0..n"), ("k in x", "scan"), ("k in 'abc'", "goes through a range"),
])  # fmt: skip
def test_what_is_no_list(head: str, hint: str) -> None:
    with pytest.raises(ProgramErrors, match="E0404") as caught:
        load(LOOP.format(head, "h"), "model.tl")
    assert hint in str(caught.value)


def test_repeat_takes_no_list() -> None:
    with pytest.raises(ProgramErrors, match="Turns that differ are written with `for`"):
        load(LOOP.format("k in [1, 2]", "h").replace("for", "repeat"), "model.tl")


@pytest.mark.parametrize(("line", "expected"), [
    ("x * ([1, 2, 3, 4] == [1, 0, 3, 0])", [1, 0, 1, 0]), ("where([1, 2, 3, 4] != [1, 0, 3, 0], x, 0)", [0, 1, 0, 1]),
    ("x if shape(x)[1:] == [4] else 0 * x", [1, 1, 1, 1]),
    ("x if not shape(x)[1:] != [4] and [1] == [1] else 0 * x", [1, 1, 1, 1]),
    ("x if [1, 2] == [1, 3] or shape(x)[1:] == [5] else 0 * x", [0, 0, 0, 0]),
    ("x if [1, 2] != [1, 3] else 0 * x", [1, 1, 1, 1]),
])  # fmt: skip
def test_lists_are_compared_item_by_item_and_as_conditions_as_a_whole(line: str, expected: list[int]) -> None:
    found = evaluated(f"model M:\n    input x: [batch, 4]\n    output o = {line}\n", x=np.ones((1, 4)))["o"]
    np.testing.assert_array_equal(found[0], expected)
