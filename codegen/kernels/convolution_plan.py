"""How convolutions are made, decided before they are written.

A convolution goes over its pictures a band of result rows at a time: what the band's taps reach is copied to scratch
with the zeros around it, unless it may be read where it lies, so that no tap asks whether it is inside. A tile of
results, places by vectors of channels, then lives in registers while the taps and the channels before run. A
convolution of vectors of width 16 on 28 places a row is done in tiles of 14 places by two vectors.

The adjoint by the weights has tiles of taps by vectors of channels, over which the places run. Sums over pictures are
cut into shares, whose count follows from the shapes alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tapeless.codegen.nests.groups import parts_for
from tapeless.codegen.nests.sizes import Size, size_of
from tapeless.ir.graph import Node
from tapeless.ir.machine import Machine
from tapeless.ir.ops.convolution import STEPS, span
from tapeless.ir.types import Dim

__all__ = ["ConvolutionPlan", "Geometry", "SharesPlan", "geometry_of", "plan_convolution", "plan_shares"]

MOST_VECTORS = 4
Pair = tuple[int, int]


@dataclass(frozen=True)
class Geometry:
    """Where the taps of a result lie: see `ir/ops/convolution.py`. Sizes are [down, across]."""

    images: Size
    extent: Pair
    channels: int
    size: Pair
    units: int
    kernel: Pair
    step: Pair
    dilation: Pair
    before: Pair
    inserted: Pair
    flipped: bool

    @property
    def lies(self) -> bool:
        """Whether all taps are inside the pictures, without zeros around or between their places."""
        reach = tuple(self.span(axis, self.size[axis]) for axis in (0, 1))
        return (
            self.before == (0, 0)
            and self.inserted == (1, 1)
            and reach[0] <= self.extent[0]
            and reach[1] <= self.extent[1]
        )

    @property
    def pitch(self) -> int:
        """Elements from one row of places to the next, where taps are read."""
        return (self.extent[1] if self.lies else self.span(1, self.size[1])) * self.channels

    @property
    def in_sequence(self) -> bool:
        """Whether the taps of a row, channel by channel, lie side by side both in pictures and in weights."""
        return self.dilation[1] == 1 and not self.flipped

    def span(self, axis: int, size: int) -> int:
        return span(size, self.kernel[axis], self.step[axis], self.dilation[axis])

    def scratch(self, rows: int) -> int:
        """The elements that so many rows of results are copied from."""
        return 0 if self.lies else self.span(0, rows) * self.pitch

    @property
    def steps(self) -> int:
        """Taps times channels."""
        return self.kernel[0] * self.kernel[1] * self.channels


def geometry_of(node: Node) -> Geometry:
    """The geometry of one of the operations of a convolution."""
    x, other = node.operands
    attrs = node.attrs
    kernel, size = (
        (other.type.shape[:2], attrs["size"]) if node.op == "convolution" else (attrs["kernel"], other.type.shape[1:3])
    )
    (images, *extent, channels), units = x.type.shape, other.type.shape[3]
    assert isinstance(channels, int) and isinstance(units, int)
    return Geometry(
        size_of(images),
        _pair(extent),
        channels,
        _pair(size),
        units,
        _pair(kernel),
        *(attrs[part] for part in STEPS),
    )


def _pair(dims: Sequence[Dim]) -> Pair:
    down, across = dims
    assert isinstance(down, int) and isinstance(across, int)
    return down, across


@dataclass(frozen=True)
class ConvolutionPlan:
    """Tiles of `down` by `across` places and so many vectors of channels; a `band` of result rows is done at a time.
    Parts are shares of the bands of all pictures. `inline`: instructions up to which the epilogue of a tile is written
    out on its registers.
    """

    lanes: int
    down: int
    across: int
    vectors: int
    band: int
    inline: int
    parts: int = 1

    @property
    def places(self) -> int:
        return self.down * self.across

    def __str__(self) -> str:
        places = f"{self.down}x{self.across}" if self.down > 1 else f"{self.across}"
        shared = ", parts of the bands" if self.parts > 1 else ""
        return f"tiles {places} x {self.vectors} of {self.lanes}, {self.band} rows at a time{shared}"


@dataclass(frozen=True)
class SharesPlan:
    """Tiles of so many taps (those of a row, channel by channel, or if `whole` all of them) and vectors of channels."""

    lanes: int
    taps: int
    vectors: int
    band: int
    whole: bool
    parts: int

    def __str__(self) -> str:
        return f"tiles {self.taps}x{self.vectors} of {self.lanes}, {self.band} rows at a time, parts of the pictures"


def cycles(rows: int, vectors: int, machine: Machine) -> float:
    """What one step of a tile takes: its multiply-adds, unless its loads or the latency of the sums take longer, and
    the loop.
    """
    work = rows * vectors / machine.multiply_adds
    return max(work, (rows + vectors) / machine.loads, machine.latency) + 1


def pieces(extent: int, piece: int) -> Iterator[tuple[int, int]]:
    """How an extent is cut: so many whole pieces, and what is left as one."""
    if extent >= piece:
        yield extent // piece, piece
    if extent % piece:
        yield 1, extent % piece


def fits(rows: int, vectors: int, machine: Machine) -> bool:
    """Whether a tile of sums lives in registers, with the vectors that it is made of."""
    return rows * vectors + vectors + 2 <= max(machine.registers, 8)


def plan_convolution(
    shape: Geometry, lanes: int, element_bytes: int, machine: Machine, capacity: int
) -> ConvolutionPlan:
    down, across, vectors = _tile(shape, lanes, machine)
    whole = max(1, shape.size[0])
    row_bytes = max(1, shape.pitch * shape.step[0] * element_bytes)
    band = max(down, min(whole, machine.core_cache // 4 // row_bytes // down * down))
    images = max(1, shape.images.at(capacity))
    work = shape.steps * images * whole * max(1, shape.size[1]) * -(-max(1, shape.units) // lanes) / machine.products
    wanted = machine.parts(work)
    bands = max(-(-whole // band), min(-(-wanted // images), -(-whole // down)))
    band = -(-whole // bands // down) * down
    parts = parts_for(work, machine, images * -(-whole // band))
    return ConvolutionPlan(lanes, down, across, vectors, band, machine.cut.inline, parts)


def _tile(shape: Geometry, lanes: int, machine: Machine) -> tuple[int, int, int]:
    """The tile that takes the fewest cycles for all places and channels; of equals the first."""
    high, wide = max(1, shape.size[0]), max(1, shape.size[1])
    columns = -(-max(1, shape.units) // lanes)
    best: tuple[float, tuple[int, int, int]] | None = None
    for vectors in range(min(MOST_VECTORS, columns), 0, -1):
        for places in range(1, machine.registers + 1):
            if places > 1 and not fits(places, vectors, machine):
                break
            # whole rows at a time where several fit a tile
            down, across = (min(places // wide, high), wide) if places >= wide else (1, places)
            total = sum(
                many * count * sheets * cycles(rows * width, v, machine)
                for many, rows in pieces(high, down)
                for count, width in pieces(wide, across)
                for sheets, v in pieces(columns, vectors)
            )
            if best is None or total < best[0]:
                best = total, (down, across, vectors)
    assert best is not None
    return best[1]


def plan_shares(shape: Geometry, lanes: int, element_bytes: int, machine: Machine, shares: int) -> SharesPlan:
    columns = -(-max(1, shape.units) // lanes)
    row = shape.kernel[1] * shape.channels if shape.in_sequence else shape.channels
    best: tuple[float, tuple[int, int]] | None = None
    whole = shape.steps <= machine.registers and fits(shape.steps, 1, machine)
    every = shape.steps if whole else max(1, row)
    for vectors in range(min(MOST_VECTORS, columns), 0, -1):
        for taps in (every,) if whole else range(1, every + 1):
            if taps > 1 and not fits(taps, vectors, machine):
                break
            total = sum(
                count * sheets * cycles(rows, v, machine)
                for count, rows in pieces(every, taps)
                for sheets, v in pieces(columns, vectors)
            )
            if best is None or total < best[0]:
                best = total, (taps, vectors)
    assert best is not None
    whole_rows = max(1, shape.size[0])
    row_bytes = max(1, shape.pitch * shape.step[0] * element_bytes)
    band = max(1, min(whole_rows, machine.core_cache // 4 // row_bytes))
    return SharesPlan(lanes, *best[1], band, whole, shares)
