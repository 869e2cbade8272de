"""Bands of pictures in scratch: the places that some rows of results reach, with zeros around and between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tapeless.codegen.kernels.convolution_plan import Geometry
from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import Constant, Instruction, Operand, vector

__all__ = ["Band", "PictureBands", "each_vector"]


@dataclass(frozen=True)
class Band:
    """Where the first tap of a band's first result lies."""

    buffer: str
    start: Operand


class PictureBands:
    """Writes the copies of bands, or tells where they lie."""

    def __init__(self, b: Builder, shape: Geometry, buffer: str, kind: str, lanes: int) -> None:
        self.b, self.shape, self.buffer, self.kind, self.lanes = b, shape, buffer, kind, lanes

    def band(self, image: Operand, first: Operand, rows: Operand) -> Band:
        """The band of so many result rows from the first on, of one picture."""
        b, shape = self.b, self.shape
        (high, wide), (down, _) = shape.extent, shape.step
        picture = b.arithmetic("mul", image, index_constant(high * wide * shape.channels))
        top = b.arithmetic("mul", first, index_constant(down))
        if shape.lies:
            return Band(
                self.buffer, b.arithmetic("add", picture, b.arithmetic("mul", top, index_constant(shape.pitch)))
            )
        last = b.arithmetic("mul", b.arithmetic("sub", rows, index_constant(1)), index_constant(down))
        loop = b.open_loop(index_constant(0), b.arithmetic("add", last, index_constant(shape.span(0, 1))), 1)
        with b.inside(loop.block):
            place = b.arithmetic("add", b.arithmetic("sub", top, index_constant(shape.before[0])), loop.variable)
            into = b.arithmetic("mul", loop.variable, index_constant(shape.pitch))
            self.row(picture, place, into)
        b.close_loop(loop)
        return Band("scratch", index_constant(0))

    def row(self, picture: Operand, place: Operand, into: Operand) -> None:
        """The row of a picture at a place of what is spread out, or zeros if there is none."""
        b, shape, every = self.b, self.shape, self.shape.inserted[0]
        there: Operand = b.bits(
            "and",
            b.compare("le", index_constant(0), place),
            b.compare("lt", place, index_constant(shape.extent[0] * every)),
        )
        if every > 1:
            number = b.arithmetic("div", place, index_constant(every))
            even = b.compare("eq", b.arithmetic("mul", number, index_constant(every)), place)
            there = b.bits("and", there, even)
        inside: list[Instruction] = []
        outside: list[Instruction] = []
        with b.inside(inside):
            number = b.arithmetic("div", place, index_constant(every))
            pitch = index_constant(shape.extent[1] * shape.channels)
            self.copy_row(b.arithmetic("add", picture, b.arithmetic("mul", number, pitch)), into)
        with b.inside(outside):
            self.clear(into, 0, shape.pitch)
        b.conditional(there, inside, (), outside)

    def copy_row(self, source: Operand, into: Operand) -> None:
        b, shape, channels = self.b, self.shape, self.shape.channels
        before, every, across = shape.before[1], shape.inserted[1], shape.span(1, shape.size[1])
        first = max(0, -(before // every))  # the first place of the picture that is not cut off
        start = before + first * every
        count = max(0, min(shape.extent[1] - first, -(-(across - start) // every)))
        if every == 1:
            self.clear(into, 0, min(start, across) * channels)
            self.copy(source, first * channels, into, start * channels, count * channels)
            self.clear(into, (start + count) * channels, max(0, across - start - count) * channels)
            return
        self.clear(into, 0, shape.pitch)
        loop = b.open_loop(index_constant(0), index_constant(count), 1)
        with b.inside(loop.block):
            taken = b.arithmetic("mul", loop.variable, index_constant(channels))
            put = b.arithmetic("mul", loop.variable, index_constant(every * channels))
            self.copy(
                b.arithmetic("add", source, taken),
                first * channels,
                b.arithmetic("add", into, put),
                start * channels,
                channels,
            )
        b.close_loop(loop)

    def clear(self, into: Operand, first: int, count: int) -> None:
        zero = Constant(0.0, vector(self.kind, self.lanes))
        self.each(first, count, lambda k, mask: self.b.store("scratch", self.b.arithmetic("add", into, k), zero, mask))

    def copy(self, source: Operand, taken: int, into: Operand, first: int, count: int) -> None:
        b = self.b

        def move(k: Operand, mask: Operand | None) -> None:
            at = b.arithmetic("add", source, b.arithmetic("add", k, index_constant(taken - first)))
            b.store("scratch", b.arithmetic("add", into, k), b.load(self.buffer, self.kind, at, self.lanes, mask), mask)

        self.each(first, count, move)

    def each(self, first: int, count: int, body: Callable[[Operand, Operand | None], None]) -> None:
        """For each vector of so many elements from the first on: where it begins, and its mask."""
        each_vector(self.b, index_constant(first), count, self.lanes, body)


def each_vector(
    b: Builder, first: Operand, count: int, lanes: int, body: Callable[[Operand, Operand | None], None]
) -> None:
    """For each vector of a known count of elements from the first on: where it begins, and its mask."""
    whole = count // lanes * lanes
    if whole == lanes:
        body(first, None)
    elif whole:
        loop = b.open_loop(index_constant(0), index_constant(whole), lanes)
        with b.inside(loop.block):
            body(b.arithmetic("add", first, loop.variable), None)
        b.close_loop(loop)
    if count > whole:
        body(b.arithmetic("add", first, index_constant(whole)), b.first(index_constant(count - whole), lanes))
