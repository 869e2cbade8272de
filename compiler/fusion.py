"""Fusion: groups the nodes of a simplified graph into kernels, each one machine loop.

A kernel is one of these families (its region says what it computes):
- matmul: a matrix product with the pointwise work on its result (bias, activation, mask, optimizer step) as epilogue;
- nest: pointwise work and reductions over one set of loop axes, all reductions over the same axes;
- pack: a transposed copy of a matrix, so that a product reads its right operand row by row;
- gather, scatter, permutation: one node each.

Groups grow greedily in topological order, and only where no path leaves a group and comes back. State slots are updated
in place, so whoever reads a slot's old value comes before the kernel that writes the new one: those orderings are edges
here like any dataflow. Constants, iotas, counts and broadcasts cost nothing and are repeated in every kernel that needs
them. Valid graph in; valid graph of `kernel` and `reshape` nodes out, with the same values.
"""

from __future__ import annotations

from collections.abc import Sequence

import networkx

from tapeless.ir.axes import loop_axes_agree
from tapeless.ir.graph import STATE_ROLES, Builder, Graph, Node, Port, Value
from tapeless.ir.ops import OPERATIONS
from tapeless.ir.ops.scalar import POINTWISE

FREE = frozenset({"constant", "iota", "count", "broadcast"})
REDUCTIONS = frozenset({"sum", "prod", "max", "min", "argmax"})
ALONE = {"gather": "gather", "scatter_add": "scatter", "permutation": "permutation", "transpose": "nest"}
# Read at places that the loops do not stand at: what they take must lie in memory.
DISPLACED = frozenset({"pick", "slice", "pad"})
IN_MEMORY = frozenset({"matmul", *DISPLACED, *ALONE})
CHEAP = 4  # flops an element: less than the store and load that recomputing it saves
CROWDED = 4096  # bytes: rows this far apart share cache sets
MANY_ROWS = 64  # below this, crowded rows still fit the sets they share
VECTOR = 64  # bytes of the widest vector
LONGEST_CHAIN = 3  # nodes repeated for one value
LARGEST = 48  # nodes in one kernel: beyond this, vectors no longer stay in registers


def fuse(graph: Graph) -> Graph:
    """The graph as kernels."""
    prepared = _stored_once(_packed_operands(graph))
    return _Fusion(prepared).run()


def _packed_operands(graph: Graph) -> Graph:
    """Puts operands in memory as products and indexing want them.

    The right operand of a product that would be read column by column is transposed ahead of it; what costs nothing to
    compute, and so has no place in memory, is copied for those that read it at places of their own; so are weights
    whose rows would crowd a product's cache (see `_Fusion._leading`).
    """
    builder = Builder(graph.name)
    seen = _inputs(builder, graph)
    transposed: dict[Value, Value] = {}
    packed: dict[Value, Value] = {}
    copied: dict[Value, Value] = {}
    for node in graph.nodes:
        if node.op in IN_MEMORY:
            for value in node.operands:
                if value in graph.producers and is_free(graph.producers[value], graph) and value not in copied:
                    name = f"{value.name}.stored"
                    copied[value] = builder.emit("cast", seen[value], name=name, span=node.span, dtype=value.type.dtype)
            here = {value: copied.get(value, seen[value]) for value in node.operands}
            if node.op == "matmul" and not node.attrs["transpose_b"] and _crowds(graph, node.operands[1]):
                weights = node.operands[1]
                if weights not in packed:
                    name = f"{weights.name}.packed"
                    packed[weights] = builder.emit("cast", here[weights], name=name, span=node.span, dtype=weights.type.dtype)
                here[weights] = packed[weights]
        else:
            here = {value: seen[value] for value in node.operands}
        if node.op == "matmul" and node.attrs["transpose_b"]:
            left, right = (here[value] for value in node.operands)
            if right not in transposed:
                transposed[right] = builder.emit("transpose", right, name=f"{right.name}.T", span=node.span, perm=(1, 0))
            attrs = {"transpose_a": node.attrs["transpose_a"], "transpose_b": False}
            seen[node.result] = builder.emit("matmul", left, transposed[right], name=node.result.name, span=node.span, **attrs)
        else:
            builder.copy_nodes([node], here)
            seen.update((value, here[value]) for value in node.results)
    return _with_outputs(builder, graph, seen)


def _crowds(graph: Graph, value: Value) -> bool:
    """Whether a matrix lies outside the workspace, large, with rows a multiple of CROWDED bytes apart."""
    rows, columns = value.type.shape
    if not isinstance(rows, int) or not isinstance(columns, int) or value in graph.producers:
        return False
    return rows >= MANY_ROWS and columns > 0 and columns * value.type.dtype.bytes % CROWDED == 0


def _stored_once(graph: Graph) -> Graph:
    """Gives each output port a value of its own that a kernel can store: copies inputs, constants and shared values.

    A new state value is also copied where a reader of the slot's old value depends on it, or the loss: nothing is
    overwritten before the loss is known to be finite.
    """
    builder = Builder(graph.name)
    seen = _inputs(builder, graph)
    builder.copy_nodes(graph.nodes, seen)
    stored: set[Value] = set()
    guarded = graph.ancestors([port.value for port in graph.outputs if port.role == "loss"])
    result = []
    for port in graph.outputs:
        value = seen[port.value]
        producer = graph.producers.get(port.value)
        plain = producer is None or is_free(producer, graph) or producer.op == "reshape"
        early = port.role == "state" and port.value in guarded
        if plain or early or value in stored or _read_after_write(graph, port):
            value = builder.emit("cast", value, name=f"{port.label}.new".replace("~", "."), span=port.span, dtype=value.type.dtype)
        stored.add(value)
        result.append((port, value))
    for port, value in result:
        builder.output(port.label, value, port.role, port.span)
    return builder.graph()


def _read_after_write(graph: Graph, port: Port) -> bool:
    """Whether some node needs both the slot's old value and something computed from its new one."""
    if port.role != "state":
        return False
    old = next((p.value for p in graph.inputs if p.role in STATE_ROLES and p.label == port.label), None)
    if old is None:
        return False
    later = {port.value}
    for node in graph.nodes:
        if any(value in later for value in node.operands):
            if old in node.operands:
                return True
            later.update(node.results)
    return False


def is_free(node: Node, graph: Graph) -> bool:
    """Whether a node costs nothing worth storing: it is repeated in every kernel that needs it.

    So are cheap scalars of free values, such as one over the count of rows.
    """
    if node.op in FREE:
        return True
    if node.op not in POINTWISE or node.results[0].type.rank or OPERATIONS[node.op].flops > CHEAP:
        return False
    producers = [graph.producers.get(value) for value in node.operands]
    return all(p is not None and p.op in FREE and not p.results[0].type.rank for p in producers)


def _inputs(builder: Builder, graph: Graph) -> dict[Value, Value]:
    return {
        port.value: builder.input(port.label, port.value.type, port.role, port.span, port.value.name)
        for port in graph.inputs
    }


def _with_outputs(builder: Builder, graph: Graph, seen: dict[Value, Value]) -> Graph:
    for port in graph.outputs:
        builder.output(port.label, seen[port.value], port.role, port.span)
    return builder.graph()


class _Group:
    """Nodes that become one kernel, by their places in the graph."""

    def __init__(self, place: int, family: str) -> None:
        self.places = [place]
        self.family = family
        self.repeated: list[int] = []  # nodes of other groups, computed here again
        self.after: set[_Group] = set()  # groups that must come after this one
        self.before: set[_Group] = set()


class _Fusion:
    """One run over one graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.place = {value: k for k, node in enumerate(graph.nodes) for value in node.results}
        kept = graph.output_values
        self.free = {v for node in graph.nodes if is_free(node, graph) for v in node.results if v not in kept}
        self.groups: dict[int, _Group] = {}
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
            if k in self.groups and self.groups[k].family in ("nest", "matmul"):
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
        return {"matmul": "matmul", "reshape": "view", **ALONE}.get(node.op, "nest")

    def _order(self) -> None:
        """Edges between groups: dataflow; old readers of a state slot, and the losses, before its writer."""
        for k, group in self.groups.items():
            for value in self._taken(self.graph.nodes[k]):
                if value in self.place:
                    self._edge(self.groups[self.place[value]], group)
        slots = {port.label: port.value for port in self.graph.inputs if port.role in STATE_ROLES}
        losses = [self.groups[self.place[port.value]] for port in self.graph.outputs if port.role == "loss"]
        for port in self.graph.outputs:
            if port.role != "state":
                continue
            writer = self.groups[self.place[port.value]]
            old = slots.get(port.label)
            readers = [g for k, g in self.groups.items() if old in self._taken(self.graph.nodes[k])]
            for group in (*losses, *readers):
                if group is not writer:
                    self._edge(group, writer)

    @staticmethod
    def _edge(first: _Group, second: _Group) -> None:
        first.after.add(second)
        second.before.add(first)

    def _taken(self, node: Node) -> list[Value]:
        """The values a node reads from memory or from other groups, seen through free nodes."""
        found: list[Value] = []
        pending = list(node.operands)
        while pending:
            value = pending.pop(0)
            if value in self.free:
                pending.extend(self.graph.producers[value].operands)
            elif value not in found:
                found.append(value)
        return found

    def _grow(self, k: int, node: Node) -> None:
        """Try to join a node's group with those of its producers, nearest first, then with one reading the same."""
        taken = self._taken(node)
        near = sorted({self.place[value] for value in taken if value in self.place}, reverse=True)
        if not node.results[0].type.rank and node.op in POINTWISE and self._join_scalars(k, taken, near):
            return
        joined = [self._try(self.groups[place], self.groups[k]) for place in near]
        if not any(joined):
            _ = any(self._try(other, self.groups[k]) for value in taken for other in self.readers.get(value, []))
        if node.results[0].type.rank:
            for value in taken:
                if value.type.rank == node.results[0].type.rank:
                    self.readers.setdefault(value, []).append(self.groups[k])

    def _join_scalars(self, k: int, taken: Sequence[Value], near: Sequence[int]) -> bool:
        """Scalar work on several kernels' results, or on none, runs in one kernel of scalars: it waits for nobody's loop."""
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
        if first is second or {first.family, second.family} - {"nest", "matmul"}:
            return False
        if first.family == second.family == "matmul" or len(first.places) + len(second.places) > LARGEST:
            return False
        places = sorted(first.places + second.places)
        family = "matmul" if "matmul" in (first.family, second.family) else "nest"
        if not self._fits(family, places) or self._detour(first, second) or self._detour(second, first):
            return False
        self._merge(first, second, places, family)
        return True

    def _current(self, group: _Group) -> _Group:
        return self.groups[group.places[0]]

    def _fits(self, family: str, places: Sequence[int]) -> bool:
        """Whether the nodes can run as one loop nest."""
        nodes = [self.graph.nodes[k] for k in places]
        if family == "matmul":
            (product,) = (node for node in nodes if node.op == "matmul")
            shape, inside = product.result.type.shape, {value for node in nodes for value in node.results}
            return (
                all(n is product or (n.op in POINTWISE | {"random_uniform"} and n.result.type.shape == shape) for n in nodes)
                and not any(value in inside for value in self._taken(product))
                and self._identity_inside(nodes, inside)
            )
        inside = {value for node in nodes for value in node.results}
        displaced = [node.operands[0] for node in nodes if node.op in DISPLACED]
        if any(set(self._taken_of(value)) & inside for value in displaced):
            return False
        return loop_axes_agree(self._with_free(nodes), free=self.free, reductions=REDUCTIONS)

    def _identity_inside(self, nodes: Sequence[Node], inside: set[Value]) -> bool:
        """No value of the epilogue is read through a broadcast or reshape by another one."""
        return not any(
            value in inside and value not in node.operands for node in nodes for value in self._taken(node)
        )

    def _taken_of(self, value: Value) -> list[Value]:
        return self._taken(self.graph.producers[value]) if value in self.free else [value]

    def _with_free(self, nodes: Sequence[Node]) -> list[Node]:
        """The nodes and the free ones that they need, in topological order."""
        places = {self.place[node.results[0]] for node in nodes}
        pending = [value for node in nodes for value in node.operands]
        while pending:
            value = pending.pop()
            k = self.place.get(value)
            if k is not None and k not in places and value in self.free:
                places.add(k)
                pending.extend(self.graph.nodes[k].operands)
        return [self.graph.nodes[k] for k in sorted(places)]

    def _detour(self, first: _Group, second: _Group) -> bool:
        """Whether a path leads from one group to the other through a third."""
        pending = [group for group in first.after if group is not second]
        visited = set(pending)
        while pending:
            group = pending.pop()
            if group is second:
                return True
            for later in group.after:
                if later not in visited:
                    visited.add(later)
                    pending.append(later)
        return False

    def _merge(self, first: _Group, second: _Group, places: list[int], family: str) -> None:
        first.places, first.family = places, family
        for k in places:
            self.groups[k] = first
        for group in second.before - {first}:
            group.after.discard(second)
            self._edge(group, first)
        for group in second.after - {first}:
            group.before.discard(second)
            self._edge(first, group)
        first.after -= {first, second}
        first.before -= {first, second}

    def _kernels(self) -> Graph:
        """The fused graph, groups in an order that respects every edge, ties by place in the source graph."""
        builder = Builder(self.graph.name)
        seen = _inputs(builder, self.graph)
        for group in self._sorted(self._distinct()):
            if group.family == "view":
                builder.copy_nodes(self._with_free([self.graph.nodes[group.places[0]]]), seen)
            else:
                self._emit(builder, seen, group)
        return _with_outputs(builder, self.graph, seen)

    @staticmethod
    def _sorted(groups: Sequence[_Group]) -> list[_Group]:
        order: networkx.DiGraph[_Group] = networkx.DiGraph()
        order.add_nodes_from(groups)
        order.add_edges_from((group, later) for group in groups for later in group.after if later.places)
        return list(networkx.lexicographical_topological_sort(order, key=lambda group: group.places[0]))

    def _emit(self, builder: Builder, seen: dict[Value, Value], group: _Group) -> None:
        members = [self.graph.nodes[k] for k in sorted({*group.places, *group.repeated})]
        made = {value for node in members for value in node.results}
        results = [value for k in group.places for value in self.graph.nodes[k].results if self._stored(value, group)]
        region = Builder("body")
        inner: dict[Value, Value] = {}
        operands: list[Value] = []
        nodes = self._with_free(members)
        for node in nodes:
            for value in node.operands:
                if value not in inner and value not in made and self.place.get(value) not in {self.place[n.results[0]] for n in nodes}:
                    operands.append(value)
                    inner[value] = region.input(value.name, value.type, "operand")
            region.copy_nodes([node], inner)
        for value in results:
            region.output(value.name, inner[value], "result")
        main = next((node for node in members if node.op == "matmul"), members[-1])
        attrs = {
            "family": group.family,
            "name": results[-1].name,
            "leading": tuple(self._leading(value) for value in (*operands, *results)),
        }
        taken = [seen[value] for value in operands]
        names = [value.name for value in results]
        stored = builder.emit_node("kernel", taken, attrs, (region.graph(),), names, main.span)
        seen.update(zip(results, stored, strict=True))

    def _leading(self, value: Value) -> int:
        """The elements from one row of a stored matrix to the next, or 0 where rows lie densely.

        Rows that are 4 KB apart, or a multiple of it, fall into the same few sets of a cache, so a product that walks
        down a column loses a third of its speed: such rows in workspace get a vector more.
        """
        outside = value in self.graph.output_values or value not in self.place
        viewed = any(node.op == "reshape" for node in self.graph.uses.get(value, ()))
        if outside or viewed or value.type.rank != 2 or self.graph.producers[value].op == "reshape":
            return 0
        columns = value.type.shape[1]
        crowded = isinstance(columns, int) and columns * value.type.dtype.bytes % CROWDED == 0 and columns > 0
        return columns + VECTOR // value.type.dtype.bytes if crowded and isinstance(columns, int) else 0

    def _stored(self, value: Value, group: _Group) -> bool:
        """Whether a value of a group is needed outside, by somebody who does not compute it again."""
        if value in self.graph.output_values:
            return True
        return bool(self._using_groups(value, group))

    def _recompute(self, group: _Group) -> None:
        """Leaves cheap work on stored values to the kernels that want it, instead of storing its result too."""
        for k in group.places[::-1]:
            (value,) = self.graph.nodes[k].results
            users = self._using_groups(value, group)
            if k not in group.places or not users or len(users) > 2 or value in self.graph.output_values:
                continue
            chain = self._cheap_chain(k, group)
            if not chain or any(user.family not in ("nest", "matmul") for user in users):
                continue
            if not all(self._fits(user.family, self._with(user, chain)) for user in users):
                continue
            for user in users:
                for place in set(chain) - set(user.repeated):
                    user.repeated.append(place)
                    self.repeating.setdefault(place, []).append(user)
                for taken in (v for place in chain for v in self._taken(self.graph.nodes[place])):
                    if taken in self.place and self.groups[self.place[taken]] is not user:
                        self._edge(self.groups[self.place[taken]], user)
            for place in sorted(set(chain) & set(group.places), reverse=True):
                (made,) = self.graph.nodes[place].results
                if not self._stored(made, group) and group not in self._computing(self._users(made)):
                    group.places.remove(place)

    def _using_groups(self, value: Value, group: _Group) -> list[_Group]:
        """The other groups that read a value and do not compute it again."""
        return [user for user in self._computing(self._users(value)) if user is not group and self.place[value] not in user.repeated]

    def _computing(self, places: Sequence[int]) -> list[_Group]:
        """The groups that compute one of these nodes, first or again."""
        first = [self.groups[k] for k in places if k in self.groups[k].places]
        again = [group for k in places for group in self.repeating.get(k, [])]
        return list({id(group): group for group in (*first, *again)}.values())

    def _cheap_chain(self, k: int, group: _Group) -> list[int]:
        """The places to repeat so as to have a node's value again from stored ones; empty where that is not cheap."""
        chain: list[int] = []
        pending = [k]
        while pending:
            place = pending.pop()
            node = self.graph.nodes[place]
            if node.op not in POINTWISE or OPERATIONS[node.op].flops > CHEAP or len(chain) == LONGEST_CHAIN:
                return []
            chain.append(place)
            for value in self._taken(node):
                if self._written(value):
                    return []
                source = self.place.get(value)
                if source is None or source in chain or source in pending:
                    continue
                if not self._stored(value, self.groups[source]):
                    pending.append(source)
        return chain

    def _with(self, group: _Group, chain: Sequence[int]) -> list[int]:
        return sorted({*group.places, *group.repeated, *chain})

    def _written(self, value: Value) -> bool:
        """Whether a value is a state slot that this graph also writes: reading it later would need another order."""
        return any(port.value == value and port.role in STATE_ROLES for port in self.graph.inputs)

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
