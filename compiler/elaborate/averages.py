"""Whether a loss or metric is a mean over the batch, so that weighing batches by their rows gives its value over all data."""

from __future__ import annotations

from tapeless.ir.graph import Graph, Node, Value

_THROUGH = ("neg", "cast", "stop_gradient", "reshape")


def is_average(graph: Graph, result: Value) -> bool:
    """Means over rows, their sums and multiples by what is the same for every batch, and values without data."""
    dependent = {port.value for port in graph.inputs if port.role == "data"}
    producers: dict[Value, Node] = {}
    for node in graph.nodes:
        for value in node.results:
            producers[value] = node
        if node.op == "count" or any(value in dependent for value in node.operands):
            dependent.update(node.results)
    pending = [result]
    while pending:
        value = pending.pop()
        if value not in dependent:
            continue
        if value not in producers:
            return False
        node = producers[value]
        operands = node.operands
        if node.op in _THROUGH:
            pending.append(operands[0])
        elif node.op in ("add", "sub"):
            pending += operands
        elif node.op == "div" and operands[1] not in dependent:
            pending.append(operands[0])
        elif node.op == "div":
            denominator = producers.get(operands[1])
            if denominator is None or denominator.op != "count":
                return False
        elif node.op == "mul":
            varying = [operand for operand in operands if operand in dependent]
            if len(varying) != 1:
                return False
            pending += varying
        else:
            return False
    return True
