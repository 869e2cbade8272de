"""The loop: `scan` walks the leading axis of its sequences and carries values from step to step.

It stays one loop down to machine code, so compile time and code size do not grow with its length. Its derivative is a
scan in the other direction, see `ir.reverse_scan`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tapeless.ir.ops.registry import (
    Array,
    Gradients,
    JointDerivative,
    NoDerivative,
    Operation,
    Run,
    declare,
    expect,
)
from tapeless.ir.types import Tensor

if TYPE_CHECKING:
    from tapeless.ir.graph import Builder, Graph, Node, Value


def _scan_rule(operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]) -> Sequence[Tensor]:
    """Operands: `carries` starting values, `sequences` tensors walked along their first axis, then invariants.

    The body takes the carries, one element of each sequence and the invariants; it gives the next carries, then what
    is stacked. Results: the last carries, then the stacks.
    """
    expect(len(regions) == 1, "`scan` holds one region")
    (body,), carries, sequences = regions, attrs["carries"], attrs["sequences"]
    expect(
        len(operands) >= carries + sequences,
        f"`scan` with {carries} carries and {sequences} sequences has {len(operands)} operands",
    )
    starts, walked, invariants = (
        operands[:carries],
        operands[carries : carries + sequences],
        operands[carries + sequences :],
    )
    for sequence in walked:
        expect(
            sequence.rank >= 1 and sequence.shape[0] == attrs["length"],
            f"`scan` over {attrs['length']} steps cannot walk {sequence}",
        )
    inside = (*starts, *(sequence.with_shape(sequence.shape[1:]) for sequence in walked), *invariants)
    taken = tuple(port.value.type for port in body.inputs)
    expect(
        taken == inside, f"`scan` feeds its body {', '.join(map(str, inside))}; it takes {', '.join(map(str, taken))}"
    )
    made = tuple(port.value.type for port in body.outputs)
    expect(
        made[:carries] == tuple(starts),
        f"`scan` carries {', '.join(map(str, starts))}; its body gives {', '.join(map(str, made[:carries]))}",
    )
    return (*starts, *(stacked.with_shape((attrs["length"], *stacked.shape)) for stacked in made[carries:]))


def _scan_reference(run: Run, operands: Sequence[Array]) -> tuple[Array, ...]:
    (body,), carries, sequences = run.regions, run.attrs["carries"], run.attrs["sequences"]
    state, walked, invariants = (
        list(operands[:carries]),
        operands[carries : carries + sequences],
        operands[carries + sequences :],
    )
    steps = range(run.attrs["length"])
    stacks: list[list[Array]] = [[] for _ in run.types[carries:]]
    for step in reversed(steps) if run.attrs["reverse"] else steps:
        made = run.evaluate(body, (*state, *(sequence[step] for sequence in walked), *invariants))
        state = list(made[:carries])
        for stack, element in zip(stacks, made[carries:], strict=True):
            stack.append(element)
    if run.attrs["reverse"]:
        stacks = [stack[::-1] for stack in stacks]
    stacked = [
        np.stack(stack) if stack else np.zeros(type.at(run.rows), run.dtypes[type.dtype])
        for stack, type in zip(stacks, run.types[carries:], strict=True)
    ]
    return (*state, *stacked)


def _scan_derivative(
    builder: Builder, node: Node, adjoints: Sequence[Value | None], active: Sequence[bool]
) -> Gradients:
    """A scan in the other direction, whose body is the sweep over this one's."""
    from tapeless.ir.reverse_scan import reverse_scan

    return reverse_scan(builder, node, adjoints, active)


ATTRIBUTES = ("carries", "sequences", "length", "reverse")

declare(
    Operation(
        "scan",
        "structure",
        _scan_rule,
        JointDerivative(_scan_derivative),
        _scan_reference,
        (),
        attributes=ATTRIBUTES,
    )
)

# A scan with its place in time (phase; parts of the rows, each of which takes all steps by itself) and memory (where
# operands and results lie, where the memory of its own begins, how much workspace the body has for each part): what the
# scheduler makes of scans. Its region holds tasks.
declare(
    Operation(
        "loop",
        "structure",
        _scan_rule,
        NoDerivative("loops are made after differentiation"),
        _scan_reference,
        (),
        attributes=(*ATTRIBUTES, "phase", "parts", "places", "scratch", "workspace"),
    )
)
