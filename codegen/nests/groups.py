"""Before a nest is written: which outputs share loops, what the work costs, and how many parts it is cut into.

The count of parts is fixed at compile time from the cost alone, never from the count of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tapeless.abi.dtypes import TYPES
from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import PART, UNTIL, Buffer, Operand
from tapeless.codegen.nests.sizes import Axis
from tapeless.codegen.nests.terms import Count, Domain, Leaf, Number, Store, Term, Uniform, Walk, closure
from tapeless.ir.graph import Node
from tapeless.ir.machine import Machine
from tapeless.ir.target import Target

__all__ = ["Group", "buffers_of", "groups", "instruction_count", "microseconds", "part_range", "parts_for"]


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


def parts_for(microseconds: float, machine: Machine) -> int:
    return machine.parts(microseconds)


def part_range(b: Builder, extent: Operand, parts: int, grain: int) -> tuple[Operand, Operand]:
    """The share of 0..extent that the parts do: whole grains, but for the last."""
    if parts == 1:
        return index_constant(0), extent
    each = b.arithmetic(
        "div", b.arithmetic("add", extent, index_constant(parts * grain - 1)), index_constant(parts * grain)
    )
    each = b.arithmetic("mul", each, index_constant(grain))
    start = b.arithmetic("min", b.arithmetic("mul", PART, each), extent)
    return start, b.arithmetic("min", b.arithmetic("mul", UNTIL, each), extent)


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
    return max(total / target.machine.instructions, moved / target.machine.bytes)
