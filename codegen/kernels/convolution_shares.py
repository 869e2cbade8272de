"""The adjoint of a convolution's weights: tiles of taps by vectors of channels, over which the places run.

Each part sums its share of the pictures into weights of its own; a nest adds the shares up, in order. Within a share,
each weight is one chain of multiply-adds over its pictures and their places, whatever the tile and the band.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from tapeless.codegen.kernels.convolution_plan import Geometry, SharesPlan, geometry_of, plan_shares
from tapeless.codegen.kernels.micro_kernel import multiply
from tapeless.codegen.kernels.picture_band import Band, PictureBands, each_vector
from tapeless.codegen.kernels.picture_shares import over_shares
from tapeless.codegen.kernels.planned import Planned
from tapeless.codegen.kernels.winograd_plan import plan_winograd_shares, winograd_pays
from tapeless.codegen.kernels.winograd_shares import WinogradShares
from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import Buffer, Constant, Function, Operand, vector
from tapeless.codegen.nests.analysis import LoweringError
from tapeless.codegen.nests.groups import buffers_of
from tapeless.ir.graph import Node
from tapeless.ir.target import Target

__all__ = ["lower_convolution_shares"]

Masks = tuple[Operand | None, ...]


def every_tap(shape: Geometry) -> tuple[list[int], list[int]]:
    """How far from a place the elements that all taps of all channels meet are, and the rows of their weights."""
    offsets: list[int] = []
    rows: list[int] = []
    for u, v in product(range(shape.kernel[0]), range(shape.kernel[1])):
        there = (shape.kernel[0] - 1 - u, shape.kernel[1] - 1 - v) if shape.flipped else (u, v)
        distance = u * shape.dilation[0] * shape.pitch + v * shape.dilation[1] * shape.channels
        row = (there[0] * shape.kernel[1] + there[1]) * shape.channels
        offsets += range(distance, distance + shape.channels)
        rows += range(row, row + shape.channels)
    return offsets, rows


def lower_convolution_shares(node: Node, target: Target, capacity: int) -> Planned:
    nodes = node.regions[0].nodes
    if len(nodes) != 1 or nodes[0].op != "convolution_shares":
        raise LoweringError(f"kernel {node.attrs['name']}: one convolution_shares and nothing else")
    (inner,) = nodes
    shape, size = geometry_of(inner), inner.result.type.dtype.computed.bytes
    if winograd_pays(inner, target.machine):
        fewer = plan_winograd_shares(shape, target.lanes(size), size, target.machine, inner.attrs["shares"])
        return Planned(fewer, lambda plan: WinogradShares(node, inner, target, shape, plan).function())
    plan = plan_shares(shape, target.lanes(size), size, target.machine, inner.attrs["shares"])
    return Planned(plan, lambda plan: _Shares(node, inner, target, shape, plan).function())


class _Shares:
    def __init__(self, node: Node, inner: Node, target: Target, shape: Geometry, plan: SharesPlan) -> None:
        places = {port.value: place for place, port in enumerate(node.regions[0].inputs)}
        self.node, self.shape, self.plan, self.lanes = node, shape, plan, plan.lanes
        self.kind, self.element_bytes = inner.result.type.dtype.kind, inner.result.type.dtype.bytes
        self.buffers = buffers_of(node)
        self.adjoint, self.result = self.buffers[places[inner.operands[1]]].name, self.buffers[-1].name
        self.b = Builder(target)
        self.bands = PictureBands(self.b, shape, self.buffers[places[inner.operands[0]]].name, self.kind, self.lanes)
        self.own: Operand = index_constant(0)

    def function(self) -> Function:
        b, shape, parts = self.b, self.shape, self.plan.parts
        over_shares(b, shape.images, parts, self.share)
        buffers, elements = self.buffers, shape.scratch(min(self.plan.band, shape.size[0]))
        if elements:
            buffers = (*buffers, Buffer("scratch", self.kind, "scratch", -(-elements * self.element_bytes // 64) * 64))
        return Function(self.node.attrs["name"], buffers, parts, tuple(b.block))

    def share(self, number: Operand, start: Operand, stop: Operand) -> None:
        """The sums over some pictures, in the weights that are this share's own: a part is one share, however many of
        them a call does.
        """
        b, shape, plan = self.b, self.shape, self.plan
        (high, wide), count = shape.size, shape.steps * shape.units
        self.own = b.arithmetic("mul", number, index_constant(count))
        zero = Constant(0.0, vector(self.kind, self.lanes))
        each_vector(b, self.own, count, self.lanes, lambda k, mask: b.store(self.result, k, zero, mask))
        over_images = b.open_loop(start, stop, 1)
        over_bands = b.open_loop(index_constant(0), index_constant(high), plan.band)
        with b.inside(over_bands.block):
            image, first = over_images.variable, over_bands.variable
            last = b.arithmetic("min", b.arithmetic("add", first, index_constant(plan.band)), index_constant(high))
            rows = b.arithmetic("sub", last, first)
            band = self.bands.band(image, first, rows)
            place = b.arithmetic("add", b.arithmetic("mul", image, index_constant(high)), first)
            adjoint = b.arithmetic("mul", place, index_constant(wide * shape.units))
            self.taps(band, adjoint, rows)
        with b.inside(over_images.block):
            b.close_loop(over_bands)
        b.close_loop(over_images)

    def taps(self, band: Band, adjoint: Operand, rows: Operand) -> None:
        """Tiles of taps: all of them, or those of one row, or of one place, after the other."""
        b, shape = self.b, self.shape
        if self.plan.whole:
            offsets, at = every_tap(shape)
            self.panels(band, adjoint, rows, index_constant(0), offsets, index_constant(0), at)
            return
        down = b.open_loop(index_constant(0), index_constant(shape.kernel[0]), 1)
        with b.inside(down.block):
            u = down.variable
            start = b.arithmetic("mul", u, index_constant(shape.dilation[0] * shape.pitch))
            there: Operand = b.arithmetic("sub", index_constant(shape.kernel[0] - 1), u) if shape.flipped else u
            row = b.arithmetic("mul", there, index_constant(shape.kernel[1] * shape.channels))
            if shape.in_sequence:
                self.blocks(band, adjoint, rows, start, row, shape.kernel[1] * shape.channels)
            else:
                across = b.open_loop(index_constant(0), index_constant(shape.kernel[1]), 1)
                with b.inside(across.block):
                    v = across.variable
                    there = b.arithmetic("sub", index_constant(shape.kernel[1] - 1), v) if shape.flipped else v
                    tap = b.arithmetic("mul", v, index_constant(shape.dilation[1] * shape.channels))
                    weight = b.arithmetic("mul", there, index_constant(shape.channels))
                    self.blocks(
                        band,
                        adjoint,
                        rows,
                        b.arithmetic("add", start, tap),
                        b.arithmetic("add", row, weight),
                        shape.channels,
                    )
                b.close_loop(across)
        b.close_loop(down)

    def blocks(self, band: Band, adjoint: Operand, rows: Operand, start: Operand, row: Operand, count: int) -> None:
        """Taps that lie side by side, as many at a time as a tile has."""
        b, taps = self.b, self.plan.taps
        whole = count // taps * taps
        if whole:
            loop = b.open_loop(index_constant(0), index_constant(whole), taps)
            with b.inside(loop.block):
                here, there = (b.arithmetic("add", part, loop.variable) for part in (start, row))
                self.panels(band, adjoint, rows, here, range(taps), there, range(taps))
            b.close_loop(loop)
        if count > whole:
            here, there = (b.arithmetic("add", part, index_constant(whole)) for part in (start, row))
            self.panels(band, adjoint, rows, here, range(count - whole), there, range(count - whole))

    def panels(
        self,
        band: Band,
        adjoint: Operand,
        rows: Operand,
        start: Operand,
        offsets: Sequence[int],
        row: Operand,
        at: Sequence[int],
    ) -> None:
        """Vectors of channels: whole panels in a loop, what is left as a narrower one."""
        b, width, units = self.b, self.plan.vectors * self.lanes, self.shape.units
        whole, left = units // width * width, units % width
        if whole:
            loop = b.open_loop(index_constant(0), index_constant(whole), width)
            with b.inside(loop.block):
                self.tile(band, adjoint, rows, start, offsets, row, at, loop.variable, (None,) * self.plan.vectors)
            b.close_loop(loop)
        if left:
            masks = b.covering(left, self.lanes)
            self.tile(band, adjoint, rows, start, offsets, row, at, index_constant(whole), masks)

    def tile(
        self,
        band: Band,
        adjoint: Operand,
        rows: Operand,
        start: Operand,
        offsets: Sequence[int],
        row: Operand,
        at: Sequence[int],
        channel: Operand,
        masks: Masks,
    ) -> None:
        """Some weights, from what they are known to be on, over all places of the band."""
        b, shape, lanes = self.b, self.shape, self.lanes
        base = b.arithmetic("add", b.arithmetic("mul", row, index_constant(shape.units)), channel)
        base = b.arithmetic("add", base, self.own)
        weights = [
            b.arithmetic("add", base, index_constant(tap * shape.units + v * lanes))
            for tap in at
            for v in range(len(masks))
        ]
        every = [mask for _ in at for mask in masks]
        known = [b.load(self.result, self.kind, k, lanes, mask) for k, mask in zip(weights, every, strict=True)]
        first = b.arithmetic("add", band.start, start)
        adjoint = b.arithmetic("add", adjoint, channel)
        down = b.open_loop(index_constant(0), rows, 1, known)
        with b.inside(down.block):
            seen = b.arithmetic("mul", down.variable, index_constant(shape.step[0] * shape.pitch))
            seen = b.arithmetic("add", first, seen)
            felt = b.arithmetic("mul", down.variable, index_constant(shape.size[1] * shape.units))
            felt = b.arithmetic("add", adjoint, felt)

            def right(k: Operand) -> list[Operand]:
                place = b.arithmetic("add", felt, b.arithmetic("mul", k, index_constant(shape.units)))
                return [
                    b.load(self.adjoint, self.kind, b.arithmetic("add", place, index_constant(v * lanes)), lanes, mask)
                    for v, mask in enumerate(masks)
                ]

            def left(k: Operand) -> Iterator[Operand]:
                place = b.arithmetic("mul", k, index_constant(shape.step[1] * shape.channels))
                place = b.arithmetic("add", seen, place)
                for offset in offsets:
                    index = b.arithmetic("add", place, index_constant(offset))
                    yield b.splat(b.load(band.buffer, self.kind, index), lanes)

            sums = multiply(b, (index_constant(0), index_constant(shape.size[1])), down.parameters, left, right)
        for k, mask, value in zip(weights, every, b.close_loop(down, sums), strict=True):
            b.store(self.result, k, value, mask)
