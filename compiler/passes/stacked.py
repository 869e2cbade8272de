"""A graph mapped over a stack: what it makes of one value of an input, made of many at once along an axis in front.

Where an operation works alike at all places, so it does along one axis more; a product of matrices with one that is the
same for all is a single larger product. What does not depend on the input stays as it is. An operation without a rule
here is written once for each place of the stack, and what follows it is a stack again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tapeless.compiler.passes.rewriter import Rewriter, without_dead_code
from tapeless.compiler.passes.rules import ALGEBRA
from tapeless.ir.graph import Builder, Graph, Node, Value
from tapeless.ir.ops import OPERATIONS
from tapeless.ir.types import product

Rule = Callable[["_Stack", Node, Sequence[Value], Sequence[bool]], "Value | None"]


def stacked(graph: Graph, label: str, count: int) -> Graph:
    """The graph of one output that takes `count` values of the input at once, and gives as many results."""
    builder = Rewriter("stacked", graph.input(label).value.type.dtype, ALGEBRA)
    stack, seen = _Stack(builder, count), {}
    for port in graph.inputs:
        type = port.value.type
        many = type.with_shape((count, *type.shape)) if port.label == label else type
        seen[port.value] = builder.input(port.label, many, port.role)
    dependent = {graph.input(label).value}
    for node in graph.nodes:
        if dependent.isdisjoint(node.operands):
            builder.copy_nodes([node], seen)
            continue
        builder.span = node.span
        taken = [value in dependent for value in node.operands]
        seen.update(zip(node.results, stack.made(node, [seen[value] for value in node.operands], taken), strict=True))
        dependent.update(node.results)
    (port,) = graph.outputs
    made = seen[port.value]
    builder.output(port.label, made if port.value in dependent else stack.alike(made), port.role)
    return without_dead_code(builder.graph())


class _Stack:
    """Writes operations on stacks of `count` values."""

    def __init__(self, builder: Builder, count: int) -> None:
        self.builder, self.count = builder, count

    def made(self, node: Node, operands: Sequence[Value], taken: Sequence[bool]) -> Sequence[Value]:
        """The stacks of a node's results. `taken` tells which of the operands are stacks."""
        rule = _POINTWISE if OPERATIONS[node.op].family == "pointwise" else RULES.get(node.op)
        found = rule(self, node, operands, taken) if rule is not None else None
        return self.one_by_one(node, operands, taken) if found is None else (found,)

    def emit(self, node: Node, *operands: Value, **attrs: Any) -> Value:
        """The node's operation on other operands, some of its attributes changed."""
        return self.builder.emit_node(node.op, operands, {**node.attrs, **attrs}, (), (node.result.name,))[0]

    def alike(self, value: Value) -> Value:
        """A stack of the same value."""
        rank = value.type.rank
        return self.builder.broadcast_to(value, (self.count, *value.type.shape), tuple(range(1, rank + 1)))

    def every(self, operands: Sequence[Value], taken: Sequence[bool]) -> list[Value]:
        """All operands as stacks."""
        return [value if many else self.alike(value) for value, many in zip(operands, taken, strict=True)]

    def one_by_one(self, node: Node, operands: Sequence[Value], taken: Sequence[bool]) -> list[Value]:
        """The operation once for each place."""
        each = []
        for place in range(self.count):
            own = [self.at(value, place) if many else value for value, many in zip(operands, taken, strict=True)]
            names = [value.name for value in node.results]
            made = self.builder.emit_node(node.op, own, node.attrs, node.regions, names)
            each.append([self.reshape(value, (1, *value.type.shape)) for value in made])
        return [self.builder.emit("concat", *parts, axis=0) for parts in zip(*each, strict=True)]

    def at(self, value: Value, place: int) -> Value:
        """One value of a stack."""
        rest = value.type.shape[1:]
        start, step = (place, *(0 for _ in rest)), (1,) * value.type.rank
        return self.reshape(self.builder.emit("slice", value, start=start, size=(1, *rest), step=step), rest)

    def reshape(self, value: Value, shape: Sequence[Any]) -> Value:
        return self.builder.emit("reshape", value, shape=tuple(shape))

    def moved(self, value: Value, old: int, new: int) -> Value:
        """An axis put elsewhere."""
        perm = [axis for axis in range(value.type.rank) if axis != old]
        perm.insert(new, old)
        return value if old == new else self.builder.emit("transpose", value, perm=tuple(perm))

    def merged(self, value: Value, axis: int) -> Value:
        """The stack's axis put before another one of what it holds, and made one with it."""
        value = self.moved(value, 0, axis)
        shape = value.type.shape
        return self.reshape(value, (*shape[:axis], product(shape[axis : axis + 2]), *shape[axis + 2 :]))

    def parted(self, value: Value, axis: int, like: Node) -> Value:
        """The stack of results that were made with the stack's axis inside of another one."""
        shape = like.result.type.shape
        return self.moved(self.reshape(value, (*shape[:axis], self.count, *shape[axis:])), axis, 0)


def _same(stack: _Stack, node: Node, operands: Sequence[Value], taken: Sequence[bool]) -> Value:
    """Of an operation whose attributes name no axis from the front."""
    return stack.emit(node, *stack.every(operands, taken))


def _shifted(stack: _Stack, node: Node, operands: Sequence[Value], taken: Sequence[bool]) -> Value:
    """Of one whose attributes name axes: those come after one more."""
    moved: Mapping[str, Any] = (
        {"axis": node.attrs["axis"] + 1}
        if "axis" in node.attrs
        else {"axes": tuple(axis + 1 for axis in node.attrs["axes"])}
    )
    return stack.emit(node, *stack.every(operands, taken), **moved)


def _broadcast(stack: _Stack, node: Node, operands: Sequence[Value], taken: Sequence[bool]) -> Value:
    axes = (0, *(axis + 1 for axis in node.attrs["axes"]))
    return stack.emit(node, *operands, shape=(stack.count, *node.attrs["shape"]), axes=axes)


def _reshape(stack: _Stack, node: Node, operands: Sequence[Value], taken: Sequence[bool]) -> Value:
    return stack.emit(node, *operands, shape=(stack.count, *node.attrs["shape"]))


def _transpose(stack: _Stack, node: Node, operands: Sequence[Value], taken: Sequence[bool]) -> Value:
    return stack.emit(node, *operands, perm=(0, *(axis + 1 for axis in node.attrs["perm"])))


def _slice(stack: _Stack, node: Node, operands: Sequence[Value], taken: Sequence[bool]) -> Value:
    start, size, step = (node.attrs[part] for part in ("start", "size", "step"))
    return stack.emit(node, *operands, start=(0, *start), size=(stack.count, *size), step=(1, *step))


def _matmul(stack: _Stack, node: Node, operands: Sequence[Value], taken: Sequence[bool]) -> Value:
    """Two stacks meet matrix by matrix. Where one side is the same for all, the other's rows (or columns) stand in one
    matrix.
    """
    if all(taken):
        return stack.emit(node, *operands)
    rank = node.result.type.rank
    side = taken.index(True)
    turned = node.attrs["transpose_b" if side else "transpose_a"]
    own = rank - 2 if turned == bool(side) else rank - 1  # the axis of the operand that is not summed over
    both = [stack.merged(value, own) if many else value for value, many in zip(operands, taken, strict=True)]
    return stack.parted(stack.emit(node, *both), rank - 2 + side, node)


def _by_data(stack: _Stack, node: Node, operands: Sequence[Value], taken: Sequence[bool]) -> Value | None:
    """A convolution of a stack of pictures by the same weights is one of more pictures."""
    if taken != [True, False]:
        return None
    return stack.parted(stack.emit(node, stack.merged(operands[0], 0), operands[1]), 0, node)


def _attention(stack: _Stack, node: Node, operands: Sequence[Value], taken: Sequence[bool]) -> Value | None:
    """Alike over all axes in front, but for lengths, an even operand, which belong to the first one."""
    return None if len(operands) % 2 == 0 else _same(stack, node, operands, taken)


def _gather(stack: _Stack, node: Node, operands: Sequence[Value], taken: Sequence[bool]) -> Value | None:
    """The stack's axis stands behind those that are gathered along."""
    if taken != [True, False]:
        return None
    table, index = operands
    made = stack.emit(node, stack.moved(table, 0, 1), index)
    return stack.moved(made, index.type.rank, 0)


def _scatter(stack: _Stack, node: Node, operands: Sequence[Value], taken: Sequence[bool]) -> Value | None:
    if taken != [True, False]:
        return None
    updates, index = operands
    return stack.moved(stack.emit(node, stack.moved(updates, 0, index.type.rank), index), 1, 0)


_POINTWISE: Rule = _same
RULES: Mapping[str, Rule] = {
    **dict.fromkeys(
        ("stop_gradient", "pick", "cholesky", "triangular_solve", "attention", "attention_gradient"), _same
    ),
    **dict.fromkeys(("sum", "prod", "max", "min", "logsumexp", "argmax", "norm"), _shifted),
    **dict.fromkeys(("pad", "concat", "windows", "overlap_add", "align_windows"), _shifted),
    **dict.fromkeys(("argsort", "take_along", "put_along"), _shifted),
    **dict.fromkeys(("cumsum", "cumprod", "linear_scan", "strong_scan"), _shifted),
    "broadcast": _broadcast,
    "reshape": _reshape,
    "transpose": _transpose,
    "slice": _slice,
    "matmul": _matmul,
    "attention": _attention,
    "attention_gradient": _attention,
    "convolution": _by_data,
    "gather": _gather,
    "scatter_add": _scatter,
}
