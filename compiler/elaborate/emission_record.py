"""What a builder has made so far, to be asked while it goes on: the node behind a value, and the value of a
computation.
"""

from __future__ import annotations

from typing import Any

from tapeless.ir.graph import Builder, Node, Value

BEFORE = -1  # the place of what is no node's result: an input


class EmissionRecord:
    """What a builder holds: where each value is made, and the values of each computation. Brought up to date on
    demand.
    """

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self.places: dict[Value, int] = {}
        self.made: dict[tuple[Any, ...], tuple[Value, ...]] = {}
        self.read = 0

    def update(self) -> None:
        """Enter the nodes made since the last time."""
        # Imported here: the passes come along, which a model without derivatives never needs.
        from tapeless.compiler.passes.rewriter import computation

        nodes = self.builder.nodes
        for place in range(self.read, len(nodes)):
            node = nodes[place]
            self.places.update((value, place) for value in node.results)
            self.made.setdefault(computation(node.op, node.operands, node.attrs, node.regions), node.results)
        self.read = len(nodes)

    def producer(self, value: Value) -> Node | None:
        """The node that makes a value; None for an input."""
        place = self.places.get(value, BEFORE)
        return None if place == BEFORE else self.builder.nodes[place]
