"""Random numbers from a counter: Philox4x32-10 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, 2011).

A draw depends on the seed (the key), its place in the program (`site`), the training step, the step of the loops around
it and the element, and on nothing else, so any thread can make any element and a mask can be made again instead of
stored. The element's place in the counter (see `uniform`) lets sixteen lanes share one evaluation's four words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tapeless.ir.ops.registry import Array, NoDerivative, Operation, Run, Sample, declare, expect
from tapeless.ir.ranges import Range, between
from tapeless.ir.types import DType, Rows, Tensor

if TYPE_CHECKING:
    from tapeless.ir.graph import Graph, Node

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
PERMUTATION_SITE = 0xFFFFFFFF


def philox(counter: Sequence[Array | int], key: Sequence[int]) -> tuple[Array, Array, Array, Array]:
    """Ten rounds of Philox4x32 on arrays of counters; returns four arrays of u32 words."""
    c0, c1, c2, c3 = np.broadcast_arrays(*(np.asarray(word, np.uint64) for word in counter))
    k0, k1 = int(key[0]), int(key[1])
    for _ in range(10):
        p0, p1 = c0 * np.uint64(_MULTIPLIERS[0]), c2 * np.uint64(_MULTIPLIERS[1])
        c0, c1, c2, c3 = (
            (p1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0),
            p1 & _LOW,
            (p0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1),
            p0 & _LOW,
        )
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    first, second, third, fourth = (word.astype(np.uint32) for word in (c0, c1, c2, c3))
    return first, second, third, fourth


def uniform(dtype: DType, count: int, site: int, seed: Sequence[int], step: int, turn: int = 0) -> Array:
    """`count` uniform numbers in [0, 1): 24 bits for f32, 53 for f64. `turn` is the number of the step in the loops
    around.

    f32: element e takes word (e // 16) % 4 of the block numbered (e // 64) * 16 + e % 16.
    f64: element e takes words 0 and 1 of block e.
    """
    element = np.arange(count, dtype=np.uint64)
    step, turn = step & 0xFFFFFFFF, turn & 0xFFFFFFFF
    if dtype is DType.F32:
        words = np.stack(philox((element // 64 * 16 + element % 16, site, step, turn), seed))
        chosen = words[(element // 16) % 4, np.arange(count)]
        return (chosen >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
    high, low, _, _ = philox((element, site, step, turn), seed)
    return ((high >> np.uint32(5)).astype(np.float64) * 2.0**26 + (low >> np.uint32(6)).astype(np.float64)) * 2.0**-53


def permutation(count: int, seed: Sequence[int], epoch: int) -> Array:
    """A permutation of 0..count-1 by Fisher and Yates, from the last place down; bounded draws by multiplication."""
    order = np.arange(count, dtype=np.int32)
    places = np.arange(count, dtype=np.uint64)
    words = philox((places, PERMUTATION_SITE, epoch & 0xFFFFFFFF, 0), seed)[0].astype(np.uint64)
    others = (words * (places + np.uint64(1))) >> np.uint64(32)
    for place in range(count - 1, 0, -1):
        other = int(others[place])
        order[place], order[other] = order[other], order[place]
    return order


_SEED, _COUNTER = Tensor(DType.U32, (2,)), Tensor(DType.I32)
_NONE = NoDerivative("a random draw has no derivative")


def _expect_key(name: str, operands: Sequence[Tensor]) -> None:
    expect(
        tuple(operands) == (_SEED, _COUNTER),
        f"`{name}` needs a seed {_SEED} and a counter {_COUNTER}, not {', '.join(map(str, operands))}",
    )


def _uniform_rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
    """Seed and training step; inside a loop a third operand, the loop's step."""
    _expect_key("random_uniform", operands[:2])
    expect(tuple(operands[2:]) in ((), (_COUNTER,)), f"`random_uniform` counts a loop's steps by {_COUNTER}")
    expect(attrs["dtype"].is_float, "`random_uniform` makes real numbers")
    return (Tensor(attrs["dtype"], tuple(attrs["shape"])),)


def _uniform_reference(run: Run, operands: Sequence[Array]) -> Array:
    seed, *counters = operands
    made = uniform(
        run.types[0].dtype,
        run.types[0].count(run.rows),
        run.attrs["site"],
        [int(word) for word in seed],
        *map(int, counters),
    )
    return made.reshape(run.shape).astype(run.dtype)


def _range_of_uniform(node: Node, operands: Sequence[Range]) -> Range:
    return Range(0.0, 1.0 - node.attrs["dtype"].record.epsilon / 2)


declare(
    Operation(
        "random_uniform",
        "random",
        _uniform_rule,
        _NONE,
        _uniform_reference,
        (
            Sample((_SEED, _COUNTER), {"site": 3, "shape": (5, 40), "dtype": DType.F32}),
            Sample((_SEED, _COUNTER), {"site": 3, "shape": (Rows(), 7), "dtype": DType.F64}),
            Sample((_SEED, _COUNTER, _COUNTER), {"site": 3, "shape": (Rows(), 70), "dtype": DType.F32}),
        ),
        flops=40,
        attributes=("site", "shape", "dtype"),
        range=_range_of_uniform,
        instructions=150,
    )
)


def _permutation_rule(
    operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]
) -> Sequence[Tensor]:
    _expect_key("permutation", operands)
    expect(len(attrs["shape"]) == 1, "`permutation` makes one axis")
    return (Tensor(DType.I32, tuple(attrs["shape"])),)


def _permutation_reference(run: Run, operands: Sequence[Array]) -> Array:
    seed, epoch = operands
    return permutation(run.shape[0], [int(word) for word in seed], int(epoch))


declare(
    Operation(
        "permutation",
        "random",
        _permutation_rule,
        _NONE,
        _permutation_reference,
        (Sample((_SEED, _COUNTER), {"shape": (Rows(),)}),),
        flops=60,
        attributes=("shape",),
        kernel="permutation",
        range=between(0.0, math.inf),
    )
)
