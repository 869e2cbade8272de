"""Nests as a family of kernels."""

from __future__ import annotations

from tapeless.codegen.kernels.planned import Planned
from tapeless.codegen.nests.analysis import analyse
from tapeless.codegen.nests.collapse import collapse
from tapeless.codegen.nests.groups import buffers_of
from tapeless.codegen.nests.nest import write
from tapeless.codegen.nests.plan import plan
from tapeless.ir.graph import Node
from tapeless.ir.target import Target

__all__ = ["lower_nest"]


def lower_nest(node: Node, target: Target, capacity: int) -> Planned:
    region = node.regions[0]
    domain = collapse(analyse(region, node.attrs["leading"]))
    moved = sum(port.value.type.bytes(capacity) for port in (*region.inputs, *region.outputs))
    best = plan(domain, target, capacity, moved)
    return Planned(best, lambda plan: write(node.attrs["name"], buffers_of(node), plan, target))
