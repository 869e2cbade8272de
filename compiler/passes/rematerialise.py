"""Rematerialisation: which forward values are kept for the backward half, and which are made again there.

Of each stretch of the forward half (`halves.py`) a minimum cut says what to keep and what to make again, for a price of
a byte that is kept: with a rising price it keeps less. The values at which stretches begin are always kept, so that
what is made again is one stretch at a time, once the adjoint of its end is known (Chen, Xu, Zhang, Guestrin: Training
Deep Nets with Sublinear Memory Cost, 2016). In the cut's graph a value is two nodes, that it is at hand in the backward
half and that it is made again there: between them lies the edge that is cut where it is kept, as in the partitioner of
functorch (He, Yu: Transcending Runtime-Memory Tradeoffs in Checkpointing by being Fusion Aware, 2023); here making it
again has its own price, so that products can be made again as well.

`steps` orders all that can be given up by the time that a byte costs; `rematerialised` is the pass, for as many of
these steps as the memory asks for. Valid graph in, valid graph out, with the same values, bit for bit: what is made
again are the same operations on the same operands.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from tapeless.compiler.passes.halves import Halves, halves, is_stored, stored
from tapeless.compiler.passes.rewriter import without_dead_code
from tapeless.ir.graph import Graph, Node, Value
from tapeless.ir.machine import Machine
from tapeless.ir.ops import OPERATIONS

PRICES = tuple(2**k for k in range(2, 24))  # of a kept byte, in femtoseconds: up to 8 ns
FEMTO = 1_000_000_000  # femtoseconds of a microsecond


@dataclass(frozen=True)
class Choice:
    """Of one stretch: the values that are made again, by the first results of their nodes, what is kept, and the time
    in nanoseconds and memory in bytes that both take, of a training step."""

    stretch: int
    again: tuple[Value, ...]
    kept: tuple[Value, ...]
    nanoseconds: int
    bytes: int


@dataclass(frozen=True)
class Steps:
    """What can be made again in a graph: choices, each of which replaces those before it of the same stretch, the
    cheapest for the bytes that it frees first."""

    graph: Graph
    halves: Halves
    choices: tuple[Choice, ...]
    whole: Mapping[int, int]  # by stretch, the bytes that are kept where nothing is made again

    def first(self, count: int) -> tuple[Choice, ...]:
        """The choices that hold after so many steps, by stretch."""
        return tuple({choice.stretch: choice for choice in self.choices[:count]}.values())

    def freed(self) -> list[int]:
        """The bytes that each number of steps frees."""
        now = dict(self.whole)
        freed = [0]
        for choice in self.choices:
            freed.append(freed[-1] + now[choice.stretch] - choice.bytes)
            now[choice.stretch] = choice.bytes
        return freed


def steps(graph: Graph, machine: Machine, rows: int) -> Steps:
    """What can be made again in a training step of so many rows."""
    found = halves(graph, rows)
    members: dict[int, list[Node]] = {}
    for node in graph.nodes:
        number = found.stretch.get(node.results[0], found.last)
        if number < found.last:
            members.setdefault(number, []).append(node)
    known: dict[object, list[frozenset[int]]] = {}
    rated: list[tuple[float, int, Choice]] = []
    whole: dict[int, int] = {}
    for number, nodes in members.items():
        stretch = _Stretch(graph, found, number, nodes, machine, rows)
        key = stretch.structure()
        if key not in known:  # blocks that are alike are cut alike
            known[key] = stretch.cuts()
        before = stretch.choice(frozenset())
        whole[number] = before.bytes
        for places in known[key]:
            choice = stretch.choice(places)
            if choice.bytes < before.bytes:
                rate = (choice.nanoseconds - before.nanoseconds) / (before.bytes - choice.bytes)
                rated.append((rate, number, choice))
                before = choice
    rated.sort(key=lambda item: item[:2])
    return Steps(graph, found, tuple(choice for _, _, choice in rated), whole)


class _Stretch:
    """One stretch of the forward half, with the slopes of its values."""

    def __init__(
        self, graph: Graph, found: Halves, number: int, nodes: Sequence[Node], machine: Machine, rows: int
    ) -> None:
        self.graph, self.number, self.nodes, self.machine, self.rows = graph, number, nodes, machine, rows
        self.place = {value: k for k, node in enumerate(nodes) for value in node.results if value not in found.crossing}
        self.wanted = {
            value
            for value in self.place
            if any(user.results[0] in found.adjoints for user in graph.uses.get(value, ()))
        }
        self.prices = [_femtoseconds(node, machine, rows) for node in nodes]

    def structure(self) -> object:
        """What two stretches share if they are cut alike."""
        local: dict[Value, int] = {}
        for node in self.nodes:
            for value in (*node.operands, *node.results):
                local.setdefault(value, len(local))
        return tuple(
            (
                node.op,
                tuple(local[value] for value in node.operands),
                tuple((value.type, value in self.place, value in self.wanted) for value in node.results),
                price,
            )
            for node, price in zip(self.nodes, self.prices, strict=True)
        )

    def cuts(self) -> list[frozenset[int]]:
        """The places of the nodes that are made again, for rising prices of memory."""
        found: dict[frozenset[int], None] = {}
        for price in PRICES:
            found.setdefault(self._cut(price))
        return [places for places in found if places]

    def _cut(self, price: int) -> frozenset[int]:
        """The places of the nodes that are made again, for the price of a byte."""
        import networkx  # for models whose memory is bounded: its import takes long

        flow: networkx.DiGraph[object] = networkx.DiGraph()
        flow.add_nodes_from(("keep", "end"))
        for value in self.wanted:
            flow.add_edge("keep", ("at hand", value.name))  # without a capacity: never cut
        for value, k in self.place.items():
            made = ("again", k)
            if is_stored(self.nodes[k]):
                flow.add_edge(("at hand", value.name), made, capacity=value.type.bytes(self.rows) * price)
            else:
                flow.add_edge(("at hand", value.name), made)
        for k, node in enumerate(self.nodes):
            flow.add_edge(("again", k), "end", capacity=self.prices[k])
            for value in node.operands:
                if value in self.place:
                    flow.add_edge(("again", k), ("at hand", value.name))
        _, (chosen, _) = networkx.minimum_cut(flow, "keep", "end")
        return frozenset(k for k in range(len(self.nodes)) if ("again", k) in chosen)

    def choice(self, places: frozenset[int]) -> Choice:
        """The choice to make the nodes at these places again."""
        read = {value for k in places for value in self.nodes[k].operands if self.place.get(value, k) not in places}
        wanted = {value for value in self.wanted if self.place[value] not in places}
        sources = {stored(self.graph, value) for value in read | wanted}
        kept = [value for node in self.nodes if is_stored(node) for value in node.results if value in sources]
        return Choice(
            self.number,
            tuple(self.nodes[k].results[0] for k in sorted(places)),
            tuple(kept),
            sum(self.prices[k] for k in places) // 1_000_000,
            sum(value.type.bytes(self.rows) for value in kept if value in self.place),
        )


def _femtoseconds(node: Node, machine: Machine, rows: int) -> int:
    """What it takes to make a node's results again."""
    if not is_stored(node):
        return 0
    if node.op == "scan":
        length: int = node.attrs["length"]
        return length * sum(_femtoseconds(inner, machine, rows) for inner in node.regions[0].nodes)
    operation = OPERATIONS[node.op]
    types = [value.type for value in node.results]
    lanes = machine.lanes(types[0].dtype.bytes)
    work = operation.cost([value.type for value in node.operands], types, node.attrs, rows)
    if operation.family in ("product", "attention"):
        rate = machine.products if operation.family == "product" else machine.scores
        return work.flops * FEMTO // (2 * lanes * rate)
    elements = max(type.count(rows) for type in (*types, *(value.type for value in node.operands)))
    computing = elements * operation.instructions * FEMTO // (lanes * machine.instructions)
    moving = 0 if operation.family == "pointwise" else work.bytes * FEMTO // machine.bytes
    return computing + moving


@dataclass(frozen=True)
class Bounded:
    """A fused graph that keeps to a bound, and what it makes again for that."""

    graph: Graph
    choices: tuple[Choice, ...]


class TooMuch(Exception):
    """A bound cannot be met: `bytes` are the least that was found."""

    def __init__(self, bytes: int) -> None:
        super().__init__(f"at least {bytes} bytes")
        self.bytes = bytes


TRIES = 5  # plans made on the way to a bound


def within(
    graph: Graph,
    machine: Machine,
    rows: int,
    bound: int,
    fused: Callable[[Graph], Graph],
    weigh: Callable[[Graph], int],
) -> Bounded:
    """The kernels of a graph with few steps that keep it within a bound, by what the plan of memory says (`weigh`).

    How many steps is guessed from the bytes that they free, and from what those that were tried have freed in truth.
    Raises TooMuch.
    """
    whole = fused(graph)
    low = weigh(whole)
    if low <= bound:
        return Bounded(whole, ())
    found = steps(graph, machine, rows)
    freed = found.freed()
    before, after = 0, len(found.choices)  # too few steps, and as many as do
    least, best = low, None
    high = low - freed[after]  # the bytes behind `after` steps, as far as is known
    for _ in range(TRIES):
        if after - before <= (best is not None):
            break
        share = (low - bound) / max(low - high, 1)
        wanted = freed[before] + share * (freed[after] - freed[before])
        count = min(max(bisect_left(freed, wanted), before + 1), after - (best is not None))
        choices = found.first(count)
        made = fused(rematerialised(found, choices))
        taken = weigh(made)
        least = min(least, taken)
        if taken <= bound:
            best, after, high = Bounded(made, choices), count, taken
        else:
            if best is None:  # what steps free is less than they say
                high = taken - (freed[after] - freed[count]) * (low - taken) // max(freed[count] - freed[before], 1)
            before, low = count, taken
    if best is None:
        raise TooMuch(least)
    return best


def rematerialised(found: Steps, choices: Sequence[Choice]) -> Graph:
    """The graph in which the backward half makes again what these choices say, of what they keep."""
    graph = found.graph
    if not choices:
        return graph
    order = {node.results[0]: k for k, node in enumerate(graph.nodes)}
    added: list[tuple[tuple[int, int], Node]] = []
    fresh: dict[Value, Value] = {}
    for choice in choices:
        readers = _readers(graph, found.halves, choice)
        token = _token(graph, found.halves, choice, readers)
        if token is None:
            continue
        first = min(order[node.results[0]] for node in readers)
        made = _made_again(graph, found.halves, choice, token, fresh)
        added += [((first, k - len(made)), node) for k, node in enumerate(made)]
    nodes = [((order[node.results[0]], 0), _reading(node, found.halves, fresh)) for node in graph.nodes]
    return without_dead_code(replace(graph, nodes=_sorted([*nodes, *added])))


def _reading(node: Node, found: Halves, fresh: Mapping[Value, Value]) -> Node:
    """An adjoint node, reading what is made again in place of what was made first."""
    if node.results[0] not in found.adjoints:
        return node
    return replace(node, operands=tuple(fresh.get(value, value) for value in node.operands))


def _readers(graph: Graph, found: Halves, choice: Choice) -> list[Node]:
    """The adjoint nodes that read what is made again."""
    made = {value for node in graph.nodes if node.results[0] in choice.again for value in node.results}
    made -= found.crossing
    return [node for node in graph.nodes if node.results[0] in found.adjoints and not made.isdisjoint(node.operands)]


def _token(graph: Graph, found: Halves, choice: Choice, readers: Sequence[Node]) -> Value | None:
    """The adjoint after which a stretch is made again: the latest one that needs none of it and that its readers need,
    of the type of a value at the stretch's end if there is one, as the adjoint of that is."""
    after = {value for node in readers for value in node.results}
    for node in graph.nodes:
        if not after.isdisjoint(node.operands):
            after.update(node.results)
    before = graph.ancestors(value for node in readers for value in node.operands) - after
    known = [
        value
        for node in graph.nodes
        if node.results[0] in found.adjoints and is_stored(node)
        for value in node.results
        if value in before and value.type.rank
    ]
    ends = {value.type for value in found.crossing if found.stretch[value] == choice.stretch}
    return next((value for value in reversed(known) if value.type in ends), known[-1] if known else None)


def _made_again(graph: Graph, found: Halves, choice: Choice, token: Value, fresh: dict[Value, Value]) -> list[Node]:
    """The nodes of a stretch once more, of kept values that are read after the token; `fresh` gains their results."""
    made: list[Node] = []
    late: dict[Value, Value] = {}
    again: dict[Value, Value] = {}

    def read(value: Value) -> Value:
        """A value that is not made again, but after the token; and so what costs nothing to make of such."""
        producer = graph.producers.get(value)
        if value not in late and producer is not None and not is_stored(producer):
            operands = [again.get(operand) or read(operand) for operand in producer.operands]
            late[value] = Value(f"{value.name}.late.{choice.stretch}", value.type)
            made.append(replace(producer, operands=tuple(operands), results=(late[value],)))
        elif value not in late:
            late[value] = Value(f"{value.name}.kept.{choice.stretch}", value.type)
            made.append(Node("after", (value, token), (late[value],)))
        return late[value]

    for node in graph.nodes:
        if node.results[0] not in choice.again:
            continue
        # of draws, the counters are what is read late; of all else, what moves with the data
        moves = [value in found.moving or OPERATIONS[node.op].family == "random" for value in node.operands]
        operands = [
            again.get(value) or (read(value) if moved else value)
            for value, moved in zip(node.operands, moves, strict=True)
        ]
        results = tuple(Value(f"{value.name}.again", value.type) for value in node.results)
        made.append(replace(node, operands=tuple(operands), results=results))
        again.update(
            (value, result) for value, result in zip(node.results, results, strict=True) if value not in found.crossing
        )
    fresh.update(again)
    return made


def _sorted(placed: Iterable[tuple[tuple[int, int], Node]]) -> tuple[Node, ...]:
    """Nodes in a topological order that keeps to their places where it can."""
    nodes = dict(placed)
    makers = {value: place for place, node in nodes.items() for value in node.results}
    waiting = {place: {makers[v] for v in node.operands if v in makers} for place, node in nodes.items()}
    users: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for place, needed in waiting.items():
        for maker in needed:
            users.setdefault(maker, []).append(place)
    ready = [place for place, needed in waiting.items() if not needed]
    heapq.heapify(ready)
    done = []
    while ready:
        place = heapq.heappop(ready)
        done.append(nodes[place])
        for user in users.get(place, ()):
            waiting[user].discard(place)
            if not waiting[user]:
                heapq.heappush(ready, user)
    return tuple(done)
