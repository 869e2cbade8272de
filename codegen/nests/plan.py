"""What is decided of a kernel that is nests: everything that depends on shapes and on the machine, before a loop is
written. The writers (vector_nest.py, element_nest.py) take a plan, and decide nothing that it holds.

The work is cut into parts along a parallel axis, the outermost one if it is long enough, their count from the cost
alone, never from the count of threads; a nest without such an axis is done by part 0 alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from tapeless.abi.dtypes import TYPES
from tapeless.codegen.nests.groups import Group, groups, microseconds, parts_for
from tapeless.codegen.nests.row_cache import kept
from tapeless.codegen.nests.sizes import ONE, Axis, Size, Strides
from tapeless.codegen.nests.terms import Domain, IndexedLoad, Load, MaskedLoad, Reduction, Store, Term, Uniform
from tapeless.codegen.nests.vector_axis import VectorChoice
from tapeless.ir.machine import Machine
from tapeless.ir.target import Target

__all__ = ["ElementPlan", "KernelPlan", "VectorPlan", "plan"]

BLOCK = 64
"""Turns of a loop whose sums are added up by themselves: an add for each of 64 costs little."""
FEW_ROWS = 8
"""Rows to a part below which sweeping one row more than there are costs more than it gains."""


@dataclass(frozen=True)
class ElementPlan:
    """A nest over no axes: single elements, each made of single elements."""

    stores: tuple[Store, ...]
    most_parts = 1

    def __str__(self) -> str:
        return "single elements"


@dataclass(frozen=True)
class VectorPlan:
    """A nest with a vector axis.

    `vectors`: how many a chunk of the vector axis has. `short`: the axis along rows that are taken as blocks, their
    lanes along the vector axis. `kept`: values that stay in memory from one sweep to the next, and where. `ahead`:
    reductions over a row that are begun while the row before is finished. `streamed`: results that go past the caches,
    if a sweep does nothing else. `capacity`: the most rows there are. `cut`: the parallel axis that parts cut.
    """

    group: Group
    extents: Mapping[Axis, Size]
    capacity: int
    vector_axis: Axis
    lanes: int
    vectors: int
    short: Axis | None
    kept: Mapping[Term, Store]
    streamed: tuple[Store, ...]
    ahead: tuple[Reduction, ...] = ()
    cut: Axis | None = None

    def __str__(self) -> str:
        loops = "".join(f"axis {axis}, " for axis in self.parallel if axis != self.vector_axis)
        facts = [f"{self.vectors} x {self.lanes} of axis {self.vector_axis}"]
        facts += [f"blocks of axis {self.short} in registers"] if self.short is not None else []
        facts += [f"{len(self.kept)} kept from sweep to sweep"] if self.kept else []
        facts += [f"{len(self.ahead)} begun a row ahead"] if self.ahead else []
        facts += [f"{len(self.streamed)} past the caches"] if self.streamed else []
        return loops + ", ".join(facts)

    @cached_property
    def parallel(self) -> tuple[Axis, ...]:
        """The axes of the outer loops: the vector axis, if it is one of them, is the innermost."""
        return tuple(sorted(self.group.parallel, key=lambda axis: axis == self.vector_axis))

    @cached_property
    def swept(self) -> tuple[Store, ...]:
        """The results that keep an axis which something reduces."""
        return tuple(store for store in self.group.stores if set(store.strides) - set(self.group.parallel))

    @property
    def extent(self) -> Size:
        """The vector axis'."""
        return self.extents[self.vector_axis]

    @property
    def width(self) -> int:
        """The elements of a chunk."""
        return self.vectors * self.lanes

    @property
    def single(self) -> bool:
        """Whether the vector axis is one chunk of known extent: bound without a loop."""
        return self.extent.known and 0 < self.extent.coefficient <= self.width

    def grain(self, axis: Axis) -> int:
        """How many places along an axis are a share at least."""
        return self.width if axis == self.vector_axis else 1

    def grains(self, axis: Axis) -> int:
        """How many shares the loop over an axis can be cut into."""
        return max(1, -(-self.extents[axis].at(self.capacity) // self.grain(axis)))

    @property
    def most_parts(self) -> int:
        """How many parts there can be: those that its longest loop can be cut into."""
        return max(map(self.grains, self.parallel), default=1)

    def block_levels(self, axis: Axis, step: int) -> int:
        """A long loop that carries sums goes in blocks of BLOCK turns, those in blocks of BLOCK blocks, and so on: how
        often.
        """
        levels, count = 0, self.extents[axis].at(self.capacity) // step
        while count > BLOCK:
            levels, count = levels + 1, count // BLOCK
        return levels


@dataclass(frozen=True)
class KernelPlan:
    """Nests that are written one after the other, each cut into as many parts."""

    nests: tuple[ElementPlan | VectorPlan, ...]
    parts: int

    def __str__(self) -> str:
        return "; ".join(map(str, self.nests)) + (f", parts of {self._cut()}" if self.parts > 1 else "")

    def _cut(self) -> str:
        """The axes that parts cut; they mostly are the outermost ones."""
        loops = [nest for nest in self.nests if isinstance(nest, VectorPlan) and nest.parallel]
        if all(nest.cut == nest.parallel[0] for nest in loops):
            return "the outermost axis"
        return " and ".join(f"axis {nest.cut}" for nest in loops)


def plan(domain: Domain, target: Target, capacity: int, moved: int) -> KernelPlan:
    """The plan for a domain whose kernel reads and writes `moved` bytes."""
    found = groups(domain)
    streams = 0 < target.machine.streamed < moved
    nests = [_nest(group, domain.extents, target, capacity, streams) for group in found]
    dearest = max((microseconds(group, domain, target, capacity) for group in found), default=0.0)
    parts = parts_for(dearest, target.machine, max((nest.most_parts for nest in nests), default=1))
    nests = [_with_cut(nest, parts) for nest in nests]
    return KernelPlan(tuple(_with_ahead(nest, parts, target.machine, streams) for nest in nests), parts)


def _with_cut(nest: ElementPlan | VectorPlan, parts: int) -> ElementPlan | VectorPlan:
    """Parts cut the outermost loop that is as many shares, or else the one that is the most: a row of a million
    elements is as parallel as a million rows of one.
    """
    if isinstance(nest, ElementPlan) or not nest.parallel:
        return nest
    enough = (axis for axis in nest.parallel if nest.grains(axis) >= parts)
    return replace(nest, cut=next(enough, max(nest.parallel, key=nest.grains)))


def _nest(
    group: Group, extents: Mapping[Axis, Size], target: Target, capacity: int, streams: bool
) -> ElementPlan | VectorPlan:
    lanes = target.lanes(max((TYPES[term.kind].lane_bytes for term in group.terms), default=4))
    choice = VectorChoice(group, extents, lanes, capacity, target.machine)
    axis = choice.axis()
    if axis is None:
        return ElementPlan(group.stores)
    short = choice.short_axis(axis)
    made = VectorPlan(group, extents, capacity, axis, lanes, choice.vectors(axis), short, {}, ())

    def dense(strides: Strides) -> bool:
        """Whether the vectors of a result lie side by side, there or in scratch."""
        return strides.get(axis) == ONE or (short is not None and axis in strides and short in strides)

    made = replace(
        made, kept={} if made.single else kept(group, target.machine.costs.dear, lambda store: dense(store.strides))
    )
    return replace(made, streamed=_streamed(made) if streams and not made.single else ())


def _streamed(nest: VectorPlan) -> tuple[Store, ...]:
    """The results that are not looked at again, of a kernel that moves more than the caches hold: a store would first
    read what it overwrites.
    """
    if any(isinstance(term, Uniform) for term in nest.group.terms):
        return ()
    kept = {place.buffer for place in nest.kept.values()}
    return tuple(
        store
        for store in nest.group.stores
        if store.strides.get(nest.vector_axis) == ONE and TYPES[store.term.kind].is_real and store.buffer not in kept
    )


def _with_ahead(
    nest: ElementPlan | VectorPlan, parts: int, machine: Machine, streams: bool
) -> ElementPlan | VectorPlan:
    return nest if isinstance(nest, ElementPlan) else replace(nest, ahead=_ahead(nest, parts, machine, streams))


def _ahead(nest: VectorPlan, parts: int, machine: Machine, streams: bool) -> tuple[Reduction, ...]:
    """The reductions that need nothing but memory, if they have a sweep over each of many rows to themselves."""
    rows, swept = frozenset(nest.group.parallel), frozenset((nest.vector_axis,))
    sweeps = [term for term in nest.group.terms if isinstance(term, Reduction) and term.reduced == swept]
    first = tuple(term for term in sweeps if term.axes == rows and term.operand.stage == 0)
    later = len(sweeps) > len(first) or nest.swept
    beside = any(
        frozenset(store.strides) - rows == swept and store.term.stage == 0
        for store in (*nest.swept, *nest.kept.values())
    )
    if not first or not rows or nest.single or beside or not later or (streams and not nest.kept):
        return ()
    many = nest.extents[nest.group.parallel[-1]].at(nest.capacity) >= FEW_ROWS * parts
    return first if many and 2 * _row_bytes(nest) <= machine.near_block else ()


def _row_bytes(nest: VectorPlan) -> int:
    """How much memory the sweeps over one row walk through."""
    walked = {
        (term.buffer, term.kind)
        for term in nest.group.terms
        if isinstance(term, Load | MaskedLoad | IndexedLoad) and nest.vector_axis in term.strides
    }
    walked |= {(store.buffer, store.term.kind) for store in nest.group.stores if nest.vector_axis in store.strides}
    return nest.extent.at(nest.capacity) * sum(TYPES[kind].lane_bytes for _, kind in walked)
