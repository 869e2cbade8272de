"""What is decided of an attention kernel, forward or backward: its tiles of scores, and how heads are shared out."""

from __future__ import annotations

from dataclasses import dataclass

from tapeless.codegen.nests.groups import parts_for
from tapeless.codegen.nests.sizes import product
from tapeless.ir.graph import Node
from tapeless.ir.machine import Machine
from tapeless.ir.ops.attention import heads_sharing

__all__ = ["AttentionPlan", "plan_attention"]

ENOUGH_REGISTERS = 32


@dataclass(frozen=True)
class AttentionPlan:
    """A tile is `rows` queries by so many vectors of keys. A block of keys has `tiles` of them: what was gathered is
    loaded and stored once for each block.
    """

    lanes: int
    rows: int
    vectors: int
    parts: int
    tiles: int = 2

    def __str__(self) -> str:
        shared = ", parts of the heads" if self.parts > 1 else ""
        return f"{self.tiles} tiles {self.rows}x{self.vectors} of {self.lanes} at a time{shared}"


def plan_attention(node: Node, machine: Machine, capacity: int) -> AttentionPlan:
    (inner,) = node.regions[0].nodes
    q, k, v = (value.type for value in inner.operands[:3])
    n, d = q.at(capacity)[-2:]
    m, e = v.at(capacity)[-2:]
    lanes = machine.lanes(q.dtype.computed.bytes)
    # As in products: accumulators and one row of vectors fit the registers, but for two.
    rows = min(8 if machine.registers >= ENOUGH_REGISTERS else 4, max(1, n))
    vectors = max(1, (machine.registers - 2) // (rows + 1))
    heads = product(k.shape[:-2]).at(capacity)
    products = d + e if inner.op == "attention" else 4 * d + 2 * e  # multiply-adds of a pair of a query and a key
    work = n * m * products / lanes * heads_sharing(q, k) * heads / (2 if inner.attrs["causal"] else 1)
    return AttentionPlan(lanes, rows, vectors, parts_for(work / machine.scores, machine, heads))
