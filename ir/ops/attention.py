"""Attention as one operation: what it reads is the size of its operands, the scores are never stored.

attention(q, k, v) is softmax(scale * q k) v for queries q [.., h, n, d], keys k [.., g, d, m] (transposed, as a
product reads them) and values v [.., g, m, e]: [.., h, n, e], each head of keys and values serving h / g heads of
queries. `causal`: query i sees the keys 0 to i. An int for each place of the first axis, if there is a fourth
operand, says how many keys count. A query that sees no key gives zeros. The kernel is a softmax that goes on from
one block of keys to the next (Milakov and Gimelshein 2018, Dao et al. 2022).

attention_gradient(q, k, v, adjoint, common) has the adjoints of q, of k and of v (transposed) one behind the other
for each head of keys, where `common` is the sum of the adjoint times the output over its last axis; it computes the
weights again. What it is itself differentiated by is the same in plain operations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tapeless.ir.ops.product import last_two_swapped
from tapeless.ir.ops.reduction import spread
from tapeless.ir.ops.registry import Array, Gradients, Operation, Run, Sample, declare, expect
from tapeless.ir.ranges import unbounded
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
    """By one more kernel, which gives the adjoints of q, k and v one behind the other for each head of keys."""
    b, (q, k, v) = builder, node.operands[:3]
    common = b.emit("sum", b.emit("mul", adjoint, node.result), axes=(adjoint.type.rank - 1,))
    packed = b.emit("attention_gradient", q, k, v, adjoint, common, *node.operands[3:], **dict(node.attrs))
    sizes = _packed(q.type, k.type, v.type)
    made, start = [], 0
    for value, size in zip((q, k, v), sizes, strict=True):
        lead = packed.type.shape[:-1]
        first, step = (*(0 for _ in lead), start), (1,) * packed.type.rank
        part = b.emit("slice", packed, start=first, size=(*lead, size), step=step)
        shape = value.type.shape if value is not v else (*v.type.shape[:-2], v.type.shape[-1], v.type.shape[-2])
        made.append(b.emit("reshape", part, shape=shape))
        start += size
    d_q, d_k, d_v = made
    d_v = b.emit("transpose", d_v, perm=last_two_swapped(d_v.type.rank))
    return (d_q, d_k, d_v, *(None for _ in node.operands[3:]))


def _packed(q: Tensor, k: Tensor, v: Tensor) -> tuple[int, int, int]:
    """How many numbers the adjoints of q, k and v have for each head of keys."""
    (n, d), (_, m), e = q.shape[-2:], k.shape[-2:], v.shape[-1]
    assert isinstance(n, int) and isinstance(d, int) and isinstance(m, int) and isinstance(e, int)
    return heads_sharing(q, k) * n * d, d * m, e * m


def _plain_gradient(b: Builder, operands: Sequence[Value], attrs: Mapping[str, Any]) -> tuple[Value, Value, Value]:
    """With weights P: dv = P^T dout, and the scores' adjoint is P * (dout v^T - sum(dout * out)), of which the last
    is `common`.
    """
    q, k, v, adjoint, common = operands[:5]
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
    scores = b.emit("mul", scores, b.full(attrs["scale"], scores))
    seen = _seen(b, scores, attrs["causal"], operands[5:])
    last = (scores.type.rank - 1,)
    if seen is not None:
        scores = b.emit("select", seen, scores, b.full(UNSEEN, scores))
    weights = b.emit(
        "exp", b.emit("sub", scores, spread(b, b.emit("logsumexp", scores, axes=last), scores, last)), name="weights"
    )
    if seen is not None:
        weights = b.emit("select", seen, weights, b.full(0.0, weights))
    d_v = product(together(weights), together(adjoint), transpose_a=True)
    d_weights = reshaped(product(together(adjoint), v, transpose_b=True), spread_over)
    d_scores = b.emit("mul", weights, b.emit("sub", d_weights, spread(b, common, d_weights, last)))
    d_scores = together(b.emit("mul", d_scores, b.full(attrs["scale"], d_scores)))
    d_q = reshaped(product(d_scores, k, transpose_b=True), q.type.shape)
    return d_q, product(together(q), d_scores, transpose_a=True), d_v


def _seen(b: Builder, scores: Value, causal: bool, lengths: Sequence[Value]) -> Value | None:
    """Which keys each query sees; None if all of them."""
    shape, rank = scores.type.shape, scores.type.rank
    key = b.emit("iota", axis=rank - 1, shape=shape, dtype=DType.I32)
    found = [b.emit("lt", key, b.broadcast_to(value, shape, (0,))) for value in lengths]
    if causal:
        found.append(b.emit("le", key, b.emit("iota", axis=rank - 2, shape=shape, dtype=DType.I32)))
    return b.emit("logical_and", *found) if len(found) == 2 else found[0] if found else None


def _gradient_rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
    expect(len(operands) in (5, 6), f"`attention_gradient` takes 5 or 6 operands, not {len(operands)}")
    q, k, v, adjoint, common = operands[:5]
    (out,) = _rule((q, k, v, *operands[5:]), attrs, regions)
    expect(
        adjoint == out and common == out.with_shape(out.shape[:-1]),
        f"`attention_gradient` needs an adjoint like {out} and its sum over the last axis, not {adjoint} and {common}",
    )
    return (k.with_shape((*k.shape[:-2], sum(_packed(q, k, v)))),)


def _gradient_derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    """That of the same in plain operations."""
    from tapeless.ir.adjoints import sweep
    from tapeless.ir.graph import Builder

    plain = Builder("plain", node.operands[0].type.dtype)
    inputs = [plain.input(f"x{k}", value.type, "operand") for k, value in enumerate(node.operands)]
    d_q, d_k, d_v = _plain_gradient(plain, inputs, node.attrs)
    d_v = plain.emit("transpose", d_v, perm=last_two_swapped(d_v.type.rank))
    lead, sizes = node.result.type.shape[:-1], _packed(*(value.type for value in node.operands[:3]))
    parts = [
        plain.emit("reshape", part, shape=(*lead, size)) for part, size in zip((d_q, d_k, d_v), sizes, strict=True)
    ]
    packed = plain.emit("concat", *parts, axis=len(lead))
    plain.output("packed", packed, "result")
    graph = plain.graph()
    seen = dict(zip(inputs, node.operands, strict=True))
    builder.copy_nodes(graph.nodes, seen)
    span, prefix = builder.span, builder.prefix
    adjoints = sweep(builder, graph, seen, {packed: adjoint}, inputs[:5])
    builder.span, builder.prefix = span, prefix
    return (*(adjoints[value] for value in inputs[:5]), *(None for _ in inputs[5:]))


def _weights(q: Array, k: Array, causal: bool, scale: float, lengths: Array | None) -> Array:
    """The softmax over the keys seen, zeros for a query that sees none; as many heads of k as of q."""
    scores = scale * (q @ k)
    place = np.arange(k.shape[-1])
    seen = np.ones(scores.shape, bool)
    if causal:
        seen &= place <= np.arange(q.shape[-2])[:, None]
    if lengths is not None:
        seen &= place < lengths.reshape(-1, *[1] * (q.ndim - 1))
    top = np.max(np.where(seen, scores, -np.inf), axis=-1, keepdims=True, initial=-np.inf)
    weights = np.where(seen, np.exp(scores - np.where(np.isfinite(top), top, 0)), 0)
    total = weights.sum(axis=-1, keepdims=True)
    return np.asarray(weights / np.where(total == 0, 1, total))


def _reference(run: Run, operands: Sequence[Array]) -> Array:
    q, (k, v) = operands[0], (np.repeat(x, _shared(*operands[:2]), axis=-3) for x in operands[1:3])
    lengths = operands[3] if len(operands) == 4 else None
    return np.asarray(_weights(q, k, run.attrs["causal"], run.attrs["scale"], lengths) @ v)


def _shared(q: Array, k: Array) -> int:
    return q.shape[-3] // k.shape[-3] if k.shape[-3] else 1


def _gradient_reference(run: Run, operands: Sequence[Array]) -> Array:
    q, k, v, adjoint, common = operands[:5]
    lead, shared = k.shape[:-2], _shared(q, k)
    all_k, all_v = (np.repeat(x, shared, axis=-3) for x in (k, v))
    weights = _weights(q, all_k, run.attrs["causal"], run.attrs["scale"], operands[5] if len(operands) == 6 else None)
    d_scores = run.attrs["scale"] * weights * (adjoint @ all_v.swapaxes(-1, -2) - common[..., None])
    d_q = d_scores @ all_k.swapaxes(-1, -2)
    d_k, d_v = q.swapaxes(-1, -2) @ d_scores, adjoint.swapaxes(-1, -2) @ weights
    summed = [x.reshape(*lead, shared, *x.shape[-2:]).sum(axis=-3) for x in (d_k, d_v)]
    sizes = _packed(*(Tensor(DType.F64, x.shape) for x in (q, k, v)))
    parts = [x.reshape(*lead, size) for x, size in zip((d_q, *summed), sizes, strict=True)]
    return np.concatenate(parts, axis=-1)


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
        range=unbounded,
    )
)

_GRADIENT_SAMPLES = (
    _sample(False, 0.5, (Rows(), 3, 4), (Rows(), 4, 7), (Rows(), 7, 5), (Rows(), 3, 5), (Rows(), 3)),
    _sample(True, 0.7, (2, 4, 17, 3), (2, 2, 3, 17), (2, 2, 17, 20), (2, 4, 17, 20), (2, 4, 17)),
    _sample(
        True,
        1.0,
        (Rows(), 2, 9, 3),
        (Rows(), 2, 3, 3),
        (Rows(), 2, 3, 4),
        (Rows(), 2, 9, 4),
        (Rows(), 2, 9),
        lengths=True,
    ),
)
declare(
    Operation(
        "attention_gradient",
        "attention",
        _gradient_rule,
        _gradient_derivative,
        _gradient_reference,
        _GRADIENT_SAMPLES,
        attributes=("causal", "scale"),
        kernel="attention_gradient",
        range=unbounded,
    )
)
