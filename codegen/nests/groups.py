"""Before a nest is written: which outputs share loops, what the work costs, and how many parts it is cut into.

The count of parts is fixed at compile time from the cost alone, never from the count of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tapeless.abi.dtypes import TYPES
from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import PART, UNTIL, Buffer, Operand
from tapeless.codegen.nests.sizes import Axis
from tapeless.codegen.nests.terms import Count, Domain, Leaf, Number, Store, Term, Uniform, Walk, closure
from tapeless.ir.graph import Node
from tapeless.ir.machine import Machine
from tapeless.ir.target import Target

__all__ = [
    "Group",
    "buffers_of",
    "even_parts",
    "groups",
    "instruction_count",
    "microseconds",
    "part_range",
    "parts_for",
]

THREADS = (2, 3, 4, 8, 16)
"""Counts of threads that shares are to be even for; few, as on most machines, count as much as many."""


def buffers_of(node: Node) -> tuple[Buffer, ...]:
    """A buffer for each operand and result, named by place so that equal kernels are equal text."""
    region = node.regions[0]
    operands = tuple(
        Buffer(f"a{k}", port.value.type.dtype.record.name, "operand") for k, port in enumerate(region.inputs)
    )
    results = tuple(
        Buffer(f"r{k}", port.value.type.dtype.record.name, "result") for k, port in enumerate(region.outputs)
    )
    return operands + results


def parts_for(microseconds: float, machine: Machine, grains: int) -> int:
    """Into how many parts work is cut that takes so long, and that can be cut into so many grains."""
    return even_parts(machine.parts(microseconds), grains)[0]


def even_parts(most: int, grains: int) -> tuple[int, float]:
    """The count of parts, at most so many, by which threads have the most even shares of so many grains: of equals the
    most. And how even: the longest share, as a part of the whole, on average over counts of threads.
    """
    counts = range(1, max(1, min(most, grains)) + 1)
    found = [(sum(_longest(count, grains, threads) for threads in THREADS) / len(THREADS), -count) for count in counts]
    share, count = min(found)
    return -count, share


def _longest(parts: int, grains: int, threads: int) -> float:
    """What the thread does that has most, of parts that are as long as whole grains allow."""
    ends = [part * max(1, grains) // parts for part in range(parts + 1)]
    cuts = [(2 * parts * thread + threads) // (2 * threads) for thread in range(threads + 1)]
    return max(ends[high] - ends[low] for low, high in pairwise(cuts)) / max(1, grains)


def part_range(b: Builder, extent: Operand, parts: int, grain: int) -> tuple[Operand, Operand]:
    """The share of 0..extent that the parts do: whole grains, but for the last, and of any two as many or one more."""
    if parts == 1:
        return index_constant(0), extent
    grains = b.arithmetic("div", b.arithmetic("add", extent, index_constant(grain - 1)), index_constant(grain))

    def end(part: Operand) -> Operand:
        passed = b.arithmetic("div", b.arithmetic("mul", part, grains), index_constant(parts))
        return b.arithmetic("min", b.arithmetic("mul", passed, index_constant(grain)), extent)

    return end(PART), end(UNTIL)


@dataclass(frozen=True)
class Group:
    """Outputs that share the loops over the parallel axes; the terms are theirs, operands first."""

    parallel: tuple[Axis, ...]
    stores: tuple[Store, ...]
    terms: tuple[Term, ...]


def groups(domain: Domain) -> list[Group]:
    """Outputs by their parallel axes: those that their terms depend on and nothing reduces."""
    found: dict[frozenset[Axis], list[Store]] = {}
    plain: list[Store] = []
    for store in domain.stores:
        reduced = frozenset(axis for term in closure((store.term,)) for axis in term.reduced)
        if reduced:
            found.setdefault(frozenset(store.strides) - reduced, []).append(store)
        else:
            plain.append(store)
    for store in plain:
        axes = frozenset(store.strides)
        shared = [
            parallel
            for parallel, others in found.items()
            if parallel == axes
            or any(
                axes - parallel == term.reduced and parallel < axes
                for other in others
                for term in closure((other.term,))
            )
        ]
        found.setdefault(shared[0] if shared else axes, []).append(store)
    return [_group(parallel, stores) for parallel, stores in found.items()]


def _group(parallel: frozenset[Axis], stores: Sequence[Store]) -> Group:
    axes = tuple(axis for axis in stores[0].strides if axis in parallel)
    return Group(axes, tuple(stores), tuple(closure(store.term for store in stores)))


def instruction_count(terms: Sequence[Term]) -> int:
    """What a vector of each takes; numbers and what comes from elsewhere take nothing."""
    return sum(term.instructions for term in terms if not isinstance(term, Number | Count | Leaf))


def microseconds(group: Group, domain: Domain, target: Target, capacity: int) -> float:
    total, moved = 0.0, 0
    for term in group.terms:
        elements = 1
        for axis in term.axes | term.reduced:
            elements *= domain.extents[axis].at(capacity)
        if isinstance(term, Walk):
            moved += elements * TYPES[term.kind].lane_bytes
        cost = term.instructions
        if isinstance(term, Uniform) and term.takes_one_word:
            cost //= 4  # four vectors share a block's words
        total += cost * elements / target.lanes(TYPES[term.kind].lane_bytes)
    for store in group.stores:
        elements = 1
        for axis in store.strides:
            elements *= domain.extents[axis].at(capacity)
        moved += elements * TYPES[store.term.kind].lane_bytes
    return max(total / target.machine.instructions, moved / target.machine.moved(moved))
