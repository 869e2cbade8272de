"""Matrix products: register tiles with the epilogue inside.

C[M, N] = op(A)[M, K] B[K, N], or a stack of such products. A tile of C (rows times vectors) lives in registers while
k runs; each step broadcasts one element of A for each row and multiplies it into the vectors of B. Operands stay
where they are: with leading dimensions kept off multiples of 512 elements, direct access reaches the peak; only of
large ones are panels copied. Then the epilogue, any pointwise work over [M, N], turns the tile into what is stored.
Each element of the product is one chain of multiply-adds in the order of k, whatever the tile: a row's bits do not
depend on the count of rows.

A light epilogue is written out on the registers. A heavy one (an exponential is twenty instructions, and a tile has up
to 28 vectors) goes through a tile of scratch and a loop over its rows: compile time is by the line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tapeless.codegen.kernels.micro_kernel import multiply
from tapeless.codegen.kernels.product_plan import Chains, Kind, Panels, ProductPlan, ProductShape
from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import Buffer, Constant, Function, Operand, vector
from tapeless.codegen.nests.analysis import LoweringError, analyse
from tapeless.codegen.nests.evaluate import Evaluator
from tapeless.codegen.nests.groups import buffers_of, instruction_count, part_range
from tapeless.codegen.nests.open_loops import Chunk, OpenLoops, Scope
from tapeless.codegen.nests.sizes import Axis, Size, dense, size_of
from tapeless.codegen.nests.terms import Domain, Uniform, closure
from tapeless.ir.graph import Graph, Node, Value
from tapeless.ir.target import Target

__all__ = ["Product", "product_shape"]


@dataclass(frozen=True)
class _Partial:
    """Unfinished tiles in scratch, from row `first` on, rows `row_length` apart; the steps of k now done, or None where
    they are finished."""

    first: Operand
    row_length: int
    steps: tuple[Operand, Operand] | None = None


@dataclass(frozen=True)
class _Packed:
    """Copies in scratch: at `right` a panel of B, rows a tile's width apart; at `left`, unless it is None, the block of
    A from row `first` on, tile after tile, each a tile's height of elements for one k after the other."""

    first: Operand
    right: int
    left: int | None


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
    if product.attrs["transpose_b"]:
        kind = "turned"
    elif n == Size(1) and m != Size(1) and target.lanes(result.type.dtype.computed.bytes) > 1:
        kind, as_transpose = "broadcast" if flipped else "across", True
    m, n = (n, m) if as_transpose else (m, n)
    domain = analyse(region, node.attrs["leading"], leaf=result)
    terms = closure(store.term for store in domain.stores)
    return ProductShape(
        kind,
        as_transpose,
        m,
        n,
        k,
        tuple(size_of(dim) for dim in result.type.shape[:-2]),
        result.type.dtype.computed.bytes,
        flipped or as_transpose,
        instruction_count(terms),
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
        self.b_place, *self.b_steps, self.ldb = _walk(region, right, places, leading)
        self.a_start: Operand = index_constant(0)
        self.b_start: Operand = index_constant(0)
        self.stack: dict[Axis, Operand] = {}
        self.scratch = False
        self.partial: _Partial | None = None
        self.partial_elements = 0
        self.packed: _Packed | None = None
        self.packed_elements = 0
        self.builder, self.most_rows = Builder(target), target.machine.cut.most_rows

    def function(self) -> Function:
        b = self.builder
        self.sizes = OpenLoops(b)
        self.m_extent, self.n_extent, self.k_extent = (self.sizes.size(size) for size in (self.m, self.n, self.k))
        self.lda_step, self.ldb_step = self.sizes.size(self.lda), self.sizes.size(self.ldb)
        if self.lead:
            self.rows_range: tuple[Operand, Operand] = (index_constant(0), self.m_extent)
            self.stacked(0)
        elif self.plan.along == "columns":
            start, stop = part_range(b, self.n_extent, self.plan.parts, self.width)
            self.rows_range = (index_constant(0), self.m_extent)
            self.row_blocks(start, stop)
        else:
            self.rows_range = part_range(b, self.m_extent, self.plan.parts, self.tile.rows)
            self.row_blocks(index_constant(0), self.n_extent)
        buffers = self.buffers
        if self.scratch or self.partial_elements or self.packed_elements:
            size = (
                self.tile.rows * self.width + self.partial_elements + self.packed_elements
            ) * self.leaf.type.dtype.bytes
            buffers = (*buffers, Buffer("scratch", self.kind, "scratch", -(-size // 64) * 64))
        return Function(self.node.attrs["name"], buffers, self.plan.parts, tuple(b.block))

    def row_blocks(self, start: Operand, stop: Operand) -> None:
        """All column tiles for a block of rows of A, then for the next; a smaller A is one block, and as it lies."""
        b, blocks = self.builder, self.plan.blocks
        if blocks is None:
            self.columns(start, stop)
            return
        first, last = self.rows_range
        loop = b.open_loop(first, last, blocks.rows)
        with b.inside(loop.block):
            end = b.arithmetic("add", loop.variable, index_constant(blocks.rows))
            self.rows_range = (loop.variable, b.arithmetic("min", end, last))
            if isinstance(blocks, Chains):
                self.chain_blocks(blocks, start, stop)
            else:
                self.packed_block(blocks, start, stop)
        b.close_loop(loop)

    def packed_block(self, blocks: Panels, start: Operand, stop: Operand) -> None:
        """Panels of B, and a block of A that would be read column by column, are copied to where tiles read them in
        sequence."""
        height, length = self.tile.rows, self.k.at(self.capacity)
        first, last = self.rows_range
        right, left = height * self.width, height * self.width + length * self.width
        self.packed = _Packed(first, right, left if blocks.left else None)
        # The last tile's surplus rows are read from what lies behind it.
        self.packed_elements = length * self.width + (blocks.rows * length + self.plan.edge_rows if blocks.left else 0)
        if blocks.left:
            self.pack_left(blocks, first, last)
        self.columns(start, stop)
        self.packed = None

    def pack_left(self, blocks: Panels, first: Operand, last: Operand) -> None:
        """The block of A, a few tiles at a time: all that a line holds is taken at once."""
        b, height, lanes = self.builder, self.tile.rows, self.lanes
        group = b.open_loop(first, last, blocks.tiles * height)
        with b.inside(group.block):
            pieces: list[tuple[Operand, Operand, Operand, Operand | None]] = []
            for tile in range(blocks.tiles):
                i = b.arithmetic("add", group.variable, index_constant(tile * height))
                left = b.arithmetic("min", b.arithmetic("sub", last, i), index_constant(height))
                source, into = b.arithmetic("add", self.a_start, i), self.left_tile(i)
                for row in range(0, height, lanes):  # a tile may have more rows than a vector has elements
                    here = b.first(b.arithmetic("sub", left, index_constant(row)), lanes)
                    whole = b.first(index_constant(height - row), lanes) if height - row < lanes else None
                    shift = index_constant(row)
                    pieces.append((b.arithmetic("add", source, shift), b.arithmetic("add", into, shift), here, whole))
            steps = b.open_loop(index_constant(0), self.k_extent, 1)
            with b.inside(steps.block):
                row_start = b.arithmetic("mul", steps.variable, self.lda_step)
                step = b.arithmetic("mul", steps.variable, index_constant(height))
                for source, into, here, whole in pieces:
                    value = b.load(
                        self.buffers[self.a].name, self.kind, b.arithmetic("add", row_start, source), lanes, here
                    )
                    b.store("scratch", b.arithmetic("add", step, into), value, whole)
            b.close_loop(steps)
        b.close_loop(group)

    def left_tile(self, i: Operand) -> Operand:
        """Where row i of the packed tiles of A begins; fewer rows than a tile's may start within one."""
        b, packed, height = self.builder, self.packed, index_constant(self.tile.rows)
        assert packed is not None and packed.left is not None
        row = b.arithmetic("sub", i, packed.first)
        whole = b.arithmetic("mul", b.arithmetic("div", row, height), height)
        within = b.arithmetic("add", b.arithmetic("sub", row, whole), index_constant(packed.left))
        return b.arithmetic("add", b.arithmetic("mul", whole, self.k_extent), within)

    def pack_right(self, j: Operand, masks: tuple[Operand | None, ...]) -> None:
        """The panel of B at column j, into scratch."""
        b, packed = self.builder, self.packed
        assert packed is not None
        loop = b.open_loop(index_constant(0), self.k_extent, 1)
        with b.inside(loop.block):
            source = b.arithmetic(
                "add", b.arithmetic("mul", loop.variable, self.ldb_step), b.arithmetic("add", self.b_start, j)
            )
            into = b.arithmetic(
                "add", b.arithmetic("mul", loop.variable, index_constant(self.width)), index_constant(packed.right)
            )
            for v, mask in enumerate(masks):
                shift = index_constant(v * self.lanes)
                value = b.load(
                    self.buffers[self.b_place].name, self.kind, b.arithmetic("add", source, shift), self.lanes, mask
                )
                b.store("scratch", b.arithmetic("add", into, shift), value)
        b.close_loop(loop)

    def chain_blocks(self, blocks: Chains, start: Operand, stop: Operand) -> None:
        """The rows' products some steps of k at a time, as much as stays in cache; in between, tiles lie in
        scratch. Each element is one chain of multiply-adds still: the bits are the same."""
        b = self.builder
        row_length = -(-self.n.at(self.capacity) // self.width) * self.width
        partial = _Partial(self.rows_range[0], row_length)
        # Rows of a tile beyond the block's end lie behind it.
        self.partial_elements = (blocks.rows + max(self.most_rows, self.tile.rows)) * row_length
        clear = b.open_loop(index_constant(0), index_constant(self.partial_elements), self.lanes)
        with b.inside(clear.block):
            b.store("scratch", clear.variable, Constant(0.0, vector(self.kind, self.lanes)))
        b.close_loop(clear)
        turn = b.open_loop(index_constant(0), self.k_extent, blocks.steps)
        with b.inside(turn.block):
            end = b.arithmetic("min", b.arithmetic("add", turn.variable, index_constant(blocks.steps)), self.k_extent)
            self.partial = replace(partial, steps=(turn.variable, end))
            self.columns(start, stop)
        b.close_loop(turn)
        self.partial = partial
        self.columns(start, stop)
        self.partial = None

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

    def columns(self, start: Operand, stop: Operand) -> None:
        """Column tiles: whole ones in a loop. What is left of a known extent is a narrower tile of its own; of an
        unknown one, every tile is under masks."""
        b, width = self.builder, self.width
        if self.n.known:
            count = self.n.coefficient
            whole = count // width * width
            left = count - whole
            last = b.arithmetic("min", stop, index_constant(whole))
            if whole:
                self.column_loop(start, last, (None,) * self.tile.vectors)
            if left:
                masks = tuple(
                    b.first(index_constant(left - k * self.lanes), self.lanes) if left < (k + 1) * self.lanes else None
                    for k in range(-(-left // self.lanes))
                )
                # The last part does it; all of them would where there are no whole tiles, but then there is one part.
                if self.plan.along == "columns" and self.plan.parts > 1:
                    self.column_loop(b.arithmetic("max", start, index_constant(whole)), stop, masks)
                else:
                    self.row_tiles(index_constant(whole), masks)
        else:
            self.column_loop(start, stop, None)

    def column_loop(self, start: Operand, stop: Operand, masks: tuple[Operand | None, ...] | None) -> None:
        b = self.builder
        if isinstance(start, Constant) and stop == index_constant(self.width) and masks is not None:
            self.row_tiles(start, masks)
            return
        loop = b.open_loop(start, stop, self.width)
        with b.inside(loop.block):
            if masks is None:
                left = b.arithmetic("sub", stop, loop.variable)
                masks = tuple(
                    b.first(b.arithmetic("sub", left, index_constant(k * self.lanes)), self.lanes)
                    for k in range(self.tile.vectors)
                )
            self.row_tiles(loop.variable, masks)
        b.close_loop(loop)

    def row_tiles(self, j: Operand, masks: tuple[Operand | None, ...]) -> None:
        b, height = self.builder, self.tile.rows
        if self.packed is not None:
            self.pack_right(j, masks)
        start, stop = self.rows_range
        if isinstance(start, Constant) and isinstance(stop, Constant):
            whole = int(stop.value) // height * height  # type: ignore[arg-type]
            left = int(stop.value) - whole  # type: ignore[arg-type]
            if whole == height:
                self.tile_at(start, j, masks, height, None)
            elif whole:
                self.row_loop(start, index_constant(whole), height, j, masks)
            if left:
                self.tile_at(index_constant(whole), j, masks, left, None)
            return
        exact = height == 1 or (self.m.known and self.m.coefficient % height == 0)
        if exact or height <= self.plan.held_rows:
            self.row_loop(start, stop, height, j, masks, held=not exact)
            return
        span = b.arithmetic("sub", stop, start)
        middle = b.arithmetic(
            "add", start, b.arithmetic("mul", b.arithmetic("div", span, index_constant(height)), index_constant(height))
        )
        self.row_loop(start, middle, height, j, masks)
        self.row_loop(middle, stop, self.plan.edge_rows, j, masks, held=True)

    def row_loop(
        self,
        start: Operand,
        stop: Operand,
        height: int,
        j: Operand,
        masks: tuple[Operand | None, ...],
        *,
        held: bool = False,
    ) -> None:
        b = self.builder
        loop = b.open_loop(start, stop, height)
        with b.inside(loop.block):
            left = b.arithmetic("sub", stop, loop.variable) if held else None
            self.tile_at(loop.variable, j, masks, height, left)
        b.close_loop(loop)

    # One tile

    def tile_at(
        self, i: Operand, j: Operand, masks: tuple[Operand | None, ...], rows: int, left: Operand | None
    ) -> None:
        """The tile at row i and column j. Where `left` is given, only so many of its rows exist: addresses of the
        others are held at the last row, and they are not stored."""
        if self.partial is not None and self.partial.steps is not None:
            known = self.partial_tile(i, j, rows, len(masks))
            tile = self.product(i, j, masks, rows, left, self.partial.steps, known)
            for place, value in zip(
                self.partial_places(i, j, rows, len(masks)), [value for row in tile for value in row], strict=True
            ):
                b = self.builder
                b.store("scratch", place, value)
            return
        if self.partial is not None:
            flat = self.partial_tile(i, j, rows, len(masks))
            tile = [tuple(flat[row * len(masks) : (row + 1) * len(masks)]) for row in range(rows)]
        else:
            tile = self.product(i, j, masks, rows, left)
        cost = self.epilogue_cost * rows * len(masks)
        if left is None and (cost <= self.plan.inline or rows == 1):
            self.inline_epilogue(tile, i, j, masks)
        else:
            self.looped_epilogue(tile, i, j, masks, left)

    def partial_places(self, i: Operand, j: Operand, rows: int, vectors: int) -> list[Operand]:
        """Where the vectors of a tile lie in scratch, row by row."""
        b, partial = self.builder, self.partial
        assert partial is not None
        row = b.arithmetic("mul", b.arithmetic("sub", i, partial.first), index_constant(partial.row_length))
        base = b.arithmetic("add", row, j)
        return [
            b.arithmetic("add", base, index_constant(r * partial.row_length + v * self.lanes))
            for r in range(rows)
            for v in range(vectors)
        ]

    def partial_tile(self, i: Operand, j: Operand, rows: int, vectors: int) -> tuple[Operand, ...]:
        b = self.builder
        return tuple(
            b.load("scratch", self.kind, place, self.lanes) for place in self.partial_places(i, j, rows, vectors)
        )

    def product(
        self,
        i: Operand,
        j: Operand,
        masks: tuple[Operand | None, ...],
        rows: int,
        there: Operand | None,
        steps: tuple[Operand, Operand] | None = None,
        known: tuple[Operand, ...] | None = None,
    ) -> list[tuple[Operand, ...]]:
        """The tile after the steps of k (all of them, unless told otherwise) from what is known (zeros)."""
        b, lanes, vectors = self.builder, self.lanes, len(masks)
        type = vector(self.kind, lanes)
        zero = Constant(0.0, type)
        offsets = self.row_offsets(i, rows, there)
        left_name, left_step = self.buffers[self.a].name, self.lda_step if self.transposed else index_constant(1)
        right_name, right_step, right_masks = self.buffers[self.b_place].name, self.ldb_step, masks
        b_start = b.arithmetic("add", self.b_start, j)
        if self.packed is not None:
            right_name, right_step, right_masks = "scratch", index_constant(self.width), (None,) * vectors
            b_start = index_constant(self.packed.right)
            if self.packed.left is not None:
                left_name, left_step = "scratch", index_constant(self.tile.rows)

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

        steps = steps or (index_constant(0), self.k_extent)
        results = multiply(b, steps, known or (zero,) * (rows * vectors), left, right)
        return [results[row * vectors : (row + 1) * vectors] for row in range(rows)]

    def row_offsets(self, i: Operand, rows: int, left: Operand | None) -> list[tuple[Operand, int]]:
        """Where each row of op(A) starts: an index computed before the loop, and a known distance from it."""
        b = self.builder
        if self.packed is not None and self.packed.left is not None:
            base = self.left_tile(i)
            return [(base, row) for row in range(rows)]
        step = index_constant(1) if self.transposed else self.lda_step
        if left is None and isinstance(step, Constant):
            base = b.arithmetic("add", self.a_start, b.arithmetic("mul", i, step))
            return [(base, row * int(step.value)) for row in range(rows)]  # type: ignore[arg-type]
        made: list[tuple[Operand, int]] = []
        last = b.arithmetic("sub", left, index_constant(1)) if left is not None else None
        for row in range(rows):
            distance: Operand = index_constant(row)
            if last is not None and row:
                distance = b.arithmetic("min", distance, last)
            base = b.arithmetic("mul", b.arithmetic("add", i, distance), step)
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
            term = self.domain.leaf
            assert term is not None
            e.open.memo(term)[term] = tuple(leaf)
            for store in self.domain.stores:
                e.get(store.term)
            for store in self.domain.stores:
                e.write(store)

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
        self.scratch = True
        width = len(masks) * lanes
        for row, values in enumerate(tile):
            for v, value in enumerate(values):
                b.store("scratch", index_constant(self.partial_elements + row * width + v * lanes), value)
        stop: Operand = index_constant(len(tile))
        if left is not None:
            stop = b.arithmetic("min", left, stop)
        loop = b.open_loop(index_constant(0), stop, 1)
        with e.open.within(Scope(b.block, {}, self.chunk(j, masks))), b.inside(loop.block):
            base = b.arithmetic("mul", loop.variable, index_constant(width))
            base = b.arithmetic("add", base, index_constant(self.partial_elements))
            values = tuple(
                b.load("scratch", self.kind, b.arithmetic("add", base, index_constant(v * lanes)), lanes)
                for v in range(len(masks))
            )
            self.stores_at(e, b.arithmetic("add", i, loop.variable), loop.block, values)
        b.close_loop(loop)
