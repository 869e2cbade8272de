"""Ranges: what is said of a result holds whatever the operands are, and says enough that bounded derivatives cost
nothing.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from tapeless.compiler import entries
from tapeless.compiler.model import load
from tapeless.ir.graph import Builder
from tapeless.ir.interpreter import run
from tapeless.ir.ops import OPERATIONS, Sample
from tapeless.ir.range_analysis import Ranges
from tapeless.ir.ranges import FINITE, Range
from tapeless.ir.types import DType, Rows, Tensor

ROWS = 3
# A factor that does not exist makes NaN of all that comes after; it is taken to exist.
SAMPLES = [
    (name, index) for name, op in OPERATIONS.items() if op.family != "factor" for index in range(len(op.samples))
]
# What operands are drawn from, and what is known of them: moderate numbers, also at the kinks; and infinities and NaN.
POOLS: tuple[tuple[Range, tuple[float, ...]], ...] = (
    (FINITE, (-3.0, -1.0, -0.5, -0.0, 0.0, 0.25, 1.0, 2.0, 7.0)),
    (Range(0.0, math.inf), (0.0, 1e-300, 0.5, 1.0, 3.0)),
    (Range(0.5, 2.0), (0.5, 1.0, 1.5, 2.0)),
    (Range(-2.0, -0.25), (-2.0, -1.0, -0.25)),
    (Range(-1.0, 0.0), (-1.0, -0.5, -0.0, 0.0)),
    (Range(-math.inf, 1.0, infinite=True), (-math.inf, -2.0, 0.0, 1.0)),
    (Range(infinite=True, nan=True), (-math.inf, -1.0, 0.0, 1.0, math.inf, math.nan)),
)


def check(name: str, sample: Sample, pools: tuple[tuple[Range, tuple[float, ...]], ...]) -> None:
    rng = np.random.default_rng(0)
    builder = Builder("range", DType.F64)
    inputs, arrays = [], {}
    for k, (type, (range, numbers)) in enumerate(zip(sample.operands, pools, strict=True)):
        inputs.append(builder.input(f"x{k}", type, "data"))
        if type.dtype.is_float:
            builder.ranges.state(inputs[-1], range)
        shape = type.at(ROWS)
        integers = rng.integers(0, 2 if type.dtype is DType.BOOL else 4, shape)
        arrays[f"x{k}"] = rng.choice(numbers, shape) if type.dtype.is_float else integers
    result = builder.emit(name, *inputs, **dict(sample.attrs or {}))
    builder.output("y", result, "output")
    with np.errstate(all="ignore"):
        found = run(builder.graph(), arrays, rows=ROWS)["y"].astype(float)
    known = builder.ranges.of(result)
    case = f"{name} of {[str(one) for one, _ in pools]}: {found}, {known}"
    assert known.nan or not np.isnan(found).any(), case
    assert known.infinite or not np.isinf(found).any(), case
    numbers = found[~np.isnan(found)]
    slack = 1e-12 * np.abs(numbers[np.isfinite(numbers)]).max(initial=1.0)
    assert (numbers >= known.low - slack).all() and (numbers <= known.high + slack).all(), case


@pytest.mark.parametrize(("name", "index"), SAMPLES)
def test_results_lie_in_their_ranges(name: str, index: int) -> None:
    sample = OPERATIONS[name].samples[index]
    count = len(sample.operands)
    for pools in itertools.product(POOLS, repeat=count) if count < 3 else zip(*[POOLS] * count, strict=True):
        check(name, sample, tuple(pools))


def products(body: str) -> set[str]:
    """The products of the derivative of `y` by the parameter w: `mul`, `strong_product`."""
    text = f"model M:\n    input x: [batch, 4]\n    param w: [4] ~ normal(0, 1)\n    {body}\n    loss sum(y ** 2)\n"
    graph = entries.backward(load(text))
    forward = graph.ancestors(port.value for port in graph.outputs if port.role != "gradient")
    return {node.op for node in graph.walk() if node.op == "strong_product" and forward.isdisjoint(node.results)}


BOUNDED = (
    "y = tanh(w * x) + sigmoid(w * x) * x",
    "y = softplus(w * x) + gelu(w * x) + mish(w) + silu(w) + elu(w) + selu(w)",
    "y = erf(w) + arctan(w) + sin(w) * cos(w) + abs(w) + relu(w) ** 3",
    "y = softmax(w * x) + log_softmax(w * x)",
    "y = exp(w - max(w)) + exp(-w ** 2) + exp(minimum(w, 3)) + exp(-softplus(w))",
    "y = w / (1 + x ** 2) + 1 / (1 + w ** 2) + sqrt(w ** 2 + 1e-6) + log(1 + w ** 2) + log1p(w ** 2)",
    "y = LayerNorm(w * x) + RMSNorm(w * x) + BatchNorm(w * x)",
    "y = log(sigmoid(w) + 1e-7) + (w ** 2 + 0.1) ** 0.3 + 2 ** clip(w, -1, 1)",
    "y = w ** 2 / norm(x + 1, axis = 1, keepdims = true) if false else w ** 2 / 3 + w ** 3 + w ** -0",
    "y = max(w * x, axis = 1) + prod(w) + mean(cumsum(w * x, axis = 1), axis = 1) + min(w)",
    "y = (w * x) @ reshape(concat(w, w), [4, 2])",
    "y = where(x > 0, w * x, 0) + random.normal(0, 1, [batch, 4]) * w",
    "y = MultiHeadAttention(reshape(w * x, [batch, 2, 2]), 1)",
    ("y = RNN(reshape(w * x, [batch, 2, 2]), 3) @ zeros([3, 1])\n    z = LSTM(reshape(w * x, [batch, 2, 2]), "
        "3)\n    loss mean(z)"),
)  # fmt: skip
UNBOUNDED = (
    "y = exp(w) - x",
    "y = log(w)",
    "y = 1 / w",
    "y = sqrt(w)",
    "y = w ** x",
    "y = where(x > 0, log(x), 0) * w",
    "y = rsqrt(w ** 2 + 1e-30)",
    "y = 1 / (1 + exp(-w))",
)  # fmt: skip


@pytest.mark.parametrize("body", BOUNDED)
def test_bounded_derivatives_are_plain_products(body: str) -> None:
    assert products(body) == set()


@pytest.mark.parametrize("body", UNBOUNDED)
def test_others_are_strong(body: str) -> None:
    assert products(body) == {"strong_product"}


@pytest.mark.parametrize("dtype", [DType.F32, DType.F64])
def test_a_share_of_a_mean_is_never_zero(dtype: DType) -> None:
    """No count is so large that 1 / n is 0: an infinite error times that is a plain product."""
    builder = Builder("mean", dtype)
    count = builder.emit("count", shape=(Rows(1000000),), dtype=dtype)
    assert builder.ranges.of(builder.emit("reciprocal", count)).low > 0


def test_carries_are_as_wide_as_any_step_makes_them() -> None:
    """h = 1 / (h + x) starts at 1 and can be infinite; g = tanh(g) stays where it is."""
    body = Builder("step", DType.F64)
    h, g, x = (body.input(name, Tensor(DType.F64, (Rows(),)), "operand") for name in ("h", "g", "x"))
    after = body.emit("reciprocal", body.emit("add", h, x))
    for k, value in enumerate((after, body.emit("tanh", g))):
        body.output(f"r{k}", value, "result")
    outer = Builder("outer", DType.F64)
    x = outer.input("x", Tensor(DType.F64, (5, Rows())), "data")
    start = outer.broadcast_to(outer.constant(0.5, DType.F64), (Rows(),), ())
    attrs = {"carries": 2, "sequences": 1, "length": 5, "reverse": False}
    h, g = outer.emit_node("scan", (start, start, x), attrs, (body.graph(),))
    ranges = Ranges(outer.nodes)
    assert ranges.of(h) == Range(infinite=True)
    assert (ranges.of(g).low, ranges.of(g).special) == (-1.0, False)
