"""Functions whose text states their derivative: `fn f(x) = ...` with a line `derivative ...` below it.

The value stays what the body computes. A node around it holds the derivative as a graph of its own, in terms of the
arguments and of `out`, the value itself; differentiation writes that graph where it needs it, so a second derivative
is the derivative of what is stated.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any

from tapeless.compiler.elaborate.context import Context
from tapeless.compiler.elaborate.emission import Emitter
from tapeless.compiler.elaborate.frames import Frame
from tapeless.compiler.elaborate.operands import numeric
from tapeless.compiler.elaborate.values import Binding, Computed, describe, shape_text
from tapeless.compiler.language import ast
from tapeless.ir.graph import Graph, Node, Value
from tapeless.ir.ops import OPERATIONS
from tapeless.ir.types import Dim, Rows, Tensor


def with_derivative(context: Context, frame: Frame, definition: ast.Definition, result: Any) -> Any:
    """What a call of the function gives: its body's value, with the stated derivatives by those arguments that are
    computed.

    `frame` is that of the body, which has run. Raises Fault where the function does not work element by element.
    """
    if len(definition.derivatives) != len(definition.parameters):
        return result  # reported where the function is defined
    emitter = context.emitter
    given: dict[str, Any] = {parameter.name: frame.names[parameter.name].value for parameter in definition.parameters}
    for parameter in definition.parameters:
        value = given[parameter.name]
        if not isinstance(value, (Computed, int, float, Rows)):
            raise frame.fault(
                "E0704",
                f"a function with a derivative takes numbers, and `{parameter.name}` is {describe(value)}",
                parameter.span,
            )
    computed = {name: value for name, value in given.items() if isinstance(value, Computed)}
    if not isinstance(result, Computed) or not any(value.dtype.is_float for value in computed.values()):
        return result  # nothing that has a derivative
    shape = emitter.meet([value.shape for value in computed.values()])
    if result.shape != shape or not result.dtype.is_float:
        sides = frame.sides(*((ast.Name(one.span, one.name), given[one.name]) for one in definition.parameters))
        rule = "works element by element" if result.dtype.is_float else "makes real numbers"
        raise frame.fault(
            "E0704",
            f"a function with a derivative {rule}, and this is {describe(result)}",
            definition.body[0].span,
            sides,
        )
    emitter.record.update()
    mixing = mixed(result.value, {value.value for value in computed.values()}, emitter.record.producer)
    if mixing is not None:
        raise frame.fault(
            "E0704",
            f"a function with a derivative works element by element, and `{mixing.op}` in this one does not",
            definition.body[0].span,
        )
    operands = [emitter.broadcast(value, shape).value for value in computed.values()]
    region = _region(context, frame, definition, given, shape)
    return Computed(
        emitter.emit(
            "with_derivative", result.value, *operands, name=f"{emitter.where}.{definition.name}", regions=(region,)
        )
    )


def mixed(value: Value, arguments: Set[Value], producer: Callable[[Value], Node | None]) -> Node | None:
    """An operation on the way from the arguments to a value that is not one of each element by itself."""
    leads: dict[Value, bool] = {}
    pending = [value]
    while pending:
        current = pending[-1]
        node = producer(current)
        if current in leads or current in arguments or node is None:
            leads.setdefault(current, current in arguments)
            pending.pop()
            continue
        unknown = [operand for operand in node.operands if operand not in leads]
        if unknown:
            pending += unknown
            continue
        pending.pop()
        leads[current] = any(leads[operand] for operand in node.operands)
        if leads[current] and not _each_by_itself(node):
            return node
    return None


def _each_by_itself(node: Node) -> bool:
    if node.op == "reshape":  # as a broadcast takes axes of size 1 out
        before, after = ([dim for dim in value.type.shape if dim != 1] for value in (node.operands[0], node.result))
        return before == after
    return OPERATIONS[node.op].family == "pointwise" or node.op in ("broadcast", "stop_gradient", "with_derivative")


def _region(
    context: Context, frame: Frame, definition: ast.Definition, given: dict[str, Any], shape: tuple[Dim, ...]
) -> Graph:
    """The graph of the derivatives by the real arguments, of the computed arguments and the value."""
    outer, inner = context.emitter, Emitter(definition.name, context.emitter.real)
    body = Frame("fn", definition.name, frame.module, inner, frame.caller, frame.call_span, frame.override)
    for parameter in definition.parameters:
        value = given[parameter.name]
        if isinstance(value, Computed):
            port = inner.input(parameter.name, Tensor(value.dtype, shape), "operand", None)
            value = Computed(port, value.bound)
        body.names[parameter.name] = Binding(value, parameter.name, parameter.span, "declared", "argument", parameter)
    body.names["out"] = Binding(
        Computed(inner.input("out", Tensor(outer.real, shape), "operand", None)), "out", definition.head, "made"
    )
    with context.into(inner):
        for parameter, syntax in zip(definition.parameters, definition.derivatives, strict=True):
            inner.where = f"{definition.name}.derivative"
            value = numeric(body, syntax, context.evaluate(body, syntax), "a derivative")
            if isinstance(given[parameter.name], Computed) and given[parameter.name].dtype.is_float:
                slope = inner.as_real(value)
                if slope.rank > len(shape) or any(
                    one not in (1, other) for one, other in zip(reversed(slope.shape), reversed(shape), strict=False)
                ):
                    message = (
                        f"the derivative by `{parameter.name}` is {describe(value)}, and the value is "
                        f"{shape_text(shape)}"
                    )
                    raise body.fault("E0704", message, syntax.span)
                graph = inner.builder.graph()
                mixing = mixed(slope.value, {port.value for port in graph.inputs}, graph.producers.get)
                if mixing is not None:
                    message = (
                        f"the derivative by `{parameter.name}` is that of each element by itself, and `{mixing.op}` "
                        "meets others"
                    )
                    raise body.fault("E0704", message, syntax.span)
                inner.output(parameter.name, inner.broadcast(slope, shape).value, "result", None)
    return inner.graph()
