"""What convolutions by transformed patches and their adjoints share: the sizes of a band of patches, vectors that lie
apart by known distances, tiles of products, and the transform of patches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tapeless.codegen.kernels.convolution_plan import Geometry, pieces
from tapeless.codegen.kernels.micro_kernel import multiply
from tapeless.codegen.kernels.picture_band import Band, PictureBands, each_vector
from tapeless.codegen.kernels.winograd_plan import (
    MADE,
    PATCH,
    WinogradPlan,
    WinogradSharesPlan,
    covered,
    padded,
    patches_across,
)
from tapeless.codegen.kernels.winograd_transforms import square, taken
from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import Buffer, Operand
from tapeless.ir.types import DType

__all__ = ["Patches", "Vectors", "blocks", "each_patch", "take_patches"]


class Patches:
    """A kernel over bands of patches: so many rows of them at a time, of pictures that are padded as they are taken.

    `count` is of patches in a band; `channels` and `units` fill whole vectors in scratch, which holds a band of a
    picture in its first `band` elements.
    """

    def __init__(
        self, b: Builder, pictures: str, dtype: DType, shape: Geometry, plan: WinogradPlan | WinogradSharesPlan
    ) -> None:
        self.b, self.shape, self.lanes, self.down = b, shape, plan.lanes, plan.down
        self.kind, self.element_bytes = dtype.kind, dtype.bytes
        self.reach = covered(shape)
        self.bands = PictureBands(b, self.reach, pictures, self.kind, self.lanes)
        self.across = patches_across(shape)
        self.count = self.down * self.across
        self.channels, self.units = padded(shape.channels, self.lanes), padded(shape.units, self.lanes)
        self.band = padded(self.reach.scratch(MADE * self.down), self.lanes)
        self.io = Vectors(b, self.kind, self.lanes)

    def take(self, image: Operand, first: Operand, base: int) -> None:
        """The transformed patches of a picture's band, whose first row is that, into scratch from `base` on."""
        band = self.bands.band(image, first, index_constant(MADE * self.down))
        take_patches(self.io, band, self.reach, self.down, base, self.channels)

    def scratch(self, elements: int) -> Buffer:
        return Buffer("scratch", self.kind, "scratch", -(-elements * self.element_bytes // 64) * 64)


class Vectors:
    """Loads and stores vectors that lie apart by known distances."""

    def __init__(self, b: Builder, kind: str, lanes: int) -> None:
        self.b, self.kind, self.lanes = b, kind, lanes

    def load(self, buffer: str, base: Operand, distances: Sequence[int], mask: Operand | None = None) -> list[Operand]:
        b = self.b
        return [
            b.load(buffer, self.kind, b.arithmetic("add", base, index_constant(distance)), self.lanes, mask)
            for distance in distances
        ]

    def store(
        self, buffer: str, base: Operand, distance: int, values: Sequence[Operand], mask: Operand | None = None
    ) -> None:
        b = self.b
        for k, value in enumerate(values):
            b.store(buffer, b.arithmetic("add", base, index_constant(k * distance)), value, mask)

    def product(
        self,
        left: tuple[Operand, int, int],
        right: tuple[Operand, int],
        steps: Operand,
        known: Sequence[Operand],
        vectors: int,
    ) -> tuple[Operand, ...]:
        """A tile of sums, on top of what is known of them: of the left matrix in scratch where it begins, and how far
        apart the tile's rows and the steps are; of the right one where it begins, and how far apart the steps are.
        """
        b, (first, row, along), (start, pitch) = self.b, left, right

        def elements(k: Operand) -> Iterator[Operand]:
            base = b.arithmetic("add", first, b.arithmetic("mul", k, index_constant(along)))
            for place in range(len(known) // vectors):
                at = b.arithmetic("add", base, index_constant(place * row))
                yield b.splat(b.load("scratch", self.kind, at), self.lanes)

        def panel(k: Operand) -> list[Operand]:
            base = b.arithmetic("add", start, b.arithmetic("mul", k, index_constant(pitch)))
            return self.load("scratch", base, [v * self.lanes for v in range(vectors)])

        return multiply(b, (index_constant(0), steps), known, elements, panel)


def blocks(b: Builder, extent: int, size: int, unit: int) -> Iterator[tuple[Operand, int]]:
    """Blocks of an extent, whole ones in a loop: where each begins, in units, and how many it has."""
    first = 0
    for count, each in pieces(extent, size):
        if count == 1:
            yield index_constant(first * unit), each
        else:
            loop = b.open_loop(index_constant(first * unit), index_constant((first + count * each) * unit), each * unit)
            with b.inside(loop.block):
                yield loop.variable, each
            b.close_loop(loop)
        first += count * each


def each_patch(
    b: Builder, shape: Geometry, down: int, row: Callable[[Operand], Callable[[Operand, int], None]]
) -> None:
    """The patches of results of some rows of patches: `row` is given the number of a row, and gives what is done with
    the number of a patch and how many of its results are inside across.
    """
    rows = b.open_loop(index_constant(0), index_constant(down), 1)
    with b.inside(rows.block):
        patch = row(rows.variable)
        whole = shape.size[1] // MADE
        if whole:
            across = b.open_loop(index_constant(0), index_constant(whole), 1)
            with b.inside(across.block):
                patch(across.variable, MADE)
            b.close_loop(across)
        if patches_across(shape) > whole:
            patch(index_constant(whole), 1)
    b.close_loop(rows)


def take_patches(io: Vectors, band: Band, reach: Geometry, down: int, into: int, width: int) -> None:
    """The transformed patches of some rows, [place, patch, channel] from `into` on, with rows of a width."""
    b, across = io.b, patches_across(reach)
    distances = [row * reach.pitch + place * reach.channels for row in range(PATCH) for place in range(PATCH)]
    rows = b.open_loop(index_constant(0), index_constant(down), 1)
    patches = b.open_loop(index_constant(0), index_constant(across), 1)
    with b.inside(patches.block):
        here = b.arithmetic("mul", rows.variable, index_constant(MADE * reach.pitch))
        place = b.arithmetic("mul", patches.variable, index_constant(MADE * reach.channels))
        here = b.arithmetic("add", band.start, b.arithmetic("add", here, place))
        number = b.arithmetic("add", b.arithmetic("mul", rows.variable, index_constant(across)), patches.variable)
        there = b.arithmetic("add", b.arithmetic("mul", number, index_constant(width)), index_constant(into))

        def one(channel: Operand, mask: Operand | None) -> None:
            found = io.load(band.buffer, b.arithmetic("add", here, channel), distances, mask)
            made = square(b, taken, found, PATCH)
            io.store("scratch", b.arithmetic("add", there, channel), down * across * width, made)

        each_vector(b, index_constant(0), reach.channels, io.lanes, one)
    with b.inside(rows.block):
        b.close_loop(patches)
    b.close_loop(rows)
