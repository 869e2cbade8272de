"""Fusion: groups the nodes of a simplified graph into kernels, each one machine loop.

A kernel is one of these families (its region says what it computes):
- matmul, convolution: a product with the pointwise work on its result (bias, activation, mask, optimizer step) as
  epilogue;
- nest: pointwise work and reductions over one set of loop axes, all reductions over the same axes;
- pack: a transposed copy of a matrix, so that a product reads its right operand row by row;
- gather, scatter, permutation: one node each.
A scan keeps its place between kernels; its body is fused by itself.

Groups grow greedily in topological order, and only where no path leaves a group and comes back. State slots are updated
in place, so whoever reads a slot's old value comes before the kernel that writes the new one: those orderings are edges
here like any dataflow. Constants, iotas, counts and broadcasts cost nothing and are repeated in every kernel that needs
them. Valid graph in; valid graph of `kernel` and `reshape` nodes out, with the same values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from heapq import heapify, heappop, heappush

from tapeless.compiler.passes.layout import (
    ALONE,
    DISPLACED,
    PRODUCTS,
    ROWS,
    inputs_of,
    is_free,
    leading,
    overwritten,
    read_slots,
    with_outputs,
)
from tapeless.ir.axes import LoopAxes, loop_axes_agree
from tapeless.ir.correspondence import reduced
from tapeless.ir.graph import Builder, Graph, Node, Value
from tapeless.ir.machine import Machine
from tapeless.ir.ops import OPERATIONS, POINTWISE, VIEWS

GROWING = PRODUCTS | {"nest"}  # families whose kernels take in more nodes
REDUCTIONS = frozenset({"sum", "sum_shares", "prod", "max", "min", "argmax"})
SMALLER = 16  # as many elements are worth making again from one that is stored for it
LONGEST_CHAIN = 3  # nodes repeated for one value that a core's caches hold
FARTHEST = 64  # levels between a node and a producer that it may join: beyond, a path leads around them anyway,
FEW = 4  # unless no more groups than these wait for the producer


def fuse(graph: Graph, machine: Machine) -> Graph:
    """A graph that is laid out for kernels as kernels; the bodies of scans too."""
    return _Fusion(graph, machine).run()


class _Group:
    """Nodes that become one kernel, by their places in the graph."""

    def __init__(self, place: int, family: str) -> None:
        self.places = [place]
        self.family = family
        self.repeated: list[int] = []  # nodes of other groups, computed here again
        self.after: set[_Group] = set()  # groups that must come after this one
        self.before: set[_Group] = set()
        self.level = 0  # less than that of every group in `after`


class _Fusion:
    """One run over one graph."""

    def __init__(self, graph: Graph, machine: Machine) -> None:
        self.graph, self.machine = graph, machine
        self.place = {value: k for k, node in enumerate(graph.nodes) for value in node.results}
        kept = graph.output_values
        self.free = {v for node in graph.nodes if is_free(node, graph, machine) for v in node.results if v not in kept}
        self.groups: dict[int, _Group] = {}
        self.reads = self._reads()
        self.needs = self._needs()
        self.slots = read_slots(graph, machine)
        self.overwrites = {port.value: old for port, old in overwritten(graph)}
        self.losses = {port.value for port in graph.outputs if port.role == "loss"}
        # by the places of nodes, which are asked for each pair of groups
        self.read_slots = [frozenset().union(*(self.slots[value] for value in node.operands)) for node in graph.nodes]
        self.written = {self.place[value]: value for value in self.overwrites if value in self.place}
        self.lossy = {self.place[value] for value in self.losses if value in self.place}
        self.repeating: dict[int, list[_Group]] = {}
        self.scalars: _Group | None = None
        self.readers: dict[Value, list[_Group]] = {}

    def run(self) -> Graph:
        for k, node in enumerate(self.graph.nodes):
            if node.results[0] in self.free:
                continue
            self.groups[k] = _Group(k, self._family(node))
        self._order()
        for k, node in enumerate(self.graph.nodes):
            if k in self.groups and self.groups[k].family in GROWING:
                self._grow(k, node)
        for group in self._distinct():
            self._recompute(group)
        return self._kernels()

    def _distinct(self) -> list[_Group]:
        return list({id(group): group for group in self.groups.values() if group.places}.values())

    @staticmethod
    def _family(node: Node) -> str:
        if node.op == "transpose" and tuple(node.attrs["perm"]) == (1, 0):
            return "pack"
        return {**dict.fromkeys(PRODUCTS, node.op), **dict.fromkeys(VIEWS, "view"), "scan": "scan", **ALONE}.get(
            node.op, "nest"
        )

    def _order(self) -> None:
        """Edges between groups: dataflow; old readers of a state slot, and the losses, before its writer."""
        for k, group in self.groups.items():
            for value in self._taken(self.graph.nodes[k]):
                if value in self.place:
                    self._edge(self.groups[self.place[value]], group)
        losses = [self.groups[self.place[value]] for value in self.losses]
        readers: dict[Value, list[_Group]] = {}
        for k, group in self.groups.items():
            if group.family != "view":
                for slot in {slot for value in self.graph.nodes[k].operands for slot in self.slots[value]}:
                    readers.setdefault(slot, []).append(group)
        for value, old in self.overwrites.items():
            writer = self.groups[self.place[value]]
            for group in (*losses, *readers.get(old, [])):
                if group is not writer:
                    self._edge(group, writer)

    def _edge(self, first: _Group, second: _Group) -> None:
        """Orders two groups, and raises the levels of what follows."""
        first.after.add(second)
        second.before.add(first)
        pending = [(first, second)]
        while pending:
            earlier, later = pending.pop()
            if later.level <= earlier.level:
                later.level = earlier.level + 1
                pending.extend((later, group) for group in later.after)

    def _taken(self, node: Node) -> Sequence[Value]:
        """The values a node reads from memory or from other groups, seen through free nodes."""
        return self.reads[node.results[0]]

    def _reads(self) -> Mapping[Value, Sequence[Value]]:
        """What each node's first result takes; see `_taken`."""
        reads: dict[Value, Sequence[Value]] = {}
        for node in self.graph.nodes:
            found: dict[Value, None] = {}
            for value in node.operands:
                found.update(dict.fromkeys(reads[value] if value in self.free else (value,)))
            reads[node.results[0]] = tuple(found)
        return reads

    def _needs(self) -> Sequence[Set[int]]:
        """The places of the free nodes that each node needs, through other free ones."""
        needs: list[Set[int]] = []
        for node in self.graph.nodes:
            free = [self.place[value] for value in node.operands if value in self.free]
            needs.append(frozenset(free).union(*(needs[k] for k in free)))
        return needs

    def _grow(self, k: int, node: Node) -> None:
        """Try to join a node's group with those of its producers, nearest first, then with one reading the same."""
        taken = self._taken(node)
        near = sorted({self.place[value] for value in taken if value in self.place}, reverse=True)
        if not node.results[0].type.rank and node.op in POINTWISE and self._join_scalars(k, taken, near):
            return
        joined = [
            self._try(self.groups[place], self.groups[k])
            for place in near
            if self._near(self.groups[place], self.groups[k])
        ]
        if not any(joined):
            _ = any(self._try(other, self.groups[k]) for value in taken for other in self.readers.get(value, []))
        if node.results[0].type.rank:
            for value in taken:
                if value.type.rank == node.results[0].type.rank:
                    self.readers.setdefault(value, []).append(self.groups[k])

    @staticmethod
    def _near(first: _Group, second: _Group) -> bool:
        """Whether it is worth asking if two groups may join: work that few wait for always is, whatever its level."""
        return second.level - first.level < FARTHEST or len(first.after) <= FEW

    def _join_scalars(self, k: int, taken: Sequence[Value], near: Sequence[int]) -> bool:
        """Scalar work on several kernels' results, or on none, runs in one kernel of scalars: it waits for nobody's
        loop.
        """
        if len(near) == 1 and self._current(self.groups[near[0]]) is not self._scalar_group():
            return False
        if any(value.type.rank for value in taken):
            return False
        known = self._scalar_group()
        if known is not None and self._try(known, self.groups[k]):
            return True
        self.scalars = self.groups[k]
        return True

    def _scalar_group(self) -> _Group | None:
        return None if self.scalars is None else self._current(self.scalars)

    def _try(self, first: _Group, second: _Group) -> bool:
        first, second = self._current(first), self._current(second)
        if first is second or {first.family, second.family} - GROWING:
            return False
        if {first.family, second.family} <= PRODUCTS or len(first.places) + len(
            second.places
        ) > self.machine.largest_kernel:
            return False
        places = sorted(first.places + second.places)
        family = next((one for one in (first.family, second.family) if one in PRODUCTS), "nest")
        if not self._fits(family, places) or self._detour(first, second) or self._detour(second, first):
            return False
        self._merge(first, second, places, family)
        return True

    def _current(self, group: _Group) -> _Group:
        return self.groups[group.places[0]]

    def _fits(self, family: str, places: Sequence[int]) -> bool:
        """Whether the nodes at these places can run as one loop nest."""
        nodes = [self.graph.nodes[k] for k in places]
        axes = LoopAxes(self._with_free([k for k in places if self.graph.nodes[k].op not in PRODUCTS]))
        if not self._overwrites_safely(places, axes):
            return False
        inside = {value for node in nodes for value in node.results}
        if family in PRODUCTS:
            (product,) = (node for node in nodes if node.op in PRODUCTS)
            epilogue = [node for node in nodes if node is not product]
            tile = axes.of(product.result)  # each value of the epilogue is indexed as the product is
            return (
                all(n.op in POINTWISE | {"random_uniform"} and axes.of(n.result) == tile for n in epilogue)
                and not any(value in inside for value in self._taken(product))
                and self._identity_inside(nodes, inside)
            )
        displaced = [node.operands[0] for node in axes.nodes if node.op in DISPLACED]
        if any(set(self._taken_of(value)) & inside for value in displaced):
            return False
        return loop_axes_agree(axes, free=self.free, reductions=REDUCTIONS)

    def _overwrites_safely(self, places: Sequence[int], axes: LoopAxes) -> bool:
        """Whether a kernel of the nodes at these places may store new values of slots over the old ones that it reads;
        `axes` are of those that are no product.

        It may if each element is read where, and only where, it is then written: directly, at the same index, and not
        in a loop that a later one repeats. The loss is never made by a kernel that overwrites something.
        """
        written = [self.written[k] for k in places if k in self.written]
        if not written:
            return True
        if not self.lossy.isdisjoint(places):
            return False
        gone = {axes.of_use(n, 0)[k] for n in axes.nodes if n.op in REDUCTIONS for k in reduced(n)}
        for value in written:
            old = self.overwrites[value]
            readers = [self.graph.nodes[k] for k in places if old in self.read_slots[k]]
            for node in readers:
                elsewhere = any(old in self.slots[operand] for operand in node.operands if operand != old)
                if elsewhere or node.op not in POINTWISE or axes.of(old) != axes.of(value):
                    return False
            if readers and gone & set(axes.of(value)):
                return False
        return True

    def _identity_inside(self, nodes: Sequence[Node], inside: set[Value]) -> bool:
        """No value of the epilogue is read through a broadcast or reshape by another one."""
        return not any(value in inside and value not in node.operands for node in nodes for value in self._taken(node))

    def _taken_of(self, value: Value) -> Sequence[Value]:
        return self._taken(self.graph.producers[value]) if value in self.free else [value]

    def _with_free(self, places: Sequence[int]) -> list[Node]:
        """The nodes at these places and the free ones that they need, in topological order."""
        everywhere = set(places).union(*(self.needs[k] for k in places))
        return [self.graph.nodes[k] for k in sorted(everywhere)]

    @staticmethod
    def _needed(nodes: Sequence[Node], results: Sequence[Value]) -> tuple[list[Node], list[Value]]:
        """Those of the nodes that the results need, and what they read from outside, in the order in which it is
        needed: the same for kernels of equal structure wherever in the graph they stand, so that those are one
        function.
        """
        producers = {value: node for node in nodes for value in node.results}
        taken: dict[Value, None] = {}
        visited: set[Value] = set()
        pending = list(reversed(results))
        while pending:
            value = pending.pop()
            if value in visited:
                continue
            visited.add(value)
            if value in producers:
                pending.extend(reversed(producers[value].operands))
            else:
                taken[value] = None
        return [node for node in nodes if not visited.isdisjoint(node.results)], list(taken)

    @staticmethod
    def _detour(first: _Group, second: _Group) -> bool:
        """Whether a path leads from one group to the other through a third: only levels in between can be on it."""
        pending = [group for group in first.after if group is not second and group.level < second.level]
        visited = set(pending)
        while pending:
            for later in pending.pop().after:
                if later is second:
                    return True
                if later.level < second.level and later not in visited:
                    visited.add(later)
                    pending.append(later)
        return False

    def _merge(self, first: _Group, second: _Group, places: list[int], family: str) -> None:
        first.places, first.family = places, family
        first.level = max(first.level, second.level)
        for k in places:
            self.groups[k] = first
        for group in second.before - {first}:
            group.after.discard(second)
            self._edge(group, first)
        first.before -= {first, second}
        for group in second.after:
            group.before.discard(second)
        for group in (first.after | second.after) - {first, second}:
            self._edge(first, group)
        first.after -= {first, second}

    def _kernels(self) -> Graph:
        """The fused graph, groups in an order that respects every edge, ties by place in the source graph."""
        builder = Builder(self.graph.name)
        seen = inputs_of(builder, self.graph)
        for group in self._sorted(self._distinct()):
            if group.family == "scan":
                node = self.graph.nodes[group.places[0]]
                bodies = tuple(fuse(body, self.machine) for body in node.regions)
                builder.copy_nodes([replace(node, regions=bodies)], seen)
            elif group.family == "view":
                builder.copy_nodes(self._with_free(group.places[:1]), seen)
            else:
                self._emit(builder, seen, group)
        return with_outputs(builder, self.graph, seen)

    @staticmethod
    def _sorted(groups: Sequence[_Group]) -> list[_Group]:
        waiting = Counter(later for group in groups for later in group.after if later.places)
        ready = [(group.places[0], group) for group in groups if not waiting[group]]
        heapify(ready)
        order = []
        while ready:
            _, group = heappop(ready)
            order.append(group)
            for later in group.after:
                if later.places:
                    waiting[later] -= 1
                    if not waiting[later]:
                        heappush(ready, (later.places[0], later))
        return order

    def _emit(self, builder: Builder, seen: dict[Value, Value], group: _Group) -> None:
        places = sorted({*group.places, *group.repeated})
        members = [self.graph.nodes[k] for k in places]
        results = [value for k in group.places for value in self.graph.nodes[k].results if self._stored(value, group)]
        region = Builder("body")
        inner: dict[Value, Value] = {}
        nodes, operands = self._needed(self._with_free(places), results)
        for value in operands:
            inner[value] = region.input(value.name, value.type, "operand")
        region.copy_nodes(nodes, inner)
        for value in results:
            region.output(value.name, inner[value], "result")
        main = next((node for node in members if node.op in PRODUCTS), members[-1])
        attrs = {
            "family": group.family,
            "name": results[-1].name,
            "leading": tuple(leading(self.graph, value, self.machine) for value in (*operands, *results)),
        }
        taken = [seen[value] for value in operands]
        names = [value.name for value in results]
        stored = builder.emit_node("kernel", taken, attrs, (region.graph(),), names, main.span)
        seen.update(zip(results, stored, strict=True))

    def _stored(self, value: Value, group: _Group) -> bool:
        """Whether a value of a group is needed outside, by somebody who does not compute it again."""
        if value in self.graph.output_values:
            return True
        return bool(self._using_groups(value, group))

    def _recompute(self, group: _Group) -> None:
        """Leaves cheap work on stored values to the kernels that want it, instead of storing its result too."""
        if group.family == "scan":
            return
        for k in group.places[::-1]:
            (value,) = self.graph.nodes[k].results
            users = self._using_groups(value, group)
            if k not in group.places or not users or len(users) > 2 or value in self.graph.output_values:
                continue
            chain = self._cheap_chain(k, group, users)
            if not chain or any(user.family not in GROWING for user in users):
                continue
            if not all(self._fits(user.family, self._with(user, chain)) for user in users):
                continue
            gone = self._given_up(chain, group, users)
            if not self._fits(group.family, [place for place in group.places if place not in gone]):
                continue  # what stays behind hung together by the chain
            for user in users:
                for place in set(chain) - set(user.repeated):
                    user.repeated.append(place)
                    self.repeating.setdefault(place, []).append(user)
                for taken in (v for place in chain for v in self._taken(self.graph.nodes[place])):
                    if taken in self.place and self.groups[self.place[taken]] is not user:
                        self._edge(self.groups[self.place[taken]], user)
            group.places = [place for place in group.places if place not in gone]

    def _given_up(self, chain: Sequence[int], group: _Group, users: Sequence[_Group]) -> set[int]:
        """The places of a chain that a group no longer has to compute once these users do so themselves."""
        gone: set[int] = set()
        for place in sorted(set(chain) & set(group.places), reverse=True):
            (made,) = self.graph.nodes[place].results
            here = any(k in group.places and k not in gone for k in self._users(made))
            others = [user for user in self._using_groups(made, group) if user not in users]
            if not here and not others and made not in self.graph.output_values:
                gone.add(place)
        return gone

    def _using_groups(self, value: Value, group: _Group) -> list[_Group]:
        """The other groups that read a value and do not compute it again."""
        return [
            user
            for user in self._computing(self._users(value))
            if user is not group and self.place[value] not in user.repeated
        ]

    def _computing(self, places: Sequence[int]) -> list[_Group]:
        """The groups that compute one of these nodes, first or again."""
        first = [self.groups[k] for k in places if k in self.groups[k].places]
        again = [group for k in places for group in self.repeating.get(k, [])]
        return list({id(group): group for group in (*first, *again)}.values())

    def _cheap_chain(self, k: int, group: _Group, users: Sequence[_Group]) -> list[int]:
        """The places to repeat so as to have a node's value again from stored ones, and from those small beside it, as
        a row's mean, which are then stored; empty where that is not cheap.
        """
        (made,) = self.graph.nodes[k].results
        far = made.type.bytes(ROWS) > self.machine.core_cache
        chain: list[int] = []
        sources: set[Value] = set()
        pending = [k]
        while pending:
            place = pending.pop()
            node = self.graph.nodes[place]
            if node.op not in POINTWISE:
                return []
            if not far and (len(chain) == LONGEST_CHAIN or OPERATIONS[node.op].flops > self.machine.cheap_flops):
                return []
            chain.append(place)
            for value in self._taken(node):
                if self._written(value):
                    return []
                source = self.place.get(value)
                if source is None or source in chain or source in pending:
                    continue
                if not self._stored(value, self.groups[source]):
                    few = SMALLER * value.type.bytes(ROWS) <= made.type.bytes(ROWS)
                    if not few or source not in self.groups[source].places:
                        pending.append(source)
                elif value.type.rank == made.type.rank:
                    sources.add(value)
        return chain if not far or self._pays(made, chain, sources, users) else []

    def _pays(self, made: Value, chain: Sequence[int], sources: Set[Value], users: Sequence[_Group]) -> bool:
        """Whether making a value again takes less than storing it, which reads its line first, and loading it, where
        that goes beyond what a core has for itself."""
        nodes = [self.graph.nodes[place] for place in chain]
        instructions = len(users) * sum(OPERATIONS[node.op].instructions for node in nodes)
        element = max(value.type.dtype.bytes for node in nodes for value in (*node.operands, *node.results))
        read = sum(value.type.dtype.bytes for user in users for value in sources if not self._is_read_by(user, value))
        saved = (2 + len(users)) * made.type.dtype.bytes - read
        return instructions / self.machine.lanes(element) <= saved * self.machine.far_instructions

    def _is_read_by(self, user: _Group, value: Value) -> bool:
        return any(value in self._taken(self.graph.nodes[place]) for place in (*user.places, *user.repeated))

    def _with(self, group: _Group, chain: Sequence[int]) -> list[int]:
        return sorted({*group.places, *group.repeated, *chain})

    def _written(self, value: Value) -> bool:
        """Whether a value is a state slot that this graph also writes: reading it later would need another order."""
        return any(slot in self.overwrites.values() for slot in self.slots[value])

    def _users(self, value: Value) -> list[int]:
        """The places of the nodes that read a value, seen through free nodes."""
        found: list[int] = []
        pending = [value]
        while pending:
            for node in self.graph.uses.get(pending.pop(), ()):
                if node.results[0] in self.free:
                    pending.extend(node.results)
                else:
                    found.append(self.place[node.results[0]])
        return found
