"""Index notation and `einsum`: what each line computes against NumPy, its gradient against differences, machine code
against the interpreter.

Tensors in the lines: x [batch, 6], m [batch, 5, 4], p [batch, 6, 3] and s [batch, 2, 6, 7] are data, k int[batch, 3]
< 5 too; the parameters are A [5, 4], B [4, 3], C [5, 4], S [4, 4], T [4, 4, 4], v [6], w [3], u [6], E [5, 3], K [3,
2, 3, 2].
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

import tapeless
from tapeless.compiler import entries
from tapeless.compiler.model import load
from tapeless.compiler.passes.pipelines import simplified
from tapeless.ir.graph import Graph, Port
from tapeless.ir.interpreter import run
from tapeless.ir.types import DType

from ..sweep import sweep

DATA = {
    "x": "[batch, 6]",
    "m": "[batch, 5, 4]",
    "p": "[batch, 6, 3]",
    "s": "[batch, 2, 6, 7]",
    "k": "int[batch, 3] < 5",
}
PARAMETERS = {
    "A": (5, 4),
    "B": (4, 3),
    "C": (5, 4),
    "S": (4, 4),
    "T": (4, 4, 4),
    "v": (6,),
    "w": (3,),
    "u": (6,),
    "E": (5, 3),
    "K": (3, 2, 3, 2),
}
Arrays = dict[str, np.ndarray]
E = np.einsum


def shifted(a: np.ndarray, size: int, kernel: int, step: int = 1, apart: int = 1, axis: int = -1) -> np.ndarray:
    """Windows of an axis, as two axes in its place."""
    places = step * np.arange(size)[:, None] + apart * np.arange(kernel)
    return np.take(a, places, axis=axis)


def logsumexp(a: np.ndarray, axis: int) -> np.ndarray:
    return np.log(np.exp(a).sum(axis=axis))


def softmax(a: np.ndarray) -> np.ndarray:
    e = np.exp(a - a.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def images(d: Arrays, step: int, apart: int) -> np.ndarray:
    """The windows of s that a kernel of 3 by 2 sees: [n, c, i, u, j, v]."""
    rows, columns = (5 - 2 * apart) // step + 1, (6 - apart) // step + 1
    return shifted(shifted(d["s"], columns, 2, step, apart, 3), rows, 3, step, apart, 2)


LOWER = np.tril(np.ones((6, 6)))
# A line (or several) that makes y, and y in NumPy.
LINES: dict[str, Callable[[Arrays], np.ndarray]] = {
    # All of einsum's forms
    "y = sum[i, j] A[i, j]": lambda d: E("ij->", d["A"]),
    "y[j, i] = A[i, j]": lambda d: E("ij->ji", d["A"]),
    "y[i] = sum[j] A[i, j]": lambda d: E("ij->i", d["A"]),
    "y[j] = sum[i] A[i, j]": lambda d: E("ij->j", d["A"]),
    "y[i] = S[i, i]": lambda d: E("ii->i", d["S"]),
    "y = sum[i] S[i, i]": lambda d: E("ii->", d["S"]),
    "y[i, j] = T[j, i, i]": lambda d: E("jii->ij", d["T"]),
    "y[i] = T[i, i, i]": lambda d: E("iii->i", d["T"]),
    "y[n, i] = x[n, i] * v[i]": lambda d: E("ni,i->ni", d["x"], d["v"]),
    "y[n] = sum[i] x[n, i] * v[i]": lambda d: E("ni,i->n", d["x"], d["v"]),
    "y[i, j] = v[i] * u[j]": lambda d: E("i,j->ij", d["v"], d["u"]),
    "y = sum[i] v[i] * u[i]": lambda d: E("i,i->", d["v"], d["u"]),
    "y[i, o] = sum[j] A[i, j] * B[j, o]": lambda d: E("ij,jo->io", d["A"], d["B"]),
    "y[o, i] = sum[j] A[i, j] * B[j, o]": lambda d: E("ij,jo->oi", d["A"], d["B"]),
    "y[n, i, o] = sum[j] m[n, i, j] * B[j, o]": lambda d: E("nij,jo->nio", d["m"], d["B"]),
    "y[n, o, i] = sum[j] m[n, i, j] * B[j, o]": lambda d: E("nij,jo->noi", d["m"], d["B"]),
    "y[n, i, k] = sum[j] m[n, i, j] * m[n, k, j]": lambda d: E("nij,nkj->nik", d["m"], d["m"]),
    "y[n] = sum[i, j] m[n, i, j] * A[i, j]": lambda d: E("nij,ij->n", d["m"], d["A"]),
    "y[i, j] = sum[n] m[n, i, j]": lambda d: E("nij->ij", d["m"]),
    "y[i, j] = sum[n] x[n, i] * x[n, j]": lambda d: E("ni,nj->ij", d["x"], d["x"]),
    "y[i, k] = sum[j] A[i, j] * C[k, j]": lambda d: E("ij,kj->ik", d["A"], d["C"]),
    "y[i, j] = A[i, j] * C[i, j]": lambda d: d["A"] * d["C"],
    "y[i, k, l] = sum[j] S[i, j] * T[j, k, l]": lambda d: E("ij,jkl->ikl", d["S"], d["T"]),
    "y[k, i] = sum[j, l] S[i, j] * T[j, k, l]": lambda d: E("ij,jkl->ki", d["S"], d["T"]),
    "y[n, i, o] = sum[j, l] m[n, i, j] * S[j, l] * B[l, o]": lambda d: E("nij,jl,lo->nio", d["m"], d["S"], d["B"]),
    "y[a, b] = sum[i] x[a, i] * x[b, i]": lambda d: E("ai,bi->ab", d["x"], d["x"]),
    "y[i] = sum[j] A[i, j] * C[i, j]": lambda d: E("ij,ij->i", d["A"], d["C"]),
    "y[n, i, j] = sum[o] p[n, i, o] * p[n, j, o] * w[o]": lambda d: E("nio,njo,o->nij", d["p"], d["p"], d["w"]),
    # Forms
    "y[n] = sum[i, j] x[n, i] * (sum[o] p[n, i, o] * w[o]) * x[n, j]": lambda d: E(
        "ni,nio,o,nj->n", d["x"], d["p"], d["w"], d["x"]
    ),
    "y[n, i] = sum[j, l] T[i, j, l] * m[n, 0, j] * m[n, 1, l]": lambda d: E(
        "ijl,nj,nl->ni", d["T"], d["m"][:, 0], d["m"][:, 1]
    ),
    "y[n] = sum[i] x[n, i] ** 2 + 1": lambda d: (d["x"] ** 2).sum(1) + 1,
    "y[n] = (sum[i] x[n, i]) / 2 - v[0]": lambda d: d["x"].sum(1) / 2 - d["v"][0],
    "y[n, i] = x[n, i] / sum[j] abs(x[n, j])": lambda d: d["x"] / np.abs(d["x"]).sum(1, keepdims=True),
    "y[n, i, k] = sum[j] m[n, i, j] * m[n, k, j] / sqrt(4)": lambda d: E("nij,nkj->nik", d["m"], d["m"]) / 2,
    "y[i, j] = (sum[l] (A[i, l] - C[j, l]) ** 2) ** 0.5": lambda d: np.sqrt(
        ((d["A"][:, None] - d["C"][None]) ** 2).sum(-1)
    ),
    "y[n, i] = log(sum[j] exp(m[n, i, j]))": lambda d: logsumexp(d["m"], 2),
    (
        "a[n, i, j] = sum[o] p[n, i, o] * p[n, j, o]\ny[n, i, o] = sum[j] exp(a[n, i, j] - log(sum[l] "
        "exp(a[n, i, l]))) * p[n, j, o]"
    ): lambda d: softmax(E("nio,njo->nij", d["p"], d["p"])) @ d["p"],
    # Gaussian mixture: log-likelihood of p's points under centres E of width 1 and weights softmax(w) would have five
    # classes; here equal
    "y[n, i] = log(sum[c] exp(-0.5 * sum[o] (p[n, i, o] - E[c, o]) ** 2) / 5)": lambda d: np.log(
        np.exp(-0.5 * ((d["p"][:, :, None] - d["E"]) ** 2).sum(-1)).mean(-1)
    ),
    # The energy of bodies at p that attract each other
    "y[n] = -sum[i, j where i < j] 1 / sqrt(0.1 + sum[o] (p[n, i, o] - p[n, j, o]) ** 2)": lambda d: (
        -E(
            "nij,ij->n",
            1 / np.sqrt(0.1 + ((d["p"][:, :, None] - d["p"][:, None]) ** 2).sum(-1)),
            np.triu(np.ones((6, 6)), 1),
        )
    ),
    # Reductions
    "y[n] = max[i] x[n, i]": lambda d: d["x"].max(1),
    "y[n] = min[i, j] m[n, i, j]": lambda d: d["m"].min((1, 2)),
    "y[n, j] = mean[i] m[n, i, j]": lambda d: d["m"].mean(1),
    "y[j] = mean[n, i] m[n, i, j]": lambda d: d["m"].mean((0, 1)),
    "y[n] = prod[i] (1 + 0.3 * x[n, i])": lambda d: (1 + 0.3 * d["x"]).prod(1),
    "y[n] = sum[i: 3] x[n, 0]": lambda d: 3 * d["x"][:, 0],
    "y[n] = prod[i: 3] x[n, 0]": lambda d: d["x"][:, 0] ** 3,
    "y[n, i: 3] = x[n, 1]": lambda d: np.repeat(d["x"][:, 1:2], 3, 1),
    # Conditions and indices as values
    "y[n, i: 6] = sum[j where j <= i] x[n, j]": lambda d: d["x"] @ LOWER.T,
    "y[n, i: 6] = max[j where j <= i] x[n, j]": lambda d: np.maximum.accumulate(d["x"], axis=1),
    "y[n, i: 6] = mean[j where j <= i] x[n, j]": lambda d: d["x"] @ LOWER.T / np.arange(1, 7),
    "y[n] = prod[j where x[n, j] > 0] x[n, j]": lambda d: np.where(d["x"] > 0, d["x"], 1).prod(1),
    "y[n] = sum[i] i * x[n, i]": lambda d: d["x"] @ np.arange(6),
    "y[i, j] = exp(-(i - j) ** 2 / 4) * v[i] * u[j]": lambda d: (
        np.exp(-((np.arange(6)[:, None] - np.arange(6)) ** 2) / 4) * np.outer(d["v"], d["u"])
    ),
    "y[n, i] = where(i < 2, x[n, i], v[i])": lambda d: np.where(np.arange(6) < 2, d["x"], d["v"]),
    "y[t: 4, i: 6] = sin(t / 3 ** (i / 6)) * v[i]": lambda d: (
        np.sin(np.arange(4)[:, None] / 3 ** (np.arange(6) / 6)) * d["v"]
    ),
    "y[a, b] = where(a == b, x[a, 0] * x[b, 1], 0)": lambda d: np.diag(d["x"][:, 0] * d["x"][:, 1]),
    # Shifts, windows
    "y[n, i] = x[n, i + 1] - x[n, i]": lambda d: np.diff(d["x"]),
    "y[n, i] = x[n, i + 2] - 2 * x[n, i + 1] + x[n, i]": lambda d: np.diff(d["x"], 2),
    "y[n, i] = x[n, 2 * i + 1]": lambda d: d["x"][:, 1::2],
    "y[n, i] = x[n, 5 - i]": lambda d: d["x"][:, ::-1],
    "y[n, i] = x[n, -1] * x[n, i]": lambda d: d["x"][:, -1:] * d["x"],
    "y[n, i] = sum[u] x[n, i + u] * w[u]": lambda d: shifted(d["x"], 4, 3) @ d["w"],
    "y[n, i] = sum[u] x[n, i + 2 - u] * w[u]": lambda d: shifted(d["x"], 4, 3)[..., ::-1] @ d["w"],
    "y[n, i] = max[u: 2] x[n, 2 * i + u]": lambda d: d["x"].reshape(-1, 3, 2).max(2),
    "y[n, i] = mean[u: 3] x[n, i + u]": lambda d: shifted(d["x"], 4, 3).mean(-1),
    "y[n, i] = sum[a: 2, b: 2] x[n, i + a + 2 * b] * v[a] * u[b]": lambda d: sum(
        d["x"][:, a + 2 * b : a + 2 * b + 3] * d["v"][a] * d["u"][b] for a in range(2) for b in range(2)
    ),
    "y[n, o, i, j] = sum[c, a, b] s[n, c, i + a, j + b] * K[o, c, a, b]": lambda d: E(
        "nciajb,ocab->noij", images(d, 1, 1), d["K"]
    ),
    "y[n, o, i, j] = sum[c, a, b] s[n, c, 2 * i + a, 2 * j + b] * K[o, c, a, b]": lambda d: E(
        "nciajb,ocab->noij", images(d, 2, 1), d["K"]
    ),
    "y[n, o, i, j] = sum[c, a, b] s[n, c, i + 2 * a, j + 2 * b] * K[o, c, a, b]": lambda d: E(
        "nciajb,ocab->noij", images(d, 1, 2), d["K"]
    ),
    "y[n, c, i, j] = sum[a, b] s[n, c, i + a, j + b] * K[0, c, a, b]": lambda d: E(
        "nciajb,cab->ncij", images(d, 1, 1), d["K"][0]
    ),
    "y[n, c, i, j] = max[a: 3, b: 2] s[n, c, i + a, j + b]": lambda d: images(d, 1, 1).max((3, 5)),
    # Local attention: each place sees itself and the one before
    (
        "q = pad(p, [[0, 0], [1, 0], [0, 0]])\ny[n, i] = log(sum[u: 2] exp(sum[o] p[n, i, o] * q[n, i + u, o]))"
    ): lambda d: logsumexp(
        E(
            "nio,nouxi->nix",
            d["p"],
            shifted(np.pad(d["p"], ((0, 0), (1, 0), (0, 0))), 6, 2, axis=1)
            .transpose(0, 3, 1, 2)[:, :, None]
            .swapaxes(3, 4),
        ),
        2,
    ),
    # Gathers
    "y[n, t, o] = E[k[n, t], o]": lambda d: d["E"][d["k"]],
    "y[n, t] = sum[o] E[k[n, t], o] * w[o]": lambda d: d["E"][d["k"]] @ d["w"],
    "y[n, t] = m[n, k[n, t], 1]": lambda d: np.take_along_axis(d["m"][:, :, 1], d["k"], 1),
    "y[n, t, j] = m[n, k[n, t], j]": lambda d: np.take_along_axis(d["m"], d["k"][:, :, None], 1),
}
# Subscripts and operands of `einsum`, which mean the same to NumPy.
EINSUM = (
    ("ij,jk->ik", "A", "B"), ("ij,jk", "A", "B"), ("ji,jk->ik", "A", "C"), ("ij,ij->", "A", "C"),
    ("ij,ij->ij", "A", "C"), ("i,j->ij", "v", "w"),
    ("i,j", "w", "v"), ("i,i", "v", "u"), ("i,j->", "v", "w"), ("ij->ji", "A"), ("ba", "A"), ("ij->", "A"),
    ("ij->j", "A"), ("ii", "S"), ("ii->i", "S"),
    ("iij->ji", "T"), ("iii->i", "T"), ("iji->j", "T"), ("iji", "T"), ("bij,jk->bik", "m", "B"),
    (" b i j , b i j -> b j ", "m", "m"), ("bi,bij,j->b", "x", "p", "w"),
    ("bi,i", "x", "v"), ("...ij,jk->...ik", "m", "B"), ("...i,i->...", "p", "w"), ("...i,", "m", "3"),
    ("i...->...", "A"), ("Zz...->...zZ", "s"),
    ("...ij,...ij->...", "m", "A"), ("b...,b...->...", "x", "x"), ("...,...", "v", "x"), ("ij...,...", "T", "S"),
    ("ij,jk,lk->il", "A", "B", "E"),
    ("ij,jk,lk,lm", "A", "B", "E", "C"), ("ijk,ij,kl", "T", "S", "B"), ("bi,ci->bc", "x", "x"), (",ij->ij", "2", "A"),
    ("bcij,ocuv->bouj", "s", "K"),
    ("bip,bjp,p->bij", "p", "p", "w"), ("...,...,...->...", "w", "p", "w"), ("", "v[1]"),
)  # fmt: skip
LINES |= {
    f"y = einsum('{text}', {', '.join(names)})": lambda d, text=text, names=names: E(
        text, *(eval(name, dict(d)) for name in names)
    )
    for text, *names in EINSUM
}


def program(line: str) -> str:
    """A model around lines that make y."""
    unquoted = re.sub("'.*'", "", line)
    used = {name for name in (*DATA, *PARAMETERS) if re.search(rf"\b{name}\[|[(,] ?{name}[,)]", unquoted)}
    head = "".join(f"    input {name}: {shape}\n" for name, shape in DATA.items() if name in used or name == "x")
    head += "".join(
        f"    param {name}: {list(shape)} ~ normal(0, 1)\n" for name, shape in PARAMETERS.items() if name in used
    )
    shift = "    param all = 1.1\n" + "".join(
        f"    {name} = {name} * all\n" for name in DATA if name in used and name != "k"
    )
    return (
        f"model M:\n{head}{shift}"
        + "".join(f"    {one}\n" for one in line.split("\n"))
        + "    loss mean(sin(y) + 0.1 * y ** 2)\n"
    )


def inputs_of(graph: Graph, rows: int) -> Arrays:
    rng = np.random.default_rng(rows)
    known = {}
    for port in graph.inputs:
        shape = port.value.type.at(rows)
        known[port.key] = (
            rng.normal(size=shape) if port.value.type.dtype.is_float else rng.integers(0, 5, shape).astype(np.int32)
        )
    return known


def expected(line: str, known: Arrays) -> np.ndarray:
    """y by NumPy."""
    scaled = {name: value * known["all"] if name in DATA and name != "k" else value for name, value in known.items()}
    return np.asarray(LINES[line](scaled))


@pytest.mark.parametrize("line", sweep(LINES, every=2))
def test_lines(line: str) -> None:
    model = load(program(line), "model.tl", dtype=DType.F64)
    forward, gradients = model.forward[True], entries.gradients(model)
    known = inputs_of(forward, 3)
    y = next(value for node in forward.nodes for value in node.results if value.name == "y")
    shown = Graph("shown", forward.inputs, forward.nodes, (Port("y", y, "output"),))
    wanted = expected(line, known)
    for graph in (shown, simplified(shown)):
        made = run(graph, {port.key: known[port.key] for port in forward.inputs}, rows=3)["y"]
        assert made.shape == wanted.shape
        np.testing.assert_allclose(made, wanted, rtol=1e-10, atol=1e-12)

    found = run(simplified(gradients), {port.key: known[port.key] for port in gradients.inputs}, rows=3)
    keys = {port.label: port.key for port in gradients.outputs if port.role == "gradient"}
    rng = np.random.default_rng(0)
    direction = {label: rng.normal(size=known[label].shape) for label in keys}

    def loss(step: float) -> float:
        at = expected(line, known | {label: known[label] + step * move for label, move in direction.items()})
        return float(np.mean(np.sin(at) + 0.1 * at**2))

    slope = sum(float(np.sum(found[key] * direction[label])) for label, key in keys.items())
    assert slope == pytest.approx((loss(1e-6) - loss(-1e-6)) / 2e-6, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("line", sweep(list(LINES)[::8], every=2))
def test_machine_code(line: str) -> None:
    graph = entries.gradients(load(program(line), "model.tl", dtype=DType.F64))
    made = tapeless.load(program(line)).compile(dtype="float64", batch=8, seed=1)
    known = inputs_of(load(program(line), "model.tl", dtype=DType.F64).forward[True], 7)
    for port in graph.inputs:
        if port.role == "param":
            made.parameters[port.label][...] = known[port.key]
    found = made.gradients({name: value for name, value in known.items() if name in DATA})
    wanted = run(graph, {port.key: known[port.key] for port in graph.inputs}, rows=7)
    for port in graph.outputs:
        if port.role == "gradient":
            np.testing.assert_allclose(found[port.label], wanted[port.key], rtol=1e-9, atol=1e-11)


def test_there_are_enough() -> None:
    assert len(LINES) - len(EINSUM) >= 60 and len(EINSUM) >= 40
