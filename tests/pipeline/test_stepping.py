"""Steps in machine code: place by place they give what `predict` gives, and carries are values to go back to."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import tapeless
from tapeless.pipeline import SourceError
from tapeless.runtime.errors import DataError, UserError
from tapeless.runtime.program import Program

from ..sweep import sweep

LENGTH = 6


def compiled(*lines: str, inputs: str = "input x: [batch, t, 4]", length: int = LENGTH) -> Program:
    text = f"model M(t = {length}):\n    {inputs}\n" + "".join(f"    {line}\n" for line in lines)
    return tapeless.load(text).compile(batch=4, dtype="float64", cache=False)


MODELS = {
    "rnn": ("output y = RNN(x, 5)",),
    "two layers": ("h = LSTM(x, 5)", "output y = LSTM(h, 6)"),
    "gru, its last state": ("h = GRU(x, 5)", "output y = Dense(h, 3)", "output z = GRU(h, 2, last = true)"),
    "carries": (
        "scan over t with h: [batch, 4] = 0.5, n: [batch] = 1:", "    h = tanh(h + x[t]) + (x[t - 2] else 1)",
        "    n = n + sum(h, axis = 1) * t", "    yield h, n", "output y = stacked h", "output z = stacked n",
        "output h",
    ),
    "outputs that are carries": ("output y = cumsum(x, axis = 1)", "output z = x", "output w = x * x[:, :1]"),
    "transformer": ("x = LearnedPositions(x)", "h = TransformerBlock(x, 2, kv_heads = 1, causal = true)",
        "output y = h"),
    "rotary in repeat": ("h = x", "repeat k in 0..2:",
        "    h = TransformerBlock(h, 2, causal = true, rotated = true)", "output y = h"),
    "convolution": ("h = Conv(transpose(x, [0, 2, 1]), 5, kernel = 3, dilation = 2, padding = [[4, 0]])",
        "output y = transpose(h, [0, 2, 1])"),
    "wavenet": (
        "h = Conv(transpose(x, [0, 2, 1]), 6, kernel = 1)", "skip = 0", "for k in 0..3:",
        "    gate = Conv(h, 12, kernel = 2, dilation = 2 ** k, padding = [[2 ** k, 0]])",
        "    z = tanh(gate[:, :6]) * sigmoid(gate[:, 6:])",
        "    skip = skip + Conv(z, 8, kernel = 1)", "    h = h + Conv(z, 6, kernel = 1)",
        "output y = transpose(Conv(relu(Conv(relu(skip), 8, kernel = 1)), 5, kernel = 1), [0, 2, 1])",
    ),
    "temporal convolutions": (
        "h = transpose(x, [0, 2, 1])", "for k in 0..2:",
        "    z = Conv(h, 6, kernel = 3, dilation = 2 ** k, padding = [[2 ** (k + 1), 0]], act = relu)",
        "    h = relu(z + (Conv(h, 6, kernel = 1) if k == 0 else h))",
        "h = max_pool(h, 2, stride = 1, padding = [[1, 0]])", "output y = transpose(h, [0, 2, 1])",
    ),
    "lstm in repeat": ("h = x", "repeat k in 0..2:", "    h = h + LSTM(h, 4)", "output y = h"),
}  # fmt: skip


def agree(program: Program, data: dict[str, np.ndarray], moving: tuple[str, ...]) -> None:
    """Every place, for all rows, the first three and the first one."""
    for rows in (len(data["x"]), 3, 1):
        some = {name: value[:rows] for name, value in data.items()}
        expected = program.predict(some)
        expected = expected if isinstance(expected, dict) else {"": expected}
        carry = None
        for place in range(data["x"].shape[1]):
            outputs, carry = program.step(
                {name: value[:, place] if name in moving else value for name, value in some.items()}, carry
            )
            outputs = outputs if isinstance(outputs, dict) else {"": outputs}
            for name, value in expected.items():
                if value.ndim > outputs[name].ndim:
                    np.testing.assert_allclose(outputs[name], value[:, place], rtol=1e-12, atol=1e-12)
                elif place == data["x"].shape[1] - 1:
                    np.testing.assert_allclose(outputs[name], value, rtol=1e-12, atol=1e-12)
        assert carry is not None and carry.position == data["x"].shape[1] and carry.rows == rows


@pytest.mark.parametrize("name", sweep(MODELS, every=2))
def test_steps_give_what_the_whole_gives(name: str) -> None:
    agree(compiled(*MODELS[name]), {"x": np.random.default_rng(0).normal(size=(5, LENGTH, 4))}, ("x",))


def test_embedded_ints_and_an_input_that_stays() -> None:
    rng = np.random.default_rng(0)
    program = compiled(
        "h = Embedding(x, 9, 4) + expand_dims(s, 1)", "output y = MultiHeadAttention(h, 2, causal = true, lengths = n)",
        inputs="input s: [batch, 4]\n    input x: int[batch, t] < 9\n    input n: int[batch] < 7",
    )  # fmt: skip
    data = {"s": rng.normal(size=(5, 4)), "x": rng.integers(0, 9, (5, LENGTH)), "n": np.array([1, 6, 3, 0, 5])}
    agree(program, data, ("x",))


def test_attention_in_blocks_of_keys() -> None:
    program = compiled("output y = MultiHeadAttention(x, 2, causal = true, rotated = true)", length=260)
    agree(program, {"x": np.random.default_rng(0).normal(size=(3, 260, 4))}, ("x",))


@pytest.fixture(scope="module")
def attending() -> Program:
    return compiled("output y = TransformerBlock(x, 2, causal = true)")


X = np.random.default_rng(1).normal(size=(3, LENGTH, 4))


def test_a_carry_is_a_place_to_go_back_to(attending: Program) -> None:
    """Steps leave the carry that they got as it was; a copy and what pickle makes of it are as good."""
    _, one = attending.step(X[:, 0])
    before = {name: array.copy() for name, array in one.items()}
    expected, two = attending.step(X[:, 1], one)
    attending.step(X[:, 2], two)
    for other in (one, copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        again, _ = attending.step(X[:, 1], other)
        assert again.tobytes() == expected.tobytes()
    assert all(np.array_equal(one[name], before[name]) for name in one)
    assert (one.position, two.position, int(two["position"])) == (1, 2, 2)
    with pytest.raises(ValueError, match="read-only"):
        one["position"][...] = 7


def test_rows_of_a_carry(attending: Program) -> None:
    """For a beam search: rows that go on twice, or not at all, and in another order."""
    carry = None
    for place in range(3):
        _, carry = attending.step(X[:, place], carry)
    assert carry is not None
    expected, _ = attending.step(X[:, 3], carry)
    chosen, after = attending.step(X[[2, 0, 2, 1], 3], carry.take([2, 0, 2, 1]))
    np.testing.assert_allclose(chosen, expected[[2, 0, 2, 1]], rtol=1e-12)
    assert after.rows == 4 and repr(after).startswith("<carry of 4 rows at place 4: position, ")
    for wrong in ([3], [-4], [], 1, [0.5]):
        with pytest.raises(DataError):
            carry.take(wrong)


def test_rows_of_a_carry_of_loops() -> None:
    program = compiled("h = x", "repeat k in 0..2:", "    h = h + LSTM(h, 4)", "output y = h")
    _, carry = program.step(X[:, 0])
    expected, _ = program.step(X[:, 1], carry)
    chosen, _ = program.step(X[1:2, 1], carry.take([1]))
    np.testing.assert_allclose(chosen, expected[1:2], rtol=1e-12)


def test_the_end_of_the_sequence(attending: Program) -> None:
    carry = None
    for place in range(LENGTH):
        _, carry = attending.step(X[:, place], carry)
    with pytest.raises(UserError, match="goes over 6 places, and all are taken"):
        attending.step(X[:, 0], carry)


def test_a_recurrent_model_goes_on() -> None:
    program = compiled(
        "scan over t with h: [batch, 4] = 0:", "    h = (h + x[t]) / 2", "    yield h", "output y = stacked h"
    )
    carry, one = None, np.ones((2, 4))
    for _ in range(5 * LENGTH):
        value, carry = program.step(one, carry)
    np.testing.assert_allclose(value, 1 - 0.5 ** (5 * LENGTH))


def test_new_weights_are_seen(attending: Program) -> None:
    first, _ = attending.step(X[:, 0])
    kept = attending.vector()
    attending.set_vector(kept * 2)
    second, _ = attending.step(X[:, 0])
    attending.set_vector(kept)
    assert not np.allclose(first, second)
    assert attending.step(X[:, 0])[0].tobytes() == first.tobytes()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((3, LENGTH, 4)), r"`x: \[batch, 4\]` does not fit an array of shape \[3, 6, 4\]"),
        (np.zeros(4), r"`x: \[batch, 4\]` does not fit"),
        ({"y": np.zeros((3, 4))}, "`x: .*` is missing"),
        (np.full((3, 4), np.nan), "has to be finite"),
    ],
)
def test_data_that_do_not_fit(attending: Program, data: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        attending.step(data)  # type: ignore[arg-type]


def test_carries_that_do_not_fit(attending: Program) -> None:
    _, carry = attending.step(X[:, 0])
    with pytest.raises(DataError, match=r"the data have 2 rows, and the carry is of 3; `carry.take` chooses rows"):
        attending.step(X[:2, 0], carry)
    with pytest.raises(DataError, match="not one that this program's `step` has made"):
        compiled("output y = cumsum(x, axis = 1)").step(X[:, 0], carry)


def test_threads_give_the_same_bytes() -> None:
    text = (
        "model M(t = 4):\n    input x: [batch, t, 64]\n    output y = TransformerBlock(LSTM(x, 64), 4, causal = true)\n"
    )
    x = np.random.default_rng(0).normal(size=(32, 4, 64)).astype(np.float32)
    found = []
    for threads in (1, 3):
        program = tapeless.load(text).compile(threads=threads, cache=False)
        carry = None
        for place in range(4):
            made, carry = program.step(x[:, place], carry)
        found.append(made.tobytes())
    assert found[0] == found[1]


def test_what_looks_ahead_is_refused() -> None:
    program = compiled("output y = LSTM(x, 4, reverse = true)")
    assert program.predict(X).shape == (3, LENGTH, 4)
    with pytest.raises(SourceError, match="E0805"):
        program.step(X[:, 0])
