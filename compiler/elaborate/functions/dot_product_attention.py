"""Attention that goes over the keys in blocks and stores no scores."""

from __future__ import annotations

import math
from typing import Any

from tapeless.compiler.elaborate.emission import Emitter
from tapeless.compiler.elaborate.folding import Mismatch
from tapeless.compiler.elaborate.functions.registry import CallSite, builtin
from tapeless.compiler.elaborate.values import Computed, describe
from tapeless.ir.ops.product import last_two_swapped
from tapeless.ir.types import Dim, DType


@builtin("streamed_attention")
def streamed_attention(
    call: CallSite, q: Any, k: Any, v: Any, causal: Any = False, lengths: Any = None, scale: Any = None
) -> Computed:
    """`attention` of queries [.., h, n, d], keys [.., g, m, d] and values [.., g, m, e]; its weights are computed
    again for the gradient.
    """
    emit = call.emit
    queries, keys, values = (emit.as_real(call.tensor(name, value)) for name, value in (("q", q), ("k", k), ("v", v)))
    if min(queries.rank, keys.rank, values.rank) < 3:
        raise call.fault(
            "E0202",
            "`streamed_attention` needs queries, keys and values with at least 3 axes: heads, time, size",
            "q",
            call.label("q", queries),
        )
    factor = 1.0
    if isinstance(scale, Computed):
        queries = emit.as_real(emit.binary("*", queries, scale))
    else:
        factor = float(
            1 / math.sqrt(call.whole("q", queries.shape[-1])) if scale is None else call.number("scale", scale)
        )
    lead = emit.meet([tensor.shape[:-3] for tensor in (queries, keys, values)])
    heads = emit.meet([keys.shape[-3:-2], values.shape[-3:-2]])
    queries, keys, values = (
        emit.broadcast(tensor, (*lead, *own, *tensor.shape[-2:]))
        for tensor, own in ((queries, queries.shape[-3:-2]), (keys, heads), (values, heads))
    )
    operands = [queries.value, emit.emit("transpose", keys.value, perm=last_two_swapped(keys.rank)), values.value]
    if isinstance(lengths, Computed):
        operands.append(_counts(emit, lengths, queries.shape[:1]))
    return Computed(emit.emit("attention", *operands, causal=call.flag("causal", causal), scale=factor))


def _counts(emit: Emitter, lengths: Computed, shape: tuple[Dim, ...]) -> Any:
    if lengths.dtype is not DType.I32:
        raise Mismatch("E0401", f"lengths are ints, not {describe(lengths)}", "Declare them as `int[batch]`.")
    return emit.broadcast(lengths, shape).value
