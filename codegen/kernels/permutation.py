"""The order in which an epoch visits its examples: Fisher and Yates' shuffle, from the last place down.

The draw for place i is the first word of Philox at the counter (i, 0xFFFFFFFF, epoch, 0), made bounded by
multiplication (Lemire, Fast random integer generation in an interval, 2019).
"""

from __future__ import annotations

from tapeless.abi.dtypes import INDEX, INTEGER, WORD
from tapeless.codegen.kernels.planned import Planned, SharePlan
from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import Constant, Function, vector
from tapeless.codegen.nests.analysis import LoweringError
from tapeless.codegen.nests.groups import buffers_of
from tapeless.codegen.nests.open_loops import OpenLoops
from tapeless.codegen.nests.philox import philox
from tapeless.codegen.nests.sizes import size_of
from tapeless.ir.graph import Node
from tapeless.ir.target import Target

__all__ = ["lower_permutation"]

SITE = 0xFFFFFFFF


def lower_permutation(node: Node, target: Target, capacity: int) -> Planned:
    region = node.regions[0]
    if [inner.op for inner in region.nodes] != ["permutation"]:
        raise LoweringError(f"kernel {node.attrs['name']}: one permutation and nothing else")
    return Planned(SharePlan(1), lambda _: _write(node, target))


def _write(node: Node, target: Target) -> Function:
    region = node.regions[0]
    (shuffle,) = region.nodes
    buffers = buffers_of(node)
    places = {port.value: place for place, port in enumerate(region.inputs)}
    seed, epoch = (buffers[places[operand]].name for operand in shuffle.operands)
    order = buffers[-1].name
    b = Builder(target)
    u32 = vector(WORD, 1)
    count = OpenLoops(b).size(size_of(shuffle.result.type.shape[0]))
    key = (b.load(seed, WORD, index_constant(0)), b.load(seed, WORD, index_constant(1)))
    turn = b.convert(b.load(epoch, INTEGER, index_constant(0)), WORD)

    fill = b.open_loop(index_constant(0), count, 1)
    with b.inside(fill.block):
        b.store(order, fill.variable, b.convert(fill.variable, INTEGER))
    b.close_loop(fill)

    last = b.arithmetic("sub", count, index_constant(1))
    swap = b.open_loop(index_constant(0), last, 1)
    with b.inside(swap.block):
        place = b.arithmetic("sub", last, swap.variable)
        counter = (b.convert(place, WORD), Constant(SITE, u32), turn, Constant(0, u32))
        word = philox(b, counter, key)[0]
        bound = b.convert(b.arithmetic("add", place, index_constant(1)), WORD)
        other = b.convert(b.compute("mulhi", word, bound, type=u32), INDEX)
        here, there = b.load(order, INTEGER, place), b.load(order, INTEGER, other)
        b.store(order, place, there)
        b.store(order, other, here)
    b.close_loop(swap)
    return Function(node.attrs["name"], buffers, 1, tuple(b.block))
