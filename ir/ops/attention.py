"""Attention as one operation: what it reads is the size of its operands, the scores are never stored.

attention(q, k, v) is softmax(scale * q k) v for queries q [.., h, n, d], keys k [.., g, d, m] (transposed, as a product reads
them) and values v [.., g, m, e]: [.., h, n, e], each head of keys and values serving h / g heads of queries. `causal`: query i
sees the keys 0 to i. An int for each place of the first axis, if there is a fourth operand, says how many keys count. A query
that sees no key gives zeros. The kernel is a softmax that goes on from one block of keys to the next (Milakov and
Gimelshein 2018, Dao et al. 2022); the derivative computes the weights again, in other primitives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tapeless.ir.ops.reduction import spread
from tapeless.ir.ops.registry import Array, Gradients, Operation, Run, Sample, declare, expect
from tapeless.ir.types import DType, Rows, Tensor

if TYPE_CHECKING:
    from tapeless.ir.graph import Builder, Graph, Node, Value

UNSEEN = -1e30  # a score whose weight is zero beside any other


def heads_sharing(q: Tensor, k: Tensor) -> int:
    """How many heads of queries each head of keys serves; 0 where they do not fit."""
    if q.shape[:-2] == k.shape[:-2]:
        return 1
    heads, shared = q.shape[-3], k.shape[-3]
    if q.shape[:-3] != k.shape[:-3] or not isinstance(heads, int) or not isinstance(shared, int):
        return 0
    return heads // shared if shared and heads % shared == 0 else 0


def _rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
    expect(len(operands) in (3, 4), f"`attention` takes 3 or 4 operands, not {len(operands)}")
    q, k, v = operands[:3]
    expect(
        q.rank == k.rank == v.rank >= 3 and q.dtype is k.dtype is v.dtype and q.dtype.is_float,
        f"`attention` needs queries, keys and values alike, not {q}, {k} and {v}",
    )
    expect(
        k.shape[:-2] == v.shape[:-2] and q.shape[-1] == k.shape[-2] and k.shape[-1] == v.shape[-2],
        f"`attention` needs sizes that agree, not {q}, {k} and {v}",
    )
    sizes = (*q.shape[-2:], *k.shape[-2:], v.shape[-1])
    expect(all(isinstance(size, int) for size in sizes), f"`attention` does not go over rows: {q}, {k}, {v}")
    expect(heads_sharing(q, k) > 0, f"`attention` needs a multiple of the heads of {k}, not {q}")
    if len(operands) == 4:
        lengths = operands[3]
        expect(
            lengths.dtype is DType.I32 and lengths.shape == q.shape[:1],
            f"`attention` needs one length for each place of the first axis of {q}, not {lengths}",
        )
    return (q.with_shape((*q.shape[:-1], v.shape[-1])),)


def _derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    """With weights P and out = P v: dv = P^T dout, and the scores' adjoint is P * (dout v^T - sum(dout * out))."""
    b, (q, k, v), out = builder, node.operands[:3], node.result
    queries = q.type.shape[-2]
    assert isinstance(queries, int)
    grouped = (*k.type.shape[:-2], heads_sharing(q.type, k.type) * queries)
    spread_over = (*q.type.shape[:-1], k.type.shape[-1])

    def reshaped(value: Value, shape: tuple[Any, ...]) -> Value:
        return value if value.type.shape == shape else b.emit("reshape", value, shape=shape)

    def together(value: Value) -> Value:
        """[.., h, n, x] as [.., g, h / g * n, x]."""
        return reshaped(value, (*grouped, value.type.shape[-1]))

    def product(left: Value, right: Value, transpose_a: bool = False, transpose_b: bool = False) -> Value:
        return b.emit("matmul", left, right, transpose_a=transpose_a, transpose_b=transpose_b)

    scores = reshaped(product(together(q), k), spread_over)
    scores = b.emit("mul", scores, b.full(node.attrs["scale"], scores))
    seen = _seen(b, node, scores)
    last = (scores.type.rank - 1,)
    if seen is not None:
        scores = b.emit("select", seen, scores, b.full(UNSEEN, scores))
    weights = b.emit("exp", b.emit("sub", scores, spread(b, b.emit("logsumexp", scores, axes=last), scores, last)), name="weights")
    if seen is not None and len(node.operands) == 4:
        weights = b.emit("select", seen, weights, b.full(0.0, weights))
    d_v = product(together(weights), together(adjoint), transpose_a=True)
    d_weights = reshaped(product(together(adjoint), v, transpose_b=True), spread_over)
    common = b.emit("sum", b.emit("mul", adjoint, out), axes=last)
    d_scores = b.emit("mul", weights, b.emit("sub", d_weights, spread(b, common, d_weights, last)))
    d_scores = together(b.emit("mul", d_scores, b.full(node.attrs["scale"], d_scores)))
    d_q = reshaped(product(d_scores, k, transpose_b=True), q.type.shape)
    d_k = product(together(q), d_scores, transpose_a=True)
    return (d_q, d_k, d_v, *(None for _ in node.operands[3:]))


def _seen(b: Builder, node: Node, scores: Value) -> Value | None:
    """Which keys each query sees; None if all of them."""
    shape, rank = scores.type.shape, scores.type.rank
    key = b.emit("iota", axis=rank - 1, shape=shape, dtype=DType.I32)
    found: list[Value] = []
    if node.attrs["causal"]:
        found.append(b.emit("le", key, b.emit("iota", axis=rank - 2, shape=shape, dtype=DType.I32)))
    if len(node.operands) == 4:
        found.append(b.emit("lt", key, b.broadcast_to(node.operands[3], shape, (0,))))
    return b.emit("logical_and", *found) if len(found) == 2 else found[0] if found else None


def _reference(run: Run, operands: Sequence[Array]) -> Array:
    q, k, v = operands[:3]
    shared = q.shape[-3] // k.shape[-3] if k.shape[-3] else 1
    k, v = (np.repeat(x, shared, axis=-3) for x in (k, v))
    scores = run.attrs["scale"] * (q @ k)
    place = np.arange(k.shape[-1])
    seen = np.ones(scores.shape, bool)
    if run.attrs["causal"]:
        seen &= place <= np.arange(q.shape[-2])[:, None]
    if len(operands) == 4:
        seen &= place < operands[3].reshape(-1, *[1] * (q.ndim - 1))
    top = np.max(np.where(seen, scores, -np.inf), axis=-1, keepdims=True, initial=-np.inf)
    weights = np.where(seen, np.exp(scores - np.where(np.isfinite(top), top, 0)), 0)
    total = weights.sum(axis=-1, keepdims=True)
    return np.asarray(weights / np.where(total == 0, 1, total) @ v)


def _sample(causal: bool, scale: float, *shapes: tuple[int | Rows, ...], lengths: bool = False) -> Sample:
    operands = [Tensor(DType.F64, shape) for shape in shapes]
    if lengths:
        operands.append(Tensor(DType.I32, shapes[0][:1]))
    return Sample(tuple(operands), {"causal": causal, "scale": scale})


declare(
    Operation(
        "attention",
        "attention",
        _rule,
        _derivative,
        _reference,
        (
            _sample(False, 0.5, (Rows(), 3, 4), (Rows(), 4, 7), (Rows(), 7, 5)),
            _sample(True, 0.7, (2, 4, 17, 3), (2, 2, 3, 17), (2, 2, 17, 20)),
            _sample(True, 1.0, (Rows(), 2, 9, 3), (Rows(), 2, 3, 3), (Rows(), 2, 3, 4), lengths=True),
            _sample(False, 0.3, (Rows(), 3, 5, 2), (Rows(), 1, 2, 19), (Rows(), 1, 19, 3), lengths=True),
        ),
        attributes=("causal", "scale"),
        kernel="attention",
    )
)
