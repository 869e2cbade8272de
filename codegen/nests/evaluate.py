"""Computing terms inside open loops.

An evaluator holds the loops that are open as a stack of scopes. Each term is computed in the outermost scope that
binds its axes, once: what does not depend on an inner loop lands before that loop, as its block is still being
written. One axis, the vector axis, is bound to a chunk of several vectors at a time; a term that depends on it is that
many values, any other term is one scalar, spread over lanes where it meets a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tapeless.codegen.loops.builder import I64, Builder, index_constant
from tapeless.codegen.loops.language import ROWS, Buffer, Constant, Instruction, Operand, vector
from tapeless.codegen.nests.philox import Words, philox, uniform_double, uniform_single
from tapeless.codegen.nests.pointwise import lower_pointwise
from tapeless.codegen.nests.terms import Axis, Domain, Size, Store, Strides, Term

if TYPE_CHECKING:
    from tapeless.codegen.nests.short_rows import ShortRows

__all__ = ["Chunk", "Evaluator", "Scope"]


@dataclass(frozen=True)
class Chunk:
    """Where the vector axis stands: `vectors` vectors from index `base`, each with a mask or None.

    `aligned` says that `base` is a multiple of what one chunk covers. `left` counts the elements from `base` on,
    where they do not fill the chunk.
    """

    base: Operand
    masks: tuple[Operand | None, ...]
    aligned: bool = False
    left: Operand | None = None

    @property
    def vectors(self) -> int:
        return len(self.masks)


@dataclass
class Scope:
    block: list[Instruction]
    indices: dict[Axis, Operand] = field(default_factory=dict)
    chunk: Chunk | None = None
    memo: dict[Any, Any] = field(default_factory=dict)


Values = tuple[Operand, ...]


class Evaluator:
    def __init__(
        self, builder: Builder, buffers: Sequence[Buffer], domain: Domain, vector_axis: Axis | None, lanes: int
    ) -> None:
        self.b = builder
        self.buffers = buffers
        self.domain = domain
        self.vector_axis = vector_axis
        self.lanes = lanes
        self.scopes: list[Scope] = [Scope(builder.block)]
        self.reduce: Callable[[Term], None] | None = None
        self.short_rows: ShortRows | None = None
        self.streaming = False  # whether results go past the caches now
        self.kept: dict[Term, Term] = {}  # values that lie in memory by now: the load in their place

    # Scopes

    def depth(self, axes: frozenset[Axis] | Sequence[Axis]) -> int:
        deepest = 0
        for axis in axes:
            for place in range(len(self.scopes) - 1, -1, -1):
                scope = self.scopes[place]
                if axis in scope.indices or (axis == self.vector_axis and scope.chunk is not None):
                    deepest = max(deepest, place)
                    break
            else:
                raise KeyError(f"axis {axis} is not bound")
        return deepest

    @contextmanager
    def within(self, scopes: list[Scope]) -> Iterator[None]:
        outer, self.scopes = self.scopes, scopes
        try:
            with self.b.inside(scopes[-1].block):
                yield
        finally:
            self.scopes = outer

    def at(self, depth: int) -> Any:
        """Writing into the scope at `depth`, seeing only what it sees."""
        return self.within(self.scopes[: depth + 1])

    def index(self, axis: Axis) -> Operand:
        for scope in reversed(self.scopes):
            if axis in scope.indices:
                return scope.indices[axis]
        raise KeyError(f"axis {axis} is not bound")

    @property
    def chunk(self) -> Chunk:
        for scope in reversed(self.scopes):
            if scope.chunk is not None:
                return scope.chunk
        raise KeyError("the vector axis is not bound")

    def varies(self, term: Term) -> bool:
        return self.vector_axis in term.axes

    # Sizes and addresses

    def size(self, size: Size) -> Operand:
        if size.known or size.coefficient == 0:
            return index_constant(size.coefficient)
        memo = self.scopes[0].memo
        if size not in memo:
            with self.at(0):
                value: Operand = ROWS
                for _ in range(size.power - 1):
                    value = self.b.arithmetic("mul", value, ROWS)
                memo[size] = self.b.arithmetic("mul", value, index_constant(size.coefficient))
        found: Operand = memo[size]
        return found

    def address(self, strides: Strides) -> tuple[Operand, int]:
        """The index of an element (of the first lane of the chunk), and the scope it was computed in."""
        parts = sorted((self.depth((axis,)), axis) for axis in strides)
        total: Operand = index_constant(0)
        key: tuple[Any, ...] = ("address",)
        depth = 0
        for depth, axis in parts:
            key = (*key, axis, strides[axis])
            memo = self.scopes[depth].memo
            if key not in memo:
                with self.at(depth):
                    step = self.size(strides[axis])
                    here = self.chunk.base if axis == self.vector_axis else self.index(axis)
                    memo[key] = self.b.arithmetic("add", total, self.b.arithmetic("mul", here, step))
            total = memo[key]
        return total, depth

    def offsets(self, step: Operand, type_kind: str = "i32") -> Operand:
        """Lane k's distance from the first lane where elements are `step` apart."""
        type = vector(type_kind, self.lanes)
        if isinstance(step, Constant):
            return Constant(tuple(lane * int(step.value) for lane in range(self.lanes)), type)  # type: ignore[arg-type]
        lanes = Constant(tuple(range(self.lanes)), type)
        return self.b.mul(self.b.splat(self.b.convert(step, type_kind), self.lanes), lanes)

    # Terms

    def get(self, wanted: Term) -> Values:
        """The term's values in the scopes now open; computes what is missing, operands first, without recursion."""
        pending = [wanted]
        while pending:
            term = pending[-1]
            depth = self.depth(term.axes)
            memo = self.scopes[depth].memo
            if term in memo:
                pending.pop()
                continue
            if term.reduced:
                assert self.reduce is not None
                with self.at(depth):
                    self.reduce(term)
                pending.pop()
                continue
            made = self.kept.get(term, term)
            missing = [
                operand for operand in made.operands if operand not in self.scopes[self.depth(operand.axes)].memo
            ]
            if missing:
                pending.extend(reversed(missing))
                continue
            with self.at(depth):
                memo[term] = self.compute(made)
            pending.pop()
        values: Values = self.scopes[self.depth(wanted.axes)].memo[wanted]
        return values

    def spread(self, term: Term) -> Values:
        """The term's values as vectors of the chunk, though it may not vary along the vector axis."""
        values = self.get(term)
        if self.varies(term) or self.vector_axis is None:
            return values
        memo = self.scopes[self.depth(term.axes)].memo
        if ("spread", term) not in memo:
            with self.at(self.depth(term.axes)):
                memo["spread", term] = self.b.splat(values[0], self.lanes)
        return (memo["spread", term],) * self.chunk.vectors

    def compute(self, term: Term) -> Values:
        special = _SPECIAL.get(term.op)
        if special is not None:
            return special(self, term)
        if not self.varies(term):
            operands = [self.get(operand)[0] for operand in term.operands]
            return (lower_pointwise(self.b, term.op, operands, term.kind, term.attrs),)
        columns = [self.spread(operand) for operand in term.operands]
        return tuple(
            lower_pointwise(self.b, term.op, operands, term.kind, term.attrs) for operands in zip(*columns, strict=True)
        )

    def load(self, term: Term) -> Values:
        if self.short_rows is not None and self.short_rows.covers(term.attrs["strides"]):
            return self.short_rows.load(term)
        return self.read(term, term.attrs["strides"], None)

    def load_if(self, term: Term) -> Values:
        """A load where the operand says that there is an element: masked, or at the buffer's first one instead."""
        (there,) = term.operands
        buffer = self.buffers[term.attrs["buffer"]].name
        conditions = self.spread(there) if self.varies(term) else self.get(there)
        base, made = self.displaced(term, term.attrs["strides"]), []
        step = (
            self.size(term.attrs["strides"].get(self.vector_axis, Size(0))) if self.varies(term) else index_constant(0)
        )
        masks = self.chunk.masks if self.varies(term) else (None,)
        for number, (condition, mask) in enumerate(zip(conditions, masks, strict=True)):
            index = self.b.arithmetic("add", base, self.b.arithmetic("mul", step, index_constant(number * self.lanes)))
            if not self.varies(term) or self.lanes == 1:
                held = self.b.select(condition, index, index_constant(0))
                made.append(self.b.load(buffer, term.kind, held, 1, mask))
                continue
            chosen = condition if mask is None else self.b.bits("and", condition, mask)
            if step == index_constant(1):
                made.append(self.b.load(buffer, term.kind, index, self.lanes, chosen))
            else:
                made.append(self.b.gather(buffer, term.kind, index, self.offsets(step), chosen))
        return tuple(made)

    def read(self, term: Term, strides: Strides, extra: Operand | None) -> Values:
        buffer = self.buffers[term.attrs["buffer"]].name
        base = self.displaced(term, strides)
        if extra is not None:
            base = self.b.arithmetic("add", base, extra)
        if not self.varies(term):
            return (self.b.load(buffer, term.kind, base),)
        assert self.vector_axis is not None
        stride = strides[self.vector_axis]
        step = self.size(stride)
        made = []
        for number, mask in enumerate(self.chunk.masks):
            distance = self.b.arithmetic("mul", step, index_constant(number * self.lanes))
            index = self.b.arithmetic("add", base, distance)
            if stride == Size(1) or self.lanes == 1:
                made.append(self.b.load(buffer, term.kind, index, self.lanes, mask))
            else:
                made.append(self.b.gather(buffer, term.kind, index, self.offsets(step), mask))
        return tuple(made)

    def displaced(self, term: Term, strides: Strides) -> Operand:
        """The address of the first element, moved by the offset of a slice."""
        base, _ = self.address(strides)
        for size in term.attrs.get("offset", ()):
            base = self.b.arithmetic("add", base, self.size(size))
        return base

    def load_at(self, term: Term) -> Values:
        """A load at a computed index, clamped into its range."""
        (picked,) = term.operands
        strides, along = term.attrs["strides"], self.size(term.attrs["along"])
        last = self.b.arithmetic("sub", self.size(term.attrs["size"]), index_constant(1))
        if not self.varies(picked) or self.lanes == 1:
            moves = []
            for value in self.get(picked):
                place = self.b.arithmetic("min", self.b.convert(value, "i64"), last)
                place = self.b.arithmetic("max", place, index_constant(0))
                moves.append(self.b.arithmetic("mul", place, along))
            if not self.varies(picked):
                return self.read(term, strides, moves[0])
            base = self.displaced(term, strides)
            step = self.size(strides.get(self.vector_axis, Size(0)))
            name = self.buffers[term.attrs["buffer"]].name
            return tuple(
                self.b.load(
                    name,
                    term.kind,
                    self.b.arithmetic(
                        "add",
                        self.b.arithmetic("add", base, move),
                        self.b.arithmetic("mul", step, index_constant(number)),
                    ),
                    1,
                    mask,
                )
                for number, (move, mask) in enumerate(zip(moves, self.chunk.masks, strict=True))
            )
        base = self.displaced(term, strides)
        type = vector("i32", self.lanes)
        limit = self.b.splat(self.b.convert(last, "i32"), self.lanes)
        scale = self.b.splat(self.b.convert(along, "i32"), self.lanes)
        name = self.buffers[term.attrs["buffer"]].name
        step = self.size(strides[self.vector_axis]) if self.vector_axis in strides else index_constant(0)
        made = []
        for number, (value, mask) in enumerate(zip(self.get(picked), self.chunk.masks, strict=True)):
            place = self.b.compute("min", value, limit, type=type)
            place = self.b.compute("max", place, Constant(0, type), type=type)
            offsets: Operand = self.b.mul(place, scale)
            if self.vector_axis in strides:
                offsets = self.b.add(offsets, self.offsets(step))
            index = self.b.arithmetic("add", base, self.b.arithmetic("mul", step, index_constant(number * self.lanes)))
            made.append(self.b.gather(name, term.kind, index, offsets, mask))
        return tuple(made)

    def constant(self, term: Term) -> Values:
        return (Constant(term.attrs["value"], vector(term.kind, 1)),)

    def count(self, term: Term) -> Values:
        size = term.attrs["size"]
        if size.known:
            return (Constant(float(size.coefficient), vector(term.kind, 1)),)
        return (self.b.convert(self.size(size), term.kind),)

    def iota(self, term: Term) -> Values:
        axis = term.attrs["axis"]
        if axis is None:
            return (Constant(0, vector(term.kind, 1)),)
        if not self.varies(term):
            return (self.b.convert(self.index(axis), term.kind),)
        kind = term.kind if term.kind in ("i32", "u32") else "i32"
        return tuple(self.b.convert(value, term.kind) for value in self.positions(self.chunk.base, kind))

    def positions(self, base: Operand, kind: str, step: Operand | None = None) -> Values:
        """base + lane * step for each vector of the chunk, in 32 bits."""
        if step is None:
            first = self.b.splat(self.b.convert(base, kind), self.lanes)
            type = vector(kind, self.lanes)
            return tuple(
                self.b.add(first, Constant(tuple(range(start, start + self.lanes)), type))
                for start in range(0, self.chunk.vectors * self.lanes, self.lanes)
            )
        offsets = self.offsets(step, kind)
        made = []
        for number in range(self.chunk.vectors):
            move = self.b.arithmetic("mul", step, index_constant(number * self.lanes))
            start = self.b.arithmetic("add", base, move)
            made.append(self.b.add(self.b.splat(self.b.convert(start, kind), self.lanes), offsets))
        return tuple(made)

    # Random numbers

    def key(self, term: Term, lanes: int) -> tuple[Operand, ...]:
        """The seed's two words, the training step and the step of the loops around, spread over lanes, in the outermost
        scope."""
        memo = self.scopes[0].memo
        name = ("key", term.attrs["seed"], term.attrs["counters"], lanes)
        if name not in memo:
            with self.at(0):
                seed = self.buffers[term.attrs["seed"]].name
                words: list[Operand] = [self.b.load(seed, "u32", index_constant(k)) for k in range(2)]
                for place, number in (*term.attrs["counters"], (None, 0))[:2]:
                    word: Operand = Constant(number, vector("u32", 1))
                    if place is not None:
                        word = self.b.convert(self.b.load(self.buffers[place].name, "i32", index_constant(0)), "u32")
                    words.append(word)
                memo[name] = tuple(self.b.splat(word, lanes) for word in words)
        found: tuple[Operand, ...] = memo[name]
        return found

    def words(self, term: Term, block: Operand) -> Words:
        lanes = block.type.lanes
        first, second, step, turn = self.key(term, lanes)
        site = Constant(term.attrs["site"], vector("u32", lanes))
        return philox(self.b, (block, site, step, turn), (first, second))

    def random_uniform(self, term: Term) -> Values:
        strides: Strides = term.attrs["strides"]
        base, _ = self.address(strides)
        if not self.varies(term):
            return (self.uniform(term, self.b.convert(base, "u32")),)
        if self.shares_words(term):
            return self.shared_uniform(term, base)
        assert self.vector_axis is not None
        elements = self.positions(base, "u32", self.size(strides[self.vector_axis]))
        return tuple(self.uniform(term, element) for element in elements)

    def shares_words(self, term: Term) -> bool:
        """Whether a chunk is 64 consecutive elements from a multiple of 64: then 16 blocks give all of its words."""
        strides: Strides = term.attrs["strides"]
        return (
            term.kind == "f32"
            and self.chunk.aligned
            and self.chunk.vectors * self.lanes == 64
            and 1 < self.lanes <= 16
            and all(
                stride == Size(1) if axis == self.vector_axis else stride.coefficient % 64 == 0
                for axis, stride in strides.items()
            )
        )

    def shared_uniform(self, term: Term, base: Operand) -> Values:
        type = vector("u32", self.lanes)
        block = self.b.splat(self.b.convert(self.b.arithmetic("div", base, index_constant(4)), "u32"), self.lanes)
        runs = [
            self.words(term, self.b.add(block, Constant(tuple(range(first, first + self.lanes)), type)))
            for first in range(0, 16, self.lanes)
        ]
        return tuple(uniform_single(self.b, run[word]) for word in range(4) for run in runs)

    def uniform(self, term: Term, element: Operand) -> Operand:
        if term.kind == "f64":
            words = self.words(term, element)
            return uniform_double(self.b, words[0], words[1])
        block = self.b.bits(
            "or", self.b.bits("shl", self.b.bits("shr", element, 6), 4), self.b.bits("and", element, 15)
        )
        words = self.words(term, block)
        low = self.b.compare("ne", self.b.bits("and", element, 16), 0)
        high = self.b.compare("ne", self.b.bits("and", element, 32), 0)
        chosen = self.b.select(high, self.b.select(low, words[3], words[2]), self.b.select(low, words[1], words[0]))
        return uniform_single(self.b, chosen)

    # Stores

    def write(self, store: Store) -> None:
        """Stores the term's values at the place that the open loops stand at; the values have been computed."""
        if self.short_rows is not None and self.short_rows.covers(store.strides):
            self.short_rows.store(store)
            return
        buffer = self.buffers[store.buffer].name
        base, _ = self.address(store.strides)
        axis = self.vector_axis
        if axis is None or axis not in store.strides:
            self.b.store(buffer, base, self.get(store.term)[0])
            return
        step = self.size(store.strides[axis])
        for number, (value, mask) in enumerate(zip(self.spread(store.term), self.chunk.masks, strict=True)):
            index = self.b.arithmetic("add", base, self.b.arithmetic("mul", step, index_constant(number * self.lanes)))
            if self.streaming and mask is None:
                self.b.stream(buffer, index, value)
            elif store.strides[axis] == Size(1) or self.lanes == 1:
                self.b.store(buffer, index, value, mask)
            else:
                self.b.scatter(buffer, index, self.offsets(step), value, mask)


_SPECIAL: dict[str, Callable[[Evaluator, Term], Values]] = {
    "load": Evaluator.load,
    "load_if": Evaluator.load_if,
    "load_at": Evaluator.load_at,
    "constant": Evaluator.constant,
    "iota": Evaluator.iota,
    "count": Evaluator.count,
    "random_uniform": Evaluator.random_uniform,
}

assert I64.lanes == 1
