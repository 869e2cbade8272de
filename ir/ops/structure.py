"""Kernels, groups of nodes that run as one machine loop, and tasks, kernels with a place in time and memory.

Regions are closed: what a body needs from outside is an operand of the node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tapeless.ir.ops.registry import Array, NoDerivative, Operation, Run, Sample, declare, expect, expect_count
from tapeless.ir.types import DType, Rows, Tensor

if TYPE_CHECKING:
    from tapeless.ir.graph import Graph


def _kernel_rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
    expect(len(regions) == 1, "`kernel` holds one region")
    (body,) = regions
    taken = tuple(port.value.type for port in body.inputs)
    expect(
        taken == tuple(operands),
        f"`kernel` is fed {', '.join(map(str, operands))}; its region takes {', '.join(map(str, taken))}",
    )
    expect(
        len(attrs["leading"]) == len(operands) + len(body.outputs),
        "`kernel` needs a leading dimension for each operand and result",
    )
    return tuple(port.value.type for port in body.outputs)


def _kernel_reference(run: Run, operands: Sequence[Array]) -> tuple[Array, ...]:
    return tuple(run.evaluate(run.regions[0], operands))


declare(
    Operation(
        "kernel",
        "structure",
        _kernel_rule,
        NoDerivative("kernels are made after differentiation"),
        _kernel_reference,
        (),
        attributes=("family", "name", "leading"),
    )
)

# A kernel with its place in time (phase; parts that run side by side) and memory (where operands, results and scratch
# lie): what the scheduler makes of kernels. Places are written like `workspace+4096`; `plan` tells how it is written.
declare(
    Operation(
        "task",
        "structure",
        _kernel_rule,
        NoDerivative("tasks are made after differentiation"),
        _kernel_reference,
        (),
        attributes=("family", "name", "leading", "function", "plan", "phase", "parts", "places", "scratch"),
    )
)


def _after_rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
    expect_count("after", operands, 2)
    return (operands[0],)


# The first operand where it lies, to be read once the second is made: what is computed of it is not computed earlier,
# however early it could be. Rematerialisation puts it before what is made again for the backward half.
declare(
    Operation(
        "after",
        "structure",
        _after_rule,
        NoDerivative("what is made again is decided after differentiation"),
        lambda run, operands: operands[0],
        (Sample((Tensor(DType.F64, (3, 4)), Tensor(DType.F64, (2,)))),),
    )
)


def _only_row_rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
    expect_count("only_row", operands, 1)
    (operand,) = operands
    expect(operand.shape[:1] == (Rows(),), f"`only_row` of {operand}, whose first axis isn't the rows of the batch")
    return (operand.with_shape(operand.shape[1:]),)


# The row of a batch that has one and no other, where it lies: an axis less for kernels to walk.
declare(
    Operation(
        "only_row",
        "structure",
        _only_row_rule,
        NoDerivative("the rows of a batch are counted after differentiation"),
        lambda run, operands: operands[0][0],
        (Sample((Tensor(DType.F64, (Rows(), 3)),)),),
    )
)
