"""A small program's value, gradients and a Hessian-vector product as one graph, for tests that check them against
other sources.

The value enters the loss as `sum(r * c)` with a cotangent `c`, so the gradient by c is the value itself, and the
gradients by all else are vector-Jacobian products.
"""

from __future__ import annotations

from collections.abc import Sequence

from tapeless.compiler.model import load
from tapeless.compiler.passes.differentiate import differentiate
from tapeless.compiler.passes.rewriter import Rewriter, rewrite, without_dead_code
from tapeless.compiler.passes.rules import ALGEBRA, RULES
from tapeless.ir.graph import Builder, Graph, Value
from tapeless.ir.types import DType, Tensor

VALUE, DIRECTION = "c", "direction_"


def declared(name: str, shape: Sequence[int | str], bound: int | None = None) -> str:
    """The line that declares a tensor: data where its first axis is `batch`, else a parameter."""
    dims = "[" + ", ".join(map(str, shape)) + "]" if shape else ""
    if bound is not None:
        return f"    input {name}: int{dims} < {bound}\n"
    return (
        f"    input {name}: {dims}\n"
        if shape and shape[0] == "batch"
        else f"    param {name}{': ' if shape else ''}{dims} = 0\n"
    )


def derived(text: str, wanted: Sequence[str], dtype: DType, training: bool = True, second: bool = True) -> Graph:
    """The graph of a program's derivatives.

    Its inputs are the program's and, for each wanted one, `direction_NAME`. Its outputs are `NAME` for the gradient
    by each wanted input, `c` among them, and `second_NAME` for the derivative of all gradients along the directions,
    those of c aside.
    """
    source = rewrite(load(text, "model.tl", dtype=dtype).forward[training], RULES)
    ports = [port for port in source.inputs if port.label in wanted]
    builder = Rewriter("derived", dtype, ALGEBRA)
    seen = _inputs(builder, source)
    builder.copy_nodes(source.nodes, seen)
    adjoints = differentiate(builder, source, seen, source.output("loss").value, [port.value for port in ports])
    first = {port.label: adjoints[port.value] for port in ports}
    along = [label for label in first if label != VALUE]
    if second:
        total = builder.constant(0.0)
        for label in along:
            slope = first[label]
            direction = builder.input(DIRECTION + label, Tensor(dtype, slope.type.shape), "data")
            part = builder.emit("mul", slope, direction)
            axes = tuple(range(slope.type.rank))
            total = builder.emit("add", total, builder.emit("sum", part, axes=axes) if axes else part)
        builder.output("total", total, "output")
    for label, value in first.items():
        builder.output(label, value, "output")
    made = without_dead_code(builder.graph())
    return _again(made, along, dtype) if second else made


def _again(first: Graph, along: Sequence[str], dtype: DType) -> Graph:
    """The graph with the gradient of its `total` beside its other outputs."""
    builder = Rewriter("derived", dtype, ALGEBRA)
    seen = _inputs(builder, first)
    builder.copy_nodes(first.nodes, seen)
    wanted = {label: first.input(label).value for label in along}
    adjoints = differentiate(builder, first, seen, first.output("total").value, list(wanted.values()))
    for port in first.outputs:
        if port.label != "total":
            builder.output(port.label, seen[port.value], "output")
    for label, value in wanted.items():
        builder.output(f"second_{label}", adjoints[value], "output")
    return without_dead_code(builder.graph())


def _inputs(builder: Builder, graph: Graph) -> dict[Value, Value]:
    return {
        port.value: builder.input(port.label, port.value.type, port.role, name=port.value.name) for port in graph.inputs
    }
