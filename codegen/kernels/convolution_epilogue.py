"""What is done to the results of a convolution before they are stored: any pointwise work, place by place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tapeless.codegen.loops.builder import Builder
from tapeless.codegen.loops.language import Operand
from tapeless.codegen.nests.analysis import analyse
from tapeless.codegen.nests.evaluate import Evaluator
from tapeless.codegen.nests.groups import buffers_of, instruction_count
from tapeless.codegen.nests.open_loops import Scope
from tapeless.codegen.nests.terms import closure
from tapeless.ir.graph import Node

__all__ = ["Epilogue"]


class Epilogue:
    """`operands` are the buffers of pictures and weights, `cost` counts the instructions of a vector of results."""

    def __init__(self, b: Builder, node: Node, product: Node, lanes: int) -> None:
        region = node.regions[0]
        places = {port.value: place for place, port in enumerate(region.inputs)}
        self.b, self.lanes, self.leaf = b, lanes, product.result
        self.domain = analyse(region, node.attrs["leading"], leaf=self.leaf)
        self.axes = self.domain.first_axes[self.leaf]
        self.cost = instruction_count(closure(store.term for store in self.domain.stores))
        self.buffers = buffers_of(node)
        self.operands = tuple(self.buffers[places[value]].name for value in product.operands)

    def evaluator(self, image: Operand) -> Evaluator:
        """Fresh for each tile, so that no loaded value is held in a register through a tile's inner loop."""
        made = Evaluator(self.b, self.buffers, self.axes[3], self.lanes)
        if self.axes[0] is not None:
            made.open.scopes[0].indices[self.axes[0]] = image
        return made

    def store(self, e: Evaluator, y: Operand, x: Operand, block: list[Any], leaf: Sequence[Operand]) -> None:
        """The results of the open chunk at a place, written into a block."""
        indices = {axis: index for axis, index in zip(self.axes[1:3], (y, x), strict=True) if axis is not None}
        with e.open.within(Scope(block, indices)):
            e.write_all(self.domain, leaf)
