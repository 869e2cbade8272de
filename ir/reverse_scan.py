"""The derivative of a scan: a scan that runs the other way, over what the forward one saved.

The body of the reverse scan is the forward body's own sweep. What that sweep reads of the forward step comes from, in
this order: what the forward scan walked, took or yielded anyway; what is made again because that is cheap (views,
random numbers, comparisons); else a stack that the forward scan saves. Slopes that cost little beside their function
are made there, and saved instead of what they are made of. For what is saved, a second forward scan with more yields
is emitted, which `compiler.passes.scan_rules` then merges with the first. A scan in the body is run again to save its
own steps, so nesting two scans is checkpointing: the outer one saves its carries, the inner one is recomputed.

The adjoint of what every step reads (a weight) is a sum over steps. Sums of products become one product of stacks
outside of the loop; what has no such form is carried and added up step by step, and so is what blocks of steps add.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tapeless.ir.adjoints import moving_in_loop, sweep
from tapeless.ir.graph import Builder, Graph, Node, Port, Span, Value
from tapeless.ir.ops.registry import OPERATIONS
from tapeless.ir.ranges import Range, covers, union
from tapeless.ir.types import product

_SLOPES = {name: operation.slope for name, operation in OPERATIONS.items() if operation.slope}
REPEATED = frozenset({"shape", "random"})  # families that cost less to make again than to save


@dataclass(frozen=True)
class _Outside:
    """What stands outside of the loop for the reverse body's values."""

    last: Mapping[Value, Value]  # of an input that is carried: what the last step leaves
    stacks: Mapping[Value, Value]  # of any value: all steps'


Total = Callable[[Builder, _Outside], Value]


class _Region(Builder):
    """The reverse body. A slope that the forward body makes is read and not made again."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.slopes: dict[tuple[str, Value], Value] = {}

    def emit(
        self,
        op: str,
        *operands: Value,
        name: str | None = None,
        span: Span | None = None,
        regions: Sequence[Graph] = (),
        **attrs: Any,
    ) -> Value:
        known = self.slopes.get((op, operands[0])) if operands else None
        return known or super().emit(op, *operands, name=name, span=span, regions=regions, **attrs)


@dataclass
class _Reverse:
    """One reverse scan under construction."""

    node: Node
    region: _Region
    seen: dict[Value, Value] = field(default_factory=dict)  # forward body to reverse body
    primal: dict[Value, Value] = field(default_factory=dict)  # inputs of the reverse body to forward body values
    walked: dict[Value, Value] = field(default_factory=dict)  # inputs of the reverse body to stacked adjoints outside
    carried: list[tuple[Value, Value | None, Value]] = field(default_factory=list)  # input, start (None: zero), next
    yielded: list[Value] = field(default_factory=list)
    stacked: set[Value] = field(default_factory=set)  # primal inputs of which all steps are read outside

    def stack(self, value: Value) -> None:
        """Ask for a value of every step, outside."""
        if value in self.primal:
            self.stacked.add(value)
        elif value not in self.walked and value not in self.yielded:
            self.yielded.append(value)


def reverse_scan(
    builder: Builder, node: Node, adjoints: Sequence[Value | None], active: Sequence[bool]
) -> Sequence[Value | None]:
    """The adjoints of a scan's operands, for those that are `active`; see the module's docstring."""
    (body,), carries, sequences = (with_slopes(node.regions[0]),), node.attrs["carries"], node.attrs["sequences"]
    node = replace(node, regions=(body,))
    ins, outs = [port.value for port in body.inputs], [port.value for port in body.outputs]
    read = body.ancestors(outs)
    wanted, _ = moving_in_loop(
        body, carries, [v for v, matters in zip(ins, active, strict=True) if matters and v in read]
    )
    real = {value for value in wanted if value.type.dtype.is_float}
    backward = [k for k in range(carries) if ins[k] in real]
    starts = [adjoints[k] for k in backward]
    assumed = [_unbounded(Range(0.0, 0.0) if start is None else builder.ranges.of(start)) for start in starts]
    while True:  # a step before may send back what is less well known than the adjoint that the scan begins with
        state, entering, found = _swept(builder, node, adjoints, wanted, dict(zip(backward, assumed, strict=True)))
        left = [_unbounded(state.region.ranges.of(found[ins[k]])) for k in backward]
        if all(covers(before, after) for before, after in zip(assumed, left, strict=True)):
            break
        assumed = [union(before, after) for before, after in zip(assumed, left, strict=True)]
    for k in backward:
        state.carried.append((entering[k], adjoints[k], found[ins[k]]))
    elements = [k for k in range(carries, carries + sequences) if ins[k] in real]
    for k in elements:
        state.stack(found[ins[k]])
    made = state.region.graph()
    totals = {k: _total(state, made, found[ins[k]]) for k in range(carries + sequences, len(ins)) if ins[k] in real}
    outside = _emit(builder, state)
    return [
        outside.last[entering[k]] if k in entering
        else outside.stacks[found[ins[k]]] if k in elements
        else totals[k](builder, outside) if k in totals
        else None
        for k in range(len(ins))
    ]  # fmt: skip


def _unbounded(range: Range) -> Range:
    """Of a range, only whether there are infinities or NaN."""
    return Range(infinite=range.infinite, nan=range.nan)


def _swept(
    builder: Builder, node: Node, adjoints: Sequence[Value | None], wanted: set[Value], assumed: Mapping[int, Range]
) -> tuple[_Reverse, dict[int, Value], Mapping[Value, Value]]:
    """The sweep over the body, with the adjoints of its outputs as inputs, those of the carries in the ranges that
    are `assumed`.

    Returns the reverse scan so far, the inputs for the adjoints of the carries, and the adjoints of the body's inputs.
    """
    (body,), carries = node.regions, node.attrs["carries"]
    ins, outs = [port.value for port in body.inputs], [port.value for port in body.outputs]
    state = _Reverse(node, _Region("reverse"))
    ranges = state.region.ranges
    seeds: dict[Value, Value] = {}

    def seed(value: Value, adjoint: Value, range: Range) -> None:
        ranges.state(adjoint, range)
        seeds[value] = state.region.emit("add", seeds[value], adjoint) if value in seeds else adjoint

    entering = {k: state.region.input(f"d_{outs[k].name}", outs[k].type, "operand") for k in assumed}
    for k, value in entering.items():
        seed(outs[k], value, assumed[k])
    for k, adjoint in enumerate(adjoints[carries:], carries):
        if adjoint is not None and outs[k].type.dtype.is_float:
            given = state.region.input(f"d_{outs[k].name}", outs[k].type, "operand", name=f"d_{outs[k].name}.yielded")
            state.walked[given] = adjoint
            seed(outs[k], given, builder.ranges.of(adjoint))
    _bring_primals(state, body, builder.ranges.inside(node))
    return state, entering, sweep(state.region, body, state.seen, seeds, [v for v in ins if v in wanted])


def _bring_primals(state: _Reverse, body: Graph, ranges: Mapping[Value, Range]) -> None:
    """Every value of the forward body in the reverse one: an input, or made again. What nobody reads is left out
    later.
    """
    region = state.region

    def bring(value: Value) -> None:
        state.seen[value] = region.input(value.name, value.type, "operand")
        state.primal[state.seen[value]] = value
        region.ranges.state(state.seen[value], ranges[value])

    for port in body.inputs:
        bring(port.value)
    blocks = _blocks(body)
    for node in body.nodes:
        again = blocks or OPERATIONS[node.op].family in REPEATED or not any(v.type.dtype.is_float for v in node.results)
        if again and not node.regions:
            region.copy_nodes([node], state.seen)
        else:
            for value in node.results:
                bring(value)
            if is_slope(node):
                region.slopes[node.op, state.seen[node.operands[0]]] = state.seen[node.result]


def is_slope(node: Node) -> bool:
    """Whether a node of a forward body is a slope that stands beside its function, perhaps for a reverse body alone."""
    return node.op in _SLOPES.values()


def with_slopes(body: Graph) -> Graph:
    """The body with the slopes of its functions beside them."""
    nodes: list[Node] = []
    known = {(node.op, node.operands[0]) for node in body.nodes if is_slope(node)}
    for node in body.nodes:
        nodes.append(node)
        slope = _SLOPES.get(node.op)
        if slope and (slope, node.operands[0]) not in known:
            known.add((slope, node.operands[0]))
            nodes.append(
                Node(slope, node.operands, (Value(f"{node.result.name}.{slope}", node.result.type),), {}, (), node.span)
            )
    return replace(body, nodes=tuple(nodes))


def _blocks(body: Graph) -> bool:
    """Whether the steps are blocks of steps: then what they make is made again and not saved, which would take as
    much memory as saving every step.
    """
    return any(node.regions for node in body.nodes)


# Sums over steps


def _total(state: _Reverse, made: Graph, value: Value) -> Total:
    """The sum over all steps of a value of the reverse body."""
    node = made.producers.get(value)
    form = _TOTALS.get(node.op) if node and not _blocks(state.node.regions[0]) else None
    total = form(state, made, node) if form and node else None
    return total or _accumulated(state, value)


def _accumulated(state: _Reverse, value: Value) -> Total:
    """Carried and added up."""
    known = state.region.input(f"{value.name}.total", value.type, "operand")
    state.carried.append((known, None, state.region.emit("add", known, value, name=f"{value.name}.sum")))
    return lambda builder, outside: outside.last[known]


def _total_of_sum(state: _Reverse, made: Graph, node: Node) -> Total:
    left, right = (_total(state, made, value) for value in node.operands)
    return lambda builder, outside: builder.emit("add", left(builder, outside), right(builder, outside))


def _total_of_view(state: _Reverse, made: Graph, node: Node) -> Total:
    inner = _total(state, made, node.operands[0])
    return lambda builder, outside: builder.emit(node.op, inner(builder, outside), **dict(node.attrs))


def _varies(state: _Reverse, value: Value) -> bool:
    """Whether a value has a stack outside: it is walked or made, and not taken by every step alike."""
    first = state.node.attrs["carries"] + state.node.attrs["sequences"]
    invariant = {port.value for port in state.node.regions[0].inputs[first:]}
    return state.primal.get(value) not in invariant


def _total_of_reduction(state: _Reverse, made: Graph, node: Node) -> Total | None:
    """sum over steps of sum(x, axes) = the sum of the stack over steps and axes."""
    (x,) = node.operands
    if not _varies(state, x):
        return None
    state.stack(x)
    axes = (0, *(axis + 1 for axis in node.attrs["axes"]))
    return lambda builder, outside: builder.emit("sum", outside.stacks[x], axes=axes)


def _total_of_product(state: _Reverse, made: Graph, node: Node) -> Total | None:
    """sum over steps of a @ b = one product in which the steps lie behind one another along the inner axis."""
    a, b = node.operands
    if a.type.rank != 2 or not _varies(state, a) or not _varies(state, b):
        return None
    inner = a.type.shape[0 if node.attrs["transpose_a"] else 1]
    length: int = state.node.attrs["length"]
    long = product((length, inner))
    state.stack(a)
    state.stack(b)

    def flat(builder: Builder, stack: Value, leads: bool) -> Value:
        """[steps, inner, n] as [steps * inner, n]; [steps, n, inner] is turned first."""
        turned = stack if leads else builder.emit("transpose", stack, perm=(0, 2, 1))
        return builder.emit("reshape", turned, shape=(long, turned.type.shape[2]))

    def total(builder: Builder, outside: _Outside) -> Value:
        left = flat(builder, outside.stacks[a], node.attrs["transpose_a"])
        right = flat(builder, outside.stacks[b], not node.attrs["transpose_b"])
        return builder.emit("matmul", left, right, transpose_a=True, transpose_b=False)

    return total


_TOTALS: dict[str, Callable[[_Reverse, Graph, Node], Total | None]] = {
    "add": _total_of_sum,
    "reshape": _total_of_view,
    "transpose": _total_of_view,
    "slice": _total_of_view,
    "pad": _total_of_view,
    "sum": _total_of_reduction,
    "matmul": _total_of_product,
}


# Emission


def _emit(builder: Builder, state: _Reverse) -> _Outside:
    """Emit the forward scan that saves and the reverse scan; what stands outside for the reverse body's values."""
    node, carried, yielded = state.node, state.carried, state.yielded
    leaving = [value for _, _, value in carried] + yielded
    whole = state.region.graph()
    needed = whole.ancestors(leaving)
    nodes = tuple(n for n in whole.nodes if any(value in needed for value in n.results))
    saved = _saved(builder, node, [v for inner, v in state.primal.items() if inner in needed or inner in state.stacked])
    first = node.attrs["carries"] + node.attrs["sequences"]
    invariant = {
        port.value: operand for port, operand in zip(node.regions[0].inputs[first:], node.operands[first:], strict=True)
    }
    stacks = dict(state.walked)
    stacks.update((inner, saved[v]) for inner, v in state.primal.items() if v in saved)
    walked = [
        value
        for value in (*state.walked, *state.primal)
        if value in needed and state.primal.get(value) not in invariant
    ]
    taken = [value for value, v in state.primal.items() if value in needed and v in invariant]
    entering = [value for value, _, _ in carried]
    starts = [builder.full(0.0, value) if start is None else start for value, start, _ in carried]
    operands = [*starts, *(stacks[value] for value in walked), *(invariant[state.primal[value]] for value in taken)]
    inputs = tuple(Port(value.name, value, "operand") for value in (*entering, *walked, *taken))
    outputs = tuple(Port(f"r{k}", value, "result") for k, value in enumerate(leaving))
    attrs = {
        "carries": len(carried),
        "sequences": len(walked),
        "length": node.attrs["length"],
        "reverse": not node.attrs["reverse"],
    }
    names = [*(f"{builder.prefix}{value.name}" for value in entering), *(value.name for value in yielded)]
    results = builder.emit_node("scan", operands, attrs, (Graph("body", inputs, nodes, outputs),), names)
    stacks.update(zip(yielded, results[len(entering) :], strict=True))
    return _Outside(dict(zip(entering, results, strict=False)), stacks)


def _saved(builder: Builder, node: Node, primals: Sequence[Value]) -> dict[Value, Value]:
    """Stacks outside for values of the forward body: walked and yielded ones lie there; others are saved by a scan."""
    (body,), carries, sequences = node.regions, node.attrs["carries"], node.attrs["sequences"]
    inputs = [port.value for port in body.inputs]
    found = dict(zip(inputs[carries : carries + sequences], node.operands[carries:], strict=False))
    found.update(
        (port.value, stack) for port, stack in zip(body.outputs[carries:], node.results[carries:], strict=True)
    )
    others = [value for value in primals if value not in found and value not in inputs[carries + sequences :]]
    if others:
        ports = (*body.outputs, *(Port(f"saved.{value.name}", value, "result") for value in others))
        saving = Graph(body.name, body.inputs, body.nodes, ports)
        names = [*(value.name for value in node.results), *(f"{value.name}.steps" for value in others)]
        results = builder.emit_node("scan", node.operands, node.attrs, (saving,), names, node.span)
        found.update(zip(others, results[len(body.outputs) :], strict=True))
    return found


__all__ = ["is_slope", "reverse_scan"]
