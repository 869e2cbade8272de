"""Which slots of the state take turns: their new values are stored beside the old ones, and the places change roles.

Nothing of the state may change before the loss is known to be finite. So the update is a second sweep over what the
loss and its gradient have just walked, behind a meeting of the threads. Where each element of a slot is made of a few
others by work that the loss needs as well, one sweep does both: it stores the new values beside the old ones, and a
step whose loss is not finite leaves it at that. That takes the memory of the slot once more, and a copy where a call
ends with its values in the other place: it pays for a slot that is more than a core's cache holds, where a call walks
over data. Valid graph in, same graph out, its ports marked.
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

    return graph.with_outputs([replace(port, turns=True) if pays(port) else port for port in graph.outputs])


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
