"""The loops that are open, as a stack of scopes, and where an element lies when they stand where they do.

One axis, the vector axis, is bound to a chunk of several vectors at a time, any other to an index. What does not depend
on an inner loop is written into the scope of an outer one, whose block is still being written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from tapeless.abi.dtypes import INTEGER
from tapeless.codegen.loops.builder import Builder, index_constant
from tapeless.codegen.loops.language import PART, ROWS, Constant, Instruction, Operand, vector
from tapeless.codegen.nests.sizes import Axis, Size, Strides
from tapeless.codegen.nests.terms import Term

__all__ = ["Chunk", "OpenLoops", "Scope", "Values"]

Values = tuple[Operand, ...]


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


class OpenLoops:
    def __init__(self, builder: Builder, vector_axis: Axis | None = None, lanes: int = 1) -> None:
        self.b = builder
        self.vector_axis = vector_axis
        self.lanes = lanes
        self.scopes: list[Scope] = [Scope(builder.block)]

    def depth(self, axes: Iterable[Axis]) -> int:
        """The innermost scope that binds one of the axes."""
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
    def within(self, *inner: Scope, outer: list[Scope] | None = None) -> Iterator[None]:
        """Writing into the last of the scopes, opened in all that are open, or in `outer`."""
        before = self.scopes
        self.scopes = [*(before if outer is None else outer), *inner]
        try:
            with self.b.inside(self.scopes[-1].block):
                yield
        finally:
            self.scopes = before

    @contextmanager
    def in_part_zero(self, parts: int) -> Iterator[None]:
        """What only part 0 of several does."""
        if parts == 1:
            yield
            return
        alone: list[Instruction] = []
        with self.within(Scope(alone)):
            yield
        self.b.conditional(self.b.compare("eq", PART, 0), alone)

    def at(self, depth: int) -> AbstractContextManager[None]:
        """Writing into the scope at `depth`, seeing only what it sees."""
        return self.within(outer=self.scopes[: depth + 1])

    def index(self, axis: Axis) -> Operand:
        for scope in reversed(self.scopes):
            if axis in scope.indices:
                return scope.indices[axis]
        raise KeyError(f"axis {axis} is not bound")

    @property
    def in_chunk(self) -> bool:
        """Whether the vector axis is bound."""
        return any(scope.chunk is not None for scope in self.scopes)

    @property
    def chunk(self) -> Chunk:
        for scope in reversed(self.scopes):
            if scope.chunk is not None:
                return scope.chunk
        raise KeyError("the vector axis is not bound")

    def free(self, axes: frozenset[Axis]) -> frozenset[Axis]:
        """Those of the axes that nothing binds."""
        bound = {axis for scope in self.scopes for axis in scope.indices}
        return frozenset(axis for axis in axes - bound if not (self.in_chunk and axis == self.vector_axis))

    def varies(self, term: Term) -> bool:
        return self.vector_axis in term.axes

    def memo(self, term: Term) -> dict[Any, Any]:
        """Where the term's values are kept: the innermost scope that they depend on."""
        return self.scopes[self.depth(term.axes)].memo

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

    def address(self, strides: Strides, offset: Iterable[Size] = ()) -> Operand:
        """The index of an element (of the first lane of the chunk), moved by the offset of a slice."""
        parts = sorted((self.depth((axis,)), axis) for axis in strides)
        total: Operand = index_constant(0)
        key: tuple[Any, ...] = ("address",)
        for depth, axis in parts:
            key = (*key, axis, strides[axis])
            memo = self.scopes[depth].memo
            if key not in memo:
                with self.at(depth):
                    step = self.size(strides[axis])
                    here = self.chunk.base if axis == self.vector_axis else self.index(axis)
                    memo[key] = self.b.arithmetic("add", total, self.b.arithmetic("mul", here, step))
            total = memo[key]
        for size in offset:
            total = self.b.arithmetic("add", total, self.size(size))
        return total

    def step(self, strides: Strides) -> Operand:
        """How far neighbours along the vector axis are from each other: 0 where they are one."""
        if self.vector_axis is None or self.vector_axis not in strides:
            return index_constant(0)
        return self.size(strides[self.vector_axis])

    def moved(self, base: Operand, step: Operand, number: int) -> Operand:
        """The address of the first lane of a chunk's vector, where elements are `step` apart."""
        return self.b.arithmetic("add", base, self.b.arithmetic("mul", step, index_constant(number * self.lanes)))

    def offsets(self, step: Operand, kind: str = INTEGER) -> Operand:
        """Lane k's distance from the first lane where elements are `step` apart."""
        type = vector(kind, self.lanes)
        if isinstance(step, Constant):
            return Constant(tuple(lane * int(step.value) for lane in range(self.lanes)), type)  # type: ignore[arg-type]
        lanes = Constant(tuple(range(self.lanes)), type)
        return self.b.mul(self.b.splat(self.b.convert(step, kind), self.lanes), lanes)

    def positions(self, kind: str) -> Values:
        """The index along the vector axis for each vector of the chunk, in 32 bits."""
        first = self.b.splat(self.b.convert(self.chunk.base, kind), self.lanes)
        type = vector(kind, self.lanes)
        return tuple(
            self.b.add(first, Constant(tuple(range(start, start + self.lanes)), type))
            for start in range(0, self.chunk.vectors * self.lanes, self.lanes)
        )

    def numbers(self, base: Operand, step: Operand, kind: str) -> Values:
        """base + place * step for each vector of the chunk, in 32 bits."""
        offsets = self.offsets(step, kind)
        starts = (self.moved(base, step, number) for number in range(self.chunk.vectors))
        return tuple(self.b.add(self.b.splat(self.b.convert(start, kind), self.lanes), offsets) for start in starts)
