"""The gradient of a loss, graph to graph.

Backward nodes carry the span of the forward line they differentiate, and an adjoint is named after its primal: the
adjoint of `h` is `d_h`. The sweep itself is `ir.adjoints`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tapeless.compiler.messages.diagnostics import Diagnostic
from tapeless.ir.adjoints import DifferentiationError, sweep
from tapeless.ir.graph import Builder, Graph, Value

__all__ = ["DifferentiationError", "diagnostic", "differentiate"]


def differentiate(
    builder: Builder, graph: Graph, seen: Mapping[Value, Value], loss: Value, wanted: Sequence[Value]
) -> dict[Value, Value]:
    """Emit into `builder` the gradient of the scalar `loss`; returns the adjoint of every value on the way to `wanted`.

    `graph` is the forward graph, already copied into the builder by the translation `seen`; `loss` and `wanted` are
    values of `graph`. A wanted value that the loss does not depend on has an adjoint of zeros. Raises
    DifferentiationError where an operation on the way has no derivative.
    """
    return sweep(builder, graph, seen, {loss: builder.full(1.0, seen[loss])}, wanted)


def diagnostic(error: DifferentiationError) -> Diagnostic:
    """What to tell the user of a step without a derivative, at its place in the source."""
    return Diagnostic(
        "E0703",
        f"the loss depends on a parameter through this step, which has no derivative: {error.reason}",
        error.node.span,
        hint="`softmax` is large where `argmax` is, and has a derivative; `stop_gradient` counts as constant.",
    )
