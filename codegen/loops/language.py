"""The loop IR: what a kernel is, one step above LLVM.

A function works on buffers (flat memory of one element type), the count of `rows` and the number of its `part`.
Its body is in static single assignment form with structured control flow: a loop carries values from turn to turn
(its `parameters`, which start as `initial` and continue as `yields`) and gives them back as `results`; a
conditional gives back what the branch taken yields. There is no other state than the buffers.

    function    ::= name buffer* parts block
    block       ::= instruction*
    instruction ::= result = op(operand*)                              Compute: the table OPERATIONS
                  | result = shuffle(a, b, lanes)                      Shuffle: constant choice among the lanes of two
                  | result = load buffer[index] mask?                  Load: consecutive elements; masked lanes are 0
                  | result = gather buffer[index + offset*] mask?      Gather: one element for each lane of `offsets`
                  | store buffer[index] value mask?                    Store
                  | scatter buffer[index + offset*] value mask?        Scatter
                  | stream buffer[index] value                         Stream: a store past the caches
                  | prefetch buffer[index] near?                       Prefetch: bring the line into the core's caches
                  | result = gap buffer[index] to bytes                Gap: elements up to an address that `bytes`
                  divide
                  | results = for variable in start..stop by step carrying (parameters = initial) block yields
                  | results = if condition block yields else block yields
    operand     ::= value | constant (a number for all lanes, or one for each)
    type        ::= f32 | f64 | i32 | u32 | i64 | i1, and a count of lanes: f32x16

An index counts elements from the start of its buffer. Lanes of a mask are i1. An element can be another type in memory
than in registers, as `abi.dtypes` tells: booleans take a byte and are i1. This module must not know LLVM, nor what a
tensor is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

from tapeless.abi.dtypes import INDEX, MASK, TYPES, ScalarType

__all__ = [
    "OPERATIONS",
    "PART",
    "ROWS",
    "UNTIL",
    "Buffer",
    "Compute",
    "Constant",
    "For",
    "Function",
    "Gap",
    "Gather",
    "If",
    "Instruction",
    "Load",
    "Operand",
    "Prefetch",
    "Scatter",
    "Shuffle",
    "Store",
    "Stream",
    "Type",
    "Value",
    "instructions",
    "vector",
]


@dataclass(frozen=True, slots=True)
class Type:
    kind: str
    lanes: int = 1

    def __str__(self) -> str:
        return self.kind if self.lanes == 1 else f"{self.kind}x{self.lanes}"

    @property
    def is_float(self) -> bool:
        return self.record.is_real

    @property
    def bytes(self) -> int:
        return self.record.bytes

    @property
    def record(self) -> ScalarType:
        return TYPES[self.kind]

    @property
    def scalar(self) -> Type:
        return vector(self.kind, 1)

    @property
    def mask(self) -> Type:
        return vector(MASK, self.lanes)

    def of(self, kind: str) -> Type:
        """The same count of lanes, of another kind."""
        return vector(kind, self.lanes)


@cache
def vector(kind: str, lanes: int) -> Type:
    if kind not in TYPES or TYPES[kind].computed != kind:
        raise ValueError(f"there is no kind {kind!r} in the loop IR")
    return Type(kind, lanes)


@dataclass(frozen=True, slots=True)
class Value:
    name: str
    type: Type


@dataclass(frozen=True, slots=True)
class Constant:
    """A number known at compile time: one for all lanes, or a tuple with one for each."""

    value: float | int | bool | tuple[float | int | bool, ...]
    type: Type


Operand = Value | Constant

ROWS = Value("rows", vector(INDEX, 1))
PART = Value("part", vector(INDEX, 1))
UNTIL = Value("until", vector(INDEX, 1))


@dataclass(frozen=True, slots=True)
class Buffer:
    """A parameter of the function: where a tensor lies. `dtype` is the element in memory, `kind` that in registers.

    Scratch is memory that a call has to itself, of so many `bytes`; it holds nothing between calls.
    """

    name: str
    dtype: str
    role: str
    bytes: int = 0

    @property
    def kind(self) -> str:
        return self.record.computed

    @property
    def record(self) -> ScalarType:
        return TYPES[self.dtype]


@dataclass(frozen=True, slots=True)
class Compute:
    op: str
    operands: tuple[Operand, ...]
    result: Value


@dataclass(frozen=True, slots=True)
class Shuffle:
    """result[k] = (a ++ b)[lanes[k]]"""

    a: Operand
    b: Operand
    lanes: tuple[int, ...]
    result: Value


@dataclass(frozen=True, slots=True)
class Load:
    buffer: str
    index: Operand
    mask: Operand | None
    result: Value


@dataclass(frozen=True, slots=True)
class Gather:
    buffer: str
    index: Operand
    offsets: Operand
    mask: Operand | None
    result: Value


@dataclass(frozen=True, slots=True)
class Store:
    buffer: str
    index: Operand
    value: Operand
    mask: Operand | None


@dataclass(frozen=True, slots=True)
class Scatter:
    buffer: str
    index: Operand
    offsets: Operand
    value: Operand
    mask: Operand | None


@dataclass(frozen=True, slots=True)
class Stream:
    """The address must be a multiple of the vector's bytes."""

    buffer: str
    index: Operand
    value: Operand


@dataclass(frozen=True, slots=True)
class Prefetch:
    """Changes no value: it may point anywhere. `near` is the first level of the caches, else it is the core's last."""

    buffer: str
    index: Operand
    near: bool = False


@dataclass(frozen=True, slots=True)
class Gap:
    buffer: str
    index: Operand
    bytes: int
    result: Value


@dataclass(frozen=True, slots=True)
class For:
    variable: Value
    start: Operand
    stop: Operand
    step: int
    parameters: tuple[Value, ...]
    initial: tuple[Operand, ...]
    body: tuple[Instruction, ...]
    yields: tuple[Operand, ...]
    results: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class If:
    condition: Operand
    then: tuple[Instruction, ...]
    then_yields: tuple[Operand, ...]
    otherwise: tuple[Instruction, ...]
    otherwise_yields: tuple[Operand, ...]
    results: tuple[Value, ...]


Instruction = Compute | Shuffle | Load | Gather | Store | Scatter | Stream | Prefetch | Gap | For | If


@dataclass(frozen=True)
class Function:
    """One kernel. `parts` is how many shares its work is cut into; a call does those from `part` up to `until`, as one:
    what it prepares for itself serves all of them.
    """

    name: str
    buffers: tuple[Buffer, ...]
    parts: int
    body: tuple[Instruction, ...]
    index: dict[str, Buffer] = field(init=False, repr=False, compare=False, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", {buffer.name: buffer for buffer in self.buffers})


OPERATIONS: dict[str, tuple[int, str]] = {
    # name: (count of operands, how the result's type follows)
    "add": (2, "same"),
    "sub": (2, "same"),
    "mul": (2, "same"),
    "div": (2, "same"),
    "rem": (2, "same"),
    "fma": (3, "same"),  # a * b + c, rounded once where the target can
    "neg": (1, "same"),
    "abs": (1, "same"),
    "sqrt": (1, "same"),
    "floor": (1, "same"),
    "and": (2, "same"),
    "or": (2, "same"),
    "xor": (2, "same"),
    "shl": (2, "same"),
    "shr": (2, "same"),
    "min": (2, "same"),
    "max": (2, "same"),  # integers only: a float's depends on what NaN should do
    "mulhi": (2, "same"),  # the upper half of the product of two u32
    "scale": (2, "same"),  # a * 2**b, b integral and a float itself, |b| <= 2 * the largest exponent
    "exponent": (1, "same"),  # log2 |x| rounded down, of AVX-512's whole vectors of floats; -inf of 0, inf of inf
    "mantissa": (1, "same"),  # x over a power of two, in [3/4, 3/2), of the same; 1 of 0 and inf, NaN below 0
    "lt": (2, "mask"),
    "le": (2, "mask"),
    "eq": (2, "mask"),
    "ne": (2, "mask"),
    "select": (3, "second"),
    "convert": (1, "given"),
    "bitcast": (1, "given"),
    "splat": (1, "given"),
    "extract": (2, "scalar"),  # the lane with a constant number
    "first": (1, "given"),  # the mask of the first n lanes
    "any": (1, "scalar"),  # whether a mask has a lane
}
"""Arithmetic. A float comparison with NaN is false, but for `ne`. Integer division truncates towards zero."""


def instructions(block: tuple[Instruction, ...]) -> int:
    """How many instructions a block holds, nested ones included: what compile time is proportional to."""
    count, stack = 0, [block]
    while stack:
        for instruction in stack.pop():
            count += 1
            if isinstance(instruction, For):
                stack.append(instruction.body)
            elif isinstance(instruction, If):
                stack.extend((instruction.then, instruction.otherwise))
    return count
