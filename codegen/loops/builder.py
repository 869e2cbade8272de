"""Writing loop IR: a builder with a current block, fresh names in order, and folding of index arithmetic.

Names come from one counter, so a function built twice is the same text. The builder knows the target's facts only
to pass them on; it must not know tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tapeless.abi.dtypes import INDEX, MASK
from tapeless.codegen.loops.language import (
    Compute,
    Constant,
    For,
    Gap,
    Gather,
    If,
    Instruction,
    Load,
    Operand,
    Prefetch,
    Scatter,
    Shuffle,
    Store,
    Stream,
    Type,
    Value,
    vector,
)
from tapeless.ir.target import Target

__all__ = ["I64", "Builder", "OpenLoop", "index_constant"]

I64 = vector(INDEX, 1)

_FOLD: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "min": min,
    "max": max,
    "div": lambda a, b: a // b if a >= 0 and b > 0 else None,
    "rem": lambda a, b: a % b if a >= 0 and b > 0 else None,
}


def index_constant(number: int) -> Constant:
    return Constant(number, I64)


@dataclass
class OpenLoop:
    variable: Value
    parameters: tuple[Value, ...]
    block: list[Instruction]
    start: Operand
    stop: Operand
    step: int
    initial: tuple[Operand, ...]


class Builder:
    def __init__(self, target: Target) -> None:
        self.target = target
        self.block: list[Instruction] = []
        self.count = 0
        self.signs: dict[Operand, int] = {}  # 1: no number among the lanes is below zero, -1: none is above

    # Values

    def fresh(self, type: Type) -> Value:
        self.count += 1
        return Value(f"v{self.count}", type)

    def constant(self, number: float | int | bool | tuple[float | int | bool, ...], type: Type) -> Constant:
        return Constant(number, type)

    def compute(self, op: str, *operands: Operand, type: Type) -> Value:
        result = self.fresh(type)
        self.block.append(Compute(op, operands, result))
        return result

    def arithmetic(self, op: str, a: Operand, b: Operand) -> Operand:
        """A binary operation on scalars of index type, folded where both sides are known."""
        if isinstance(a, Constant) and isinstance(b, Constant):
            folded = _FOLD[op](a.value, b.value)
            if folded is not None:
                return Constant(folded, a.type)
        if isinstance(b, Constant):
            if b.value == 0 and op in ("add", "sub"):
                return a
            if b.value == 0 and op == "mul":
                return b
            if b.value == 1 and op in ("mul", "div"):
                return a
        if isinstance(a, Constant):
            if a.value == 0 and op == "add":
                return b
            if a.value == 0 and op == "mul":
                return a
            if a.value == 1 and op == "mul":
                return b
        return self.compute(op, a, b, type=a.type)

    def add(self, a: Operand, b: Operand) -> Value:
        return self.compute("add", a, b, type=a.type)

    def sub(self, a: Operand, b: Operand) -> Value:
        return self.compute("sub", a, b, type=a.type)

    def mul(self, a: Operand, b: Operand) -> Value:
        made = self.compute("mul", a, b, type=a.type)
        if a == b:
            self.signs[made] = 1
        return made

    def div(self, a: Operand, b: Operand) -> Value:
        return self.compute("div", a, b, type=a.type)

    def fma(self, a: Operand, b: Operand, c: Operand) -> Value:
        return self.compute("fma", a, b, c, type=a.type)

    def unary(self, op: str, a: Operand) -> Value:
        made = self.compute(op, a, type=a.type)
        if op == "abs":
            self.signs[made] = 1
        if op == "neg" and a in self.signs:
            self.signs[made] = -self.signs[a]
        return made

    def bits(self, op: str, a: Operand, b: Operand | int) -> Value:
        """An integer or mask operation; a plain number stands for itself in every lane."""
        return self.compute(op, a, Constant(b, a.type) if isinstance(b, int) else b, type=a.type)

    def compare(self, op: str, a: Operand, b: Operand | float) -> Value:
        return self.compute(op, a, Constant(b, a.type) if isinstance(b, (int, float)) else b, type=a.type.mask)

    def select(self, mask: Operand, a: Operand, b: Operand) -> Value:
        return self.compute("select", mask, a, b, type=a.type)

    def convert(self, a: Operand, kind: str) -> Operand:
        return a if a.type.kind == kind else self.compute("convert", a, type=a.type.of(kind))

    def bitcast(self, a: Operand, kind: str) -> Value:
        return self.compute("bitcast", a, type=a.type.of(kind))

    def splat(self, a: Operand, lanes: int) -> Operand:
        if a.type.lanes == lanes:
            return a
        if isinstance(a, Constant):
            return Constant(a.value, a.type.scalar if lanes == 1 else vector(a.type.kind, lanes))
        return self.compute("splat", a, type=vector(a.type.kind, lanes))

    def extract(self, a: Operand, lane: int) -> Operand:
        return a if a.type.lanes == 1 else self.compute("extract", a, index_constant(lane), type=a.type.scalar)

    def shuffle(self, a: Operand, b: Operand, lanes: Sequence[int]) -> Value:
        result = self.fresh(vector(a.type.kind, len(lanes)))
        self.block.append(Shuffle(a, b, tuple(lanes), result))
        return result

    def first(self, count: Operand, lanes: int) -> Operand:
        """The mask of the first `count` lanes."""
        if isinstance(count, Constant):
            n = int(count.value)  # type: ignore[arg-type]
            return Constant(tuple(lane < n for lane in range(lanes)), vector(MASK, lanes))
        return self.compute("first", count, type=vector(MASK, lanes))

    def covering(self, count: int, lanes: int) -> tuple[Operand | None, ...]:
        """Of the vectors that cover so many elements, the mask of each; None of a whole one."""
        return tuple(
            self.first(index_constant(count - start), lanes) if count < start + lanes else None
            for start in range(0, count, lanes)
        )

    # Memory

    def load(self, buffer: str, kind: str, index: Operand, lanes: int = 1, mask: Operand | None = None) -> Value:
        """Consecutive elements; lanes that the mask leaves out are 0. Where a vector has one lane, a mask is a
        branch.
        """
        if mask is not None and lanes == 1:
            there: list[Instruction] = []
            with self.inside(there):
                value = self.load(buffer, kind, index)
            return self.conditional(mask, there, (value,), (), (Constant(0, value.type),))[0]
        result = self.fresh(vector(kind, lanes))
        self.block.append(Load(buffer, index, mask, result))
        return result

    def gather(self, buffer: str, kind: str, index: Operand, offsets: Operand, mask: Operand | None = None) -> Value:
        result = self.fresh(vector(kind, offsets.type.lanes))
        self.block.append(Gather(buffer, index, offsets, mask, result))
        return result

    def store(self, buffer: str, index: Operand, value: Operand, mask: Operand | None = None) -> None:
        if mask is not None and value.type.lanes == 1:
            there: list[Instruction] = []
            with self.inside(there):
                self.store(buffer, index, value)
            self.conditional(mask, there)
            return
        self.block.append(Store(buffer, index, value, mask))

    def scatter(
        self, buffer: str, index: Operand, offsets: Operand, value: Operand, mask: Operand | None = None
    ) -> None:
        self.block.append(Scatter(buffer, index, offsets, value, mask))

    def stream(self, buffer: str, index: Operand, value: Operand) -> None:
        self.block.append(Stream(buffer, index, value))

    def prefetch(self, buffer: str, index: Operand, near: bool = False) -> None:
        self.block.append(Prefetch(buffer, index, near))

    def gap(self, buffer: str, index: Operand, bytes: int) -> Value:
        result = self.fresh(I64)
        self.block.append(Gap(buffer, index, bytes, result))
        return result

    # Control

    def open_loop(self, start: Operand, stop: Operand, step: int, initial: Sequence[Operand] = ()) -> OpenLoop:
        """A loop whose body is written apart, into its own block: `close_loop` puts it where the builder is then."""
        return OpenLoop(
            self.fresh(I64), tuple(self.fresh(value.type) for value in initial), [], start, stop, step, tuple(initial)
        )

    def close_loop(self, loop: OpenLoop, yields: Sequence[Operand] = ()) -> tuple[Value, ...]:
        results = tuple(self.fresh(parameter.type) for parameter in loop.parameters)
        self.block.append(
            For(
                loop.variable,
                loop.start,
                loop.stop,
                loop.step,
                loop.parameters,
                loop.initial,
                tuple(loop.block),
                tuple(yields),
                results,
            )
        )
        return results

    @contextmanager
    def inside(self, block: list[Instruction]) -> Iterator[None]:
        outer, self.block = self.block, block
        try:
            yield
        finally:
            self.block = outer

    def conditional(
        self,
        condition: Operand,
        then: list[Instruction],
        then_yields: Sequence[Operand] = (),
        otherwise: Sequence[Instruction] = (),
        otherwise_yields: Sequence[Operand] = (),
    ) -> tuple[Value, ...]:
        results = tuple(self.fresh(value.type) for value in then_yields)
        self.block.append(
            If(condition, tuple(then), tuple(then_yields), tuple(otherwise), tuple(otherwise_yields), results)
        )
        return results

    # Reductions

    def halves(self, a: Operand) -> tuple[Operand, Operand]:
        """The lower and the upper half of the lanes."""
        half = a.type.lanes // 2
        if half == 1:
            return self.extract(a, 0), self.extract(a, 1)
        return self.shuffle(a, a, range(half)), self.shuffle(a, a, range(half, 2 * half))
