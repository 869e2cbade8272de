"""Which slots of the state take turns: their new values are stored beside the old ones, and the places change roles.

Nothing of the state may change before the loss is known to be finite. So the update is a second sweep over what the
loss and its gradient have just walked, behind a meeting of the threads. Where each element of a slot is made of a few
others by work that the loss needs as well, one sweep does both: it stores the new values beside the old ones, and a
step whose loss is not finite leaves it at that. That takes the memory of the slot once more, and a copy where a call
ends with its values in the other place: it pays for a slot that is more than a core's cache holds, where a call walks
over data, and where the sweep is no longer than a kernel may be. Valid graph in, same graph out, its ports marked.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace

from tapeless.compiler.passes.layout import is_free
from tapeless.ir.graph import STATE_ROLES, Graph, Port, Value
from tapeless.ir.machine import Machine
from tapeless.ir.ops import POINTWISE


def slots_in_turns(graph: Graph, machine: Machine) -> Graph:
    """The graph with marks on the ports of the slots that take turns."""
    if not any(port.role == "data" for port in graph.inputs):
        return graph  # a call is one step
    slots = {port.label for port in graph.inputs if port.role in STATE_ROLES}
    loss = graph.ancestors(port.value for port in graph.outputs if port.role == "loss")

    def pays(port: Port) -> bool:
        if port.role != "state" or port.label not in slots or port.value.type.bytes(0) <= machine.core_cache:
            return False
        chain = _chain(graph, port.value, machine)
        return not chain.isdisjoint(loss) and not _waits(graph, chain)

    turning = [port for port in graph.outputs if pays(port)]
    swept = graph.ancestors(port.value for port in turning) | loss
    small = {port for port in turning if _nodes(graph, swept, port, machine) < machine.largest_kernel}
    return graph.with_outputs([replace(port, turns=True) if port in small else port for port in graph.outputs])


def _nodes(graph: Graph, swept: Set[Value], port: Port, machine: Machine) -> int:
    """The nodes of the sweep that makes a slot: with the sum that becomes the loss they have to be one kernel."""
    shape = port.value.type.shape
    return sum(
        node.op in POINTWISE and node.result in swept and node.result.type.shape == shape
        for node in graph.nodes
        if not is_free(node, graph, machine)
    )


def _chain(graph: Graph, value: Value, machine: Machine) -> Set[Value]:
    """The values that one sweep makes on the way to this one, element by element."""
    chain: set[Value] = set()
    pending = [value]
    while pending:
        made = pending.pop()
        node = graph.producers.get(made)
        if made in chain or node is None or node.op not in POINTWISE or is_free(node, graph, machine):
            continue
        if made.type.shape == value.type.shape:
            chain.add(made)
            pending.extend(node.operands)
    return chain


def _waits(graph: Graph, chain: Set[Value]) -> bool:
    """Whether the sweep needs something that is made of its own values in another one, as the norm of a gradient."""
    taken = {value for made in chain for value in graph.producers[made].operands} - chain
    return not graph.ancestors(taken).isdisjoint(chain)
