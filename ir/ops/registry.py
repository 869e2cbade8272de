"""What an operation is, and the table of all of them.

Each operation is declared once, in one of the modules beside this one, with everything that the compiler's middle
knows of it: attributes, type rule, derivative, NumPy reference, cost and samples. How it becomes machine code is told
by `codegen`, whose completeness a test holds against this table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tapeless.ir.correspondence import Rule as AxesRule
from tapeless.ir.correspondence import same
from tapeless.ir.ranges import Rule as RangeRule
from tapeless.ir.ranges import unknown
from tapeless.ir.types import DType, IRTypeError, Tensor

if TYPE_CHECKING:
    from tapeless.ir.graph import Builder, Graph, Node, Value

Array = np.ndarray[Any, np.dtype[Any]]
TypeRule = Callable[[Sequence[Tensor], Mapping[str, Any], Sequence["Graph"]], Sequence[Tensor]]
Gradients = Sequence["Value | None"]
VectorJacobianProduct = Callable[["Builder", "Node", "Value"], Gradients]


@dataclass(frozen=True)
class JointDerivative:
    """The vector-Jacobian product of an operation with several results.

    `apply(builder, node, adjoints, active)` gets an adjoint or None for each result, and for each operand whether its
    own adjoint is wanted.
    """

    apply: Callable[[Builder, Node, Sequence[Value | None], Sequence[bool]], Gradients]


@dataclass(frozen=True)
class NoDerivative:
    """Declared instead of a derivative: asking for one is the user's error, for this reason."""

    reason: str


@dataclass(frozen=True)
class Cost:
    """Work for one application: floating-point operations (a transcendental function counts as 10) and bytes moved."""

    flops: int
    bytes: int


@dataclass(frozen=True)
class Run:
    """What a reference may know beside its operands: the node's attributes, result types and the run-time row count.

    `dtypes` maps the declared element type to the one computed in, so that a float32 program can be run in float64.
    """

    attrs: Mapping[str, Any]
    regions: Sequence[Graph]
    types: Sequence[Tensor]
    rows: int
    dtypes: Mapping[DType, np.dtype[Any]]
    evaluate: Callable[[Graph, Sequence[Array]], Sequence[Array]]

    @property
    def shape(self) -> tuple[int, ...]:
        """The first result's shape, in integers."""
        return self.types[0].at(self.rows)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The first result's element type as computed."""
        return self.dtypes[self.types[0].dtype]


Reference = Callable[[Run, Sequence[Array]], Array | tuple[Array, ...]]


@dataclass(frozen=True)
class Sample:
    """One application to try an operation on: operand types, attributes, and the range real operands are drawn from."""

    operands: tuple[Tensor, ...]
    attrs: Mapping[str, Any] | None = None
    low: float = -2.0
    high: float = 2.0


@dataclass(frozen=True)
class Operation:
    """A primitive of the IR; see the module's docstring. `family` is pointwise, shape, movement, reduction, product,
    indexing, recurrence, factor, attention, convolution, random or structure; `kernel` is the family of the kernel that
    it has to itself, if it cannot share the loops of others; `slope` is the operation that is its derivative, where
    that costs little beside it and much alone; `range` tells the range of its results from those of its operands;
    `axes` how their axes correspond (`ir/correspondence.py`), if it works alike at places; what is pointwise does at
    all.
    `flops` are those of an element, and `instructions` those of a vector of them: the one counts work, the other
    weighs loops against each other. `fold` is what it makes of one number that is known when compiling: a pointwise
    operation of one operand that states it is a function of the language.
    """

    name: str
    family: str
    type_rule: TypeRule
    derivative: VectorJacobianProduct | JointDerivative | NoDerivative
    reference: Reference
    samples: tuple[Sample, ...]
    flops: float = 1.0
    attributes: tuple[str, ...] = ()
    formula: str = ""
    kernel: str = ""
    slope: str = ""
    range: RangeRule = unknown
    axes: AxesRule | None = None
    instructions: int = 1
    fold: Callable[[float], float] | None = None

    def __post_init__(self) -> None:
        if self.family == "pointwise":
            object.__setattr__(self, "axes", same)

    def infer(self, operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
        """Result types. Raises IRTypeError where operands or attributes break the type rule."""
        if set(attrs) != set(self.attributes):
            raise IRTypeError(f"`{self.name}` takes the attributes {self.attributes}, not {tuple(attrs)}")
        return self.type_rule(operands, attrs, regions)

    def cost(self, operands: Sequence[Tensor], results: Sequence[Tensor], attrs: Mapping[str, Any], rows: int) -> Cost:
        """The work of one application with `rows` rows."""
        moved = sum(type.bytes(rows) for type in (*operands, *results))
        if self.family == "product":
            left, out = operands[0], results[0]
            inner = left.at(rows)[-2 if attrs["transpose_a"] else -1]
            return Cost(2 * inner * out.count(rows), moved)
        if self.family == "attention":
            keys, wide = operands[1].at(rows)[-1], operands[0].count(rows)
            forward, backward = (
                wide + results[0].count(rows),
                4 * wide + 2 * operands[3].count(rows) if len(operands) > 4 else 0,
            )
            return Cost(2 * keys * (backward or forward), moved)
        if self.family == "convolution":
            # each tap of each channel meets each result: once, whichever of the three is made
            weights, made = (operands[1], results[0]) if self.name == "convolution" else (results[0], operands[1])
            taps = weights.at(rows)[-4] * weights.at(rows)[-3]
            return Cost(2 * taps * operands[0].at(rows)[-1] * made.count(rows), moved)
        largest = max((type.count(rows) for type in (*operands, *results)), default=0)
        return Cost(round(self.flops * largest), moved)


OPERATIONS: dict[str, Operation] = {}


def declare(operation: Operation) -> Operation:
    """Enter an operation into the table. Raises ValueError if the name is taken."""
    if operation.name in OPERATIONS:
        raise ValueError(f"operation {operation.name} is declared twice")
    OPERATIONS[operation.name] = operation
    return operation


def expect(condition: bool, message: str) -> None:
    """Raise IRTypeError with the message unless the condition holds."""
    if not condition:
        raise IRTypeError(message)


def expect_count(name: str, operands: Sequence[Tensor], count: int) -> None:
    expect(len(operands) == count, f"`{name}` takes {count} operands, not {len(operands)}")
