"""Running loop IR on NumPy arrays: slow, small, and what machine code is held against.

Arithmetic is in the element's own type, one rounding for one operation; a multiply-add of f32 is rounded once (through
f64), one of f64 is computed in the widest type there is. Buffers are flat arrays; an index outside them is an error
here, where machine code would read wild.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tapeless.abi.dtypes import TYPES
from tapeless.codegen.loops.language import (
    Compute,
    Constant,
    For,
    Function,
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
)

__all__ = ["LoopError", "run"]

Array = np.ndarray[Any, np.dtype[Any]]

_DTYPE = {name: np.dtype(type.numpy) for name, type in TYPES.items()}


class LoopError(Exception):
    """The function touched memory outside a buffer; the message names buffer and index."""


def run(function: Function, buffers: Sequence[Array], rows: int, part: int = 0, until: int | None = None) -> None:
    """Does the work of the parts from `part` up to `until` (of that one alone, if not given) on flat arrays, one for
    each buffer but the scratch, changing them in place.
    """
    memory = {buffer.name: array for buffer, array in zip(function.buffers, buffers, strict=False)}
    for buffer in function.buffers:
        if buffer.name not in memory:
            # Scratch holds nothing: all bits set are a NaN, which spoils what reads one that was not written.
            memory[buffer.name] = np.full(buffer.bytes, 0xFF, np.uint8).view(_DTYPE[buffer.dtype])
    known = {"rows": rows, "part": part, "until": part + 1 if until is None else until}
    values: dict[str, Array] = {name: np.array([value], np.int64) for name, value in known.items()}
    with np.errstate(all="ignore"):
        _Machine(memory, values).block(function.body)


class _Machine:
    """Every value is an array with one element for each lane."""

    def __init__(self, memory: Mapping[str, Array], values: dict[str, Array]) -> None:
        self.memory = memory
        self.values = values

    def operand(self, operand: Operand) -> Array:
        if isinstance(operand, Constant):
            lanes = operand.value if isinstance(operand.value, tuple) else (operand.value,) * operand.type.lanes
            return np.array(lanes).astype(_DTYPE[operand.type.kind])
        return self.values[operand.name]

    def block(self, block: Sequence[Instruction]) -> None:
        for instruction in block:
            _RUN[type(instruction)](self, instruction)

    def compute(self, it: Compute) -> None:
        operands = [self.operand(operand) for operand in it.operands]
        self.values[it.result.name] = _COMPUTE[it.op](it.result.type, *operands)

    def shuffle(self, it: Shuffle) -> None:
        both = np.concatenate([self.operand(it.a), self.operand(it.b)])
        self.values[it.result.name] = both[list(it.lanes)]

    def places(
        self, buffer: str, index: Operand, offsets: Array, mask: Operand | None, lanes: int
    ) -> tuple[Array, Array]:
        chosen = np.ones(lanes, np.bool_) if mask is None else self.operand(mask)
        places = self.operand(index)[0] + offsets.astype(np.int64)
        inside = (places >= 0) & (places < self.memory[buffer].size)
        if not inside[chosen].all():
            raise LoopError(
                f"{buffer}[{places[chosen & ~inside][0]}] is outside its {self.memory[buffer].size} elements"
            )
        return np.where(chosen, places, 0), chosen

    def read(self, buffer: str, index: Operand, offsets: Array, mask: Operand | None, type: Type) -> Array:
        places, chosen = self.places(buffer, index, offsets, mask, type.lanes)
        made: Array = np.zeros(type.lanes, _DTYPE[type.kind])
        made[chosen] = self.memory[buffer][places[chosen]]
        return made

    def write(self, buffer: str, index: Operand, offsets: Array, value: Operand, mask: Operand | None) -> None:
        places, chosen = self.places(buffer, index, offsets, mask, value.type.lanes)
        self.memory[buffer][places[chosen]] = self.operand(value)[chosen]

    def load(self, it: Load) -> None:
        type = it.result.type
        self.values[it.result.name] = self.read(it.buffer, it.index, np.arange(type.lanes), it.mask, type)

    def gather(self, it: Gather) -> None:
        offsets = self.operand(it.offsets)
        self.values[it.result.name] = self.read(it.buffer, it.index, offsets, it.mask, it.result.type)

    def store(self, it: Store) -> None:
        self.write(it.buffer, it.index, np.arange(it.value.type.lanes), it.value, it.mask)

    def scatter(self, it: Scatter) -> None:
        self.write(it.buffer, it.index, self.operand(it.offsets), it.value, it.mask)

    def stream(self, it: Stream) -> None:
        self.write(it.buffer, it.index, np.arange(it.value.type.lanes), it.value, None)

    def prefetch(self, it: Prefetch) -> None:
        self.operand(it.index)  # it must be there, and nothing comes of it

    def gap(self, it: Gap) -> None:
        """As if each buffer began at a multiple of all powers of two."""
        element = self.memory[it.buffer].itemsize
        self.values[it.result.name] = np.array([-int(self.operand(it.index)[0]) % (it.bytes // element)], np.int64)

    def loop(self, it: For) -> None:
        carried = [self.operand(initial) for initial in it.initial]
        for index in range(int(self.operand(it.start)[0]), int(self.operand(it.stop)[0]), it.step):
            self.values[it.variable.name] = np.array([index], np.int64)
            for parameter, value in zip(it.parameters, carried, strict=True):
                self.values[parameter.name] = value
            self.block(it.body)
            carried = [self.operand(value) for value in it.yields]
        for result, value in zip(it.results, carried, strict=True):
            self.values[result.name] = value

    def conditional(self, it: If) -> None:
        taken = bool(self.operand(it.condition)[0])
        self.block(it.then if taken else it.otherwise)
        for result, value in zip(it.results, it.then_yields if taken else it.otherwise_yields, strict=True):
            self.values[result.name] = self.operand(value)


_Rule = Callable[..., Array]


def _simple(function: Callable[..., Any]) -> _Rule:
    return lambda type, *operands: np.asarray(function(*operands)).astype(_DTYPE[type.kind], copy=False)


def _divide(type: Type, a: Array, b: Array) -> Array:
    if type.is_float:
        return a / b
    whole: Array = np.trunc(a.astype(np.longdouble) / b.astype(np.longdouble)).astype(a.dtype)
    return whole


def _remainder(type: Type, a: Array, b: Array) -> Array:
    made: Array = a - _divide(type, a, b) * b
    return made


def _fma(type: Type, a: Array, b: Array, c: Array) -> Array:
    wide = np.float64 if type.bytes < 8 else np.longdouble  # as wide as there is
    made: Array = (a.astype(wide) * b.astype(wide) + c.astype(wide)).astype(a.dtype)
    return made


def _shift_right(type: Type, a: Array, b: Array) -> Array:
    return np.right_shift(a, b)


def _high(type: Type, a: Array, b: Array) -> Array:
    made: Array = ((a.astype(np.uint64) * b.astype(np.uint64)) >> np.uint64(32)).astype(np.uint32)
    return made


def _scale(type: Type, a: Array, b: Array) -> Array:
    return np.ldexp(a, np.where(np.isfinite(b), b, 0).astype(np.int32)).astype(a.dtype)


def _exponent(type: Type, a: Array) -> Array:
    made: Array = np.where((a == 0) | ~np.isfinite(a), np.log(np.abs(a)), np.frexp(a)[1] - 1).astype(a.dtype)
    return made


def _mantissa(type: Type, a: Array) -> Array:
    half = np.frexp(np.where(np.isfinite(a) & (a > 0), a, 1))[0]
    made: Array = np.where((a >= 0), np.where(half < 0.75, 2 * half, half), np.nan).astype(a.dtype)
    return made


def _select(type: Type, mask: Array, a: Array, b: Array) -> Array:
    made: Array = np.where(mask, a, b)
    return made


def _convert(type: Type, a: Array) -> Array:
    return a.astype(_DTYPE[type.kind])


def _bitcast(type: Type, a: Array) -> Array:
    return a.view(_DTYPE[type.kind])


_COMPUTE: dict[str, _Rule] = {
    "add": _simple(np.add),
    "sub": _simple(np.subtract),
    "mul": _simple(np.multiply),
    "div": _divide,
    "rem": _remainder,
    "fma": _fma,
    "neg": _simple(np.negative),
    "abs": _simple(np.abs),
    "sqrt": _simple(np.sqrt),
    "floor": _simple(np.floor),
    "and": _simple(np.bitwise_and),
    "or": _simple(np.bitwise_or),
    "xor": _simple(np.bitwise_xor),
    "shl": _simple(np.left_shift),
    "shr": _shift_right,
    "min": _simple(np.minimum),
    "max": _simple(np.maximum),
    "mulhi": _high,
    "scale": _scale,
    "exponent": _exponent,
    "mantissa": _mantissa,
    "lt": _simple(np.less),
    "le": _simple(np.less_equal),
    "eq": _simple(np.equal),
    "ne": _simple(np.not_equal),
    "select": _select,
    "convert": _convert,
    "bitcast": _bitcast,
    "splat": lambda type, a: np.repeat(a, type.lanes),
    "extract": lambda type, a, lane: a[lane],
    "any": lambda type, a: np.any(a, keepdims=True),
    "first": lambda type, count: np.arange(type.lanes) < count[0],
}

_RUN: dict[type, Callable[[_Machine, Any], None]] = {
    Compute: _Machine.compute,
    Shuffle: _Machine.shuffle,
    Load: _Machine.load,
    Gather: _Machine.gather,
    Store: _Machine.store,
    Scatter: _Machine.scatter,
    Stream: _Machine.stream,
    Prefetch: _Machine.prefetch,
    Gap: _Machine.gap,
    For: _Machine.loop,
    If: _Machine.conditional,
}
