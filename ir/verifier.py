"""The verifier: what every graph must hold between passes, checked by running each operation's type rule again."""

from __future__ import annotations

from tapeless.ir.graph import INPUT_ROLES, OUTPUT_ROLES, Graph, Value
from tapeless.ir.ops import operation
from tapeless.ir.types import IRTypeError


class VerificationError(Exception):
    """A graph is malformed: the message names the graph, the node and the rule."""


def verify(graph: Graph) -> None:
    """Check one graph and all its regions.

    Names are unique, operands are defined before they are used with the type they were made with, nodes obey their
    operations' type rules, ports have known roles and unique labels. Raises VerificationError.
    """
    pending = [graph]
    while pending:
        current = pending.pop()
        _verify_one(current)
        pending.extend(region for node in current.nodes for region in node.regions)


def _verify_one(graph: Graph) -> None:
    def fail(message: str) -> None:
        raise VerificationError(f"graph {graph.name}: {message}")

    defined: dict[str, Value] = {}

    def define(value: Value) -> None:
        if value.name in defined:
            fail(f"{value} is defined twice")
        defined[value.name] = value

    for port in graph.inputs:
        define(port.value)
        if port.role not in INPUT_ROLES:
            fail(f"input {port.label} has the unknown role {port.role}")
    for node in graph.nodes:
        for value in node.operands:
            if defined.get(value.name) != value:
                fail(f"`{node.op}` uses {value} : {value.type}, which is not defined before it")
        try:
            types = tuple(operation(node.op).infer([v.type for v in node.operands], node.attrs, node.regions))
        except IRTypeError as error:
            fail(f"{', '.join(map(str, node.results))}: {error}")
        if types != tuple(value.type for value in node.results):
            fail(f"`{node.op}` makes {', '.join(map(str, types))}, not {', '.join(str(v.type) for v in node.results)}")
        for value in node.results:
            define(value)
    for port in graph.outputs:
        if defined.get(port.value.name) != port.value:
            fail(f"output {port.label} is {port.value}, which is not defined")
        if port.role not in OUTPUT_ROLES:
            fail(f"output {port.label} has the unknown role {port.role}")
    for kind, ports in (("input", graph.inputs), ("output", graph.outputs)):
        keys = [port.key for port in ports]
        if len(set(keys)) != len(keys):
            fail(f"two {kind}s have one key: {', '.join(sorted({key for key in keys if keys.count(key) > 1}))}")
