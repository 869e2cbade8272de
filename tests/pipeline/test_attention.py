"""Attention: machine code against NumPy written out head by head, gradients against central differences, over
sampled configurations.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest

import tapeless

LENGTHS = (1, 3, 7, 17)


@dataclass(frozen=True)
class Case:
    """One call of `attention`: heads of queries and of keys, sizes, and what is masked."""

    heads: int = 2
    groups: int = 2
    queries: int = 7
    keys: int = 7
    size: int = 4
    values: int = 4
    causal: bool = False
    mask: str = ""  # the axes of a mask: b, h, n, m, those left out being 1
    lengths: bool = False
    bias: str = ""
    scale: float | None = None

    @property
    def text(self) -> str:
        shapes = {"h": self.heads, "n": self.queries, "m": self.keys}
        axes = lambda given: ", ".join(["batch", *(str(shapes[a] if a in given else 1) for a in "hnm")])  # noqa: E731
        lines = [
            f"input q: [batch, {self.heads}, {self.queries}, {self.size}]",
            f"input k: [batch, {self.groups}, {self.keys}, {self.size}]",
            f"input v: [batch, {self.groups}, {self.keys}, {self.values}]",
            f"input w: [batch, {self.heads}, {self.queries}, {self.values}]",
            f"param dq: [{self.heads}, {self.queries}, {self.size}] = 0",
            f"param dk: [{self.groups}, {self.keys}, {self.size}] = 0",
            f"param dv: [{self.groups}, {self.keys}, {self.values}] = 0",
        ]
        extra = ", causal = true" if self.causal else ""
        if self.mask:
            lines.append(f"input mask: bool[{axes(self.mask)}]")
            extra += ", mask = mask"
        if self.lengths:
            lines.append("input lengths: int[batch]")
            extra += ", lengths = lengths"
        if self.bias:
            lines.append(f"input bias: [{axes(self.bias)}]")
            extra += ", bias = bias"
        if self.scale is not None:
            extra += f", scale = {self.scale}"
        lines += [f"output y = attention(q + dq, k + dk, v + dv{extra})", "loss sum(w * y) / batch"]
        return "model M:\n" + "".join(f"    {line}\n" for line in lines)

    def data(self, rows: int, seed: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        shapes = {"h": self.heads, "n": self.queries, "m": self.keys}
        axes = lambda given: (rows, *(shapes[a] if a in given else 1 for a in "hnm"))  # noqa: E731
        made: dict[str, np.ndarray] = {
            "q": rng.normal(size=(rows, self.heads, self.queries, self.size)),
            "k": rng.normal(size=(rows, self.groups, self.keys, self.size)),
            "v": rng.normal(size=(rows, self.groups, self.keys, self.values)),
            "w": rng.normal(size=(rows, self.heads, self.queries, self.values)),
        }
        if self.mask:
            made["mask"] = rng.random(axes(self.mask)) < 0.6
        if self.lengths:
            made["lengths"] = rng.integers(0, self.keys + 1, rows).astype(np.int32)
        if self.bias:
            made["bias"] = rng.normal(size=axes(self.bias))
        return made

    def expected(self, data: dict[str, np.ndarray]) -> np.ndarray:
        """Row by row, head by head, query by query, over the keys that are seen and no others."""
        q, k, v = data["q"], data["k"], data["v"]
        scale = 1 / np.sqrt(self.size) if self.scale is None else self.scale
        full = (len(q), self.heads, self.queries, self.keys)
        mask = np.broadcast_to(data.get("mask", np.True_), full)
        bias = np.broadcast_to(data.get("bias", np.float64(0)), full)
        made = np.zeros((*full[:3], self.values))
        for b, h, n in itertools.product(*map(range, full[:3])):
            g = h // (self.heads // self.groups)
            seen = [
                m for m in range(self.keys)
                if mask[b, h, n, m] and (m <= n or not self.causal) and (not self.lengths or m < data["lengths"][b])
            ]  # fmt: skip
            if seen:
                scores = np.array([scale * (q[b, h, n] @ k[b, g, m]) + bias[b, h, n, m] for m in seen])
                weights = np.exp(scores - scores.max())
                made[b, h, n] = weights @ v[b, g, seen] / weights.sum()
        return made


def sampled(count: int) -> list[Case]:
    rng = np.random.default_rng(5)
    pick = lambda *options: options[rng.integers(len(options))]  # noqa: E731
    cases = []
    for _ in range(count):
        groups = int(pick(1, 2, 3))
        cases.append(Case(
            heads=groups * int(pick(1, 1, 2, 3)), groups=groups, queries=int(pick(*LENGTHS)),
            keys=int(pick(*LENGTHS)), size=int(pick(1, 4, 5, 16)),
            values=int(pick(1, 4, 17)), causal=bool(pick(False, True)), mask=str(pick("", "", "m", "nm", "hnm")),
            lengths=bool(pick(False, True)),
            bias=str(pick("", "", "", "nm", "hnm")), scale=pick(None, None, 0.7),
        ))  # fmt: skip
    return cases


QUICK = [
    Case(),
    Case(causal=True, queries=17, keys=17),
    Case(heads=4, groups=1, causal=True, lengths=True, keys=3),
    Case(heads=6, groups=3, mask="hnm", queries=3, keys=17, values=5),
    Case(mask="m", lengths=True, bias="nm", causal=True, size=5, scale=0.7),
    Case(heads=1, groups=1, queries=1, keys=1, lengths=True),
    # so many keys are gone over in blocks
    Case(heads=4, groups=2, queries=9, keys=257, values=3, lengths=True, scale=0.7),
    Case(heads=1, groups=1, queries=260, keys=260, size=2, values=2, causal=True),
]


def check(case: Case, seed: int) -> None:
    program = tapeless.load(case.text).compile(dtype="float64", batch=4, seed=1)
    data = case.data(3, seed)
    np.testing.assert_allclose(program.predict(data), case.expected(data), rtol=1e-11, atol=1e-12)
    start = program.vector()
    value, gradient = program.value_and_grad(start, data)
    assert value == pytest.approx(float((data["w"] * case.expected(data)).sum() / 3), rel=1e-10, abs=1e-12)
    direction, step = np.random.default_rng(seed).normal(size=start.size), 1e-6
    up, down = (program.value_and_grad(start + sign * step * direction, data)[0] for sign in (1, -1))
    assert np.isfinite(gradient).all()
    assert gradient @ direction == pytest.approx((up - down) / (2 * step), rel=2e-6, abs=2e-8)


@pytest.mark.parametrize("case", QUICK, ids=str)
def test_attention(case: Case) -> None:
    check(case, 1)


@pytest.mark.slow
@pytest.mark.parametrize("case", sampled(40), ids=str)
def test_attention_sampled(case: Case) -> None:
    check(case, 2)


@pytest.mark.slow
def test_second_derivative_over_many_keys() -> None:
    """A loss that holds the gradient of streamed attention."""
    text = """
model M:
    input x: [batch, 1, 258, 2]
    param s: [258, 2] = 0.3
    z = x * s
    y = attention(z, z, x + s, causal = true)
    loss mean(grad(sum(y ** 2), z) ** 2)
"""
    program = tapeless.load(text).compile(dtype="float64", batch=2)
    x = np.random.default_rng(0).normal(size=(2, 1, 258, 2))
    start = program.vector()
    _, gradient = program.value_and_grad(start, {"x": x})
    direction, step = np.random.default_rng(1).normal(size=start.size), 1e-6
    up, down = (program.value_and_grad(start + sign * step * direction, {"x": x})[0] for sign in (1, -1))
    assert gradient @ direction == pytest.approx((up - down) / (2 * step), rel=2e-6)
