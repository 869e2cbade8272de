"""Random draws, all made from one primitive: uniform numbers that depend on seed, step, place in the program and
element.
"""

from __future__ import annotations

import math
from typing import Any

from tapeless.compiler.elaborate.functions.reductions import place
from tapeless.compiler.elaborate.functions.registry import CallSite, builtin
from tapeless.compiler.elaborate.functions.shaping import shape_of
from tapeless.compiler.elaborate.values import Computed
from tapeless.ir.types import Dim


def _shape(call: CallSite, size: Any) -> tuple[Dim, ...]:
    return () if size is None or size == () else shape_of(call, "size", size)


def _uniform(call: CallSite, size: tuple[Dim, ...], draw: int = 0) -> Computed:
    """Uniform numbers in [0, 1); `draw` tells several draws of one call apart."""
    *key, site = call.around.random_key(call, draw)
    return Computed(call.emit.emit("random_uniform", *key, site=site, shape=size, dtype=call.emit.real))


@builtin("random.uniform")
def uniform(call: CallSite, low: Any = 0, high: Any = 1, size: Any = None) -> Any:
    """Uniform numbers in [low, high)."""
    drawn: Any = _uniform(call, _shape(call, size))
    low, high = call.number("low", low), call.number("high", high)
    emit = call.emit
    if (low, high) == (0, 1):
        return drawn
    drawn = emit.binary("*", drawn, emit.binary("-", high, low))
    return drawn if low == 0 else emit.binary("+", drawn, low)


@builtin("random.normal")
def normal(call: CallSite, loc: Any = 0, scale: Any = 1, size: Any = None) -> Any:
    """Normal numbers, by Box and Muller (1958): sqrt(-2 log(1 - u)) cos(2 pi v)."""
    emit = call.emit
    loc, scale = call.number("loc", loc), call.number("scale", scale)
    shape = _shape(call, size)
    radius = _uniform(call, shape, 0)
    angle = _uniform(call, shape, 1)
    # 1 - u is in (0, 1], so its logarithm is finite.
    squared = emit.binary("*", emit.pointwise("log", emit.binary("-", 1, radius)), -2.0)
    drawn: Any = emit.pointwise(
        "mul", emit.pointwise("sqrt", squared), emit.pointwise("cos", emit.binary("*", angle, 2 * math.pi))
    )
    drawn = drawn if scale == 1 else emit.binary("*", drawn, scale)
    return drawn if loc == 0 else emit.binary("+", drawn, loc)


@builtin("random.bernoulli")
def bernoulli(call: CallSite, p: Any = 0.5, size: Any = None) -> Any:
    """Booleans that are true with probability `p`."""
    return call.emit.binary("<", _uniform(call, _shape(call, size)), call.number("p", p))


@builtin("random.categorical")
def categorical(call: CallSite, logits: Any) -> Any:
    """Places along the last axis, each with the probability that softmax gives it: of the largest of the scores with
    noise added (Gumbel 1954).
    """
    emit = call.emit
    scores = emit.as_real(call.tensor("logits", logits))
    waits = emit.pointwise("neg", emit.pointwise("log", emit.binary("-", 1, _uniform(call, scores.shape))))
    # A draw of 0 would wait no time at all, and win whatever its score.
    waits = emit.pointwise("maximum", waits, 2.0**-25)
    return place(call, emit.pointwise("sub", scores, emit.pointwise("log", waits)), -1)
