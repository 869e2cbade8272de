"""`with_derivative`: a value whose derivative is stated, by a region that differentiation writes where it needs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tapeless.ir.correspondence import same
from tapeless.ir.ops.registry import Array, Gradients, Operation, Run, declare, expect
from tapeless.ir.range_analysis import weighed
from tapeless.ir.ranges import chosen
from tapeless.ir.types import Tensor

if TYPE_CHECKING:
    from tapeless.ir.graph import Builder, Graph, Node, Value


def _with_derivative_rule(
    operands: Sequence[Tensor], attrs: Mapping[str, Any], regions: Sequence[Graph]
) -> Sequence[Tensor]:
    """Operands: a value, then what it is a function of, element by element. The region takes those and the value,
    and gives the derivative by each real one.
    """
    expect(
        len(regions) == 1 and len(operands) > 1,
        "`with_derivative` holds one region, and takes a value and its arguments",
    )
    (region,), (value, *arguments) = regions, operands
    expect(
        all(one.shape == value.shape for one in arguments),
        f"`with_derivative` needs equal shapes: {', '.join(map(str, operands))}",
    )
    taken = [port.value.type for port in region.inputs]
    expect(
        taken == [*arguments, value],
        (
            f"`with_derivative` feeds its region {', '.join(map(str, (*arguments, value)))}; it takes "
            f"{', '.join(map(str, taken))}"
        ),
    )
    made = [port.value.type for port in region.outputs]
    expect(
        made == [value for one in arguments if one.dtype.is_float],
        "`with_derivative` needs a derivative by each real argument",
    )
    return (value,)


def _with_derivative_derivative(builder: Builder, node: Node, adjoint: Value) -> Gradients:
    """The adjoint times what the region states, for each argument."""
    (region,), arguments = node.regions, node.operands[1:]
    values = (*arguments, node.result)
    slopes = builder.splice(region, {port.key: value for port, value in zip(region.inputs, values, strict=True)})
    slope = iter([slopes[port.key] for port in region.outputs])
    return (None, *(weighed(builder, adjoint, next(slope)) if one.type.dtype.is_float else None for one in arguments))


def _with_derivative_reference(run: Run, operands: Sequence[Array]) -> Array:
    return operands[0]


declare(
    Operation(
        "with_derivative",
        "structure",
        _with_derivative_rule,
        _with_derivative_derivative,
        _with_derivative_reference,
        (),
        flops=0,
        range=chosen,
        axes=same,
    )
)
