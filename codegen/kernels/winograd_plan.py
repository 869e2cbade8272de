"""Convolutions of 3 by 3 taps with fewer multiply-adds: which are made so, and how, decided before they are written.

Four results, two by two, share a patch of four by four places. Winograd's minimal filtering F(2 x 2, 3 x 3) (Lavin and
Gray, "Fast algorithms for convolutional neural networks", 2015, section 4.1) makes them of 16 products instead of 36:
patch and taps are transformed by additions, multiplied place by place of the transformed patch, and the sums over
channels transformed back. The products, over all patches and channels, are 16 products of matrices.

Which convolutions are made so follows from their shape, the element type and the kind of processor alone, as sums are
rounded otherwise than in the direct form.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tapeless.codegen.kernels.convolution_plan import MOST_VECTORS, Geometry, Pair, cycles, fits, geometry_of, pieces
from tapeless.codegen.nests.groups import parts_for
from tapeless.ir.graph import Node
from tapeless.ir.machine import Machine

__all__ = [
    "CONVOLUTIONS",
    "MADE",
    "PATCH",
    "PLACES",
    "TAPS",
    "WinogradPlan",
    "WinogradSharesPlan",
    "covered",
    "padded",
    "patches_across",
    "plan_winograd",
    "plan_winograd_shares",
    "relative_time",
    "rows_of_patches",
    "winograd_pays",
]

CONVOLUTIONS = frozenset({"convolution", "convolution_shares"})  # operations that are made so
TAPS, MADE, PATCH = 3, 2, 4  # taps, results and places of a patch along an axis
PLACES = PATCH * PATCH
TAKEN = 2 * PLACES  # vectors that are stored and loaded again for each of a patch's channels,
GIVEN = 2 * PLACES + MADE * MADE  # and for each of its results
WORTH = 0.85  # of the direct form's time: what is less pays
DIRECT_SHARES = 0.65  # of the peak: the direct form of the adjoint by the weights, whose tiles begin anew in each row
FEWEST = 12  # patches that are multiplied at once, so that the transformed taps are read for many


@dataclass(frozen=True)
class WinogradPlan:
    """So many rows of patches (`down`) are transformed at a time; a tile of sums is `patches` by so many vectors of
    channels. Parts are shares of the bands of all pictures.
    """

    lanes: int
    down: int
    patches: int
    vectors: int
    parts: int = 1

    def __str__(self) -> str:
        shared = ", parts of the bands" if self.parts > 1 else ""
        return (
            f"Winograd, {self.down} rows of patches at a time, tiles {self.patches} x {self.vectors} of "
            f"{self.lanes}{shared}"
        )


@dataclass(frozen=True)
class WinogradSharesPlan:
    """So many rows of patches are transformed at a time; a tile of sums is `channels` by so many vectors."""

    lanes: int
    down: int
    channels: int
    vectors: int
    parts: int

    def __str__(self) -> str:
        return (
            f"Winograd, {self.down} rows of patches at a time, tiles {self.channels}x{self.vectors} of {self.lanes}, "
            "parts of the pictures"
        )


def covered(shape: Geometry) -> Geometry:
    """The convolution to whole patches: where sizes are odd the last ones reach over the edge."""
    return replace(shape, size=(2 * rows_of_patches(shape), 2 * patches_across(shape)))


def rows_of_patches(shape: Geometry) -> int:
    return -(-shape.size[0] // MADE)


def patches_across(shape: Geometry) -> int:
    return -(-shape.size[1] // MADE)


def padded(count: int, lanes: int) -> int:
    """The elements of whole vectors."""
    return -(-count // lanes) * lanes


def relative_time(node: Node, machine: Machine) -> float:
    """What a convolution, or its adjoint by the weights, takes by transformed patches, as a share of the direct form's
    time: infinite where it cannot be done so, or the taps outgrow the cache in which they are read again and again.
    """
    shape, element_bytes, one = geometry_of(node), node.result.type.dtype.computed.bytes, (1, 1)
    lanes = machine.lanes(element_bytes)
    if shape.kernel != (TAPS, TAPS) or (shape.step, shape.dilation, shape.inserted) != (one, one, one):
        return math.inf
    columns, vectors = -(-shape.units // lanes), -(-shape.channels // lanes)
    held = PLACES * shape.channels * columns * lanes * element_bytes
    if min(lanes, shape.units) == 1 or 0 in (*shape.size, shape.channels) or held > machine.core_cache // 2:
        return math.inf
    products, moved = machine.products * machine.product_share, machine.bytes / (lanes * element_bytes)
    peak = machine.product_share if node.op == "convolution" else DIRECT_SHARES
    places, patches = shape.size[0] * shape.size[1], rows_of_patches(shape) * patches_across(shape)
    direct = TAPS * TAPS * places * shape.channels * columns / (machine.products * peak)
    each = PLACES * shape.channels * columns / products + (TAKEN * vectors + GIVEN * columns) / moved
    return patches * each / direct


def winograd_pays(node: Node, machine: Machine) -> bool:
    """Whether it is done so."""
    return relative_time(node, machine) < WORTH


def plan_winograd(shape: Geometry, lanes: int, element_bytes: int, machine: Machine, capacity: int) -> WinogradPlan:
    rows, across = rows_of_patches(shape), patches_across(shape)
    down = next(count for count in _divisors(rows) if count * across >= FEWEST or count == rows)
    columns = -(-shape.units // lanes)
    patches, vectors = _tile(down * across, columns, machine)
    images = max(1, shape.images.at(capacity))
    work = PLACES * images * rows * across * shape.channels * columns / machine.products
    return WinogradPlan(lanes, down, patches, vectors, parts_for(work, machine, images * (rows // down)))


def plan_winograd_shares(
    shape: Geometry, lanes: int, element_bytes: int, machine: Machine, shares: int
) -> WinogradSharesPlan:
    rows, across = rows_of_patches(shape), patches_across(shape)
    width = padded(shape.channels, lanes) + padded(shape.units, lanes)
    held = machine.core_cache // 2 // (PLACES * width * across * element_bytes)
    down = max(count for count in _divisors(rows) if count <= max(1, held))
    return WinogradSharesPlan(lanes, down, *_tile(shape.channels, -(-shape.units // lanes), machine), shares)


def _divisors(count: int) -> Iterator[int]:
    return (divisor for divisor in range(1, count + 1) if count % divisor == 0)


def _tile(extent: int, columns: int, machine: Machine) -> Pair:
    """The rows and vectors of the tile of a product that takes the fewest cycles; of equals the first."""
    found: list[tuple[float, Pair]] = []
    for vectors in range(min(MOST_VECTORS, columns), 0, -1):
        for rows in range(1, min(extent, machine.registers) + 1):
            if rows == 1 or fits(rows, vectors, machine):
                total = sum(
                    count * sheets * cycles(height, wide, machine)
                    for count, height in pieces(extent, rows)
                    for sheets, wide in pieces(columns, vectors)
                )
                found.append((total, (rows, vectors)))
    return min(found, key=lambda one: one[0])[1]
