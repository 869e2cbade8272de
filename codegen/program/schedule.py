"""Scheduling: kernels become tasks with a phase, a number of parts and places in memory.

A phase holds tasks that need nothing from each other; all threads meet between phases and nowhere else. The parts of a
task are fixed here, from its cost alone, so results do not depend on how many threads share them out. A task that
overwrites a slot of the state comes after all readers of its old value, and in a training step after the loss, so that
a loss that is not finite stops the step before it changes anything. A slot that takes turns is stored beside its old
value, as soon as may be, in workspace that is its own. A scan becomes a `loop`, whose body is scheduled by
itself: its places are told from where the loop's operands and results lie at each step. Where the rows of the batch go
their own ways through all steps, the loop is cut into parts of the rows (`_row_parts`), whose threads meet behind the
last step only. Fused graph in; graph of `task`, `loop` and view nodes out, in order of phases, with the same
values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter

from tapeless.abi.calls import ARGUMENTS
from tapeless.codegen.kernels.planned import share_out
from tapeless.codegen.kernels.winograd_plan import CONVOLUTIONS, relative_time, winograd_pays
from tapeless.codegen.loops.language import Function
from tapeless.codegen.program.memory import Layout, Lifetime, Place, align, place_workspace
from tapeless.ir.graph import STATE_ROLES, Builder, Graph, Node, Port, Value
from tapeless.ir.machine import Machine
from tapeless.ir.ops import OPERATIONS, VIEWS
from tapeless.ir.row_wise import is_row_wise
from tapeless.ir.types import DType, Examples, Rows, Tensor

SCRATCH = "scratch"  # the base of what a thread has to itself
ORDER = "order"  # the port that holds the examples' order; the tasks of phase 0 assemble the batch by it
ASSEMBLY = "assembly"  # the family of kernels that do so
PRODUCTS = frozenset({"product", "convolution", "attention"})  # families whose work is multiply-adds on registers


@dataclass(frozen=True)
class Lowered:
    """A kernel's loops, and the plan by which they were written."""

    function: Function
    plan: object


Lower = Callable[[Node], Lowered]


@dataclass(frozen=True)
class Turn:
    """A slot that takes turns: tasks read it at `now` and store it at `new`, which are its place in the state and the
    other one by turns. It begins and ends in the state.
    """

    slot: str
    state: Place
    other: Place
    bytes: int

    @property
    def now(self) -> str:
        return f"now.{self.slot}"

    @property
    def new(self) -> str:
        return f"new.{self.slot}"


@dataclass(frozen=True)
class Scheduled:
    """An entry's schedule: the graph of tasks, their functions by name, and the size of the workspace."""

    graph: Graph
    functions: Mapping[str, Function]
    workspace: int
    scratch: int  # what each thread has to itself, behind the workspace
    batch: Mapping[str, tuple[str, Place]]  # by data input: the value that its rows are assembled into, and its place
    turns: Sequence[Turn] = ()  # the slots that take turns


def schedule(
    graph: Graph, lower: Lower, state: Layout, gradients: Layout, capacity: int, machine: Machine
) -> Scheduled:
    """Give every kernel of a fused graph its phase, parts and places; `lower` makes a kernel's loops."""
    assembled, batch = _with_assembly(graph)
    plan = _Plan(lower, machine)
    turning = {port.label for port in assembled.outputs if port.turns}
    outside = {
        port.value: Place(f"now.{port.label}")
        if port.role in STATE_ROLES and port.label in turning
        else _outside(port, "data", state, gradients)
        for port in assembled.inputs
    }
    outside |= {
        port.value: Place(f"new.{port.label}") if port.turns else _outside(port, "output", state, gradients)
        for port in assembled.outputs
        if port.role in ("state", "gradient", "output", "carry")
    }
    made, places, workspace = plan.scheduled(assembled, outside, capacity)
    rows = {label: (value.name, places[value]) for label, value in batch.items()}
    turns = []
    for port in graph.outputs:
        if port.turns:
            place, size = Place("state", state.offsets[port.label]), port.value.type.bytes(capacity)
            turns.append(Turn(port.label, place, Place("workspace", workspace), size))
            workspace += align(size)
    return Scheduled(made, plan.functions, workspace, plan.scratch, rows, tuple(turns))


@dataclass
class _Plan:
    """Schedules graphs inside graphs, and collects the functions of their tasks."""

    lower: Lower
    machine: Machine
    functions: dict[str, Function] = field(default_factory=dict)
    scratch: int = 0

    def scheduled(
        self, graph: Graph, outside: Mapping[Value, Place], capacity: int, *, alone: bool = False
    ) -> tuple[Graph, dict[Value, Place], int]:
        """The graph of tasks, the place of every value and the size of the workspace for so many rows, given the
        places of ports. `alone`: one thread runs it, and nothing in it is shared out.
        """
        phases = _phases(graph)
        lowered = {node.results[0]: self.lower(node) for node in graph.nodes if node.op == "kernel"}
        functions = {value: made.function for value, made in lowered.items()}
        self.functions |= {function.name: function for function in functions.values()}
        bodies = {node.results[0]: self._body(node, capacity, alone) for node in graph.nodes if node.op == "scan"}
        self.scratch = max((self.scratch, *(_scratch(function) for function in functions.values())))
        loops = {value: body.bytes for value, body in bodies.items()}
        places, working, workspace = _places(graph, phases, loops, outside, capacity)
        builder = Builder(graph.name)
        seen = {p.value: builder.input_like(p) for p in graph.inputs}
        for k in sorted(range(len(graph.nodes)), key=lambda k: (phases[k], k)):
            node = graph.nodes[k]
            if node.op not in ("kernel", "scan"):
                builder.copy_nodes([node], seen)
                continue
            first = node.results[0]
            attrs = {
                **node.attrs,
                "phase": phases[k],
                "places": tuple(str(places[value]) for value in (*node.operands, *node.results)),
                "scratch": str(working.get(first, "")),
            }
            regions = node.regions
            if node.op == "kernel":
                function = functions[first]
                attrs |= {"parts": function.parts, "function": function.name, "plan": str(lowered[first].plan)}
                attrs["scratch"] = str(Place(SCRATCH)) if _scratch(function) else ""
            else:
                attrs |= {"parts": bodies[first].parts, "workspace": bodies[first].workspace}
                regions = (bodies[first].graph,)
            op, names = {"kernel": "task", "scan": "loop"}[node.op], [value.name for value in node.results]
            results = builder.emit_node(op, [seen[v] for v in node.operands], attrs, regions, names, node.span)
            seen.update(zip(node.results, results, strict=True))
        for port in graph.outputs:
            builder.output_like(port, seen[port.value])
        return builder.graph(), places, workspace

    def _body(self, node: Node, capacity: int, alone: bool) -> _Body:
        """A scan's body as tasks: its ports lie where the loop says at each step."""
        (body,) = node.regions
        outside = {port.value: Place(f"operand.{k}") for k, port in enumerate(body.inputs)}
        outside |= {port.value: Place(f"result.{k}") for k, port in enumerate(body.outputs)}
        made, _, workspace = self.scheduled(body, outside, capacity, alone=alone)
        carried = sum(_carried_bytes(node, capacity))
        parts = 1 if alone or not is_row_wise(body) else _row_parts(node, made, self.machine, capacity)
        if parts == 1:
            return _Body(made, 1, workspace, workspace + carried)
        made, _, workspace = self.scheduled(body, outside, -(-capacity // parts), alone=True)
        return _Body(made, parts, workspace, parts * workspace + carried)


@dataclass(frozen=True)
class _Body:
    """A scan's body as tasks, the parts that its rows are cut into, the bytes of a part's workspace, and those that the
    loop needs in all.
    """

    graph: Graph
    parts: int
    workspace: int
    bytes: int


def _row_parts(node: Node, body: Graph, machine: Machine, capacity: int) -> int:
    """Into how many parts the rows of a loop are cut, if they go their own ways.

    What the rows are made of besides is read in each step by every thread. If it is more than a core's cache holds, it
    is better that the steps' tasks are shared out, and each thread reads some of it.
    """
    tasks = [task for task in body.walk() if task.op == "task"]
    common = sum(value.type.bytes(0) for value in node.operands[node.attrs["carries"] + node.attrs["sequences"] :])
    if common > machine.core_cache and any(task.attrs["parts"] > 1 for task in tasks):
        return 1
    work = node.attrs["length"] * sum(cost(task, machine, capacity) for task in body.nodes if task.op not in VIEWS)
    return share_out(work / 1000, capacity, "rows", 1, machine).parts


def _scratch(function: Function) -> int:
    """The bytes that a call of a function needs for itself."""
    return align(sum(buffer.bytes for buffer in function.buffers if buffer.role == "scratch"))


def _carried_bytes(node: Node, capacity: int) -> list[int]:
    """The bytes of each carry: steps write by turns into the loop's result and into a second place, behind the body's
    workspace."""
    return [align(value.type.bytes(capacity)) for value in node.results[: node.attrs["carries"]]]


def assembles(node: Node) -> bool:
    """Whether a task belongs to the assembly of a batch by an order, and is left out where rows lie in sequence."""
    return node.op == "task" and node.attrs["family"] == ASSEMBLY


def _with_assembly(graph: Graph) -> tuple[Graph, dict[str, Value]]:
    """The graph behind kernels that gather each data input's rows by the order; those that have rows."""
    data = [port for port in graph.inputs if port.role == "data" and port.value.type.shape[:1] == (Rows(),)]
    if not data:
        return graph, {}
    builder = Builder(graph.name)
    order = builder.input(ORDER, Tensor(DType.I32, (Rows(),)), "argument", name=f"{ORDER}.rows")
    seen, batch = {}, {}
    for port in graph.inputs:
        type = port.value.type
        if port not in data:
            seen[port.value] = builder.input_like(port, type)
            continue
        table = builder.input(
            port.label, Tensor(type.dtype, (Examples(), *type.shape[1:])), "data", port.span, f"{port.value.name}.all"
        )
        region = Builder("body")
        inside = region.input(table.name, table.type, "operand"), region.input(order.name, order.type, "operand")
        region.output(port.value.name, region.emit("gather", *inside, name=port.value.name), "result")
        attrs = {"family": ASSEMBLY, "name": port.value.name, "leading": (0, 0, 0)}
        (rows,) = builder.emit_node("kernel", (table, order), attrs, (region.graph(),), (port.value.name,), port.span)
        seen[port.value] = batch[port.label] = rows
    builder.copy_nodes(graph.nodes, seen)
    for port in graph.outputs:
        builder.output_like(port, seen[port.value])
    return builder.graph(), batch


def _phases(graph: Graph) -> list[int]:
    """The phase of each node: one more than the latest of those it must follow."""
    place = {value: k for k, node in enumerate(graph.nodes) for value in node.results}
    before: list[set[int]] = [{place[value] for value in node.operands if value in place} for node in graph.nodes]
    slots = {port.label: port.value for port in graph.inputs if port.role in STATE_ROLES}
    losses = [place[port.value] for port in graph.outputs if port.role == "loss"]
    readers: dict[Value, list[int]] = {}
    for k, node in enumerate(graph.nodes):
        for value in _aliases(graph, node):
            readers.setdefault(value, []).append(k)
    for port in graph.outputs:
        if port.role != "state" or port.turns:
            continue
        writer = place[port.value]
        before[writer].update(loss for loss in losses if loss != writer)
        if port.label in slots:
            before[writer].update(k for k in readers.get(slots[port.label], ()) if k != writer)
    phases = [0] * len(graph.nodes)
    for k in TopologicalSorter(dict(enumerate(before))).static_order():
        step = 0 if graph.nodes[k].op in VIEWS else 1
        phases[k] = max((phases[other] + step for other in before[k]), default=0)
    return phases


def _aliases(graph: Graph, node: Node) -> list[Value]:
    """The operands of a node, and what they are views of."""
    found = []
    for value in node.operands:
        found.append(value)
        while value in graph.producers and graph.producers[value].op in VIEWS:
            value = graph.producers[value].operands[0]
            found.append(value)
    return found


def _places(
    graph: Graph, phases: Sequence[int], scratch: Mapping[Value, int], outside: Mapping[Value, Place], capacity: int
) -> tuple[dict[Value, Place], dict[Value, Place], int]:
    """The place of every value, that of the memory which a node needs for itself (by its first result), and the size of
    the workspace."""
    places = dict(outside)
    last = max(phases, default=0) + 1
    root: dict[Value, Value] = {}
    first: dict[Value, int] = {}
    final: dict[Value, int] = {}
    for k in sorted(range(len(graph.nodes)), key=lambda k: (phases[k], k)):
        node = graph.nodes[k]
        for value in node.operands[:1] if node.op in VIEWS else node.operands:
            source = root.get(value, value)
            final[source] = max(final.get(source, 0), phases[k])
        for value in node.results:
            if node.op in VIEWS:
                root[value] = root.get(node.operands[0], node.operands[0])
            else:
                first[value] = phases[k]
                final.setdefault(value, phases[k])
    for port in graph.outputs:
        final[root.get(port.value, port.value)] = last
    leading = {
        value: ld
        for node in graph.nodes
        if node.op == "kernel"
        for value, ld in zip(node.results, node.attrs["leading"][len(node.operands) :], strict=True)
    }
    lifetimes = [
        Lifetime((value, "value"), _bytes(value.type, leading.get(value, 0), capacity), start, final[value])
        for value, start in first.items()
        if value not in places
    ]
    lifetimes += [
        Lifetime((value, "scratch"), size, first[value], first[value]) for value, size in scratch.items() if size
    ]
    offsets, size = place_workspace(lifetimes)
    working: dict[Value, Place] = {}
    for (value, kind), offset in offsets.items():
        (places if kind == "value" else working)[value] = Place("workspace", offset)
    for value, source in root.items():
        places[value] = places[source]
    return places, working, size


def _bytes(type: Tensor, leading: int, capacity: int) -> int:
    """The memory of a tensor whose rows are `leading` elements apart, if that is not 0."""
    return type.at(capacity)[0] * leading * type.dtype.bytes if leading else type.bytes(capacity)


def _outside(port: Port, side: str, state: Layout, gradients: Layout) -> Place:
    """The place of a port; `side` is `data` or `output`, where a carry lies with what comes in or goes out."""
    if port.role in STATE_ROLES:
        return Place("state", state.offsets[port.label])
    if port.role == "gradient":
        return Place("gradients", gradients.offsets[port.label])
    if port.role == "argument":
        return Place(ORDER) if port.label == ORDER else Place("arguments", ARGUMENTS[port.label])
    return Place(f"{side if port.role == 'carry' else port.role}.{port.key}")


def cost(node: Node, machine: Machine, capacity: int) -> int:
    """An estimate of a task's or loop's time in nanoseconds, for sharing parts out."""
    if node.op == "loop":
        step = sum(cost(task, machine, capacity) for task in node.regions[0].nodes if task.op not in VIEWS)
        return step * int(node.attrs["length"])
    flops, products = 0, 0.0
    indexed: set[Value] = set()
    for inner in node.regions[0].nodes:
        operands, results = [v.type for v in inner.operands], [v.type for v in inner.results]
        operation = OPERATIONS[inner.op]
        work = operation.cost(operands, results, inner.attrs, capacity).flops
        if operation.family in PRODUCTS:
            fewer = relative_time(inner, machine) if inner.op in CONVOLUTIONS and winograd_pays(inner, machine) else 1.0
            products += fewer * work / machine.product_flops(results[0].dtype.bytes)
        else:
            flops += work
        if operation.family == "indexing":
            indexed.add(inner.operands[0])  # of a table, those rows are read that are asked for
    walked = [port.value.type for port in node.regions[0].inputs if port.value not in indexed]
    walked += [value.type for value in node.results]
    moved = sum(type.bytes(capacity) for type in walked)
    lanes = max((machine.lanes(type.dtype.bytes) for type in walked), default=1)
    return machine.task_nanoseconds + int(products + max(flops / machine.nest_flops(lanes), moved / machine.task_bytes))
