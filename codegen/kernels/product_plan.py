"""What is decided of a product of matrices before a loop of it is written: how tiles are made and how large they are,
what is copied, in which blocks, and how the work is shared out. The writers (matmul.py, matrix_vector.py) take a plan,
and decide nothing that it holds; tuning hands in others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tapeless.abi.calls import LINE
from tapeless.codegen.nests.groups import even_parts, parts_for
from tapeless.codegen.nests.sizes import Size
from tapeless.ir.machine import Machine

__all__ = ["Blocks", "ProductPlan", "ProductShape", "Scratch", "Tile", "choose_tile", "other_plans", "plan_product"]

Kind = Literal["broadcast", "across"]
"""How a tile is made. `broadcast`: each step of k multiplies elements of A into vectors along a row of B. `across`:
inner products along the rows of B^T, whose lanes are added up at the end."""

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
    `left_transposed` says that the rows of a tile lie side by side in A, `right_transposed` that the columns of a panel
    are rows of B. `epilogue` counts its instructions
    for a vector, `moved` the bytes that it reads and writes for an element, and `draws` says whether it draws random
    numbers. `rows` are at most `capacity`.
    """

    kind: Kind
    as_transpose: bool
    m: Size
    n: Size
    k: Size
    stack: tuple[Size, ...]
    element_bytes: int
    left_transposed: bool
    right_transposed: bool
    epilogue: int
    moved: int
    draws: bool
    capacity: int

    @property
    def extents(self) -> tuple[int, int, int]:
        m, n, k = (size.at(self.capacity) for size in (self.m, self.n, self.k))
        return m, n, k


@dataclass(frozen=True)
class Blocks:
    """So many rows of A, columns of B and steps of k at a time; unfinished tiles lie in scratch in between.

    `left`: the block of A is copied, row by row, or tile by tile where it lies transposed. `right`: a panel of B, as
    wide as a tile, is copied to where its rows follow each other, and transposed on the way if need be; `ahead`: while
    the tiles of the panel before are made.
    """

    rows: int
    columns: int
    steps: int
    left: bool = False
    right: bool = False
    ahead: bool = False

    def __str__(self) -> str:
        copied = " and ".join(["A"] * self.left + ["B"] * self.right)
        copied += " ahead" * self.ahead
        return f"{self.rows} x {self.columns} x {self.steps} at a time{f', {copied} packed' if copied else ''}"


@dataclass(frozen=True)
class ProductPlan:
    """`edge_rows`: of the tiles that cover what whole ones leave of a count that is not known. `inline`: instructions
    up to which the epilogue of a tile is written out on its registers. `along`: what parts are shares of. `rows_first`:
    the tiles of a row follow each other, so that what an epilogue reads and writes is walked in sequence; else those of
    a column do, as a copied panel serves them all. `prefetch`: what an epilogue reads and writes is fetched while the
    chains of its tile run; and vectors of B are `near_steps` steps ahead, if that is not 0. Blocks are whole tiles;
    raises ValueError if not, if panels are copied with rows first, or ahead but not at all.
    """

    kind: Kind
    lanes: int
    tile: Tile
    edge_rows: int
    inline: int
    along: Along
    parts: int
    blocks: Blocks | None = None
    rows_first: bool = False
    prefetch: bool = False
    near_steps: int = 0

    def __post_init__(self) -> None:
        if self.blocks is not None:
            if self.blocks.right and self.rows_first:
                raise ValueError("a panel of B is copied for a column of tiles")
            if self.blocks.ahead and not self.blocks.right:
                raise ValueError("only a panel that is copied is copied ahead")
            for size, whole, what in (
                (self.blocks.rows, self.tile.rows, "rows"),
                (self.blocks.columns, self.width, "columns"),
                (self.blocks.steps, 1, "steps"),
            ):
                if size <= 0 or size % whole:
                    raise ValueError(f"{size} {what} are not whole tiles of {whole} {what}")

    @property
    def width(self) -> int:
        """The columns of a tile."""
        return self.tile.vectors * self.lanes

    def whole_steps(self, shape: ProductShape) -> bool:
        """Whether each block's steps of k are whole vectors."""
        if self.blocks is None or not shape.k.known or shape.k.coefficient % self.lanes:
            return False
        return self.blocks.steps % self.lanes == 0 or self.blocks.steps >= shape.k.coefficient

    def line(self, shape: ProductShape) -> int:
        """The elements of a line of the caches."""
        return LINE // shape.element_bytes

    def every(self, shape: ProductShape) -> int:
        """After so many steps of k, lines are prefetched that are wanted after the last one."""
        return self.line(shape)

    def __str__(self) -> str:
        shared = f", parts of the {self.along}" if self.parts > 1 else ""
        order = ", row by row" * self.rows_first + ", results prefetched" * self.prefetch
        return (
            f"{self.kind}, tiles {self.tile} of {self.lanes}{order}{shared}{f', {self.blocks}' if self.blocks else ''}"
        )


@dataclass(frozen=True)
class Scratch:
    """Where a product's own memory holds what, in elements: at 0 a tile, for the epilogue that goes over its rows; then
    the copied panel of B, of `panel` elements (and one more if panels are copied ahead), the copied block of A, its
    rows `left_row` apart (or its tiles by so much for each of their rows), and unfinished tiles, `partial_row` for each
    of their rows.
    """

    right: int
    panel: int
    left: int
    left_row: int
    partial: int
    partial_row: int
    elements: int

    @staticmethod
    def of(shape: ProductShape, plan: ProductPlan) -> Scratch:
        right = plan.tile.rows * plan.width
        if plan.blocks is None:
            return Scratch(right, 0, right, 0, right, 0, right)
        m, n, k = shape.extents
        blocks, height = plan.blocks, plan.tile.rows
        line = LINE // shape.element_bytes
        steps = -(-max(1, min(blocks.steps, k)) // line) * line
        # The last tile may begin anywhere in the block, and is read whole.
        rows = min(blocks.rows, -(-m // height) * height) + height
        panel = steps * plan.width
        left = right + (blocks.right + blocks.ahead) * panel
        left_row = steps + line  # copied rows and tiles must not share sets of the cache
        partial = left + blocks.left * rows * left_row
        partial_row = min(blocks.columns, -(-n // plan.width) * plan.width) if k > blocks.steps else 0
        return Scratch(right, panel, left, left_row, partial, partial_row, partial + rows * partial_row)


def plan_product(shape: ProductShape, machine: Machine) -> ProductPlan:
    """The plan that is expected to take the least time."""
    (m, n, k), stacked, cut = shape.extents, bool(shape.stack), machine.cut
    lanes = 1 if shape.n == Size(1) else machine.lanes(shape.element_bytes)
    tile = _tile(shape, lanes, machine)
    vectors = m * -(-n // lanes)
    work = vectors * k / machine.products + vectors * shape.epilogue / machine.instructions
    row_tiles, column_tiles = -(-m // tile.rows), -(-n // (tile.vectors * lanes))
    blocks = _blocks(shape, tile, lanes, machine)
    rows_first = _moves(shape, machine) and not (blocks and blocks.right)
    nearly: Along | None = None
    if blocks and blocks.right:
        nearly = "columns"
    elif rows_first or (blocks and blocks.left):
        nearly = "rows"
    along, parts = _shares(machine.parts(work), row_tiles, column_tiles, nearly)
    if stacked:
        for size in shape.stack:
            work *= size.at(shape.capacity)
        along, parts = "stack", parts_for(work, machine, shape.stack[0].at(shape.capacity))
    return ProductPlan(
        shape.kind,
        lanes,
        tile,
        _edge_rows(shape, tile, machine),
        cut.inline,
        along,
        parts,
        blocks,
        rows_first,
        not rows_first and _prefetched(shape, machine),
        _near_steps(shape, tile, lanes, blocks, machine),
    )


def _edge_rows(shape: ProductShape, tile: Tile, machine: Machine) -> int:
    """Of the tiles that cover what whole ones leave: as many as those have, which is less text, unless the work is
    worth tiles that need not care for surplus rows.
    """
    held = machine.cut.held_rows
    return tile.rows if tile.rows <= held and not _large(shape, machine) else held // 2


def _large(shape: ProductShape, machine: Machine) -> bool:
    """Whether the product takes longer than two parts should."""
    m, n, k = shape.extents
    vectors = m * -(-n // machine.lanes(shape.element_bytes))
    return vectors * k / machine.products > 2 * machine.part_microseconds


_COPIES = ((False, False, False), (True, False, False), (False, True, False), (False, True, True), (True, True, True))


def other_plans(shape: ProductShape, plan: ProductPlan, machine: Machine) -> list[ProductPlan]:
    """Plans about the expected one: other tiles, block sizes, copies and orders. All give the same bits."""
    if plan.kind != "broadcast":
        return []
    m, n, k = shape.extents
    likely = sorted(_tiles(machine), key=lambda tile: _tile_cost(tile, shape, plan.lanes, machine))
    most = _most_rows(shape, machine)
    fits = [tile for tile in likely if tile.rows <= min(m, most) and (tile.vectors - 1) * plan.lanes < n]
    tiles = [plan.tile] if shape.draws else [plan.tile, *fits[:3]]
    found = []
    for tile in tiles:
        width = tile.vectors * plan.lanes
        expected = _blocks(shape, tile, plan.lanes, machine)
        choices: list[Blocks | None] = [expected, *([] if shape.right_transposed else [None])]
        for steps, rows in ((k, m), (k, m // 2), (k // 2, m), (k // 4, m), (256, m), (512, m)):
            if 0 < steps <= k and rows > 0:
                sizes = _even(rows, rows, tile.rows), _even(n, max(512, width), width), steps
                for left, right, ahead in _COPIES:
                    if (right or not shape.right_transposed) and (left or right or steps < k):
                        choices.append(Blocks(*sizes, left, right, ahead))
        for blocks in choices:
            for rows_first in (False, True):
                if not (rows_first and blocks is not None and blocks.right):
                    near = _near_steps(shape, tile, plan.lanes, blocks, machine)
                    edge = _edge_rows(shape, tile, machine)
                    found.append(
                        replace(plan, tile=tile, edge_rows=edge, blocks=blocks, rows_first=rows_first, near_steps=near)
                    )
    return found


def _tile(shape: ProductShape, lanes: int, machine: Machine) -> Tile:
    if shape.kind == "across":
        return Tile(1, 1)
    n = shape.extents[1]
    # 64 elements of a row share the words of one random block, if the tile holds them all.
    together = 64 // lanes if shape.draws and lanes == 16 and shape.n.known and n and n % 64 == 0 else 0
    # What is walked in sequence is walked in long pieces.
    if _moves(shape, machine) and n * shape.element_bytes < machine.page:
        full = [tile for tile in _tiles(machine) if tile.share(machine) >= machine.shares.twelve]
        together = together or max((tile.vectors for tile in full if tile.vectors * lanes <= n), default=0)
    return choose_tile(shape, lanes, machine, together)


def _level(shape: ProductShape, machine: Machine) -> int:
    """Of the caches that B is read from: it is read again for each tile's rows."""
    (m, n, k), cut = shape.extents, machine.cut
    bytes = k * n * shape.element_bytes
    return 1 + (bytes > machine.near_cache) + (2 * bytes > machine.core_cache and m > cut.paying_tiles * cut.held_rows)


def _most_rows(shape: ProductShape, machine: Machine) -> int:
    return machine.cut.most_rows if shape.m.known or _large(shape, machine) else machine.cut.held_rows


def choose_tile(shape: ProductShape, lanes: int, machine: Machine, vectors: int = 0) -> Tile:
    """The tile with the least expected time for a product; of equals, the one with less text. It has `vectors` vectors
    a row, if that is given.
    """
    m, n, _ = shape.extents
    columns = max(1, -(-n // lanes))
    fitting = [
        tile
        for tile in _tiles(machine)
        if tile.rows <= min(max(1, m), _most_rows(shape, machine))
        and tile.vectors in ((vectors,) if vectors else range(1, columns + 1))
    ]
    return min(fitting, key=lambda tile: _tile_cost(tile, shape, lanes, machine))


def _tile_cost(tile: Tile, shape: ProductShape, lanes: int, machine: Machine) -> float:
    """The expected time of a product in such tiles, for comparing them. What takes long is worth more text."""
    (m, n, k), shares = shape.extents, machine.shares
    columns = -(-n // lanes)
    rest, narrow = m % tile.rows, columns % tile.vectors
    edge = rest if shape.m.known else 0 if shape.m.coefficient % tile.rows == 0 else _edge_rows(shape, tile, machine)
    rows = [(tile.rows, m - rest)] + [(edge, -(-rest // max(1, edge)) * edge)] * (edge > 0)
    across = [(tile.vectors, columns - narrow)] + [(narrow, narrow)] * (narrow > 0)
    work = sum(high * wide / Tile(one, vectors).share(machine) for one, high in rows for vectors, wide in across)
    # Loads for each multiply-add: vectors of B, which are the dearer the farther they are, and elements of A, of which
    # many come with a line.
    loads = _level(shape, machine) / tile.rows + 0.75 / tile.vectors
    price = max(shares.text / 2, min(shares.text, shares.text_steps / max(1, m * columns * k)))
    text = sum(one * vectors for one in {one for one, _ in rows} for vectors, _ in across)
    return work * (1 + shares.load * loads + price * text)


def _tiles(machine: Machine) -> Sequence[Tile]:
    """Tiles whose accumulators and vectors of B leave two registers free."""
    room = machine.registers - 2
    return [
        Tile(rows, vectors)
        for vectors in (1, 2, 3, 4)
        for rows in range(1, machine.cut.most_rows + 1)
        if rows * vectors + vectors <= room
    ]


def _shares(parts: int, row_tiles: int, column_tiles: int, nearly: Along | None) -> tuple[Along, int]:
    """Along columns or along rows, whichever gives more even shares, or those of one kind if they are `nearly` as even;
    a share is whole tiles.
    """

    (by_columns, columns), (by_rows, rows) = even_parts(parts, column_tiles), even_parts(parts, row_tiles)
    columns, rows = (columns / 0.8 if nearly == "rows" else columns), (rows / 0.8 if nearly == "columns" else rows)
    return ("columns", by_columns) if columns <= rows else ("rows", by_rows)


def _blocks(shape: ProductShape, tile: Tile, lanes: int, machine: Machine) -> Blocks | None:
    """What keeps the operands of the inner loop near: steps of k for which a panel of B stays in the nearest caches,
    rows for which so much of A, and columns for which the unfinished tiles, stay in the core's. B is copied where each
    step of k would read it from another page, and it is read often enough to pay for the copy; A where its steps lie
    so, or where its rows share sets of the nearest cache.
    """
    if shape.kind != "broadcast":
        return None
    (m, n, k), element, width, paying = (
        shape.extents,
        shape.element_bytes,
        tile.vectors * lanes,
        machine.cut.paying_tiles,
    )
    near = machine.core_cache // 2 if _moves(shape, machine) else 2 * machine.near_cache
    far = k * n * element > near and n * element >= machine.page
    right = shape.right_transposed or (far and m >= paying * tile.rows)
    crowded = tile.rows > machine.ways // 2 and k * element % machine.crowding == 0
    far = m * element >= machine.page if shape.left_transposed else crowded and m * k * element > machine.near_cache
    left = far and n >= paying * width
    # What lies apart is prefetched from the core's cache, step by step, and may be longer.
    steps = max(1, (3 if right else 5) * machine.near_cache // (2 * width * element))
    cut = 2 * k > 3 * steps
    if not (right or left or cut):
        return None
    steps = _even(k, steps, machine.line // element) if cut else max(1, k)
    rows = _even(m, 3 * machine.core_cache // 8 // (steps * element), tile.rows)
    columns = (
        _even(n, machine.core_cache // 2 // (rows * element), width) if steps < k else -(-max(1, n) // width) * width
    )
    ahead = right and k * n * element > machine.core_cache and n > width and min(rows, m) >= 4 * tile.rows
    return Blocks(rows, columns, steps, left, right, ahead)


def _prefetched(shape: ProductShape, machine: Machine) -> bool:
    """Whether what an epilogue reads and writes is not in the nearest cache, and better be when its turn comes."""
    m, n, _ = shape.extents
    return (
        shape.kind == "broadcast"
        and machine.vector_bytes > 0
        and _large(shape, machine)
        and shape.moved * m * n > 4 * machine.near_cache
    )


def _near_steps(shape: ProductShape, tile: Tile, lanes: int, blocks: Blocks | None, machine: Machine) -> int:
    """So many steps ahead vectors of B are prefetched into the nearest cache; 0: they stay there."""
    _, n, k = shape.extents
    steps, width = min(k, blocks.steps) if blocks else k, tile.vectors * lanes
    if shape.kind != "broadcast" or machine.vector_bytes == 0:
        return 0
    if 2 * steps * min(n, width) * shape.element_bytes <= machine.near_cache:
        return 0
    return max(1, machine.ahead * machine.multiply_adds // (tile.rows * tile.vectors))


def _moves(shape: ProductShape, machine: Machine) -> bool:
    """Whether the epilogue reads whole arrays, and moves more than the core's cache keeps beside the operands."""
    m, n, _ = shape.extents
    more = shape.moved > shape.element_bytes  # than a result
    return more and shape.moved * m * n > machine.core_cache // 2


def _even(extent: int, most: int, grain: int) -> int:
    """The size of blocks of whole grains that are at most so large, if a grain is, and as alike as can be."""
    most = max(grain, most // grain * grain)
    count = max(1, -(-extent // most))
    return max(1, -(-extent // (count * grain))) * grain
