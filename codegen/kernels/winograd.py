"""Convolutions by transformed patches: see `winograd_plan.py`.

A call transforms the taps once. Then, some rows of patches after the other: their places are copied with zeros around
them, unless they may be read where they lie; patches are transformed; each of the sixteen products is one of matrices,
patches by channels; and the sums are transformed back into two by two results each, which the epilogue takes from the
registers. A sum is one chain of multiply-adds over the channels, whatever the plan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tapeless.codegen.kernels.convolution_epilogue import Epilogue
from tapeless.codegen.kernels.convolution_plan import Geometry
from tapeless.codegen.kernels.picture_band import each_vector
from tapeless.codegen.kernels.winograd_patches import Patches, blocks, each_patch
from tapeless.codegen.kernels.winograd_plan import (
    MADE,
    PATCH,
    PLACES,
    TAPS,
    WinogradPlan,
    rows_of_patches,
)
from tapeless.codegen.kernels.winograd_transforms import given, square, weighed
from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import Constant, Function, Instruction, Operand, vector
from tapeless.codegen.nests.evaluate import Evaluator
from tapeless.codegen.nests.groups import part_range
from tapeless.codegen.nests.open_loops import Chunk, OpenLoops, Scope
from tapeless.ir.graph import Node
from tapeless.ir.target import Target

__all__ = ["Winograd"]


class Winograd(Patches):
    def __init__(self, node: Node, product: Node, target: Target, shape: Geometry, plan: WinogradPlan) -> None:
        b = Builder(target)
        self.node, self.plan = node, plan
        self.epilogue = Epilogue(b, node, product, plan.lanes)
        pictures, self.weights = self.epilogue.operands
        super().__init__(b, pictures, product.result.type.dtype, shape, plan)
        # where what lies in scratch begins: transformed taps and patches, the sums of products
        self.taps = self.band
        self.patches = self.taps + PLACES * shape.channels * self.units
        self.sums = self.patches + PLACES * self.count * self.channels
        self.elements = self.sums + PLACES * self.count * self.units

    def function(self) -> Function:
        b, plan = self.b, self.plan
        self.weigh()
        bands = rows_of_patches(self.shape) // plan.down
        images = OpenLoops(b).size(self.shape.images)
        start, stop = part_range(b, b.arithmetic("mul", images, index_constant(bands)), plan.parts, 1)
        loop = b.open_loop(start, stop, 1)
        with b.inside(loop.block):
            image = b.arithmetic("div", loop.variable, index_constant(bands))
            turn = b.arithmetic("sub", loop.variable, b.arithmetic("mul", image, index_constant(bands)))
            high = MADE * plan.down
            first: Operand = b.arithmetic("mul", turn, index_constant(high)) if bands > 1 else index_constant(0)
            self.take(image, first, self.patches)
            self.multiply()
            self.give(image, first)
        b.close_loop(loop)
        buffers = (*self.epilogue.buffers, self.scratch(self.elements))
        return Function(self.node.attrs["name"], buffers, plan.parts, tuple(b.block))

    def weigh(self) -> None:
        """The transformed taps, [place, channel, unit]."""
        b, shape, io = self.b, self.shape, self.io
        loop = b.open_loop(index_constant(0), index_constant(shape.channels), 1)

        def one(unit: Operand, mask: Operand | None) -> None:
            row = b.arithmetic("add", b.arithmetic("mul", loop.variable, index_constant(shape.units)), unit)
            steps = [k * shape.channels * shape.units for k in range(TAPS * TAPS)]
            found = io.load(self.weights, row, steps[::-1] if shape.flipped else steps, mask)
            place = b.arithmetic("mul", loop.variable, index_constant(self.units))
            place = b.arithmetic("add", b.arithmetic("add", place, unit), index_constant(self.taps))
            io.store("scratch", place, shape.channels * self.units, square(b, weighed, found, TAPS))

        with b.inside(loop.block):
            each_vector(b, index_constant(0), shape.units, self.lanes, one)
        b.close_loop(loop)

    def multiply(self) -> None:
        """The sums over channels, [place, patch, unit]: one product of matrices for each place."""
        b, shape, lanes, plan = self.b, self.shape, self.lanes, self.plan
        place = b.open_loop(index_constant(0), index_constant(PLACES), 1)
        with b.inside(place.block):
            taps, patches, sums = (
                b.arithmetic("add", b.arithmetic("mul", place.variable, index_constant(distance)), index_constant(base))
                for distance, base in (
                    (shape.channels * self.units, self.taps),
                    (self.count * self.channels, self.patches),
                    (self.count * self.units, self.sums),
                )
            )
            for unit, vectors in blocks(b, self.units // lanes, plan.vectors, lanes):
                for patch, height in blocks(b, self.count, plan.patches, 1):
                    first = b.arithmetic("add", patches, b.arithmetic("mul", patch, index_constant(self.channels)))
                    made = self.io.product(
                        (first, self.channels, 1),
                        (b.arithmetic("add", taps, unit), self.units),
                        index_constant(shape.channels),
                        (Constant(0.0, vector(self.kind, lanes)),) * (height * vectors),
                        vectors,
                    )
                    into = b.arithmetic("mul", patch, index_constant(self.units))
                    into = b.arithmetic("add", b.arithmetic("add", sums, into), unit)
                    for row in range(height):
                        at = b.arithmetic("add", into, index_constant(row * self.units))
                        self.io.store("scratch", at, lanes, made[row * vectors : (row + 1) * vectors])
        b.close_loop(place)

    def give(self, image: Operand, first: Operand) -> None:
        """The results of a band, whose first row is that: two by two of each patch."""
        b = self.b

        def row(down: Operand) -> Callable[[Operand, int], None]:
            y = b.arithmetic("add", first, b.arithmetic("mul", down, index_constant(MADE)))
            sums = b.arithmetic("mul", down, index_constant(self.across * self.units))
            sums = b.arithmetic("add", sums, index_constant(self.sums))
            return lambda number, wide: self.patch(image, y, number, sums, wide)

        each_patch(b, self.shape, self.plan.down, row)

    def patch(self, image: Operand, y: Operand, number: Operand, row: Operand, wide: int) -> None:
        """The results of one patch, of which so many are inside across."""
        b = self.b
        here = b.arithmetic("add", row, b.arithmetic("mul", number, index_constant(self.units)))
        x = b.arithmetic("mul", number, index_constant(MADE))

        def one(unit: Operand, mask: Operand | None) -> None:
            steps = [k * self.count * self.units for k in range(PLACES)]
            results = square(b, given, self.io.load("scratch", b.arithmetic("add", here, unit), steps), PATCH)
            e = self.epilogue.evaluator(image)
            with e.open.within(Scope(b.block, {}, Chunk(unit, (mask,), aligned=mask is None))):
                self.store_row(e, y, x, b.block, results[:wide])
                below = b.arithmetic("add", y, index_constant(1))
                if self.shape.size[0] % MADE == 0:
                    self.store_row(e, below, x, b.block, results[MADE : MADE + wide])
                else:
                    inside: list[Instruction] = []
                    there = b.compare("lt", below, index_constant(self.shape.size[0]))
                    self.store_row(e, below, x, inside, results[MADE : MADE + wide])
                    b.conditional(there, inside)

        each_vector(b, index_constant(0), self.shape.units, self.lanes, one)

    def store_row(self, e: Evaluator, y: Operand, x: Operand, block: list[Instruction], row: Sequence[Operand]) -> None:
        for k, value in enumerate(row):
            with self.b.inside(block):
                column = self.b.arithmetic("add", x, index_constant(k))
            self.epilogue.store(e, y, column, block, (value,))
