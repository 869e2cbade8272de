"""The right operand of a product: where its vectors are, as they lie or in copies of panels.

A panel is as wide as a tile. While the tiles of one are made, the next is copied into a second place, a share of it
after each tile, and what a share reads is prefetched while the tile's chains run: so a copy from a far cache, or from
memory, takes little more time than its instructions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tapeless.codegen.kernels.copies import copy_transposed
from tapeless.codegen.kernels.product_blocks import Block, Ends
from tapeless.codegen.kernels.product_plan import ProductPlan, ProductShape, Scratch
from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import Operand

__all__ = ["Panel", "Right"]


@dataclass(frozen=True)
class Panel:
    """A panel's copy at `place`, and what is copied beside its tiles: the panel from `column` on for the steps of k at
    hand then, to `beside`, so many of its steps after each tile as a `share` has.
    """

    place: Operand
    column: Operand
    steps: Ends
    beside: Operand
    share: Operand


class Right:
    """op(B), whose rows, or columns if it lies transposed, are `apart` from each other. `start` is where the matrix at
    hand begins.
    """

    def __init__(
        self,
        b: Builder,
        name: str,
        kind: str,
        apart: Operand,
        extents: tuple[Operand, Operand],
        shape: ProductShape,
        plan: ProductPlan,
        scratch: Scratch,
    ) -> None:
        self.b, self.name, self.kind, self.apart = b, name, kind, apart
        self.n_extent, self.k_extent = extents
        self.shape, self.plan, self.scratch = shape, plan, scratch
        self.transposed, self.lanes, self.width = shape.right_transposed, plan.lanes, plan.width
        self.copied = plan.blocks is not None and plan.blocks.right
        self.whole_steps = plan.whole_steps(shape)
        self.whole_panels = shape.n.known and shape.n.coefficient % plan.width == 0
        self.start: Operand = index_constant(0)
        self.panel: Panel | None = None

    # Vectors for the inner loop

    def vectors(self, k: Operand, j: Operand, masks: tuple[Operand | None, ...], block: Block) -> list[Operand]:
        """Of row k, from column j on."""
        b, name, step = self.b, self.name, self.apart
        begin = b.arithmetic("add", self.start, j)
        if self.panel is not None:
            name, step, masks = "scratch", index_constant(self.width), (None,) * len(masks)
            begin = b.arithmetic("sub", self.panel.place, b.arithmetic("mul", block.steps[0], step))
        base = b.arithmetic("add", b.arithmetic("mul", k, step), begin)
        if self.plan.near_steps:
            later = b.arithmetic("add", base, b.arithmetic("mul", index_constant(self.plan.near_steps), step))
            for shift in range(0, len(masks) * self.lanes, self.plan.line(self.shape)):
                b.prefetch(name, b.arithmetic("add", later, index_constant(shift)), near=True)
        return [
            b.load(name, self.kind, b.arithmetic("add", base, index_constant(v * self.lanes)), self.lanes, mask)
            for v, mask in enumerate(masks)
        ]

    # Copies

    def pack(self, j: Operand, block: Block) -> None:
        """The panel at column j: all of it, or what was not copied beside the tiles of the one before."""
        b, blocks = self.b, self.plan.blocks
        assert blocks is not None
        first = index_constant(self.scratch.right)
        if not blocks.ahead:
            self.copy(j, block.steps, block.steps[0], first)
            self.panel = Panel(first, j, block.steps, first, index_constant(0))
            return
        (left, right), (begin, end), width = block.columns, block.steps, index_constant(self.width)
        rows, height = b.arithmetic("sub", block.rows[1], block.rows[0]), index_constant(self.plan.tile.rows)
        tiles = b.arithmetic("div", rows, height)
        panels = b.arithmetic("add", b.arithmetic("sub", right, left), index_constant(self.width - 1))
        panels = b.arithmetic("div", panels, width)
        before = b.arithmetic("mul", b.arithmetic("div", begin, index_constant(blocks.steps)), panels)
        before = b.arithmetic("add", before, b.arithmetic("div", b.arithmetic("sub", j, left), width))
        odd = b.arithmetic("rem", before, index_constant(2))
        place = b.arithmetic("add", first, b.arithmetic("mul", odd, index_constant(self.scratch.panel)))
        beside = b.arithmetic("sub", index_constant(2 * self.scratch.right + self.scratch.panel), place)
        count = b.arithmetic("sub", end, begin)
        done = b.arithmetic("min", b.arithmetic("mul", self.share(count, tiles), tiles), count)
        done = b.select(b.compare("eq", before, index_constant(0)), index_constant(0), done)
        self.copy(j, (b.arithmetic("add", begin, done), end), begin, place)
        # The next panel of these steps, or the first one of those that follow, of which there may be none.
        following = b.arithmetic("add", j, width)
        more = b.compare("lt", following, right)
        last = b.arithmetic("min", b.arithmetic("add", end, index_constant(blocks.steps)), self.k_extent)
        steps = b.select(more, begin, end), b.select(more, end, last)
        share = self.share(b.arithmetic("sub", steps[1], steps[0]), tiles)
        self.panel = Panel(place, b.select(more, following, left), steps, beside, share)

    def share(self, steps: Operand, tiles: Operand) -> Operand:
        """How many of so many steps are copied after each tile."""
        b, grain = self.b, self.grain
        pieces = b.arithmetic("mul", b.arithmetic("max", tiles, index_constant(1)), index_constant(grain))
        each = b.arithmetic("div", b.arithmetic("sub", b.arithmetic("add", steps, pieces), index_constant(1)), pieces)
        return b.arithmetic("mul", each, index_constant(grain))

    @property
    def grain(self) -> int:
        """Steps that are copied at once."""
        return self.lanes if self.transposed else 1

    def copy_beside(self, i: Operand, block: Block) -> None:
        """The share of the next panel that is copied after the tile at row i."""
        b, panel = self.b, self.panel
        if panel is None or not self.ahead:
            return
        start = b.arithmetic("min", self.first_of_share(i, block, panel), panel.steps[1])
        stop = b.arithmetic("min", b.arithmetic("add", start, panel.share), panel.steps[1])
        self.copy(panel.column, (start, stop), panel.steps[0], panel.beside)

    def first_of_share(self, i: Operand, block: Block, panel: Panel) -> Operand:
        b = self.b
        tile = b.arithmetic("div", b.arithmetic("sub", i, block.rows[0]), index_constant(self.plan.tile.rows))
        return b.arithmetic("add", panel.steps[0], b.arithmetic("mul", tile, panel.share))

    @property
    def ahead(self) -> bool:
        return self.plan.blocks is not None and self.plan.blocks.ahead

    def copy(self, j: Operand, steps: Ends, begin: Operand, place: Operand) -> None:
        """These steps of the panel at column j, whose first step `begin` stands at `place`."""
        b, lanes, width = self.b, self.lanes, self.width
        if self.transposed:
            last = b.arithmetic("sub", self.n_extent, index_constant(1))
            over = b.open_loop(index_constant(0), index_constant(width), lanes)
            with b.inside(over.block):
                column = b.arithmetic("add", j, over.variable)
                rows: list[Operand] = []
                for lane in range(lanes):
                    row = b.arithmetic("add", column, index_constant(lane))
                    row = row if self.whole_panels else b.arithmetic("min", row, last)
                    rows.append(b.arithmetic("add", self.start, b.arithmetic("mul", row, self.apart)))

                def read(lane: int, k: Operand, mask: Operand | None) -> Operand:
                    return b.load(self.name, self.kind, b.arithmetic("add", rows[lane], k), lanes, mask)

                moved = b.arithmetic("mul", b.arithmetic("sub", steps[0], begin), index_constant(width))
                into = b.arithmetic("add", b.arithmetic("add", place, over.variable), moved)
                copy_transposed(b, read, into, steps, lanes, width, self.whole_steps)
            b.close_loop(over)
            return
        masks: tuple[Operand | None, ...] = (None,) * self.plan.tile.vectors
        if not self.whole_panels:
            there = b.arithmetic("sub", self.n_extent, j)
            masks = tuple(
                b.first(b.arithmetic("sub", there, index_constant(v * lanes)), lanes) for v in range(len(masks))
            )
        loop = b.open_loop(*steps, 1)
        with b.inside(loop.block):
            source = b.arithmetic("add", self.start, j)
            source = b.arithmetic("add", source, b.arithmetic("mul", loop.variable, self.apart))
            step = b.arithmetic("sub", loop.variable, begin)
            into = b.arithmetic("add", place, b.arithmetic("mul", step, index_constant(width)))
            for v, mask in enumerate(masks):
                shift = index_constant(v * lanes)
                value = b.load(self.name, self.kind, b.arithmetic("add", source, shift), lanes, mask)
                b.store("scratch", b.arithmetic("add", into, shift), value)
        b.close_loop(loop)

    def prefetch(self, i: Operand, block: Block) -> Callable[[Operand], None] | None:
        """What the share after the tile at row i reads, some lines of it at each step of k that is asked for."""
        b, panel, blocks = self.b, self.panel, self.plan.blocks
        if panel is None or blocks is None or not blocks.ahead:
            return None
        m, _, k = self.shape.extents
        line, every = self.plan.line(self.shape), self.plan.every(self.shape)
        tiles = max(1, min(blocks.rows, m) // self.plan.tile.rows)
        steps = min(blocks.steps, k)
        share = -(-steps // (tiles * self.grain)) * self.grain
        times = max(1, steps // every)
        start = self.first_of_share(i, block, panel)
        last = b.arithmetic("sub", panel.steps[1], index_constant(1))
        across = range(0, self.width, line)
        each = -(-share // times) if not self.transposed else -(-(self.width * -(-share // line)) // times)

        def at(k: Operand) -> None:
            passed = b.arithmetic("div", b.arithmetic("sub", k, block.steps[0]), index_constant(every))
            done = b.arithmetic("mul", passed, index_constant(each))
            for more in range(each):
                number = b.arithmetic("add", done, index_constant(more))
                if self.transposed:
                    over = b.arithmetic("div", number, index_constant(self.width))
                    column = b.arithmetic("rem", number, index_constant(self.width))
                    row = b.arithmetic(
                        "add", self.start, b.arithmetic("mul", b.arithmetic("add", panel.column, column), self.apart)
                    )
                    step = b.arithmetic("add", start, b.arithmetic("mul", over, index_constant(line)))
                    b.prefetch(self.name, b.arithmetic("add", row, b.arithmetic("min", step, last)))
                    continue
                step = b.arithmetic("min", b.arithmetic("add", start, number), last)
                row = b.arithmetic(
                    "add", b.arithmetic("mul", step, self.apart), b.arithmetic("add", self.start, panel.column)
                )
                for shift in across:
                    b.prefetch(self.name, b.arithmetic("add", row, index_constant(shift)))

        return at
