"""Convolutions: tiles of places by vectors of channels, with the epilogue inside.

Each result is one chain of multiply-adds in the order of its taps and channels, whatever the tile and the band: the
bits do not depend on the plan. Then the epilogue, any pointwise work on the results, turns a tile into what is stored;
a heavy one goes through a tile of scratch, as in products of matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tapeless.codegen.kernels.convolution_epilogue import Epilogue
from tapeless.codegen.kernels.convolution_plan import ConvolutionPlan, Geometry, geometry_of, plan_convolution
from tapeless.codegen.kernels.micro_kernel import multiply
from tapeless.codegen.kernels.picture_band import Band, PictureBands
from tapeless.codegen.kernels.planned import Planned
from tapeless.codegen.kernels.winograd import Winograd
from tapeless.codegen.kernels.winograd_plan import plan_winograd, winograd_pays
from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import Buffer, Constant, Function, Operand, vector
from tapeless.codegen.nests.analysis import LoweringError
from tapeless.codegen.nests.groups import part_range
from tapeless.codegen.nests.open_loops import Chunk, OpenLoops, Scope
from tapeless.ir.graph import Node
from tapeless.ir.target import Target

__all__ = ["lower_convolution"]

Masks = tuple[Operand | None, ...]


def lower_convolution(node: Node, target: Target, capacity: int) -> Planned:
    found = [inner for inner in node.regions[0].nodes if inner.op == "convolution"]
    if len(found) != 1:
        raise LoweringError(f"kernel {node.attrs['name']}: not one convolution")
    shape, size = geometry_of(found[0]), found[0].result.type.dtype.computed.bytes
    lanes = target.lanes(size) if shape.units > 1 else 1  # an axis of size 1 is none
    if winograd_pays(found[0], target.machine):
        fewer = plan_winograd(shape, lanes, size, target.machine, capacity)
        return Planned(fewer, lambda plan: Winograd(node, found[0], target, shape, plan).function())
    plan = plan_convolution(shape, lanes, size, target.machine, capacity)
    return Planned(plan, lambda plan: _Convolution(node, found[0], target, shape, plan).function())


class _Convolution:
    def __init__(self, node: Node, product: Node, target: Target, shape: Geometry, plan: ConvolutionPlan) -> None:
        self.node, self.shape, self.plan, self.lanes = node, shape, plan, plan.lanes
        self.kind, self.element_bytes = product.result.type.dtype.kind, product.result.type.dtype.bytes
        self.b = Builder(target)
        self.epilogue = Epilogue(self.b, node, product, self.lanes)
        self.pictures, self.weights = self.epilogue.operands
        self.bands = PictureBands(self.b, shape, self.pictures, self.kind, self.lanes)
        self.band_elements = -(-shape.scratch(min(plan.band, shape.size[0])) // self.lanes) * self.lanes
        self.tile_elements = 0
        self.image: Operand = index_constant(0)

    def function(self) -> Function:
        b, shape, plan = self.b, self.shape, self.plan
        count = -(-shape.size[0] // plan.band)
        images = OpenLoops(b).size(shape.images)
        start, stop = part_range(b, b.arithmetic("mul", images, index_constant(count)), plan.parts, 1)
        loop = b.open_loop(start, stop, 1)
        with b.inside(loop.block):
            self.image = b.arithmetic("div", loop.variable, index_constant(count))
            turn = b.arithmetic("sub", loop.variable, b.arithmetic("mul", self.image, index_constant(count)))
            first: Operand = b.arithmetic("mul", turn, index_constant(plan.band)) if count > 1 else index_constant(0)
            last = b.arithmetic("add", first, index_constant(plan.band))
            last = (
                b.arithmetic("min", last, index_constant(shape.size[0])) if count > 1 else index_constant(shape.size[0])
            )
            band = self.bands.band(self.image, first, b.arithmetic("sub", last, first))
            for channel, masks in self.panels():
                self.rows(band, first, last, channel, masks)
        b.close_loop(loop)
        elements = self.band_elements + self.tile_elements
        buffers = self.epilogue.buffers
        if elements:
            size = -(-elements * self.element_bytes // 64) * 64
            buffers = (*buffers, Buffer("scratch", self.kind, "scratch", size))
        return Function(self.node.attrs["name"], buffers, plan.parts, tuple(b.block))

    # Loops over tiles

    def panels(self) -> Iterator[tuple[Operand, Masks]]:
        """Vectors of channels: whole panels in a loop, what is left as a narrower one."""
        b, width, units = self.b, self.plan.vectors * self.lanes, self.shape.units
        whole = units // width * width
        if whole:
            if whole == width:
                yield index_constant(0), (None,) * self.plan.vectors
            else:
                loop = b.open_loop(index_constant(0), index_constant(whole), width)
                with b.inside(loop.block):
                    yield loop.variable, (None,) * self.plan.vectors
                b.close_loop(loop)
        left = units - whole
        if left:
            yield (
                index_constant(whole),
                b.covering(left, self.lanes),
            )

    def rows(self, band: Band, first: Operand, last: Operand, channel: Operand, masks: Masks) -> None:
        """Rows of results, as many at a time as a tile has; the others one by one."""
        b, down = self.b, self.plan.down
        span = b.arithmetic("sub", last, first)
        whole = b.arithmetic("mul", b.arithmetic("div", span, index_constant(down)), index_constant(down))
        middle = b.arithmetic("add", first, whole)
        for start, stop, height in ((first, middle, down), (middle, last, 1)):
            if start == stop or (down == 1 and start is middle):
                continue
            loop = b.open_loop(start, stop, height)
            with b.inside(loop.block):
                within = b.arithmetic("sub", loop.variable, first)
                row = b.arithmetic("mul", within, index_constant(self.shape.step[0] * self.shape.pitch))
                self.row(Band(band.buffer, b.arithmetic("add", band.start, row)), loop.variable, height, channel, masks)
            b.close_loop(loop)

    def row(self, band: Band, y: Operand, height: int, channel: Operand, masks: Masks) -> None:
        b, wide, across = self.b, self.shape.size[1], self.plan.across
        whole = wide // across * across
        if whole == across:
            self.tile(band, y, index_constant(0), (height, across), channel, masks)
        elif whole:
            loop = b.open_loop(index_constant(0), index_constant(whole), across)
            with b.inside(loop.block):
                self.tile(band, y, loop.variable, (height, across), channel, masks)
            b.close_loop(loop)
        if wide > whole:
            self.tile(band, y, index_constant(whole), (height, wide - whole), channel, masks)

    # One tile

    def tile(self, band: Band, y: Operand, x: Operand, tile: tuple[int, int], channel: Operand, masks: Masks) -> None:
        values = self.product(band, x, tile, channel, masks)
        if self.epilogue.cost * len(values) * len(masks) <= self.plan.inline or len(values) == 1:
            self.inline_epilogue(values, y, x, tile[1], channel, masks)
        else:
            self.looped_epilogue(values, y, x, tile, channel, masks)

    def product(
        self, band: Band, x: Operand, tile: tuple[int, int], channel: Operand, masks: Masks
    ) -> list[tuple[Operand, ...]]:
        """The sums of a tile, place by place."""
        b, shape, lanes, vectors = self.b, self.shape, self.lanes, len(masks)
        start = b.arithmetic("add", band.start, b.arithmetic("mul", x, index_constant(shape.step[1] * shape.channels)))
        distances = [
            row * shape.step[0] * shape.pitch + place * shape.step[1] * shape.channels
            for row in range(tile[0])
            for place in range(tile[1])
        ]

        def inner(pixel: Operand, weights: Operand, steps: int, known: Sequence[Operand]) -> tuple[Operand, ...]:
            """The steps along which pictures and weights both lie side by side."""

            def right(k: Operand) -> list[Operand]:
                base = b.arithmetic("add", b.arithmetic("mul", k, index_constant(shape.units)), weights)
                return [
                    b.load(self.weights, self.kind, b.arithmetic("add", base, index_constant(v * lanes)), lanes, mask)
                    for v, mask in enumerate(masks)
                ]

            def left(k: Operand) -> Iterator[Operand]:
                base = b.arithmetic("add", pixel, k)
                for distance in distances:
                    index = b.arithmetic("add", base, index_constant(distance))
                    yield b.splat(b.load(band.buffer, self.kind, index), lanes)

            return multiply(b, (index_constant(0), index_constant(steps)), known, left, right)

        zero = Constant(0.0, vector(self.kind, lanes))
        sums = self.over_taps(start, channel, (zero,) * (len(distances) * vectors), inner)
        return [sums[k * vectors : (k + 1) * vectors] for k in range(len(distances))]

    def over_taps(
        self, start: Operand, channel: Operand, known: Sequence[Operand], inner: Callable[..., tuple[Operand, ...]]
    ) -> tuple[Operand, ...]:
        """Loops over the taps: down, and across where their elements do not all lie side by side."""
        b, shape = self.b, self.shape
        taps = [(shape.kernel[0], shape.dilation[0] * shape.pitch, shape.kernel[1] * shape.channels)]
        steps = shape.kernel[1] * shape.channels
        if not shape.in_sequence:
            taps.append((shape.kernel[1], shape.dilation[1] * shape.channels, shape.channels))
            steps = shape.channels

        def level(depth: int, pixel: Operand, row: Operand, known: Sequence[Operand]) -> tuple[Operand, ...]:
            if depth == len(taps):
                weights = b.arithmetic("add", b.arithmetic("mul", row, index_constant(shape.units)), channel)
                return inner(pixel, weights, steps, known)
            count, distance, rows = taps[depth]
            loop = b.open_loop(index_constant(0), index_constant(count), 1, known)
            with b.inside(loop.block):
                tap = loop.variable
                there: Operand = b.arithmetic("sub", index_constant(count - 1), tap) if shape.flipped else tap
                sums = level(
                    depth + 1,
                    b.arithmetic("add", pixel, b.arithmetic("mul", tap, index_constant(distance))),
                    b.arithmetic("add", row, b.arithmetic("mul", there, index_constant(rows))),
                    loop.parameters,
                )
            return b.close_loop(loop, sums)

        return level(0, start, index_constant(0), known)

    # Epilogues

    def chunk(self, channel: Operand, masks: Masks) -> Chunk:
        """Panels of whole width stand at multiples of it."""
        return Chunk(channel, masks, aligned=len(masks) == self.plan.vectors)

    def inline_epilogue(
        self, tile: list[tuple[Operand, ...]], y: Operand, x: Operand, wide: int, channel: Operand, masks: Masks
    ) -> None:
        b, e = self.b, self.epilogue.evaluator(self.image)
        with e.open.within(Scope(b.block, {}, self.chunk(channel, masks))):
            for k, values in enumerate(tile):
                row, place = (index_constant(part) for part in divmod(k, wide))
                self.epilogue.store(e, b.arithmetic("add", y, row), b.arithmetic("add", x, place), b.block, values)

    def looped_epilogue(
        self,
        values: list[tuple[Operand, ...]],
        y: Operand,
        x: Operand,
        tile: tuple[int, int],
        channel: Operand,
        masks: Masks,
    ) -> None:
        """Through scratch: the tile is written there, and read again place by place."""
        b, e, lanes, base = self.b, self.epilogue.evaluator(self.image), self.lanes, self.band_elements
        width = len(masks) * lanes
        self.tile_elements = max(self.tile_elements, len(values) * width)
        for k, vectors in enumerate(values):
            for v, value in enumerate(vectors):
                b.store("scratch", index_constant(base + k * width + v * lanes), value)
        down = b.open_loop(index_constant(0), index_constant(tile[0]), 1)
        across = b.open_loop(index_constant(0), index_constant(tile[1]), 1)
        with e.open.within(Scope(b.block, {}, self.chunk(channel, masks))), b.inside(across.block):
            place = b.arithmetic("mul", down.variable, index_constant(tile[1]))
            place = b.arithmetic("mul", b.arithmetic("add", place, across.variable), index_constant(width))
            leaf = tuple(
                b.load("scratch", self.kind, b.arithmetic("add", place, index_constant(base + v * lanes)), lanes)
                for v in range(len(masks))
            )
            row, column = b.arithmetic("add", y, down.variable), b.arithmetic("add", x, across.variable)
            self.epilogue.store(e, row, column, across.block, leaf)
        with b.inside(down.block):
            b.close_loop(across)
        b.close_loop(down)
