"""What batches do to results: whether a loss or metric is a mean over the batch, so that weighing batches by their rows
gives its value over all data; and whether an output's rows are each row's own."""

from __future__ import annotations

from tapeless.compiler.elaborate.emission import Emitter
from tapeless.compiler.elaborate.folding import Operand
from tapeless.compiler.elaborate.values import Computed
from tapeless.ir.graph import Graph, Node, Value
from tapeless.ir.types import Rows

_THROUGH = ("neg", "cast", "stop_gradient", "reshape")


def decomposed(emitter: Emitter, result: Value) -> tuple[list[tuple[Computed, Computed]], Computed | None] | None:
    """A result as a sum of quotients, whose sides are to be summed over all batches, and the rest, a mean over rows.

    None where it holds no such quotient, or is more than a sum of multiples of them.
    """
    if not emitter.totals:
        return None
    graph = emitter.builder.graph()
    dependent, holding = of_data(graph), set(emitter.totals)
    for each in graph.nodes:
        if any(value in holding for value in each.operands):
            holding.update(each.results)
    if result not in holding:
        return None
    producers = graph.producers
    quotients: list[tuple[Computed, Computed]] = []
    rest: Operand | None = None
    pending: list[tuple[Value, Operand]] = [(result, 1)]
    while pending:
        value, scale = pending.pop(0)
        node = producers.get(value)
        if value in emitter.totals:
            above, below = (Computed(side) for side in emitter.totals[value])
            quotients.append((_scaled(emitter, above, scale), below))
        elif value not in holding or node is None:
            term = _scaled(emitter, Computed(value), scale)
            rest = term if rest is None else emitter.pointwise("add", rest, term)
        elif node.op in ("add", "sub"):
            left, right = node.operands
            pending += [(left, scale), (right, scale if node.op == "add" else emitter.binary("*", scale, -1))]
        elif node.op == "neg":
            pending.append((node.operands[0], emitter.binary("*", scale, -1)))
        elif node.op == "mul" and any(operand not in dependent for operand in node.operands):
            factor, other = sorted(node.operands, key=lambda operand: operand in dependent)
            pending.append((other, emitter.binary("*", scale, Computed(factor))))
        elif node.op == "div" and node.operands[1] not in dependent:
            pending.append((node.operands[0], emitter.binary("/", scale, Computed(node.operands[1]))))
        else:
            return None
    return quotients, rest if rest is None else emitter.as_real(rest)


def _scaled(emitter: Emitter, value: Computed, scale: Operand) -> Computed:
    return value if scale == 1 else emitter.as_real(emitter.binary("*", value, scale))


def of_data(graph: Graph) -> set[Value]:
    """The values that vary with the batch."""
    dependent = {port.value for port in graph.inputs if port.role == "data"}
    for node in graph.nodes:
        if node.op == "count" or any(value in dependent for value in node.operands):
            dependent.update(node.results)
    return dependent


def meeting(graph: Graph, result: Value) -> Node | None:
    """The first node on the way to a result at which rows of the data meet, or are counted: what follows from there has
    lost the axis of the rows, or pairs rows with rows. None where each row of the result comes from that row alone."""
    dependent, wanted = of_data(graph), graph.ancestors([result])
    for node in graph.nodes:
        if any(
            value in wanted and value in dependent and sum(isinstance(dim, Rows) for dim in value.type.shape) != 1
            for value in node.results
        ):
            return node
    return None


def is_average(graph: Graph, result: Value) -> bool:
    """Means over rows, their sums and multiples by what is the same for every batch, and values without data."""
    dependent, producers = of_data(graph), graph.producers
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
