"""What expressions compute: the graph run in the reference interpreter against NumPy by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tapeless.compiler.messages.diagnostics import ProgramErrors
from tapeless.ir.types import Rows

from .programs import evaluated, model, ran, started, value

RNG = np.random.default_rng(7)
X = RNG.normal(size=(5, 4))
Y = RNG.normal(size=(5, 4)) + 0.1
P = np.abs(X) + 0.2
K = np.array([0, 3, 1, 2, 3])
T = RNG.normal(size=(5, 3, 4))


def softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


CASES = {
    "x + y": X + Y,
    "x - 2 * y": X - 2 * Y,
    "x / y": X / Y,
    "-x ** 2": -(X**2),
    "x ** 3": X**3,
    "x ** -2": X**-2.0,
    "p ** 0.5": P**0.5,
    "p ** y": P**Y,
    "2 ** 3 ** 0.5 * x": 2 ** (3**0.5) * X,
    "2 ** x": 2**X,
    "x // y": X // Y,
    "x % y": X % Y,
    "(x > y) + (x < 0)": (X > Y).astype(int) + (X < 0),
    "(x > 0) * 1.5": (X > 0) * 1.5,
    "x > y and not y > 0": (X > Y) & ~(Y > 0),
    "x >= y or x == y": (X >= Y) | (X == Y),
    "-1 < x < 1": (X > -1) & (X < 1),
    "k + 1": K + 1,
    "k / 2": K / 2,
    "k * x": None,
    "k == 3": K == 3,
    "1 - 2 * 3 + x": X - 5,
    "exp(x) + log(p) + sqrt(p)": np.exp(X) + np.log(P) + np.sqrt(P),
    "tanh(x) * sin(x) + cos(x)": np.tanh(X) * np.sin(X) + np.cos(X),
    "abs(x) + sign(y) + floor(x)": np.abs(X) + np.sign(Y) + np.floor(X),
    "sigmoid(x)": sigmoid(X),
    "log1p(p) + expm1(x) + square(y)": np.log1p(P) + np.expm1(X) + Y**2,
    "maximum(x, y) + minimum(x, 0)": np.maximum(X, Y) + np.minimum(X, 0),
    "clip(x, -0.5, 0.5)": np.clip(X, -0.5, 0.5),
    "clip(x, max = 0)": np.minimum(X, 0),
    "where(x > 0, y, -1)": np.where(X > 0, Y, -1),
    "x + sum(y)": X + Y.sum(),
    "sum(x, axis = 1)": X.sum(1),
    "sum(x, axis = -1, keepdims = true) * y": X.sum(1, keepdims=True) * Y,
    "x - mean(x, axis = 0)": X - X.mean(0),
    "mean(t, axis = [1, 2])": T.mean((1, 2)),
    "max(x, axis = 1) - min(x, axis = 1)": X.max(1) - X.min(1),
    "var(x, axis = 1)": X.var(1),
    "mean(x > 0, axis = 1)": (X > 0).mean(1),
    "logsumexp(x)": np.log(np.exp(X).sum(1)),
    "argmax(x)": X.argmax(1),
    "argmin(x, axis = 1)": X.argmin(1),
    "softmax(x)": softmax(X),
    "softmax(t, axis = 1)": softmax(T, 1),
    "log_softmax(x)": np.log(softmax(X)),
    "relu(x)": np.maximum(X, 0),
    "one_hot(k, 4)": np.eye(4)[K],
    "pick(x, k)": X[np.arange(5), K],
    "reshape(t, [batch, 12])": T.reshape(5, 12),
    "reshape(t, [batch, 2, _])": T.reshape(5, 2, 6),
    "reshape(t, [3 * batch, 4])": None,
    "transpose(t, [0, 2, 1])": T.transpose(0, 2, 1),
    "expand_dims(x, 1) + t": X[:, None] + T,
    "squeeze(reshape(x, [batch, 1, 4, 1]))": X,
    "x @ transpose(ones([3, 4]))": X @ np.ones((4, 3)),
    "t @ full([4, 2], 0.5)": T @ np.full((4, 2), 0.5),
    "x @ arange(4)": X @ np.arange(4),
    "x + arange(4)": X + np.arange(4),
    "x * pi": X * np.pi,
    "x[:, 1:]": X[:, 1:],
    "x[:, -1]": X[:, -1],
    "x[..., 0]": X[..., 0],
    "x[:, ::-2]": X[:, ::-2],
    "x[:, 3:0:-1]": X[:, 3:0:-1],
    "x[:, -100:100]": X,
    "t[:, 1:, -1]": T[:, 1:, -1],
    "t[:, 1]": T[:, 1],
    "t[..., 1:3]": T[..., 1:3],
    "x + zeros(shape(t)[2:])": X,
    "concat(x, t[:, 0], axis = 1)": np.concatenate([X, T[:, 0]], 1),
    "concat([x, y, x])": np.concatenate([X, Y, X], 1),
    "concat(x > 0, y > 0)": np.concatenate([X > 0, Y > 0], 1),
    "stack(x, 2 * x)": np.stack([X, 2 * X], -1),
    "stack([x, y, x], axis = 1)": np.stack([X, Y, X], 1),
    "split(x, 2)[1]": X[:, 2:],
    "split(t, [1], axis = 1)[1]": T[:, 1:],
    "flip(x, axis = 1)": X[:, ::-1],
    "flip(t, axis = [1, 2])": T[:, ::-1, ::-1],
    "pad(x, [[0, 0], [1, 2]])": np.pad(X, [[0, 0], [1, 2]]),
    "pad(t, [[0, 0], [1, 0], [0, 2]], constant_values = 3.5)": np.pad(T, [[0, 0], [1, 0], [0, 2]], constant_values=3.5),
    "cumsum(x)": X.cumsum(-1),
    "cumsum(t, axis = 1)": T.cumsum(1),
    "prod(t, axis = [1, 2])": T.prod((1, 2)),
    "prod(x, axis = 1, keepdims = true) * x": X.prod(1, keepdims=True) * X,
    "round(3 * x)": np.round(3 * X),
    "round(p * 0 + 2.5)": np.full((5, 4), 2.0),
    "erf(x)": np.vectorize(math.erf)(X),
    "arange(4)[k]": K,
    "t @ transpose(t, [0, 2, 1])": T @ T.transpose(0, 2, 1),
    "t @ stack(x, y)": T @ np.stack([X, Y], -1),
    "transpose(t, [0, 2, 1]) @ ones([1, 3, 2])": T.transpose(0, 2, 1) @ np.ones((1, 3, 2)),
    "cumprod(x)": X.cumprod(-1),
    "tan(x) + arctan(x) + arcsin(clip(x, -1, 1)) + arccos(clip(x, -1, 1))": np.tan(X) + np.arctan(X) + np.pi / 2,
    "sinh(x) + cosh(x) + exp2(x) + log2(p) + cbrt(x)": np.sinh(X) + np.cosh(X) + np.exp2(X) + np.log2(P) + np.cbrt(X),
    "ceil(x) + trunc(y) + erfc(x) + rsqrt(p)": np.ceil(X) + np.trunc(Y) + np.vectorize(math.erfc)(X) + 1 / np.sqrt(P),
    "x / batch": X / 5,
    "x if 2 > 1 else y": X,
    "zeros(shape(x)) + shape(x)[1]": np.full((5, 4), 4.0),
    "arange(4)[k] + 0.0": None,
    "real(arange(4))[k]": K.astype(float),
}


@pytest.mark.parametrize("expression", [name for name, expected in CASES.items() if expected is not None])
def test_expression(expression: str) -> None:
    data = {"x": X, "y": Y, "p": P, "k": K, "t": T}
    found = value(expression, **data)
    np.testing.assert_allclose(found, CASES[expression], rtol=1e-12, atol=1e-12)
    assert found.dtype.kind == ("f" if CASES[expression].dtype.kind == "f" else CASES[expression].dtype.kind)


def test_mean_over_batch_follows_rows() -> None:
    text = "model M:\n    input x: [batch, 4]\n    loss mean(x)\n    metric n = batch\n"
    for rows in (1, 3, 5):
        found = evaluated(text, x=X[:rows])
        assert found["loss"] == pytest.approx(X[:rows].mean())
        assert found["n"] == rows


def test_cross_entropy() -> None:
    text = """
model M:
    input  x: [batch, 4]
    target k: int[batch] < 4
    target q: [batch, 4]
    loss cross_entropy(x, k)
    loss 0.5 * cross_entropy(x, q) as soft
    metric accuracy = mean(argmax(x) == k)
"""
    q = softmax(Y)
    found = evaluated(text, x=X, k=K, q=q)
    hard = -np.log(softmax(X)[np.arange(5), K]).mean()
    soft = -(q * np.log(softmax(X))).sum(1).mean()
    assert found["loss"] == pytest.approx(hard + 0.5 * soft)
    assert found["soft"] == pytest.approx(0.5 * soft)
    assert found["accuracy"] == pytest.approx((X.argmax(1) == K).mean())


def test_dense_and_names() -> None:
    text = """
layer Block(x[.., i], width):
    inner = Dense(x, width, tanh)
    return Dense(inner, i) + Dense(x, i)

model M(depth = 2):
    input x: [batch, 4]
    h = Dense(x, 3, relu)
    h = Dense(h, 3)
    for k in 0..depth:
        h = Block(h, 5)
    z = h + Block(h, 2)
    use shared = Dense(units = 3)
    output y = shared(h) + shared(z)
"""
    loaded = model(text)
    names = [slot.name for slot in loaded.slots if slot.role == "param" and slot.name.endswith("W")]
    assert names == [
        "h.W", "h_2.W", "h.0.inner.W", "h.0.dense.W", "h.0.dense_2.W", "h.1.inner.W", "h.1.dense.W", "h.1.dense_2.W",
        "z.block.inner.W", "z.block.dense.W", "z.block.dense_2.W", "shared.W",
    ]  # fmt: skip
    state = started(loaded)
    found = ran(loaded.forward[False], state, {"x": X})["y"]

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return x @ state[f"{name}.W"] + state[f"{name}.b"]

    h = dense(np.maximum(dense(X, "h"), 0), "h_2")
    for k in range(2):
        h = dense(np.tanh(dense(h, f"h.{k}.inner")), f"h.{k}.dense") + dense(h, f"h.{k}.dense_2")
    z = h + dense(np.tanh(dense(h, "z.block.inner")), "z.block.dense") + dense(h, "z.block.dense_2")
    np.testing.assert_allclose(found, dense(h, "shared") + dense(z, "shared"), rtol=1e-12)
    assert len([slot for slot in model(text, depth=4).slots if slot.role == "param"]) == 2 * (2 + 4 * 3 + 3 + 1)


def test_dropout() -> None:
    text = "model M:\n    input x: [batch, 1000]\n    output a = dropout(x, 0.25)\n    output b = dropout(x, 0.25)\n"
    x = np.ones((8, 1000))
    loaded = model(text)
    state = started(loaded)
    first, again = (ran(loaded.forward[True], state, {"x": x}) for _ in range(2))
    later = ran(loaded.forward[True], {**state, "step": 1}, {"x": x})
    assert set(np.unique(first["a"])) == {0, 1 / 0.75}
    assert abs((first["a"] > 0).mean() - 0.75) < 0.02
    assert (first["a"] == again["a"]).all()
    assert (first["a"] != later["a"]).any() and (first["a"] != first["b"]).any()
    assert (ran(loaded.forward[False], state, {"x": x})["a"] == x).all()


def test_state() -> None:
    text = """
layer Centre(x[n, c], momentum = 0.1):
    state centre: [c] = 0.5
    if training:
        m = mean(x, axis = 0)
        centre = (1 - momentum) * centre + momentum * m
    return x - centre

model M:
    input x: [batch, 4]
    output y = Centre(x)
"""
    loaded = model(text)
    state = started(loaded)
    trained = ran(loaded.forward[True], state, {"x": X})
    moved = 0.9 * 0.5 + 0.1 * X.mean(0)
    np.testing.assert_allclose(trained["y.centre"], moved)
    np.testing.assert_allclose(trained["y"], X - moved)
    evaluated_ = ran(loaded.forward[False], state, {"x": X})
    assert "y.centre" not in evaluated_
    np.testing.assert_allclose(evaluated_["y"], X - 0.5)
    assert any(node.op == "stop_gradient" for node in loaded.forward[True].nodes)


def test_moments_over_all_but_one_axis() -> None:
    text = """
layer Normalise(x[n, c, ..]):
    m, v = moments(x, over = all but c)
    return (x - expand_dims(m, 1)) / sqrt(expand_dims(v, 1) + 1e-5)

model M:
    input t: [batch, 3, 4]
    output y = Normalise(t)
"""
    m, v = T.mean((0, 2), keepdims=True), T.var((0, 2), keepdims=True)
    np.testing.assert_allclose(evaluated(text, t=T)["y"], (T - m) / np.sqrt(v + 1e-5), rtol=1e-10)


INITIALISERS = {
    "he_normal": (0, np.sqrt(2 / 300)),
    "he_uniform": (0, np.sqrt(2 / 300)),
    "glorot_normal": (0, np.sqrt(2 / 500)),
    "glorot_uniform": (0, np.sqrt(2 / 500)),
    "normal(1, 0.5)": (1, 0.5),
    "uniform(2, 4)": (3, 2 / np.sqrt(12)),
    "truncated_normal(0, 1)": (0, 0.8796),
    "he_normal(fan_in = 2)": (0, 1),
    "he_normal(slope = 1)": (0, np.sqrt(1 / 300)),
    "glorot_uniform(gain = 2)": (0, 2 * np.sqrt(2 / 500)),
    "lecun_normal": (0, np.sqrt(1 / 300)),
    "lecun_uniform": (0, np.sqrt(1 / 300)),
    "variance_scaling(2, 'fan_out', 'uniform')": (0, np.sqrt(2 / 200)),
    "variance_scaling(mode = 'fan_avg', distribution = 'truncated_normal')": (0, np.sqrt(1 / 250)),
    "orthogonal(gain = 2)": (0, 2 * np.sqrt(1 / 300)),
}


@pytest.mark.parametrize("initialiser", INITIALISERS)
def test_initialiser(initialiser: str) -> None:
    text = (
        f"model M:\n    input x: [batch, 1]\n    param W: [300, 200] ~ {initialiser}\n    param V: [300, 200] ~ "
        f"{initialiser}\n    output y = x + sum(W)\n"
    )
    state = started(model(text))
    mean, deviation = INITIALISERS[initialiser]
    assert state["W"].mean() == pytest.approx(mean, abs=4 * deviation / np.sqrt(60000) + 1e-4)
    assert state["W"].std() == pytest.approx(deviation, rel=0.02)
    assert np.isfinite(state["W"]).all() and (state["W"] != state["V"]).all()
    if initialiser.startswith("truncated"):
        assert np.abs(state["W"]).max() <= 2 + 1e-9


@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (4, 9), (3, 2, 5), (1, 7)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    state = started(
        model(
            f"model M:\n    input x: [batch, 1]\n    param W: {list(shape)} ~ orthogonal\n    output y = x + sum(W)\n"
        )
    )
    w = state["W"].reshape(shape[0], -1)
    w = w if w.shape[0] < w.shape[1] else w.T
    np.testing.assert_allclose(w @ w.T, np.eye(len(w)), atol=1e-12)


def test_plain_starting_values() -> None:
    text = "model M:\n    input x: [batch, 1]\n"
    text += "".join(
        f"    param {name}: [3, 4] ~ {how}\n"
        for name, how in [
            ("a", "zeros"),
            ("b", "ones"),
            ("d", "identity_matrix(2)"),
            ("e", "sparse(0.5)"),
            ("f", "constant_value(0.3)"),
        ]
    )
    state = started(model(text + "    output y = x + sum(a + b + d + e + f)\n"))
    assert (
        (state["a"] == 0).all()
        and (state["b"] == 1).all()
        and (state["d"] == 2 * np.eye(3, 4)).all()
        and (state["f"] == 0.3).all()
    )
    assert ((state["e"] == 0).sum(axis=0) == 2).all()


def test_noise_keeps_mean_and_variance() -> None:
    text = """
model M:
    input  x: [batch, 50, 40]
    output spatial = spatial_dropout(x, 0.25)
    output alpha   = alpha_dropout(x, 0.25)
    output times   = gaussian_dropout(x, 0.2)
    output plus    = gaussian_noise(x, 0.5)
    output path    = drop_path(x, 0.25)
"""
    loaded = model(text)
    x = RNG.normal(size=(64, 50, 40))
    made = ran(loaded.forward[True], started(loaded), {"x": x})
    assert (
        set(np.unique((made["spatial"] == 0).mean(axis=2))) == {0, 1}
        and abs((made["spatial"] == 0).mean() - 0.25) < 0.03
    )
    assert set(np.unique((made["path"] == 0).mean(axis=(1, 2)))) == {0, 1}
    assert abs(made["alpha"].mean()) < 0.02 and abs(made["alpha"].std() - 1) < 0.02
    assert abs((made["times"] / x).std() - 0.5) < 0.01 and abs((made["plus"] - x).std() - 0.5) < 0.01
    for name, found in ran(loaded.forward[False], started(loaded), {"x": x}).items():
        assert (found == x).all(), name


def test_penalties() -> None:
    text = (
        "model M:\n    input x: [batch, 4]\n    h = Dense(x, 3)\n    g = Dense(h, 2)\n    loss l1('*.W') + 0.5 * "
        "l2('g.*') + mean(g)\n"
    )
    loaded = model(text)
    state = started(loaded)
    state["g.b"] = np.array([1.0, -2])
    wanted = (
        sum(np.abs(state[f"{name}.W"]).sum() for name in "hg")
        + 0.5 * ((state["g.W"] ** 2).sum() + 5)
        + (X @ state["h.W"] @ state["g.W"] + state["g.b"]).mean()
    )
    assert ran(loaded.forward[True], state, {"x": X})["loss"] == pytest.approx(wanted)


def test_parameters_from_expressions() -> None:
    text = """
model M(n = 3):
    input x: [batch, n]
    param a: [n] = arange(n) / n
    param b = 2 ** 0.5
    param c: [2, n] = 1
    output y = x * a + b + sum(c)
"""
    state = started(model(text, n=4))
    np.testing.assert_allclose(state["a"], np.arange(4) / 4)
    assert state["b"] == pytest.approx(2**0.5) and (state["c"] == np.ones((2, 4))).all()


def test_gather() -> None:
    text = "model M:\n    input k: int[batch, 2] < 4\n    param E: [4, 3] ~ normal(0, 1)\n    output e = E[k]\n"
    loaded = model(text)
    state = started(loaded)
    k = np.array([[0, 3], [2, 2]])
    assert (ran(loaded.forward[False], state, {"k": k})["e"] == state["E"][k]).all()


def test_arguments_and_free_sizes() -> None:
    text = "model M(width = 3, rate = 0.5):\n    input x: [batch, t, 4]\n    output y = Dense(x, width) * rate\n"
    loaded = model(text, width=7, t=6, rate=0.25)
    assert loaded.data[0].type.shape == (Rows(), 6, 4)
    assert loaded.forward[False].outputs[0].value.type.shape == (Rows(), 6, 7)
    with pytest.raises(ProgramErrors, match="E0508"):
        model(text, t=6, widht=7)


def test_graph_names_are_the_programs() -> None:
    text = """
layer Own(x[.., i], units):
    param W: [i, units] ~ he_normal
    z = x @ W
    return tanh(z)

model M:
    input x: [batch, 4]
    h = Own(x, 3)
    g = Own(h, 2) + 1
    output g
    loss mean(g) as size
"""
    graph = model(text).forward[False]
    names = {node.results[0].name for node in graph.nodes}
    assert {"h.z", "h", "g.own.z", "g", "size"} <= names
    assert all(node.span is not None and node.span.file == "model.tl" for node in graph.nodes)


def test_index_along_any_axis() -> None:
    text = """
model M:
    input k: int[batch, 2] < 4
    param E: [3, 4] = arange(4)
    param F: [4, 3, 2] = transpose(ones([2, 3, 4]) * arange(4))
    output y = transpose(E[:, k], [1, 0, 2])
    output z = F[k]
"""
    k = np.stack([K, 3 - K], 1)
    found = evaluated(text, k=k)
    np.testing.assert_array_equal(found["y"], (np.ones((3, 4)) * np.arange(4))[:, k].transpose(1, 0, 2))
    np.testing.assert_array_equal(found["z"], (np.ones((2, 3, 4)) * np.arange(4)).T[k])


def test_batch_norm() -> None:
    """Batch statistics in training, running ones in evaluation; the running variance is the unbiased one."""
    text = """
model M:
    input  x: [batch, 4]
    input  t: [batch, 3, 4]
    output a = BatchNorm(x, momentum = 0.5)
    output b = BatchNorm(t)
"""
    loaded = model(text)
    state = started(loaded)
    state["a.scale"] = np.arange(1.0, 5)
    state["a.shift"] = np.arange(4.0)
    made = ran(loaded.forward[True], state, {"x": X, "t": T})
    np.testing.assert_allclose(
        made["a"], state["a.scale"] * (X - X.mean(0)) / np.sqrt(X.var(0) + 1e-5) + state["a.shift"], rtol=1e-12
    )
    np.testing.assert_allclose(made["a.mean"], 0.5 * X.mean(0), rtol=1e-12)
    np.testing.assert_allclose(made["a.var"], 0.5 + 0.5 * X.var(0, ddof=1), rtol=1e-12)
    m, v = T.mean((0, 2), keepdims=True), T.var((0, 2), keepdims=True)
    np.testing.assert_allclose(made["b"], (T - m) / np.sqrt(v + 1e-5), rtol=1e-12)
    np.testing.assert_allclose(made["b.var"], 0.9 + 0.1 * T.var((0, 2), ddof=1), rtol=1e-12)
    state |= {name: made[name] for name in ("a.mean", "a.var")}
    found = ran(loaded.forward[False], state, {"x": X, "t": T})
    wanted = state["a.scale"] * (X - state["a.mean"]) / np.sqrt(state["a.var"] + 1e-5) + state["a.shift"]
    np.testing.assert_allclose(found["a"], wanted, rtol=1e-12)
    assert "a.mean" not in found


def losses(expression: str, bound: int = 4) -> float:
    text = f"""
model M:
    input  x: [batch, 4]
    target y: [batch, 4]
    target q: [batch, 4]
    target k: int[batch] < {bound}
    loss {expression}
"""
    return float(evaluated(text, x=X, y=Y, q=softmax(Y), k=K)["loss"])


def test_losses() -> None:
    """Against the formulas, as published or as PyTorch documents them."""
    logp, q, w = np.log(softmax(X)), softmax(Y), np.array([1.0, 2, 0.5, 3])
    own, rows = logp[np.arange(5), K], np.arange(5)
    assert losses("mean_absolute_error(x, y)") == pytest.approx(np.abs(X - Y).mean())
    d = np.abs(X - Y)
    assert losses("huber(x, y, 0.7)") == pytest.approx(np.where(d < 0.7, d**2 / 2, 0.7 * (d - 0.35)).mean())
    p = sigmoid(X)
    assert losses("binary_cross_entropy(x, q)") == pytest.approx(-(q * np.log(p) + (1 - q) * np.log(1 - p)).mean())
    assert losses("kl_divergence(x, q)") == pytest.approx((q * (np.log(q) - logp)).sum(1).mean())
    assert losses("cross_entropy(x, k, label_smoothing = 0.1)") == pytest.approx(
        -(0.9 * own + 0.1 * logp.mean(1)).mean()
    )
    mixed = 0.9 * q + 0.1 / 4
    assert losses("cross_entropy(x, q, label_smoothing = 0.1)") == pytest.approx(-(mixed * logp).sum(1).mean())
    weight = "arange(4) * arange(4) / 3 + 1"
    w = np.arange(4) ** 2 / 3 + 1
    assert losses(f"cross_entropy(x, k, {weight})") == pytest.approx(-(w[K] * own).sum() / w[K].sum())
    smooth = 0.8 * w[K] * own + 0.2 * (w * logp).mean(1)
    assert losses(f"cross_entropy(x, k, {weight}, label_smoothing = 0.2)") == pytest.approx(-smooth.sum() / w[K].sum())
    kept = K != 3
    assert losses("cross_entropy(x, k, ignore_index = 3)") == pytest.approx(-own[kept].mean())
    assert losses(f"cross_entropy(x, k, {weight}, 3)") == pytest.approx(-(w[K] * own)[kept].sum() / w[K][kept].sum())
    assert losses("cross_entropy(x[:, :3], k, ignore_index = 3)") == pytest.approx(
        -np.log(softmax(X[:, :3]))[rows[kept], K[kept]].mean()
    )
    assert losses("cross_entropy(x, minimum(k, 0), ignore_index = 0)") == 0


def test_activations() -> None:
    erf = np.vectorize(math.erf)
    e = np.where(X > 0, X, np.expm1(np.minimum(X, 0)))
    cases = {
        "relu": np.maximum(X, 0), "leaky_relu": np.where(X > 0, X, 0.01 * X), "elu": e,
        "selu": 1.0507009873554805 * np.where(X > 0, X, 1.6732632423543772 * np.expm1(np.minimum(X, 0))),
        "gelu": X * 0.5 * (1 + erf(X / np.sqrt(2))), "silu": X * sigmoid(X), "swish": X * sigmoid(X),
        "mish": X * np.tanh(np.log1p(np.exp(X))), "softplus": np.log1p(np.exp(X)), "sigmoid": sigmoid(X),
        "tanh": np.tanh(X),
        "hard_sigmoid": np.clip(X / 6 + 0.5, 0, 1), "hard_tanh": np.clip(X, -1, 1),
        "hard_swish": X * np.clip(X / 6 + 0.5, 0, 1), "softsign": X / (1 + np.abs(X)), "identity": X,
    }  # fmt: skip
    for name, expected in cases.items():
        np.testing.assert_allclose(value(f"{name}(3 * x / 3)", x=X), expected, rtol=1e-12, err_msg=name)
    tanh_form = 0.5 * X * (1 + np.tanh(np.sqrt(2 / np.pi) * (X + 0.044715 * X**3)))
    np.testing.assert_allclose(value("gelu(x, approximate = 'tanh')", x=X), tanh_form, rtol=1e-12)


def test_the_name_of_a_metric_stands_for_its_value() -> None:
    text = (
        "model M:\n    input x: [batch, 3]\n    metric p = sum(x * x) / sum(x) total\n    metric q = mean(x)\n    "
        "metric f = 2 * p + q\n"
    )
    x = np.arange(1.0, 7.0).reshape(2, 3)
    found = evaluated(text, x=x, rows=2)
    np.testing.assert_allclose(found["f"], 2 * (x * x).sum() / x.sum() + x.mean(), rtol=1e-6)
    assert {"f.numerator.0", "f.denominator.0"} <= found.keys()
