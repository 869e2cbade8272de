"""The types of numbers, each a record: how large it is, what it is computed in, and how everybody spells it.

It stands here because what the bytes behind a pointer mean is part of the calling convention: graphs, loops and LLVM
agree on it with the runtime, which knows nothing of graphs, and with the C header. So a new type is a row here and
what turns it into the type that it is computed in. Nothing is imported: NumPy's types are named, not held.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

__all__ = ["INDEX", "INTEGER", "MASK", "PRECISIONS", "TYPES", "WORD", "DType", "ScalarType", "Sort", "by_numpy"]


class Sort(enum.Enum):
    """What numbers of a type are."""

    REAL = "real"
    SIGNED = "signed"
    UNSIGNED = "unsigned"
    BOOLEAN = "boolean"


@dataclass(frozen=True, slots=True)
class ScalarType:
    """`name` is how graphs, loops and manifests write it. `bytes` and the spellings tell of an element in memory;
    `computed` names the type that registers hold it as, another one where it is stored only. Reals are
    (-1)**sign 2**(exponent - bias) 1.mantissa, as IEEE 754 has them.
    """

    name: str
    sort: Sort
    bytes: int
    computed: str
    numpy: str
    c: str
    llvm: str
    mantissa: int = 0  # its bits in memory
    bias: int = 0

    @property
    def is_real(self) -> bool:
        return self.sort is Sort.REAL

    @property
    def is_unsigned(self) -> bool:
        """Whether a larger bit pattern is a larger number: a boolean is one bit without a sign."""
        return self.sort in (Sort.UNSIGNED, Sort.BOOLEAN)

    @property
    def is_boolean(self) -> bool:
        return self.sort is Sort.BOOLEAN

    def number(self, value: float | int | bool) -> float | int | bool:
        """As Python's type for numbers of this one."""
        return float(value) if self.is_real else bool(value) if self.is_boolean else int(value)

    @property
    def lane_bytes(self) -> int:
        """What a lane takes in the vectors of a loop over it: masks and what is narrower go with 32 bits."""
        return max(self.bytes, 4)

    @property
    def mangled(self) -> str:
        """As the names of LLVM's intrinsics have it: only reals are called otherwise there than in types."""
        return self.llvm if self.llvm.startswith("i") else self.name

    @property
    def bits(self) -> str:
        """The signed integer that has as many bits."""
        return f"i{8 * self.bytes}"

    @property
    def sign_bit(self) -> int:
        """The sign alone, in that integer."""
        return -(1 << 8 * self.bytes - 1)

    @property
    def epsilon(self) -> float:
        """From 1 to the next number."""
        return math.ldexp(1.0, -self.mantissa)

    @property
    def smallest_normal(self) -> float:
        """The smallest number that has all its digits."""
        return math.ldexp(1.0, 1 - self.bias)

    @property
    def largest(self) -> float:
        return math.ldexp(2.0 - self.epsilon, self.bias)


_ROWS = (
    ScalarType("f32", Sort.REAL, 4, "f32", "float32", "float", "float", mantissa=23, bias=127),
    ScalarType("f64", Sort.REAL, 8, "f64", "float64", "double", "double", mantissa=52, bias=1023),
    ScalarType("i32", Sort.SIGNED, 4, "i32", "int32", "int32_t", "i32"),
    ScalarType("u32", Sort.UNSIGNED, 4, "u32", "uint32", "uint32_t", "i32"),
    ScalarType("bool", Sort.BOOLEAN, 1, "i1", "bool", "uint8_t", "i8"),
    # in registers only
    ScalarType("i64", Sort.SIGNED, 8, "i64", "int64", "int64_t", "i64"),
    ScalarType("i1", Sort.BOOLEAN, 1, "i1", "bool", "uint8_t", "i1"),
)
TYPES = {row.name: row for row in _ROWS}

INDEX = "i64"  # counts, and places in memory
MASK = "i1"  # what a comparison makes
INTEGER = "i32"  # the integers of graphs: labels, orders, counters, places along an axis
WORD = "u32"  # random bits


class DType(enum.Enum):
    """The types that a tensor's elements can have, named as they are printed."""

    F32 = "f32"
    F64 = "f64"
    I32 = "i32"
    U32 = "u32"
    BOOL = "bool"

    _value_: str
    record: ScalarType

    def __new__(cls, name: str) -> DType:
        made = object.__new__(cls)
        made._value_, made.record = name, TYPES[name]
        return made

    @property
    def bytes(self) -> int:
        """Of an element in memory."""
        return self.record.bytes

    @property
    def kind(self) -> str:
        """The name of the type that registers hold it as."""
        return self.record.computed

    @property
    def computed(self) -> ScalarType:
        return TYPES[self.record.computed]

    @property
    def numpy(self) -> str:
        return self.record.numpy

    @property
    def is_stored_only(self) -> bool:
        """Whether operations take it only to move it, or to cast it to the type that it is computed in."""
        return not self.record.is_boolean and self.kind != self.value

    @property
    def is_float(self) -> bool:
        return self.record.is_real and not self.is_stored_only

    @property
    def is_number(self) -> bool:
        return not self.record.is_boolean and not self.is_stored_only

    @property
    def is_integer(self) -> bool:
        return self.is_number and not self.is_float

    def __str__(self) -> str:
        return self._value_


def by_numpy(name: str) -> DType:
    """The type whose elements in memory are NumPy's type of that name."""
    return next(dtype for dtype in DType if dtype.numpy == name)


PRECISIONS = {dtype.numpy: dtype for dtype in DType if dtype.is_float}
"""The types that a program can be compiled to compute its real numbers in, as people name them: like NumPy."""
