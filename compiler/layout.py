"""Layout: where the operands and results of kernels lie, decided on the graph before fusion.

The right operand of a product lies row by row; what a kernel reads at places of its own lies in memory; each output has a
value of its own to be stored; rows that would crowd a cache lie apart. Valid graph in, valid graph out, same values.
"""

from __future__ import annotations

from tapeless.ir.graph import STATE_ROLES, Builder, Graph, Node, Port, Value
from tapeless.ir.ops import OPERATIONS
from tapeless.ir.ops.product import last_two_swapped
from tapeless.ir.ops.scalar import POINTWISE

FREE = frozenset({"constant", "iota", "count", "broadcast"})
# Operations with a kernel of their own, and its family.
ALONE = {"gather": "gather", "scatter_add": "scatter", "permutation": "permutation", "transpose": "nest"}
ALONE |= {name: operation.kernel for name, operation in OPERATIONS.items() if operation.kernel}
# Read at places that the loops do not stand at: what they take must lie in memory.
DISPLACED = frozenset({"pick", "slice", "pad"})
IN_MEMORY = frozenset({"matmul", *DISPLACED, *ALONE})
CHEAP = 4  # flops an element: less than the store and load that recomputing it saves
CROWDED = 4096  # bytes: rows this far apart share cache sets
MANY_ROWS = 64  # below this, crowded rows still fit the sets they share
VECTOR = 64  # bytes of the widest vector


def lay_out(graph: Graph) -> Graph:
    """The graph with every operand and every output where kernels want it."""
    return stored_once(packed_operands(graph))


def packed_operands(graph: Graph) -> Graph:
    """Puts operands in memory as products and indexing want them.

    The right operand of a product that would be read column by column is transposed ahead of it; what costs nothing to
    compute, and so has no place in memory, is copied for those that read it at places of their own; so are weights
    whose rows would crowd a product's cache (see `leading`).
    """
    builder = Builder(graph.name)
    seen = inputs_of(builder, graph)
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
                perm = last_two_swapped(right.type.rank)
                transposed[right] = builder.emit("transpose", right, name=f"{right.name}.T", span=node.span, perm=perm)
            attrs = {"transpose_a": node.attrs["transpose_a"], "transpose_b": False}
            seen[node.result] = builder.emit("matmul", left, transposed[right], name=node.result.name, span=node.span, **attrs)
        else:
            builder.copy_nodes([node], here)
            seen.update((value, here[value]) for value in node.results)
    return with_outputs(builder, graph, seen)


def _crowds(graph: Graph, value: Value) -> bool:
    """Whether a matrix lies outside the workspace, large, with rows a multiple of CROWDED bytes apart."""
    if value.type.rank != 2:
        return False
    rows, columns = value.type.shape
    if not isinstance(rows, int) or not isinstance(columns, int) or value in graph.producers:
        return False
    return rows >= MANY_ROWS and columns > 0 and columns * value.type.dtype.bytes % CROWDED == 0


def stored_once(graph: Graph) -> Graph:
    """Gives each output port a value of its own that a kernel can store: copies inputs, constants and shared values.

    A new state value is also copied where a reader of the slot's old value depends on it, or the loss: nothing is
    overwritten before the loss is known to be finite.
    """
    builder = Builder(graph.name)
    seen = inputs_of(builder, graph)
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
    readers = {id(node) for p in graph.inputs if p.label == port.label and p.role in STATE_ROLES for node in graph.uses.get(p.value, ())}
    visited, pending = {port.value}, [port.value]
    while readers and pending:
        for node in graph.uses.get(pending.pop(), ()):
            if id(node) in readers:
                return True
            fresh = [value for value in node.results if value not in visited]
            visited.update(fresh)
            pending.extend(fresh)
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


def inputs_of(builder: Builder, graph: Graph) -> dict[Value, Value]:
    return {
        port.value: builder.input(port.label, port.value.type, port.role, port.span, port.value.name)
        for port in graph.inputs
    }


def with_outputs(builder: Builder, graph: Graph, seen: dict[Value, Value]) -> Graph:
    for port in graph.outputs:
        builder.output(port.label, seen[port.value], port.role, port.span)
    return builder.graph()


def leading(graph: Graph, value: Value) -> int:
    """The elements from one row of a stored matrix to the next, or 0 where rows lie densely.

    Rows that are 4 KB apart, or a multiple of it, fall into the same few sets of a cache, so a product that walks down a
    column loses a third of its speed: such rows in workspace get a vector more.
    """
    viewed = any(node.op == "reshape" for node in graph.uses.get(value, ()))
    producer = graph.producers.get(value)
    if producer is None or producer.op == "reshape" or viewed or value in graph.output_values or value.type.rank != 2:
        return 0
    columns, element = value.type.shape[1], value.type.dtype.bytes
    if not isinstance(columns, int) or not columns or columns * element % CROWDED:
        return 0
    return columns + VECTOR // element
