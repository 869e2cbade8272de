"""The graph for one place of a sequence: place by place it gives what the graph of the whole gives, in the
interpreter.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import pytest

from tapeless.compiler import entries
from tapeless.compiler.model import load
from tapeless.compiler.passes.pipelines import simplified
from tapeless.compiler.stepping.axis_parts import Part, marks, plain, regroup, shape_at
from tapeless.compiler.stepping.causality import LooksAhead
from tapeless.compiler.stepping.step_graph import places
from tapeless.ir.graph import Graph, Port
from tapeless.ir.interpreter import run
from tapeless.ir.types import DType, Rows
from tapeless.ir.verifier import verify

from ..sweep import sweep

LENGTH = 7


def model(*lines: str, inputs: str = "input x: [batch, t, 4]") -> str:
    return f"model M(t = {LENGTH}):\n    {inputs}\n" + "".join(f"    {line}\n" for line in lines)


MODELS = {
    "rnn": model("output y = RNN(x, 5)"),
    "lstm": model("output y = LSTM(x, 5)"),
    "gru": model("output y = GRU(x, 5)"),
    "two layers": model("h = LSTM(x, 5)", "g = LSTM(h, 6)", "output y = Dense(g, 3)"),
    "the last state": model("output y = GRU(x, 5, last = true)", "output z = RNN(x, 3)[:, -1]"),
    "carries": model(
        "param A: [4, 4] ~ normal(0, 1)",
        "param s: [4] = 0.5",
        "scan over t with h: [batch, 4] = s, c: [batch, 4] = 0, n: [batch] = 1:",
        "    d = x[t] - x[t - 1] else 0",
        "    h = tanh(d @ A + h)",
        "    c = c + h * t",
        "    n = n + sum(c, axis = 1)",
        "    yield h, c, n",
        "output h",
        "output a = stacked h",
        "output b = stacked c",
        "output d = stacked n",
    ),
    "places before": model(
        "scan over t with h: [batch, 4] = 0:",
        "    h = h + x[t] + (x[t - 3] else 2)",
        "    yield h",
        "output y = stacked h",
    ),
    "checkpoints": model(
        "scan over t checkpoint every = 2 with h: [batch, 4] = 0:",
        "    h = tanh(h + x[t])",
        "    yield h",
        "output y = stacked h",
    ),
    "a loop in a scan": model(
        "scan over t with h: [batch, 4] = 0:",
        "    g = h",
        "    repeat k in 0..2:",
        "        g = tanh(Dense(g, 4) + x[t])",
        "    h = g",
        "    yield h",
        "output y = stacked h",
    ),
    "scans in repeat": model("h = Dense(x, 5)", "repeat k in 0..3:", "    h = h + LSTM(h, 5)", "output y = h"),
    "a loop at each place": model("h = x", "repeat k in 0..4:", "    h = h + 0.1 * tanh(Dense(h, 4))", "output h"),
    "running totals": model("output y = cumsum(x, axis = 1)", "output z = cumprod(x, axis = 1)"),
    "the first place": model("output y = x * x[:, :1]", "output z = x - expand_dims(x[:, 0], 1)"),
    "shifted": model("param s: [1, 1, 4] = 1", "output y = concat(zeros([batch, 2, 4]) + s, x[:, :-2], axis = 1)"),
    "waves": model("output y = x + sinusoidal(t, 4)"),
    "learned positions": model("output y = LearnedPositions(x, 20)"),
    "embedding": model("output y = Embedding(x, 9, 5)", inputs="input x: int[batch, t] < 9"),
    "transformer": model("output y = TransformerBlock(LearnedPositions(x), 2, causal = true)"),
    "rotary": model("output y = TransformerBlock(x, 2, causal = true, rotated = true)"),
    "grouped heads": model(
        "h = Dense(x, 8)", "output y = TransformerBlock(h, 4, kv_heads = 2, causal = true, rotated = true)"
    ),
    "one head of keys": model("h = Dense(x, 8)", "output y = MultiHeadAttention(h, 4, kv_heads = 1, causal = true)"),
    "transformers in repeat": model(
        "h = Dense(x, 8)",
        "repeat k in 0..3:",
        "    h = TransformerBlock(h, 2, causal = true, rotated = true)",
        "output y = h",
    ),
    "a mask": model("output y = MultiHeadAttention(x, 2, mask = tril(ones([t, t])) > 0)"),
    "a window": model(
        "i = expand_dims(arange(t), 1)",
        "m = arange(t) <= i and arange(t) > i - 3",
        "output y = MultiHeadAttention(x, 2, mask = m)",
    ),
    "a mask that is added": model(
        "m = where(arange(t) <= expand_dims(arange(t), 1), 0, -1e30)",
        "output w = softmax(x @ transpose(x, [0, 2, 1]) + m)",
        "output y = w @ x",
    ),
    "minus infinity": model(
        "s = where(tril(ones([t, t])) > 0, x @ transpose(x, [0, 2, 1]), -inf)", "output y = softmax(s) @ x"
    ),
    "weights without softmax": model(
        "s = (x @ transpose(x, [0, 2, 1])) * tril(ones([t, t]))", "output y = s @ x", "output z = sum(s, axis = 2)"
    ),
    "infinite where nothing is yet": model(
        "m = tril(ones([t, t]))",
        "d = x[:, :, 0] ** 2",
        "r = expand_dims(d, 2) / expand_dims(d, 1)",
        "output y = (log(expand_dims(d, 1)) * m) @ x",
        "output z = (m / r) @ x",
        "output w = softmax(r + (1 - m) * -1e30) @ x",
    ),
    "the mean so far": model(
        "w = tril(ones([t, t])) / (1 + expand_dims(arange(t), 1))",
        "output y = w @ x",
        "a[i, j] = w[i, j]",
        "z[n, i, c] = sum[j] a[i, j] * x[n, j, c]",
        "output z",
    ),
    "a softmax by hand": model(
        "e = exp(x @ transpose(x, [0, 2, 1])) * tril(ones([t, t]))",
        "output y = (e / sum(e, axis = 2, keepdims = true)) @ x",
    ),
    "a mask from the data, and causal": model(
        "output y = MultiHeadAttention(x, 2, causal = true, mask = m > 0)",
        inputs="input x: [batch, t, 4]\n    input m: int[batch, 1, 1, t] < 2",
    ),
    "its own derivative": "fn bent(x) = x * abs(x)\n    derivative 2 * abs(x)\n\n"
    + model("output y = GRU(bent(x), 3)"),
    "index notation": model(
        "s[n, q, k] = sum[d] x[n, q, d] * x[n, k, d] / 2",
        "a[n, q, d] = sum[k where k <= q] s[n, q, k] * x[n, k, d]",
        "output a",
    ),
    "relative positions": model(
        "param r: [t, t] ~ normal(0, 1)",
        "s = where(tril(ones([t, t])) > 0, x @ transpose(x, [0, 2, 1]) + r, -1e30)",
        "output y = softmax(s) @ x",
    ),
    "so many keys": model("output y = MultiHeadAttention(x, 2, causal = true, lengths = 4)"),
    "lengths": model(
        "output y = MultiHeadAttention(x, 2, causal = true, lengths = n)",
        inputs="input x: [batch, t, 4]\n    input n: int[batch] < t + 1",
    ),
    "to a context": model(
        "output y = MultiHeadAttention(x, 2, c)", inputs="input x: [batch, t, 4]\n    input c: [batch, 5, 4]"
    ),
    "what comes first is no sequence": model(
        "output y = x * expand_dims(Dense(s, 4), 1)", inputs="input s: [batch, 3]\n    input x: [batch, t, 4]"
    ),
    "two sequences": model(
        "output y = LSTM(x * expand_dims(u, -1), 3)",
        "output z = u * u",
        inputs="input x: [batch, t, 4]\n    input u: [batch, t]",
    ),
    "rows and places as one axis": model(
        "z = Dense(reshape(x, [batch * t, 4]), 5)", "output y = reshape(z, [batch, t, 5])"
    ),
    "images": model(
        "c = Conv(reshape(x, [batch * t, 1, 6, 6]), 2)",
        "output y = LSTM(reshape(c, [batch, t, _]), 3)",
        inputs="input x: [batch, t, 1, 6, 6]",
    ),
    "recurrent, with lengths": model(
        "output y = GRU(x, 3, lengths = n)",
        "output z = LSTM(x, 2, lengths = n, last = true)",
        inputs="input x: [batch, t, 4]\n    input n: int[batch] < t + 1",
    ),
    "windows that end at their place": model(
        "h = Conv(transpose(x, [0, 2, 1]), 5, kernel = 3, padding = [[2, 0]], act = tanh)",
        "h = Conv(h, 4, kernel = 2, dilation = 2, padding = [[2, 0]])",
        "h = DepthwiseConv(h, kernel = 2, padding = [[1, 0]])",
        "output y = transpose(h, [0, 2, 1])",
        "output z = transpose(avg_pool(h, 3, stride = 1, padding = [[2, 0]]), [0, 2, 1])",
    ),
    "windows of one place": model(
        "h = Conv(transpose(x, [0, 2, 1]), 6, kernel = 1, act = tanh)",
        "h = Conv(h, 6, kernel = 1, groups = 2)",
        "h = DepthwiseConv(h, kernel = 1)",
        "h = ConvTranspose(h, 4, kernel = 1)",
        "output y = transpose(max_pool(h, 1), [0, 2, 1])",
        "output z = transpose(avg_pool(h, 1, padding = [[0, 0]]), [0, 2, 1])",
        "output w = transpose(convolve(h, ones([2, 4, 1]), padding = 'same', dilation = 3), [0, 2, 1])",
    ),
    "windows of one place as index notation": model(
        "param K: [5, 4, 1] ~ normal(0, 1)",
        "y[n, t, o] = sum[c, u] x[n, t + u, c] * K[o, c, u]",
        "output y",
        "p = pad(x, [[0, 0], [2, 0], [0, 0]])",
        "z[n, t] = max[u: 3] p[n, t + u, 1]",
        "output z",
    ),
    "more zeros than a window reaches back": model(
        "output y = transpose(Conv(transpose(x, [0, 2, 1]), 5, kernel = 2, padding = [[3, 0]])[:, :, :t], [0, 2, 1])"
    ),
    "all zeros before the first of several windows": model(
        "h = pad(transpose(x, [0, 2, 1]), [[0, 0], [0, 0], [5, 0]])",
        "h = Conv(h, 5, kernel = 2, act = tanh)",
        "output y = transpose(Conv(h, 3, kernel = 3, dilation = 2), [0, 2, 1])",
    ),
    "zeros before, then work": model(
        "h = tanh(pad(transpose(x, [0, 2, 1]), [[0, 0], [0, 0], [3, 0]]) + 1)",
        "h = h * arange(t + 3)",
        "output y = transpose(Conv(h, 3, kernel = 4), [0, 2, 1])",
    ),
    "other values before windows": model(
        "param s: [1, 4, 2] ~ normal(0, 1)",
        "h = concat(zeros([batch, 4, 2]) + s, transpose(x, [0, 2, 1]), axis = 2)",
        "output y = transpose(Conv(h, 3, kernel = 3), [0, 2, 1])",
    ),
    "zeros are cut off again": model(
        "h = pad(transpose(x, [0, 2, 1]), [[0, 0], [0, 0], [4, 0]])",
        "output y = transpose(Conv(h[:, :, 2:], 3, kernel = 3), [0, 2, 1])",
    ),
    "the largest so far": model(
        "output y = transpose(max_pool(transpose(x, [0, 2, 1]), 3, stride = 1, padding = [[2, 0]]), [0, 2, 1])"
    ),
    "windows over places and features": model(
        "h = reshape(x, [batch, 1, t, 4])",
        "h = Conv(h, 3, kernel = [2, 3], padding = [[1, 0], [1, 1]], act = tanh)",
        (
            "output y = transpose(max_pool(Conv(h, 2, kernel = [3, 1], dilation = [2, 1], padding = [[4, 0], 0]), "
            "[1, 2], stride = [1, 2]), [0, 2, 1, 3])"
        ),
    ),
    "the adjoint of windows": model(
        "output y = transpose(ConvTranspose(transpose(x, [0, 2, 1]), 3, kernel = 3, dilation = 2)[:, :, :t], [0, 2, 1])"
    ),
    "wavenet": model(
        "h = Conv(transpose(x, [0, 2, 1]), 6, kernel = 1)",
        "skip = 0",
        "for k in 0..3:",
        "    gate = Conv(h, 12, kernel = 2, dilation = 2 ** k, padding = [[2 ** k, 0]])",
        "    z = tanh(gate[:, :6]) * sigmoid(gate[:, 6:])",
        "    skip = skip + Conv(z, 8, kernel = 1)",
        "    h = h + Conv(z, 6, kernel = 1)",
        "output y = transpose(Conv(relu(Conv(relu(skip), 8, kernel = 1)), 5, kernel = 1), [0, 2, 1])",
    ),
    "temporal convolutions": model(
        "h = transpose(x, [0, 2, 1])",
        "for k in 0..3:",
        "    z = Conv(h, 6, kernel = 3, dilation = 2 ** k, padding = [[2 ** (k + 1), 0]], act = relu)",
        "    z = dropout(Conv(z, 6, kernel = 3, dilation = 2 ** k, padding = [[2 ** (k + 1), 0]], act = relu), 0.1)",
        "    h = relu(z + (Conv(h, 6, kernel = 1) if k == 0 else h))",
        "output y = Dense(transpose(h, [0, 2, 1]), 3)",
    ),
    "convolutions in repeat": model(
        "h = Conv(transpose(x, [0, 2, 1]), 6, kernel = 1)",
        "repeat k in 0..3:",
        "    h = h + Conv(Conv(h, 6, kernel = 3, padding = [[2, 0]], act = tanh), 6, kernel = 1)",
        "output y = transpose(h, [0, 2, 1])",
    ),
    "statistics": model("output y = transpose(BatchNorm(transpose(x, [0, 2, 1])), [0, 2, 1])"),
    "orders at a place": model("output y = sort(x)", "v, i = topk(x, 2)", "output v", "output i"),
}
STREAMED = {
    "streamed": (
        "model M(t = 300):\n    input x: [batch, t, 4]\n    output y = MultiHeadAttention(x, 2, causal = true, "
        "rotated = true)\n"
    ),
    "streamed in repeat, with lengths": (
        "model M(t = 260):\n    input x: [batch, t, 8]\n    input n: int[batch] < t + 1\n    repeat k in 0..2:\n"
        "        x = TransformerBlock(x, 4, kv_heads = 2, causal = true, lengths = n)\n    output y = x\n"
    ),
}


def random_inputs(graph: Graph, bounds: dict[str, int | None], rows: int) -> dict[str, np.ndarray]:
    """Numbers for all inputs of a graph that are not carries."""
    rng = np.random.default_rng(0)

    def made(port: Port) -> np.ndarray:
        shape = port.value.type.at(rows)
        if port.value.type.dtype.is_float:
            return np.abs(rng.normal(size=shape)) if port.label.endswith(".var") else rng.normal(size=shape) / 2
        return rng.integers(0, bounds.get(port.label) or 5, size=shape)

    return {port.key: made(port) for port in graph.inputs if port.role != "carry"}


def walked(
    step: Graph, whole: Graph, values: dict[str, np.ndarray], rows: int
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """The outputs at each place."""
    types = {port.key: port.value.type for port in whole.inputs}
    moving = {port.key for port in step.inputs if port.role == "data" and types[port.key] != port.value.type}
    length = next(types[key].shape[1] for key in types if key in moving)
    assert isinstance(length, int)
    carry = {port.key: np.zeros(port.value.type.at(rows)) for port in step.inputs if port.role == "carry"}
    needed = {port.key for port in step.inputs} - carry.keys()
    for place in range(length):
        given = {key: values[key][:, place] if key in moving else values[key] for key in needed}
        made = run(step, {**given, **carry}, rows=rows)
        carry = {port.key: made[port.key] for port in step.outputs if port.role == "carry"}
        yield place, made


def check(source: str, rows: int) -> None:
    loaded = load(source, dtype=DType.F64)
    whole = entries.predict(loaded)
    values = random_inputs(whole, {given.name: given.bound for given in loaded.data}, rows)
    expected = run(whole, values, rows=rows)
    step = entries.step(loaded)
    simple = simplified(step)
    for graph in (step, simple):
        verify(graph)
        last = {}
        for place, made in walked(graph, whole, values, rows):
            last = {key: made[key] for key in expected}
            for key, value in expected.items():
                if value.ndim > made[key].ndim:
                    np.testing.assert_allclose(
                        made[key], value[:, place], rtol=1e-12, atol=1e-12, err_msg=f"{key} at {place}"
                    )
        for key, value in last.items():
            if value.shape == expected[key].shape:  # what the end of the sequence gives
                np.testing.assert_allclose(value, expected[key], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "rows"), sweep(MODELS, (1, 3), every=3))
def test_place_by_place(name: str, rows: int) -> None:
    check(MODELS[name], rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", STREAMED)
def test_place_by_place_in_blocks_of_keys(name: str) -> None:
    check(STREAMED[name], 2)


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("lstm", None),
        ("carries", None),
        ("waves", None),
        ("running totals", None),
        ("shifted", None),
        ("learned positions", LENGTH),
        ("transformer", LENGTH),
    ],
)
def test_how_far_it_goes(name: str, limit: int | None) -> None:
    assert places(entries.step(load(MODELS[name]))) == limit


def test_the_step_is_small() -> None:
    """What does not depend on the sequence is computed at the place alone: no table of positions, no mask of all
    pairs.
    """
    step = simplified(entries.step(load(MODELS["rotary"])))
    assert all(value.type.count(1) <= 4 * 4 * LENGTH for node in step.nodes for value in node.results)


def test_carries_have_their_rows_first() -> None:
    step = entries.step(load(MODELS["transformers in repeat"]))
    shapes = [port.value.type.shape for port in step.inputs if port.role == "carry"]
    assert shapes == [(), (Rows(), 3, 2, 4, LENGTH), (Rows(), 3, 2, LENGTH, 4)]


def test_parts_of_axes() -> None:
    axes = ((Part(Rows()),), (Part(6, True),), (Part(8),))
    merged = regroup(axes, (Rows(6), 2, 4))
    assert merged is not None and shape_at(merged) == (Rows(), 2, 4) and list(marks(merged)) == [(0, 1)]
    assert regroup(merged, (Rows(), 6, 8)) == axes
    assert regroup(axes, (Rows(3), 16)) is None
    assert regroup(plain((Rows(), 6)), (Rows(2), 3)) == plain((Rows(2), 3))


ORDER = "expand_dims(arange(t), 1)"
MASKS = (
    f"arange(t) <= {ORDER}",
    f"arange(t) < {ORDER}",
    f"arange(t) >= {ORDER}",
    f"arange(t) <= {ORDER} + 1",
    "arange(t) > 2",
    f"arange(t) <= {ORDER} and arange(t) > {ORDER} - 2",
    f"arange(t) == {ORDER}",
    "tril(ones([t, t])) > 0",
)


def random_model(seed: int) -> str:
    """Lines that make sequences `[batch, t, 4]` and tables of pairs of places `[batch, t, t]` of those before,
    masked or not.
    """
    chance = random.Random(seed)
    sequences, pairs, lines = ["x"], ["p"], ["p = x @ transpose(tanh(x), [0, 2, 1])"]
    for k in range(chance.randint(3, 8)):
        a, b, p, mask = (
            chance.choice(sequences),
            chance.choice(sequences),
            chance.choice(pairs[-2:]),
            chance.choice(MASKS + MASKS[:1] * 9),
        )
        reduced, axis = chance.choice(("sum", "max", "logsumexp", "mean")), chance.choice((1, 2, 2, 2))
        makes, text = chance.choice(
            [
                (sequences, f"{a} + tanh({b})"),
                (sequences, f"Dense({a}, 4, tanh)"),
                (sequences, f"cumsum({a}, axis = 1) / 3"),
                (sequences, f"concat({a}[:, :1] * 2, {b}[:, :-1], axis = 1)"),
                (sequences, f"GRU({a}, 4)"),
                (sequences, f"{p} @ {a}"),
                (sequences, f"{p} @ {b}"),
                (sequences, f"expand_dims({reduced}({p}, axis = {axis}), 2) * {a}"),
                (pairs, f"{a} @ transpose({b}, [0, 2, 1])"),
                (pairs, f"where({mask}, {p}, -1e30)"),
                (pairs, f"where({mask}, {p}, 0)"),
                (pairs, f"softmax({p}, axis = {axis})"),
                (pairs, f"softmax({p})"),
                (pairs, f"{p} * ({mask})"),
                (pairs, f"{p} + where({mask}, 0, -1e30)"),
                (pairs, f"exp({p} / 4)"),
                (pairs, f"transpose({p}, [0, 2, 1])"),
            ]
        )
        lines.append(f"v{k} = {text}")
        makes.append(f"v{k}")
    return model(*lines, f"output y = {pairs[-1]} @ {sequences[-1]}", f"output z = {sequences[-1]}")


@pytest.mark.slow
def test_random_models_are_right_or_refused() -> None:
    """None gives other numbers than the whole sequence does."""
    right = 0
    for seed in range(250):
        with contextlib.suppress(LooksAhead):
            check(random_model(seed), 2)
            right += 1
    assert 20 < right < 230
