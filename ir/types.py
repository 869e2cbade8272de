"""The types of the graph IR: dimensions and tensors; element types are told by `tapeless.abi.dtypes`.

A dimension is an integer, or a multiple of `batch`: the count of rows, known at run time only. Nothing here knows
operations, graphs or machines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tapeless.abi.dtypes import DType

__all__ = ["DType", "Dim", "IRTypeError", "Rows", "Shape", "Tensor", "extent", "multiple", "product", "shape_text"]


class IRTypeError(Exception):
    """A type rule was broken: the message says which operand has which type and what was needed."""


@dataclass(frozen=True)
class Rows:
    """A run-time dimension: `multiple` times the count of rows. Prints as `batch` or `3*batch`."""

    multiple: int = 1

    def at(self, rows: int) -> int:
        return self.multiple * rows

    def __str__(self) -> str:
        return "batch" if self.multiple == 1 else f"{self.multiple}*batch"


@dataclass(frozen=True)
class Examples(Rows):
    """How many examples there are: known when the program runs, and to nobody before. Prints as `all`.

    An order of rows says which of them a batch takes: what is counted of them is what the batch takes.
    """

    def __str__(self) -> str:
        return "all"


Dim = int | Rows
Shape = tuple[Dim, ...]


def extent(dim: Dim, rows: int) -> int:
    """The size of a dimension when there are `rows` rows."""
    return dim.at(rows) if isinstance(dim, Rows) else dim


def product(dims: Sequence[Dim]) -> Dim:
    """The product of dimensions; at most one of them may hold `batch`.

    Raises IRTypeError where two do: the square of a row count is no dimension of the IR.
    """
    constant, symbolic = 1, 0
    for dim in dims:
        if isinstance(dim, Rows):
            symbolic += 1
            constant *= dim.multiple
        else:
            constant *= dim
    if symbolic > 1:
        raise IRTypeError(f"the product of {shape_text(dims)} holds `batch` twice")
    return Rows(constant) if symbolic and constant else constant


def multiple(dim: Dim) -> int:
    """What is known of a dimension: its size, or how many times the count of rows it is."""
    return dim.multiple if isinstance(dim, Rows) else dim


def shape_text(shape: Sequence[Dim]) -> str:
    return "[" + ", ".join(str(dim) for dim in shape) + "]"


@dataclass(frozen=True)
class Tensor:
    """An element type and a shape; a scalar has the empty shape."""

    dtype: DType
    shape: Shape = ()

    @property
    def rank(self) -> int:
        return len(self.shape)

    def at(self, rows: int) -> tuple[int, ...]:
        """The shape in integers when there are `rows` rows."""
        return tuple(extent(dim, rows) for dim in self.shape)

    def count(self, rows: int) -> int:
        """The count of elements when there are `rows` rows."""
        total = 1
        for size in self.at(rows):
            total *= size
        return total

    def bytes(self, rows: int) -> int:
        return self.count(rows) * self.dtype.bytes

    def with_shape(self, shape: Sequence[Dim]) -> Tensor:
        return Tensor(self.dtype, tuple(shape))

    def with_dtype(self, dtype: DType) -> Tensor:
        return Tensor(dtype, self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}{shape_text(self.shape)}"
