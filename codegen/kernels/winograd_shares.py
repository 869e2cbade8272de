"""The adjoint of a convolution's weights by transformed patches: see `winograd_plan.py`.

It is the adjoint of each step of the convolution's: patches of pictures are transformed as there, two by two adjoints
of results by the adjoint of the last transform, and the sixteen products, channels by channels, run over the patches.
Their sums are transformed to the taps' adjoints when a share's pictures are done. A sum is one chain of multiply-adds
over the patches of a share, whatever the plan.
"""

from __future__ import annotations

from collections.abc import Callable

from tapeless.codegen.kernels.convolution_plan import Geometry
from tapeless.codegen.kernels.picture_band import each_vector
from tapeless.codegen.kernels.picture_shares import over_shares
from tapeless.codegen.kernels.winograd_patches import Patches, blocks, each_patch
from tapeless.codegen.kernels.winograd_plan import (
    MADE,
    PATCH,
    PLACES,
    WinogradSharesPlan,
    rows_of_patches,
)
from tapeless.codegen.kernels.winograd_transforms import felt, learned, square
from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import Constant, Function, Operand, vector
from tapeless.codegen.nests.groups import buffers_of
from tapeless.ir.graph import Node
from tapeless.ir.target import Target

__all__ = ["WinogradShares"]


class WinogradShares(Patches):
    def __init__(self, node: Node, inner: Node, target: Target, shape: Geometry, plan: WinogradSharesPlan) -> None:
        places = {port.value: place for place, port in enumerate(node.regions[0].inputs)}
        self.node, self.plan = node, plan
        self.buffers = buffers_of(node)
        pictures, self.adjoint = (self.buffers[places[value]].name for value in inner.operands)
        self.result = self.buffers[-1].name
        super().__init__(Builder(target), pictures, inner.result.type.dtype, shape, plan)
        # where what lies in scratch begins: transformed patches and adjoints, the sums of products
        self.patches = self.band
        self.adjoints = self.patches + PLACES * self.count * self.channels
        self.sums = self.adjoints + PLACES * self.count * self.units
        self.elements = self.sums + PLACES * shape.channels * self.units

    def function(self) -> Function:
        over_shares(self.b, self.shape.images, self.plan.parts, self.share)
        buffers = (*self.buffers, self.scratch(self.elements))
        return Function(self.node.attrs["name"], buffers, self.plan.parts, tuple(self.b.block))

    def share(self, number: Operand, start: Operand, stop: Operand) -> None:
        """The sums over some pictures."""
        b, high = self.b, MADE * self.plan.down
        count = PLACES * self.shape.channels * self.units
        zero = Constant(0.0, vector(self.kind, self.lanes))
        each_vector(b, index_constant(self.sums), count, self.lanes, lambda k, mask: b.store("scratch", k, zero, mask))
        images = b.open_loop(start, stop, 1)
        bands = b.open_loop(index_constant(0), index_constant(MADE * rows_of_patches(self.shape)), high)
        with b.inside(bands.block):
            self.take(images.variable, bands.variable, self.patches)
            self.feel(images.variable, bands.variable)
            self.multiply()
        with b.inside(images.block):
            b.close_loop(bands)
        b.close_loop(images)
        self.learn(number)

    def feel(self, image: Operand, first: Operand) -> None:
        """The transformed adjoints of a band of results, [place, patch, unit]."""
        b, (high, wide) = self.b, self.shape.size

        def row(down: Operand) -> Callable[[Operand, int], None]:
            y = b.arithmetic("add", first, b.arithmetic("mul", down, index_constant(MADE)))
            begin = b.arithmetic("add", b.arithmetic("mul", image, index_constant(high)), y)
            begin = b.arithmetic("mul", begin, index_constant(wide * self.shape.units))
            into = b.arithmetic("mul", down, index_constant(self.across * self.units))
            into = b.arithmetic("add", into, index_constant(self.adjoints))
            return lambda number, inside: self.patch(y, begin, into, number, inside)

        each_patch(b, self.shape, self.plan.down, row)

    def patch(self, y: Operand, row: Operand, into: Operand, number: Operand, wide: int) -> None:
        """The transformed adjoints of one patch of results, of which so many are inside across."""
        b, units = self.b, self.shape.units
        here = b.arithmetic("add", row, b.arithmetic("mul", number, index_constant(MADE * units)))
        there = b.arithmetic("add", into, b.arithmetic("mul", number, index_constant(self.units)))
        outside = [Constant(0.0, vector(self.kind, self.lanes))] * (MADE - wide)

        def one(unit: Operand, mask: Operand | None) -> None:
            base, distances = b.arithmetic("add", here, unit), [k * units for k in range(wide)]
            below = b.arithmetic("add", base, index_constant(self.shape.size[1] * units))
            upper = self.io.load(self.adjoint, base, distances, mask)
            lower = self.io.load(self.adjoint, below, distances, self.below(y, unit, mask))
            made = square(b, felt, [*upper, *outside, *lower, *outside], MADE)
            self.io.store("scratch", b.arithmetic("add", there, unit), self.count * self.units, made)

        each_vector(b, index_constant(0), units, self.lanes, one)

    def below(self, y: Operand, unit: Operand, mask: Operand | None) -> Operand | None:
        """The mask of a vector of the second row of a patch, which may be outside where their count is odd."""
        b, high = self.b, self.shape.size[0]
        if high % MADE == 0:
            return mask
        rows = b.arithmetic("sub", index_constant(high - 1), y)  # none, or more than none
        there = b.arithmetic("mul", rows, index_constant(self.lanes))
        left = b.arithmetic("sub", index_constant(self.shape.units), unit)
        return b.first(b.arithmetic("min", there, left), self.lanes)

    def multiply(self) -> None:
        """The sums over patches, [place, channel, unit], on top of what they are."""
        b, lanes, plan = self.b, self.lanes, self.plan
        place = b.open_loop(index_constant(0), index_constant(PLACES), 1)
        with b.inside(place.block):
            patches, adjoints, sums = (
                b.arithmetic("add", b.arithmetic("mul", place.variable, index_constant(distance)), index_constant(base))
                for distance, base in (
                    (self.count * self.channels, self.patches),
                    (self.count * self.units, self.adjoints),
                    (self.shape.channels * self.units, self.sums),
                )
            )
            for unit, vectors in blocks(b, self.units // lanes, plan.vectors, lanes):
                for channel, rows in blocks(b, self.shape.channels, plan.channels, 1):
                    into = b.arithmetic("mul", channel, index_constant(self.units))
                    into = b.arithmetic("add", b.arithmetic("add", sums, into), unit)
                    distances = [row * self.units + v * lanes for row in range(rows) for v in range(vectors)]
                    made = self.io.product(
                        (b.arithmetic("add", patches, channel), 1, self.channels),
                        (b.arithmetic("add", adjoints, unit), self.units),
                        index_constant(self.count),
                        self.io.load("scratch", into, distances),
                        vectors,
                    )
                    for distance, value in zip(distances, made, strict=True):
                        b.store("scratch", b.arithmetic("add", into, index_constant(distance)), value)
        b.close_loop(place)

    def learn(self, number: Operand) -> None:
        """The adjoints of a share's taps, from the sums."""
        b, shape = self.b, self.shape
        own = b.arithmetic("mul", number, index_constant(shape.steps * shape.units))
        channel = b.open_loop(index_constant(0), index_constant(shape.channels), 1)

        def one(unit: Operand, mask: Operand | None) -> None:
            base = b.arithmetic("mul", channel.variable, index_constant(self.units))
            base = b.arithmetic("add", b.arithmetic("add", base, unit), index_constant(self.sums))
            steps = [k * shape.channels * self.units for k in range(PLACES)]
            taps = square(b, learned, self.io.load("scratch", base, steps), PATCH)
            into = b.arithmetic("mul", channel.variable, index_constant(shape.units))
            into = b.arithmetic("add", own, b.arithmetic("add", into, unit))
            self.io.store(self.result, into, shape.channels * shape.units, taps[::-1] if shape.flipped else taps, mask)

        with b.inside(channel.block):
            each_vector(b, index_constant(0), shape.units, self.lanes, one)
        b.close_loop(channel)
