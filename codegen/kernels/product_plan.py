"""What is decided of a product of matrices before a loop of it is written: how tiles are made and how large they are,
what is copied, and how the work is shared out. The writers (matmul.py, transposed_right.py, matrix_vector.py) take a
plan, and decide nothing that it holds; a tuner may hand in another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tapeless.codegen.nests.groups import parts_for
from tapeless.codegen.nests.sizes import Size
from tapeless.ir.machine import Machine

__all__ = ["Chains", "Panels", "ProductPlan", "ProductShape", "Tile", "choose_tile", "plan_product"]

Kind = Literal["broadcast", "turned", "across"]
"""How a tile is made. `broadcast`: each step of k multiplies elements of A into vectors along a row of B. `turned`: the
same of the transposes, where B lies transposed; registers are transposed at the end. `across`: inner products along the
rows of B^T, whose lanes are added up at the end."""

Along = Literal["rows", "columns", "stack"]


@dataclass(frozen=True)
class Tile:
    """Sums in registers: `rows` of them, each of so many vectors."""

    rows: int
    vectors: int

    def share(self, machine: Machine) -> float:
        """Share of the peak of multiply-adds that the inner loop reaches."""
        accumulators, shares = self.rows * self.vectors, machine.shares
        filled = min(1.0, accumulators / machine.accumulators)
        if self.vectors == 1:
            return shares.one_vector * filled
        return shares.twelve if accumulators >= 12 else shares.ten if accumulators >= 10 else shares.fewer * filled

    def __str__(self) -> str:
        return f"{self.rows}x{self.vectors}"


@dataclass(frozen=True)
class ProductShape:
    """A product as its writer sees it: op(A)[m, k] op(B)[k, n] for each place of a stack.

    `as_transpose` says that it is the transpose of what the kernel is to make: its column as a row.
    `left_transposed` says that the rows of a tile lie side by side in A. `epilogue` counts its instructions for a
    vector, and `draws` says whether it draws random numbers. `rows` are at most `capacity`.
    """

    kind: Kind
    as_transpose: bool
    m: Size
    n: Size
    k: Size
    stack: tuple[Size, ...]
    element_bytes: int
    left_transposed: bool
    epilogue: int
    draws: bool
    capacity: int

    @property
    def extents(self) -> tuple[int, int, int]:
        m, n, k = (size.at(self.capacity) for size in (self.m, self.n, self.k))
        return m, n, k


@dataclass(frozen=True)
class Panels:
    """So many rows of A at a time meet a panel of B, copied to where tiles read it in sequence; with `left`, so are the
    rows of A, `tiles` of them at once.
    """

    rows: int
    left: bool
    tiles: int

    def __str__(self) -> str:
        return f"{self.rows} rows of A at a time, panels of B {'and A ' if self.left else ''}packed"


@dataclass(frozen=True)
class Chains:
    """So many rows of A at a time, and so many steps of k; unfinished tiles lie in scratch in between."""

    rows: int
    steps: int

    def __str__(self) -> str:
        return f"{self.rows} rows of A and {self.steps} steps of k at a time"


@dataclass(frozen=True)
class ProductPlan:
    """`edge_rows`: of the tiles that cover what whole ones leave of a count that is not known. `along`: what parts are
    shares of. `inline`: instructions up to which the epilogue of a tile is written out on its registers. Blocks of rows
    are whole tiles; raises ValueError if not.
    """

    kind: Kind
    lanes: int
    tile: Tile
    edge_rows: int
    held_rows: int
    inline: int
    along: Along
    parts: int
    blocks: Panels | Chains | None = None

    def __post_init__(self) -> None:
        if self.blocks is not None:
            together = self.tile.rows * (self.blocks.tiles if isinstance(self.blocks, Panels) else 1)
            if self.blocks.rows <= 0 or self.blocks.rows % together:
                raise ValueError(f"{self.blocks.rows} rows are not whole tiles of {together} rows")
        if self.along == "stack" and self.blocks is not None:
            raise ValueError("a stack of products is not done in blocks")

    @property
    def width(self) -> int:
        """The columns of a tile."""
        return self.tile.vectors * self.lanes

    def __str__(self) -> str:
        shared = f", parts of the {self.along}" if self.parts > 1 else ""
        return f"{self.kind}, tiles {self.tile} of {self.lanes}{shared}{f', {self.blocks}' if self.blocks else ''}"


def plan_product(shape: ProductShape, machine: Machine) -> ProductPlan:
    """The plan that is expected to take the least time."""
    (m, n, k), stacked, cut = shape.extents, bool(shape.stack), machine.cut
    lanes = 1 if shape.n == Size(1) else machine.lanes(shape.element_bytes)
    tile = _tile(shape, lanes, machine)
    vectors = m * -(-n // lanes)
    work = vectors * k / machine.products + vectors * shape.epilogue / machine.instructions
    row_tiles, column_tiles = -(-m // tile.rows), -(-n // (tile.vectors * lanes))
    along, parts = _shares(shape.kind, parts_for(work, machine), row_tiles, column_tiles)
    blocks = None if stacked else _blocks(shape, tile, lanes, machine)
    if isinstance(blocks, Panels) and blocks.left:
        # Each part packs its own rows of A.
        along, parts = "rows", max(1, min(parts, m // (cut.packed_rows // 2)))
    if stacked:
        for size in shape.stack:
            work *= size.at(shape.capacity)
        along, parts = "stack", max(1, min(parts_for(work, machine), shape.stack[0].at(shape.capacity)))
    edge_rows = lanes if shape.kind == "turned" else cut.held_rows // 2
    return ProductPlan(shape.kind, lanes, tile, edge_rows, cut.held_rows, cut.inline, along, parts, blocks)


def _tile(shape: ProductShape, lanes: int, machine: Machine) -> Tile:
    if shape.kind == "turned":
        return Tile(lanes, 1)
    if shape.kind == "across":
        return Tile(1, 1)
    m, n, _ = shape.extents
    # 64 elements of a row share the words of one random block, if the tile holds them all.
    together = 64 // lanes if shape.draws and lanes == 16 and shape.n.known and n and n % 64 == 0 else 0
    most_rows = machine.cut.most_rows if shape.m.known else machine.cut.held_rows
    return choose_tile(m, n, lanes, machine, vectors=together, most_rows=most_rows)


def choose_tile(m: int, n: int, lanes: int, machine: Machine, *, vectors: int = 0, most_rows: int = 0) -> Tile:
    """The tile with the least expected time for an m x n product; of equals, the one with less text. It has `vectors`
    vectors a row, if that is given, and `most_rows` rows at most, or as many as the machine takes.
    """
    columns = -(-n // lanes)

    def cost(tile: Tile) -> float:
        whole, rest = divmod(m, tile.rows)
        rows = whole * tile.rows / tile.share(machine)
        rows += rest / Tile(rest, tile.vectors).share(machine) if rest else 0
        text = (tile.rows + rest) * tile.vectors * (2 if columns % tile.vectors else 1)
        # Loads for each multiply-add: vectors of B, and elements of A, of which several fit into a cycle.
        loads = 1 / tile.rows + 1 / machine.loads / tile.vectors
        costs = 1 + machine.shares.load * loads + machine.shares.text * text
        return rows * -(-columns // tile.vectors) * tile.vectors * costs

    fitting = [
        tile
        for tile in _tiles(machine)
        if tile.rows <= min(max(1, m), most_rows or machine.cut.most_rows)
        and tile.vectors in ((vectors,) if vectors else range(1, max(1, columns) + 1))
    ]
    return min(fitting, key=cost)


def _tiles(machine: Machine) -> Sequence[Tile]:
    """Tiles whose accumulators and vectors of B leave two registers free."""
    room = machine.registers - 2
    return [
        Tile(rows, vectors)
        for vectors in (1, 2, 3, 4)
        for rows in range(1, machine.cut.most_rows + 1)
        if rows * vectors + vectors <= room
    ]


def _shares(kind: Kind, parts: int, row_tiles: int, column_tiles: int) -> tuple[Along, int]:
    """Along columns or along rows, whichever gives more even shares; a share is whole tiles."""

    def best(tiles: int) -> tuple[float, int]:
        """The speed-up, if each part had a thread, and the fewest parts that give it."""
        found = max((tiles / -(-tiles // count), -count) for count in range(1, min(parts, tiles) + 1))
        return found[0], -found[1]

    by_columns, by_rows = best(max(1, column_tiles)), best(max(1, row_tiles))
    if kind == "turned":
        # Along rows, where that gives as many shares: then no row of A is copied twice.
        return ("rows", by_rows[1]) if by_rows[0] > 1 and by_rows[1] >= by_columns[1] else ("columns", by_columns[1])
    return ("columns", by_columns[1]) if by_columns[0] >= by_rows[0] else ("rows", by_rows[1])


def _blocks(shape: ProductShape, tile: Tile, lanes: int, machine: Machine) -> Panels | Chains | None:
    m, n, k = shape.extents
    large = m * k * shape.element_bytes > 2 * machine.core_cache and n > tile.vectors * lanes
    if not large or shape.kind != "broadcast":
        return None
    cut = machine.cut
    if k > machine.core_cache // cut.panel_row:
        return Chains(max(tile.rows, cut.chain_rows // tile.rows * tile.rows), cut.chain_steps)
    group = cut.packed_tiles * tile.rows
    packs_left = shape.left_transposed and shape.m.known
    return Panels(max(group, cut.packed_rows // group * group), packs_left, cut.packed_tiles)
