"""Matrix products: register tiles with the epilogue inside.

C[M, N] = op(A)[M, K] B[K, N], or a stack of such products. A tile of C (rows times vectors) lives in registers while
k runs; each step broadcasts one element of A for each row and multiplies it into the vectors of B. Small operands stay
where they are; large ones are gone over in blocks of rows, columns and steps of k, and copied where they lie far apart
(see `product_plan.py`), and an unfinished tile waits in scratch. Then the epilogue, any pointwise work over [M, N],
turns the tile into what is stored. Each element of the product is one chain of multiply-adds in the order of k,
whatever the tile: a row's bits do not depend on the count of rows.

A light epilogue is written out on the registers. A heavy one (an exponential is twenty instructions, and a tile has up
to 28 vectors) goes through a tile of scratch and a loop over its rows: compile time is by the line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tapeless.abi.dtypes import TYPES
from tapeless.codegen.kernels.copies import Reader, copy_row, copy_transposed
from tapeless.codegen.kernels.micro_kernel import multiply
from tapeless.codegen.kernels.product_plan import Kind, ProductPlan, ProductShape, Scratch
from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import Buffer, Constant, Function, Instruction, Operand, vector
from tapeless.codegen.nests.analysis import LoweringError, analyse
from tapeless.codegen.nests.evaluate import Evaluator
from tapeless.codegen.nests.groups import buffers_of, instruction_count, part_range
from tapeless.codegen.nests.open_loops import Chunk, OpenLoops, Scope
from tapeless.codegen.nests.sizes import ONE, Axis, Size, dense, size_of
from tapeless.codegen.nests.terms import Domain, Uniform, Walk, closure
from tapeless.ir.graph import Graph, Node, Value
from tapeless.ir.target import Target

__all__ = ["Product", "product_shape"]


@dataclass(frozen=True)
class _Span:
    """Tiles side by side, each of so many rows or columns: a single one, or as many as there are up to `stop`. Unless
    they are `whole`, the last may have fewer; `narrow` is how many columns a single narrower one has.
    """

    start: Operand
    stop: Operand
    size: int
    single: bool = False
    whole: bool = True
    narrow: int = 0


@dataclass(frozen=True)
class _Block:
    """The part of a product now done: rows and columns from these on, and steps of k from `start` up to `stop`."""

    row: Operand
    column: Operand
    start: Operand
    stop: Operand


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


def product_shape(node: Node, capacity: int, target: Target) -> ProductShape:
    """The product of a kernel, and how it is best made. Raises LoweringError where there is not one."""
    region = node.regions[0]
    products = [inner for inner in region.nodes if inner.op == "matmul"]
    if len(products) != 1:
        raise LoweringError(f"kernel {node.attrs['name']}: not one product")
    (product,) = products
    result, flipped = product.result, bool(product.attrs["transpose_a"])
    m, n = (size_of(dim) for dim in result.type.shape[-2:])
    k = size_of(product.operands[0].type.shape[-2 if flipped else -1])
    kind: Kind = "broadcast"
    as_transpose = False
    if n == Size(1) and m != Size(1) and target.lanes(result.type.dtype.computed.bytes) > 1:
        kind, as_transpose = "broadcast" if flipped else "across", True
    m, n = (n, m) if as_transpose else (m, n)
    domain = analyse(region, node.attrs["leading"], leaf=result)
    terms = closure(store.term for store in domain.stores)
    whole = [store.term for store in domain.stores]
    whole += [term for term in terms if isinstance(term, Walk) and len(term.axes) == result.type.rank]
    return ProductShape(
        kind,
        as_transpose,
        m,
        n,
        k,
        tuple(size_of(dim) for dim in result.type.shape[:-2]),
        result.type.dtype.computed.bytes,
        flipped or as_transpose,
        bool(product.attrs["transpose_b"]) and not as_transpose,
        instruction_count(terms),
        sum(TYPES[term.kind].lane_bytes for term in whole),
        any(isinstance(term, Uniform) for term in terms),
        capacity,
    )


class Product:
    """Writes a product whose tiles are made by broadcasts."""

    def __init__(self, node: Node, target: Target, shape: ProductShape, plan: ProductPlan) -> None:
        region, leading = node.regions[0], node.attrs["leading"]
        (product,) = (inner for inner in region.nodes if inner.op == "matmul")
        places = {port.value: place for place, port in enumerate(region.inputs)}
        self.node, self.plan, self.capacity = node, plan, shape.capacity
        self.tile, self.lanes, self.width = plan.tile, plan.lanes, plan.width
        self.leaf: Value = product.result
        self.domain: Domain = analyse(region, leading, leaf=self.leaf)
        self.terms = closure(store.term for store in self.domain.stores)
        self.kind = self.leaf.type.dtype.kind
        self.buffers = buffers_of(node)
        self.m, self.n, self.k, self.lead = shape.m, shape.n, shape.k, shape.stack
        self.transposed, self.epilogue_cost = shape.left_transposed, shape.epilogue
        # What a tile's rows run along, and what its vectors do, of the result.
        self.row_axis, self.column_axis = (-1, -2) if shape.as_transpose else (-2, -1)
        left, right = reversed(product.operands) if shape.as_transpose else product.operands
        self.a, *self.a_steps, self.lda = _walk(region, left, places, leading)
        if shape.as_transpose and product.attrs["transpose_b"]:
            self.lda = ONE  # a column that lies as a row
        self.b_place, *self.b_steps, self.ldb = _walk(region, right, places, leading)
        self.a_start: Operand = index_constant(0)
        self.b_start: Operand = index_constant(0)
        self.stack: dict[Axis, Operand] = {}
        self.right_transposed = shape.right_transposed
        self.block: _Block | None = None
        self.scratch = Scratch.of(shape, plan)
        self.spilled = False
        self.builder = Builder(target)

    def function(self) -> Function:
        b = self.builder
        self.sizes = OpenLoops(b)
        self.m_extent, self.n_extent, self.k_extent = (self.sizes.size(size) for size in (self.m, self.n, self.k))
        self.lda_step, self.ldb_step = self.sizes.size(self.lda), self.sizes.size(self.ldb)
        self.rows_range: tuple[Operand, Operand] = (index_constant(0), self.m_extent)
        if self.lead:
            self.stacked(0)
        elif self.plan.along == "columns":
            self.row_blocks(*part_range(b, self.n_extent, self.plan.parts, self.width))
        else:
            self.rows_range = part_range(b, self.m_extent, self.plan.parts, self.tile.rows)
            self.row_blocks(index_constant(0), self.n_extent)
        buffers = self.buffers
        if self.spilled or self.plan.blocks is not None:
            size = self.scratch.elements * self.leaf.type.dtype.bytes
            buffers = (*buffers, Buffer("scratch", self.kind, "scratch", -(-size // 64) * 64))
        return Function(self.node.attrs["name"], buffers, self.plan.parts, tuple(b.block))

    # Loops over blocks

    def row_blocks(self, start: Operand, stop: Operand) -> None:
        """All column tiles, block after block if the plan has blocks. Each element is one chain of multiply-adds all
        the same: the bits do not depend on the blocks.
        """
        b, blocks = self.builder, self.plan.blocks
        if blocks is None:
            self.tiles(start, stop)
            return
        first, last = self.rows_range
        # Where there are no steps at all, there is the epilogue still.
        steps = b.arithmetic("max", self.k_extent, index_constant(1))
        with (
            self.blockwise(first, last, blocks.rows, self.m) as self.rows_range,
            self.blockwise(start, stop, blocks.columns, self.n) as (left, right),
            self.blockwise(index_constant(0), steps, blocks.steps, self.k) as (begin, end),
        ):
            self.block = _Block(self.rows_range[0], left, begin, b.arithmetic("min", end, self.k_extent))
            if blocks.left:
                self.pack_left()
            self.tiles(left, right)
        self.block, self.rows_range = None, (first, last)

    @contextmanager
    def blockwise(self, start: Operand, stop: Operand, size: int, extent: Size) -> Iterator[tuple[Operand, Operand]]:
        """A loop over blocks, or none where one block is all."""
        b = self.builder
        if extent.at(self.capacity) <= size:
            yield start, stop
            return
        loop = b.open_loop(start, stop, size)
        with b.inside(loop.block):
            yield loop.variable, b.arithmetic("min", b.arithmetic("add", loop.variable, index_constant(size)), stop)
        b.close_loop(loop)

    # Copies of operands

    def pack_left(self) -> None:
        b, block = self.builder, self.block
        assert block is not None
        first, last = self.rows_range
        if not self.transposed:
            rows = b.open_loop(first, last, 1)
            with b.inside(rows.block):
                source = b.arithmetic("add", self.a_start, b.arithmetic("mul", rows.variable, self.lda_step))
                into = b.arithmetic("sub", self.left_row(rows.variable), block.start)
                copy_row(b, self.left_from(source), into, (block.start, block.stop), self.lanes, self.whole_steps)
            b.close_loop(rows)
            return
        height = self.tile.rows
        tiles = b.open_loop(first, last, height)
        with b.inside(tiles.block):
            i = tiles.variable
            left = b.arithmetic("min", b.arithmetic("sub", last, i), index_constant(height))
            source, into = b.arithmetic("add", self.a_start, i), self.left_row(i)
            steps = b.open_loop(block.start, block.stop, 1)
            with b.inside(steps.block):
                row = b.arithmetic("add", source, b.arithmetic("mul", steps.variable, self.lda_step))
                step = b.arithmetic("sub", steps.variable, block.start)
                place = b.arithmetic("add", into, b.arithmetic("mul", step, index_constant(height)))
                for shift in range(0, height, self.lanes):  # a tile may have more rows than a vector has elements
                    here = b.first(b.arithmetic("sub", left, index_constant(shift)), self.lanes)
                    whole = b.first(index_constant(height - shift), self.lanes) if height - shift < self.lanes else None
                    value = self.left_from(b.arithmetic("add", row, index_constant(shift)))(index_constant(0), here)
                    b.store("scratch", b.arithmetic("add", place, index_constant(shift)), value, whole)
            b.close_loop(steps)
        b.close_loop(tiles)

    @property
    def whole_steps(self) -> bool:
        """Whether each block's steps of k are whole vectors."""
        blocks = self.plan.blocks
        assert blocks is not None
        whole = self.k.known and self.k.coefficient % self.lanes == 0
        return whole and (blocks.steps % self.lanes == 0 or blocks.steps >= self.k.coefficient)

    def left_from(self, start: Operand) -> Reader:
        b, name = self.builder, self.buffers[self.a].name
        return lambda k, mask: b.load(name, self.kind, b.arithmetic("add", start, k), self.lanes, mask)

    def left_row(self, i: Operand) -> Operand:
        """Where row i of the packed A begins. Where A lies transposed, tiles follow each other, and within a tile its
        rows lie side by side; fewer rows than a tile's may start within one.
        """
        b, block, scratch = self.builder, self.block, self.scratch
        assert block is not None
        row = b.arithmetic("sub", i, block.row)
        if not self.transposed:
            place = b.arithmetic("mul", row, index_constant(scratch.left_row))
            return b.arithmetic("add", place, index_constant(scratch.left))
        height = index_constant(self.tile.rows)
        whole = b.arithmetic("mul", b.arithmetic("div", row, height), height)
        within = b.arithmetic("add", b.arithmetic("sub", row, whole), index_constant(scratch.left))
        return b.arithmetic("add", b.arithmetic("mul", whole, index_constant(scratch.left_row)), within)

    def pack_right(self, j: Operand, masks: tuple[Operand | None, ...]) -> None:
        """The panel of B at column j."""
        b, block, lanes = self.builder, self.block, self.lanes
        assert block is not None
        name = self.buffers[self.b_place].name
        into = index_constant(self.scratch.right)
        if self.right_transposed:
            last = b.arithmetic("sub", self.n_extent, index_constant(1))
            over = b.open_loop(index_constant(0), index_constant(len(masks) * lanes), lanes)
            with b.inside(over.block):
                column = b.arithmetic("add", j, over.variable)
                rows: list[Operand] = []
                for lane in range(lanes):
                    row = b.arithmetic("min", b.arithmetic("add", column, index_constant(lane)), last)
                    rows.append(b.arithmetic("add", self.b_start, b.arithmetic("mul", row, self.ldb_step)))

                def read(lane: int, k: Operand, mask: Operand | None) -> Operand:
                    return b.load(name, self.kind, b.arithmetic("add", rows[lane], k), lanes, mask)

                begin = b.arithmetic("add", into, over.variable)
                copy_transposed(b, read, begin, (block.start, block.stop), lanes, self.width, self.whole_steps)
            b.close_loop(over)
            return
        loop = b.open_loop(block.start, block.stop, 1)
        with b.inside(loop.block):
            source = b.arithmetic("mul", loop.variable, self.ldb_step)
            source = b.arithmetic("add", source, b.arithmetic("add", self.b_start, j))
            step = b.arithmetic("sub", loop.variable, block.start)
            place = b.arithmetic("add", b.arithmetic("mul", step, index_constant(self.width)), into)
            for v, mask in enumerate(masks):
                shift = index_constant(v * lanes)
                value = b.load(name, self.kind, b.arithmetic("add", source, shift), lanes, mask)
                b.store("scratch", b.arithmetic("add", place, shift), value)
        b.close_loop(loop)

    # Loops over a stack of products: parts are shares of its first axis

    def stacked(self, depth: int) -> None:
        b = self.builder
        if depth == len(self.lead):
            self.row_blocks(index_constant(0), self.n_extent)
            return
        extent = self.sizes.size(self.lead[depth])
        start, stop = part_range(b, extent, 1 if depth else self.plan.parts, 1)
        loop = b.open_loop(start, stop, 1)
        before = self.a_start, self.b_start
        axis = self.domain.first_axes[self.leaf][depth]
        if axis is not None:
            self.stack[axis] = loop.variable
        with b.inside(loop.block):
            a_step, b_step = self.sizes.size(self.a_steps[depth]), self.sizes.size(self.b_steps[depth])
            self.a_start = b.arithmetic("add", before[0], b.arithmetic("mul", loop.variable, a_step))
            self.b_start = b.arithmetic("add", before[1], b.arithmetic("mul", loop.variable, b_step))
            self.stacked(depth + 1)
        self.a_start, self.b_start = before
        b.close_loop(loop)

    # Loops over tiles

    def tiles(self, start: Operand, stop: Operand) -> None:
        """All tiles of the rows at hand, from one column up to another."""
        blocks = self.plan.blocks
        for columns in self.column_spans(start, stop):
            if self.plan.rows_first:
                for rows in self.row_spans():
                    with self.over(rows) as i, self.over(columns) as j:
                        self.tile_at(i, j, self.masks(columns, j), rows)
                continue
            with self.over(columns) as j:
                masks = self.masks(columns, j)
                if blocks is not None and blocks.right:
                    self.pack_right(j, masks)
                for rows in self.row_spans():
                    with self.over(rows) as i:
                        self.tile_at(i, j, masks, rows)

    @contextmanager
    def over(self, span: _Span) -> Iterator[Operand]:
        """Where each tile of the span begins."""
        if span.single:
            yield span.start
            return
        loop = self.builder.open_loop(span.start, span.stop, span.size)
        with self.builder.inside(loop.block):
            yield loop.variable
        self.builder.close_loop(loop)

    def column_spans(self, start: Operand, stop: Operand) -> list[_Span]:
        """Whole tiles. What is left of a known extent is a narrower tile of its own; of an unknown one, every tile is
        under masks.
        """
        b, width = self.builder, self.width
        if not self.n.known:
            return [_Span(start, stop, width, whole=False)]
        count = self.n.coefficient
        whole = count // width * width
        spans = []
        if whole:
            last = b.arithmetic("min", stop, index_constant(whole))
            single = isinstance(start, Constant) and last == index_constant(width)
            spans.append(_Span(start, last, width, single=single))
        if count > whole:
            # It belongs to the last part or block.
            single = stop == index_constant(count)
            begin = index_constant(whole) if single else b.arithmetic("max", start, index_constant(whole))
            spans.append(_Span(begin, stop, width, single=single, narrow=count - whole))
        return spans

    def masks(self, span: _Span, j: Operand) -> tuple[Operand | None, ...]:
        """Of each vector of a tile at column j."""
        b, lanes = self.builder, self.lanes
        if not span.whole:
            left = b.arithmetic("sub", span.stop, j)
            shifts = [index_constant(k * lanes) for k in range(self.tile.vectors)]
            return tuple(b.first(b.arithmetic("sub", left, shift), lanes) for shift in shifts)
        if span.narrow:
            return b.covering(span.narrow, lanes)
        return (None,) * self.tile.vectors

    def row_spans(self) -> list[_Span]:
        b, height = self.builder, self.tile.rows
        start, stop = self.rows_range
        if isinstance(start, Constant) and isinstance(stop, Constant):
            count = int(stop.value)  # type: ignore[arg-type]
            whole = count // height * height
            spans = [_Span(start, index_constant(whole), height, single=whole == height)] if whole else []
            if count > whole:
                spans.append(_Span(index_constant(whole), stop, count - whole, single=True))
            return spans
        exact = height == 1 or (self.m.known and self.m.coefficient % height == 0)
        if exact or height <= self.plan.held_rows:
            return [_Span(start, stop, height, whole=exact)]
        tiles = b.arithmetic("div", b.arithmetic("sub", stop, start), index_constant(height))
        middle = b.arithmetic("add", start, b.arithmetic("mul", tiles, index_constant(height)))
        return [_Span(start, middle, height), _Span(middle, stop, self.plan.edge_rows, whole=False)]

    # One tile

    def tile_at(self, i: Operand, j: Operand, masks: tuple[Operand | None, ...], span: _Span) -> None:
        """The tile at row i and column j. If the span's tiles are not whole, only those rows exist that are `left`:
        addresses of the others are held at the last row, and they are not stored.
        """
        b, block, rows = self.builder, self.block, span.size
        left = None if span.whole else b.arithmetic("sub", span.stop, i)
        count = rows * len(masks)
        if block is None or self.k.at(self.capacity) <= self.plan.blocks.steps:  # type: ignore[union-attr]
            zero = Constant(0.0, vector(self.kind, self.lanes))
            self.finish(self.product(i, j, masks, rows, left, (zero,) * count), i, j, masks, left)
            return
        places = self.unfinished(i, j, rows, len(masks))
        begun = b.compare("lt", index_constant(0), block.start)
        there: list[Instruction] = []
        with b.inside(there):
            loaded = [b.load("scratch", self.kind, place, self.lanes) for place in places]
        zeros = [Constant(0.0, vector(self.kind, self.lanes))] * count
        known = b.conditional(begun, there, loaded, (), zeros)
        tile = self.product(i, j, masks, rows, left, known)
        last: list[Instruction] = []
        more: list[Instruction] = []
        with b.inside(last):
            self.finish(tile, i, j, masks, left)
        with b.inside(more):
            for place, value in zip(places, [value for row in tile for value in row], strict=True):
                b.store("scratch", place, value)
        b.conditional(b.compare("le", self.k_extent, block.stop), last, (), more)

    def finish(
        self,
        tile: list[tuple[Operand, ...]],
        i: Operand,
        j: Operand,
        masks: tuple[Operand | None, ...],
        left: Operand | None,
    ) -> None:
        cost = self.epilogue_cost * len(tile) * len(masks)
        if left is None and (cost <= self.plan.inline or len(tile) == 1):
            self.inline_epilogue(tile, i, j, masks)
        else:
            self.looped_epilogue(tile, i, j, masks, left)

    def unfinished(self, i: Operand, j: Operand, rows: int, vectors: int) -> list[Operand]:
        """Where the vectors of an unfinished tile lie in scratch: side by side, and tiles one behind the other."""
        b, block, scratch = self.builder, self.block, self.scratch
        assert block is not None
        row = b.arithmetic("mul", b.arithmetic("sub", i, block.row), index_constant(scratch.partial_row))
        column = b.arithmetic("mul", b.arithmetic("sub", j, block.column), index_constant(rows))
        base = b.arithmetic("add", b.arithmetic("add", row, column), index_constant(scratch.partial))
        return [b.arithmetic("add", base, index_constant(place * self.lanes)) for place in range(rows * vectors)]

    def product(
        self,
        i: Operand,
        j: Operand,
        masks: tuple[Operand | None, ...],
        rows: int,
        there: Operand | None,
        known: Sequence[Operand],
    ) -> list[tuple[Operand, ...]]:
        """The tile after the steps of k at hand, on top of what is known of it."""
        b, lanes, vectors, block, blocks = self.builder, self.lanes, len(masks), self.block, self.plan.blocks
        first, last = (index_constant(0), self.k_extent) if block is None else (block.start, block.stop)
        offsets = self.row_offsets(i, rows, there)
        left_name, left_step = self.buffers[self.a].name, self.lda_step if self.transposed else index_constant(1)
        if blocks is not None and blocks.left:
            left_name, left_step = "scratch", index_constant(self.tile.rows if self.transposed else 1)
        right_name, right_step, right_masks = self.buffers[self.b_place].name, self.ldb_step, masks
        b_start = b.arithmetic("add", self.b_start, j)
        if blocks is not None and blocks.right:
            right_name, right_step, right_masks = "scratch", index_constant(self.width), (None,) * vectors
            b_start = b.arithmetic("sub", index_constant(self.scratch.right), b.arithmetic("mul", first, right_step))

        def right(k: Operand) -> list[Operand]:
            base = b.arithmetic("add", b.arithmetic("mul", k, right_step), b_start)
            return [
                b.load(right_name, self.kind, b.arithmetic("add", base, index_constant(v * lanes)), lanes, mask)
                for v, mask in enumerate(right_masks)
            ]

        def left(k: Operand) -> Iterator[Operand]:
            step = b.arithmetic("mul", k, left_step)
            common = b.arithmetic("add", step, offsets[0][0])
            for base, distance in offsets:
                start = common if base is offsets[0][0] else b.arithmetic("add", step, base)
                index = b.arithmetic("add", start, index_constant(distance))
                yield b.splat(b.load(left_name, self.kind, index), lanes)

        results = multiply(b, (first, last), known, left, right)
        return [results[row * vectors : (row + 1) * vectors] for row in range(rows)]

    def row_offsets(self, i: Operand, rows: int, left: Operand | None) -> list[tuple[Operand, int]]:
        """Where each row of op(A) starts: an index computed before the loop, and a known distance from it."""
        b, block, blocks = self.builder, self.block, self.plan.blocks
        if block is not None and blocks is not None and blocks.left:
            # The last tile's surplus rows are read from what lies behind.
            step = self.tile.rows if self.transposed else 1
            base = b.arithmetic("sub", self.left_row(i), b.arithmetic("mul", block.start, index_constant(step)))
            return [(base, row * (1 if self.transposed else self.scratch.left_row)) for row in range(rows)]
        step_of_row = index_constant(1) if self.transposed else self.lda_step
        if left is None and isinstance(step_of_row, Constant):
            base = b.arithmetic("add", self.a_start, b.arithmetic("mul", i, step_of_row))
            return [(base, row * int(step_of_row.value)) for row in range(rows)]  # type: ignore[arg-type]
        made: list[tuple[Operand, int]] = []
        last = b.arithmetic("sub", left, index_constant(1)) if left is not None else None
        for row in range(rows):
            distance: Operand = index_constant(row)
            if last is not None and row:
                distance = b.arithmetic("min", distance, last)
            base = b.arithmetic("mul", b.arithmetic("add", i, distance), step_of_row)
            made.append((b.arithmetic("add", self.a_start, base), 0))
        return made

    # Epilogues

    def evaluator(self) -> Evaluator:
        """Fresh for each tile, so that no loaded value is held in a register through a tile's inner loop."""
        n_axis = self.domain.first_axes[self.leaf][self.column_axis]
        made = Evaluator(self.builder, self.buffers, n_axis, self.lanes)
        made.open.scopes[0].indices.update(self.stack)
        return made

    def chunk(self, j: Operand, masks: tuple[Operand | None, ...]) -> Chunk:
        """Tiles of whole width stand at multiples of it."""
        return Chunk(j, masks, aligned=len(masks) == self.tile.vectors)

    def stores_at(self, e: Evaluator, row: Operand, block: list[Any], leaf: Sequence[Operand]) -> None:
        m_axis = self.domain.first_axes[self.leaf][self.row_axis]
        scope = Scope(block, {} if m_axis is None else {m_axis: row})
        with e.open.within(scope):
            e.write_all(self.domain, leaf)

    def inline_epilogue(
        self, tile: list[tuple[Operand, ...]], i: Operand, j: Operand, masks: tuple[Operand | None, ...]
    ) -> None:
        b, e = self.builder, self.evaluator()
        with e.open.within(Scope(b.block, {}, self.chunk(j, masks))):
            for row, values in enumerate(tile):
                self.stores_at(e, b.arithmetic("add", i, index_constant(row)), b.block, values)

    def looped_epilogue(
        self,
        tile: list[tuple[Operand, ...]],
        i: Operand,
        j: Operand,
        masks: tuple[Operand | None, ...],
        left: Operand | None,
    ) -> None:
        """Through scratch: the tile is written there, and read again row by row."""
        b, e, lanes = self.builder, self.evaluator(), self.lanes
        self.spilled = True
        width = len(masks) * lanes
        for row, values in enumerate(tile):
            for v, value in enumerate(values):
                b.store("scratch", index_constant(row * width + v * lanes), value)
        stop: Operand = index_constant(len(tile))
        if left is not None:
            stop = b.arithmetic("min", left, stop)
        loop = b.open_loop(index_constant(0), stop, 1)
        with e.open.within(Scope(b.block, {}, self.chunk(j, masks))), b.inside(loop.block):
            base = b.arithmetic("mul", loop.variable, index_constant(width))
            values = tuple(
                b.load("scratch", self.kind, b.arithmetic("add", base, index_constant(v * lanes)), lanes)
                for v in range(len(masks))
            )
            self.stores_at(e, b.arithmetic("add", i, loop.variable), loop.block, values)
        b.close_loop(loop)
