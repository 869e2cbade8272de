"""Layout: where the operands and results of kernels lie, decided on the graph before fusion.

The right operand of a product lies row by row; what a kernel reads at places of its own lies in memory; each output
has a value of its own to be stored; rows that would crowd a cache lie apart. Valid graph in, valid graph out, same
values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from graphlib import CycleError, TopologicalSorter

from tapeless.ir.graph import STATE_ROLES, Builder, Graph, Node, Port, Value
from tapeless.ir.machine import Machine
from tapeless.ir.ops import OPERATIONS, POINTWISE, VIEWS
from tapeless.ir.ops.product import last_two_swapped

# No work of their own, and no memory: made anew wherever they are read; a count of operations leaves them out.
FREE = frozenset({"constant", "iota", "count", "broadcast"})
# Operations with a kernel of their own, and its family.
ALONE = {name: operation.kernel for name, operation in OPERATIONS.items() if operation.kernel}
# Read at places that the loops do not stand at: what they take must lie in memory.
DISPLACED = frozenset({"pick", "slice", "pad", "windows", "align_windows"})
# Read memory through strides, and so also through those of a view.
THROUGH_VIEWS = DISPLACED | {"gather", "transpose"}
# Results that are made tile by tile, with the pointwise work on them; each is a family of kernels.
PRODUCTS = frozenset({"matmul", "convolution"})
IN_MEMORY = frozenset({"scan", *VIEWS, *PRODUCTS, *DISPLACED, *ALONE})
COUNTED = ("random_uniform",)  # by seed and training step, and in loops by the turn
ROWS = 64  # what `batch` counts for where sizes are compared
PLACED = (*VIEWS, "scan")  # results that lie where others are, or where their steps put them


def lay_out(graph: Graph, machine: Machine, again: bool = False) -> Graph:
    """The graph with every operand and every output where kernels want it. `again`: it is the body of a loop, and
    what it makes of its inputs alone can be made once, before the loop.
    """
    return stored_once(packed_operands(graph, machine, again), machine)


def packed_operands(graph: Graph, machine: Machine, again: bool = False) -> Graph:
    """Puts operands in memory as products and indexing want them.

    The right operand of a product that would be read column by column is transposed ahead of it, unless the product
    does so itself (see `_transposes`); what costs nothing to compute, and so has no place in memory, is copied for
    those that read it at places of their own.
    """
    builder = Builder(graph.name)
    seen = inputs_of(builder, graph)
    transposed: dict[Value, Value] = {}
    copied: dict[Value, Value] = {}
    for node in graph.nodes:
        if (row := _picked_row(graph, node, machine)) is not None:
            operands = seen[row], seen[node.operands[1]]
            seen[node.result] = builder.emit("gather", *operands, name=node.result.name, span=node.span)
            continue
        if node.op in IN_MEMORY or node.op in COUNTED:
            for value in node.operands:
                if _needs_copy(graph, node, value, machine) and value not in copied:
                    name = f"{value.name}.stored"
                    copied[value] = builder.emit("cast", seen[value], name=name, span=node.span, dtype=value.type.dtype)
            here = {
                value: copied[value] if _needs_copy(graph, node, value, machine) else seen[value]
                for value in node.operands
            }
        else:
            here = {value: seen[value] for value in node.operands}
        if node.op == "matmul" and node.attrs["transpose_b"] and not _transposes(graph, node, machine, again):
            left, right = (here[value] for value in node.operands)
            if right not in transposed:
                perm = last_two_swapped(right.type.rank)
                transposed[right] = builder.emit("transpose", right, name=f"{right.name}.T", span=node.span, perm=perm)
            attrs = {"transpose_a": node.attrs["transpose_a"], "transpose_b": False}
            seen[node.result] = builder.emit(
                "matmul", left, transposed[right], name=node.result.name, span=node.span, **attrs
            )
        else:
            builder.copy_nodes([node], here)
            seen.update((value, here[value]) for value in node.results)
    return with_outputs(builder, graph, seen)


def _transposes(graph: Graph, node: Node, machine: Machine, again: bool) -> bool:
    """Whether a product a b^T transposes panels of b as it reads them, which it may do several times, rather than be
    given a transposed copy: where more would be copied than a, if that is not transposed already, and the result are.
    Beyond the nearest cache a copy counts twice, as it is written and read again.
    """
    a, b = node.operands
    if b.type.rank != 2 or (again and b not in graph.producers):
        return False
    left, right, result = (value.type.count(ROWS) for value in (a, b, node.result))
    copied = 2 * right if right * b.type.dtype.bytes > 2 * machine.near_cache else right
    return copied >= result + (0 if node.attrs["transpose_a"] else left)


def _picked_row(graph: Graph, node: Node, machine: Machine) -> Value | None:
    """The row of which elements are picked, where all rows are the same and are not worth writing out: where they would
    fill the nearest cache.
    """
    if node.op != "pick" or (spread := graph.producers.get(node.operands[0])) is None or spread.op != "broadcast":
        return None
    (row,), rows = spread.operands, spread.result.type
    if tuple(spread.attrs["axes"]) != (rows.rank - 1,) or rows.bytes(ROWS) < machine.near_cache:
        return None
    makers = (graph.producers.get(value) for value in (row, node.operands[1]))
    return row if all(maker is None or not is_free(maker, graph, machine) for maker in makers) else None


def _needs_copy(graph: Graph, user: Node, value: Value, machine: Machine) -> bool:
    """Whether a value has no place in memory and its user cannot do without one."""
    producer = graph.producers.get(value)
    if producer is None or not is_free(producer, graph, machine):
        return False
    if (user.op == "matmul" and spread_over_stack(producer)) or (user.op in COUNTED and value not in _turns(user)):
        return False
    return not (is_view(producer, graph) and user.op in THROUGH_VIEWS)


def spread_over_stack(node: Node) -> bool:
    """Whether a broadcast repeats matrices for a product's stack: the product reads each of them many times."""
    if node.op != "broadcast":
        return False
    rank = len(node.attrs["shape"])
    return tuple(node.attrs["axes"][-2:]) == (rank - 2, rank - 1)


def stored_once(graph: Graph, machine: Machine) -> Graph:
    """Gives each output port a value of its own that a kernel can store, in an order that overwrites nothing too early.

    Inputs, constants, views and values that go to two ports are copied. A slot of the state is overwritten in place by
    the kernel that makes its new value; where that cannot be after all readers of the old one and after the loss, the
    new value is made elsewhere and copied. A scan overwrites none, as its first step already would.
    """
    plain = set()
    stored: set[Value] = set()
    for port in graph.outputs:
        producer = graph.producers.get(port.value)
        placed = producer is not None and (producer.op in VIEWS or (producer.op == "scan" and port.role == "state"))
        if producer is None or is_free(producer, graph, machine) or placed or port.value in stored:
            plain.add(port.key)
        stored.add(port.value)
    whole = _copied(graph, plain)
    return _copied(whole, _too_early(whole, machine))


def _copied(graph: Graph, keys: Set[str]) -> Graph:
    """The graph with a copy before each output port of these keys."""
    builder = Builder(graph.name)
    seen = inputs_of(builder, graph)
    builder.copy_nodes(graph.nodes, seen)
    values = {}
    for port in graph.outputs:
        values[port] = seen[port.value]
        if port.key in keys:
            name = f"{port.label}.new"
            values[port] = builder.emit("cast", values[port], name=name, span=port.span, dtype=port.value.type.dtype)
    for port, value in values.items():
        builder.output_like(port, value)
    return builder.graph()


def _too_early(graph: Graph, machine: Machine) -> set[str]:
    """The keys of the state ports whose slot would be overwritten before somebody has read it, or before the loss."""
    place = {value: k for k, node in enumerate(graph.nodes) for value in node.results}
    reads = read_slots(graph, machine)
    before = {k: {place[v] for v in node.operands if v in place} for k, node in enumerate(graph.nodes)}
    readers: dict[Value, list[int]] = {}
    for k, node in enumerate(graph.nodes):
        if not is_free(node, graph, machine) and node.op not in VIEWS:
            for slot in {slot for value in node.operands for slot in reads[value]}:
                readers.setdefault(slot, []).append(k)
    losses = [place[port.value] for port in graph.outputs if port.role == "loss"]
    writers: dict[str, int] = {}
    found = set()
    for port, old in overwritten(graph):
        writer = writers[port.key] = place[port.value]
        before[writer].update(k for k in (*losses, *readers.get(old, ())) if k != writer)
        node = graph.nodes[writer]
        direct = node.op in POINTWISE and node.results[0].type.shape == old.type.shape
        elsewhere = any(old in reads[value] for value in node.operands if value != old)
        if (writer in readers.get(old, ()) and not direct) or elsewhere or writer in losses:
            found.add(port.key)
    knotted = _knotted(before)
    return found | {key for key, writer in writers.items() if writer in knotted}


def _knotted(before: Mapping[int, Set[int]]) -> Set[int]:
    """Those that come before themselves, by way of others."""
    try:
        TopologicalSorter(before).prepare()
    except CycleError:
        import networkx  # takes longer to import than most models take to lay out, and is rarely asked

        order: networkx.DiGraph[int] = networkx.DiGraph(
            (first, second) for second, all_first in before.items() for first in all_first
        )
        return {k for part in networkx.strongly_connected_components(order) if len(part) > 1 for k in part}
    return frozenset()


def overwritten(graph: Graph) -> list[tuple[Port, Value]]:
    """The state ports of a graph that overwrite a slot, each with the slot's old value (the port's own if never
    read). A slot that takes turns is not overwritten.
    """
    slots = {port.label: port.value for port in graph.inputs if port.role in STATE_ROLES}
    writing = [port for port in graph.outputs if port.role == "state" and not port.turns]
    return [(port, slots.get(port.label, port.value)) for port in writing]


def read_slots(graph: Graph, machine: Machine) -> dict[Value, frozenset[Value]]:
    """For each value, the inputs whose memory somebody who takes it reads: its own, a view's, a free value's."""
    reads = {port.value: frozenset({port.value}) for port in graph.inputs}
    for node in graph.nodes:
        through = frozenset[Value]()
        if node.op in VIEWS:
            through = reads[node.operands[0]]
        elif is_free(node, graph, machine):
            through = through.union(*(reads[value] for value in node.operands))
        reads.update(dict.fromkeys(node.results, through))
    return reads


def is_free(node: Node, graph: Graph, machine: Machine) -> bool:
    """Whether a node costs nothing worth storing: it is repeated in every kernel that needs it.

    So are cheap scalars of free values, such as one over the count of rows.
    """
    if node.op in FREE or is_view(node, graph):
        return True
    if node.op not in POINTWISE or node.results[0].type.rank or OPERATIONS[node.op].flops > machine.cheap_flops:
        return False
    if any(user.op in IN_MEMORY or node.results[0] in _turns(user) for user in graph.uses.get(node.results[0], ())):
        return False
    producers = [graph.producers.get(value) for value in node.operands]
    return all(p is not None and p.op in FREE and not p.results[0].type.rank for p in producers)


def _turns(node: Node) -> Sequence[Value]:
    """The number of the turn that a draw belongs to: in memory, draws of turns that are alike are one kernel."""
    return node.operands[2:] if node.op in COUNTED else ()


def is_view(node: Node, graph: Graph) -> bool:
    """Whether a node is windows, perhaps with their axes in another order: elements that lie in memory as something
    else. So is a transpose that only `align_windows` reads.
    """
    if node.op == "transpose" and all(user.op == "align_windows" for user in graph.uses.get(node.results[0], ())):
        return node.results[0] in graph.uses and node.results[0] not in graph.output_values
    while node.op == "transpose" and node.operands[0] in graph.producers:
        node = graph.producers[node.operands[0]]
    return node.op == "windows"


def inputs_of(builder: Builder, graph: Graph) -> dict[Value, Value]:
    return {port.value: builder.input_like(port) for port in graph.inputs}


def with_outputs(builder: Builder, graph: Graph, seen: dict[Value, Value]) -> Graph:
    for port in graph.outputs:
        builder.output_like(port, seen[port.value])
    return builder.graph()


def leading(graph: Graph, value: Value, machine: Machine) -> int:
    """The elements from one row of a stored matrix to the next, or 0 where rows lie densely.

    Rows that fall into the same few sets of a cache cost a product that walks down a column a third of its speed:
    such rows in workspace get a line more.
    """
    viewed = any(node.op in PLACED for node in graph.uses.get(value, ()))
    producer = graph.producers.get(value)
    if producer is None or producer.op in PLACED or viewed or value in graph.output_values or value.type.rank != 2:
        return 0
    columns, element = value.type.shape[1], value.type.dtype.bytes
    if not isinstance(columns, int) or not columns or columns * element % machine.crowding:
        return 0
    return columns + machine.line // element
