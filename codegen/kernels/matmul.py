"""Matrix products: register tiles with the epilogue inside.

C[M, N] = op(A)[M, K] B[K, N], or a stack of such products. A tile of C (rows times vectors) lives in registers while
k runs; each step broadcasts one element of A for each row and multiplies it into the vectors of B. Small operands stay
where they are; large ones are gone over in blocks of rows, columns and steps of k, and copied where they lie far apart
(see `product_plan.py`), and an unfinished tile waits in scratch. Then the epilogue, any pointwise work over [M, N],
turns the tile into what is stored. Each element of the product is one chain of multiply-adds in the order of k,
whatever the tile: a row's bits do not depend on the count of rows.

Here are the loops over stacks, blocks and tiles; the operands (`left_operand.py`, `right_operand.py`) and the epilogue
(`product_epilogue.py`) know where their numbers are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tapeless.codegen.kernels.left_operand import Left
from tapeless.codegen.kernels.micro_kernel import multiply
from tapeless.codegen.kernels.product_blocks import Block, Ends, Span
from tapeless.codegen.kernels.product_epilogue import Epilogue
from tapeless.codegen.kernels.product_plan import ProductPlan, ProductShape, Scratch
from tapeless.codegen.kernels.right_operand import Right
from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import Buffer, Constant, Function, Instruction, Operand, vector
from tapeless.codegen.nests.analysis import analyse
from tapeless.codegen.nests.groups import buffers_of, part_range
from tapeless.codegen.nests.open_loops import OpenLoops
from tapeless.codegen.nests.sizes import ONE, Axis, Size, dense
from tapeless.ir.graph import Graph, Node, Value
from tapeless.ir.target import Target

__all__ = ["Product"]

Masks = tuple[Operand | None, ...]


def _walk(region: Graph, value: Value, places: Mapping[Value, int], leading: Sequence[int]) -> tuple[Any, ...]:
    """An operand's buffer, the steps from one of its stack of matrices to the next, and that of its rows. A matrix
    that is broadcast over an axis of the stack is one for all of its places.
    """
    producer = region.producers.get(value)
    if producer is None:
        return (places[value], *dense(value.type.shape, leading[places[value]])[:-1])
    (stored,), axes = producer.operands, producer.attrs["axes"]
    steps = dict(zip(axes, dense(stored.type.shape, leading[places[stored]]), strict=True))
    return (places[stored], *(steps.get(axis, Size(0)) for axis in range(value.type.rank - 1)))


class Product:
    """Writes a product whose tiles are made by broadcasts."""

    def __init__(self, node: Node, target: Target, shape: ProductShape, plan: ProductPlan) -> None:
        region, leading = node.regions[0], node.attrs["leading"]
        (product,) = (inner for inner in region.nodes if inner.op == "matmul")
        places = {port.value: place for place, port in enumerate(region.inputs)}
        self.node, self.shape, self.plan = node, shape, plan
        self.tile, self.lanes, self.width = plan.tile, plan.lanes, plan.width
        self.leaf: Value = product.result
        self.domain = analyse(region, leading, leaf=self.leaf)
        self.kind = self.leaf.type.dtype.kind
        self.buffers = buffers_of(node)
        self.scratch = Scratch.of(shape, plan)
        self.stack: dict[Axis, Operand] = {}
        b = self.builder = Builder(target)
        self.sizes = OpenLoops(b)
        self.extents = m, n, k = tuple(self.sizes.size(size) for size in (shape.m, shape.n, shape.k))
        self.all = Block((index_constant(0), m), (index_constant(0), n), (index_constant(0), k))
        left, right = reversed(product.operands) if shape.as_transpose else product.operands
        place, *self.left_steps, apart = _walk(region, left, places, leading)
        if shape.as_transpose and product.attrs["transpose_b"]:
            apart = ONE  # a column that lies as a row
        name, step = self.buffers[place].name, self.sizes.size(apart)
        self.left = Left(b, name, self.kind, step, shape, plan, self.scratch)
        place, *self.right_steps, apart = _walk(region, right, places, leading)
        name, step = self.buffers[place].name, self.sizes.size(apart)
        self.right = Right(b, name, self.kind, step, (n, k), shape, plan, self.scratch)
        self.epilogue = Epilogue(b, self.domain, self.leaf, self.buffers, self.stack, shape, plan)

    def function(self) -> Function:
        b, (m, n, _) = self.builder, self.extents
        if self.shape.stack:
            self.stacked(0)
        elif self.plan.along == "columns":
            self.blocks(self.all.rows, part_range(b, n, self.plan.parts, self.width))
        else:
            self.blocks(part_range(b, m, self.plan.parts, self.tile.rows), self.all.columns)
        buffers = self.buffers
        if self.epilogue.spilled or self.plan.blocks is not None:
            size = self.scratch.elements * self.leaf.type.dtype.bytes
            buffers = (*buffers, Buffer("scratch", self.kind, "scratch", -(-size // 64) * 64))
        return Function(self.node.attrs["name"], buffers, self.plan.parts, tuple(b.block))

    def stacked(self, depth: int) -> None:
        """Loops over a stack of products: parts are shares of its first axis."""
        b = self.builder
        if depth == len(self.shape.stack):
            self.blocks(self.all.rows, self.all.columns)
            return
        extent = self.sizes.size(self.shape.stack[depth])
        start, stop = part_range(b, extent, 1 if depth else self.plan.parts, 1)
        loop = b.open_loop(start, stop, 1)
        before = self.left.start, self.right.start
        axis = self.domain.first_axes[self.leaf][depth]
        if axis is not None:
            self.stack[axis] = loop.variable
        with b.inside(loop.block):
            steps = self.sizes.size(self.left_steps[depth]), self.sizes.size(self.right_steps[depth])
            self.left.start = b.arithmetic("add", before[0], b.arithmetic("mul", loop.variable, steps[0]))
            self.right.start = b.arithmetic("add", before[1], b.arithmetic("mul", loop.variable, steps[1]))
            self.stacked(depth + 1)
        self.left.start, self.right.start = before
        b.close_loop(loop)

    # Loops over blocks

    def blocks(self, rows: Ends, columns: Ends) -> None:
        """All tiles, block after block if the plan has blocks. Each element is one chain of multiply-adds all the same:
        the bits do not depend on the blocks.
        """
        b, blocks, k = self.builder, self.plan.blocks, self.extents[2]
        if blocks is None:
            self.tiles(Block(rows, columns, self.all.steps))
            return
        # Where there are no steps at all, there is the epilogue still.
        steps = index_constant(0), b.arithmetic("max", k, index_constant(1))
        with (
            self.blockwise(rows, blocks.rows, self.shape.m) as rows,
            self.blockwise(columns, blocks.columns, self.shape.n) as columns,
            self.blockwise(steps, blocks.steps, self.shape.k) as (begin, end),
        ):
            block = Block(rows, columns, (begin, b.arithmetic("min", end, k)))
            if blocks.left:
                self.left.pack(block)
            self.tiles(block)

    @contextmanager
    def blockwise(self, ends: Ends, size: int, extent: Size) -> Iterator[Ends]:
        """A loop over blocks, or none where one block is all."""
        b = self.builder
        if extent.at(self.shape.capacity) <= size:
            yield ends
            return
        loop = b.open_loop(*ends, size)
        with b.inside(loop.block):
            yield loop.variable, b.arithmetic("min", b.arithmetic("add", loop.variable, index_constant(size)), ends[1])
        b.close_loop(loop)

    # Loops over tiles

    def tiles(self, block: Block) -> None:
        """All tiles of a block."""
        for columns in self.column_spans(block):
            if self.plan.rows_first:
                for rows in self.row_spans(block):
                    with self.over(rows) as i, self.over(columns) as j:
                        self.tile_at(i, j, self.masks(columns, j), rows, block)
                continue
            with self.over(columns) as j:
                masks = self.masks(columns, j)
                if self.right.copied:
                    self.right.pack(j, block)
                for rows in self.row_spans(block):
                    with self.over(rows) as i:
                        self.tile_at(i, j, masks, rows, block)
                        if rows.size == self.tile.rows:
                            self.right.copy_beside(i, block)

    @contextmanager
    def over(self, span: Span) -> Iterator[Operand]:
        """Where each tile of the span begins."""
        if span.single:
            yield span.start
            return
        loop = self.builder.open_loop(span.start, span.stop, span.size)
        with self.builder.inside(loop.block):
            yield loop.variable
        self.builder.close_loop(loop)

    def column_spans(self, block: Block) -> list[Span]:
        """Whole tiles. What is left of a known extent is a narrower tile of its own; of an unknown one, every tile is
        under masks.
        """
        b, width, (start, stop) = self.builder, self.width, block.columns
        if not self.shape.n.known:
            return [Span(start, stop, width, whole=False)]
        count = self.shape.n.coefficient
        whole = count // width * width
        spans = []
        if whole:
            last = b.arithmetic("min", stop, index_constant(whole))
            single = isinstance(start, Constant) and last == index_constant(width)
            spans.append(Span(start, last, width, single=single))
        if count > whole:
            # It belongs to the last part or block.
            single = stop == index_constant(count)
            begin = index_constant(whole) if single else b.arithmetic("max", start, index_constant(whole))
            spans.append(Span(begin, stop, width, single=single, narrow=count - whole))
        return spans

    def masks(self, span: Span, j: Operand) -> Masks:
        """Of each vector of a tile at column j."""
        b, lanes = self.builder, self.lanes
        if not span.whole:
            left = b.arithmetic("sub", span.stop, j)
            shifts = [index_constant(k * lanes) for k in range(self.tile.vectors)]
            return tuple(b.first(b.arithmetic("sub", left, shift), lanes) for shift in shifts)
        if span.narrow:
            return b.covering(span.narrow, lanes)
        return (None,) * self.tile.vectors

    def row_spans(self, block: Block) -> list[Span]:
        b, height, (start, stop), m = self.builder, self.tile.rows, block.rows, self.shape.m
        if isinstance(start, Constant) and isinstance(stop, Constant):
            count = int(stop.value)  # type: ignore[arg-type]
            whole = count // height * height
            spans = [Span(start, index_constant(whole), height, single=whole == height)] if whole else []
            if count > whole:
                spans.append(Span(index_constant(whole), stop, count - whole, single=True))
            return spans
        exact = m.coefficient % height == 0
        if exact or height <= self.plan.edge_rows:
            return [Span(start, stop, height, whole=exact)]
        tiles = b.arithmetic("div", b.arithmetic("sub", stop, start), index_constant(height))
        middle = b.arithmetic("add", start, b.arithmetic("mul", tiles, index_constant(height)))
        return [Span(start, middle, height), Span(middle, stop, self.plan.edge_rows, whole=False)]

    # One tile

    def tile_at(self, i: Operand, j: Operand, masks: Masks, span: Span, block: Block) -> None:
        """The tile at row i and column j. If the span's tiles are not whole, only those rows exist that are `left`:
        addresses of the others are held at the last row, and they are not stored.
        """
        b, rows, blocks = self.builder, span.size, self.plan.blocks
        left = None if span.whole else b.arithmetic("sub", span.stop, i)
        count = rows * len(masks)
        zero = Constant(0.0, vector(self.kind, self.lanes))
        if blocks is None or self.shape.k.at(self.shape.capacity) <= blocks.steps:
            tile = self.product(i, j, masks, rows, left, (zero,) * count, block)
            self.epilogue.write(tile, i, j, masks, left)
            return
        places = self.unfinished(i, j, rows, len(masks), block)
        begun = b.compare("lt", index_constant(0), block.steps[0])
        there: list[Instruction] = []
        with b.inside(there):
            loaded = [b.load("scratch", self.kind, place, self.lanes) for place in places]
        known = b.conditional(begun, there, loaded, (), [zero] * count)
        tile = self.product(i, j, masks, rows, left, known, block)
        last: list[Instruction] = []
        more: list[Instruction] = []
        with b.inside(last):
            self.epilogue.write(tile, i, j, masks, left)
        with b.inside(more):
            for place, value in zip(places, [value for row in tile for value in row], strict=True):
                b.store("scratch", place, value)
        b.conditional(b.compare("le", self.extents[2], block.steps[1]), last, (), more)

    def unfinished(self, i: Operand, j: Operand, rows: int, vectors: int, block: Block) -> list[Operand]:
        """Where the vectors of an unfinished tile lie in scratch: side by side, and tiles one behind the other."""
        b, scratch = self.builder, self.scratch
        row = b.arithmetic("mul", b.arithmetic("sub", i, block.rows[0]), index_constant(scratch.partial_row))
        column = b.arithmetic("mul", b.arithmetic("sub", j, block.columns[0]), index_constant(rows))
        base = b.arithmetic("add", b.arithmetic("add", row, column), index_constant(scratch.partial))
        return [b.arithmetic("add", base, index_constant(place * self.lanes)) for place in range(rows * vectors)]

    def product(
        self,
        i: Operand,
        j: Operand,
        masks: Masks,
        rows: int,
        there: Operand | None,
        known: Sequence[Operand],
        block: Block,
    ) -> list[tuple[Operand, ...]]:
        """The tile after the steps of k at hand, on top of what is known of it."""
        b, vectors = self.builder, len(masks)
        places = self.left.places(i, rows, there, block)
        results = multiply(
            b,
            block.steps,
            known,
            lambda k: self.left.elements(k, places),
            lambda k: self.right.vectors(k, j, masks, block),
            self.meanwhile(i, j, rows, block) if there is None else None,
            self.plan.every(self.shape),
        )
        return [results[row * vectors : (row + 1) * vectors] for row in range(rows)]

    def meanwhile(self, i: Operand, j: Operand, rows: int, block: Block) -> Callable[[Operand], None] | None:
        """What is prefetched while the chains of a tile run."""
        b = self.builder
        panel, touched = self.right.prefetch(i, block), self.epilogue.prefetch(i, j, rows, block)
        if panel is None and touched is None:
            return None

        def at(k: Operand) -> None:
            if panel is not None:
                panel(k)
            if touched is None:
                return
            last: list[Instruction] = []
            with b.inside(last):
                touched(k)
            if self.scratch.partial_row:
                b.conditional(b.compare("le", self.extents[2], block.steps[1]), last)
            else:
                b.block.extend(last)

        return at
