"""The graph IR: values, nodes, graphs and the builder that makes them.

A graph is immutable: ports in, nodes in a topological order, ports out. A node names an operation, its ordered
operands, attributes, result types, the source span it came from, and may hold regions: closed graphs whose inputs
are fed by the node (a scan's body, a fused kernel). Operand order and repetition are the node's own; the edges of
`Graph.flow` are derived from them, so `mul(x, x)` is two edges. What an operation means is told by `ir.ops`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tapeless.ir.types import Dim, DType, IRTypeError, Rows, Shape, Tensor

if TYPE_CHECKING:
    import networkx

    from tapeless.ir.correspondence import Labels
    from tapeless.ir.range_analysis import Ranges

Attribute = int | float | bool | str | DType | Rows | tuple["Attribute", ...]


@dataclass(frozen=True)
class Span:
    """A stretch of source text: lines and columns count from 1, the end is exclusive."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}-{self.end_line}:{self.end_column}"


@dataclass(frozen=True)
class Value:
    """A tensor with a name that is unique in its graph."""

    name: str
    type: Tensor

    def __hash__(self) -> int:
        return hash(self.name)  # Python keeps a string's hash; values are looked up millions of times

    def __str__(self) -> str:
        return f"%{self.name}"


@dataclass(frozen=True)
class Node:
    """One operation applied to operands. `attrs` is never changed after construction."""

    op: str
    operands: tuple[Value, ...]
    results: tuple[Value, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    regions: tuple[Graph, ...] = ()
    span: Span | None = None

    @property
    def result(self) -> Value:
        """The only result. Raises ValueError if there are several."""
        (value,) = self.results
        return value

    @cached_property
    def labels(self) -> Labels | None:
        """Which axes of the operands are which of the result: asked for each group that a node might join."""
        from tapeless.ir.correspondence import correspondence, labels_of

        found = correspondence(self)
        return None if found is None else labels_of(self, found)

    def __hash__(self) -> int:
        return hash((self.op, self.operands, self.results))


INPUT_ROLES = ("data", "param", "state", "optimizer", "hyper", "counter", "gradient", "argument", "carry", "operand")
OUTPUT_ROLES = ("state", "gradient", "output", "loss", "metric", "part", "carry", "result")
_KEYED = {"gradient": "grad", "carry": "carry"}
STATE_ROLES = ("param", "state", "optimizer", "hyper", "counter")


PART_KINDS = ("numerator", "denominator", "rest")


@dataclass(frozen=True)
class Part:
    """What a port is of a loss or metric that is no mean over rows: a sum of quotients and a rest.

    The `numerator` and `denominator` of each `term` are summed over all batches before they are divided; the `rest` is
    a mean, which is added to the quotients.
    """

    kind: str  # one of PART_KINDS
    term: int = 0

    def __str__(self) -> str:
        return self.kind if self.kind == "rest" else f"{self.kind}.{self.term}"


@dataclass(frozen=True)
class Port:
    """Where a value enters or leaves a graph.

    `label` is the name outside (a state slot, a data input, an output); `role` says what kind of thing it is: one of
    INPUT_ROLES or OUTPUT_ROLES. An output with the role `state` stores into the slot `label`. A `part` belongs to the
    loss or metric `label`. The carry that counts the places of a sequence says how many there are, if not any number.
    A slot takes `turns` if its new values are stored beside the old ones: the places change roles at each batch.
    """

    label: str
    value: Value
    role: str
    span: Span | None = None
    part: Part | None = None
    places: int | None = None
    turns: bool = False

    @property
    def key(self) -> str:
        """The label, unique among a graph's inputs or outputs: a parameter's gradient is `grad(h.W)`, a carry
        `carry(h)`, a part `f1.numerator.0`.
        """
        if self.part is not None:
            return f"{self.label}.{self.part}"
        return f"{_KEYED[self.role]}({self.label})" if self.role in _KEYED else self.label


@dataclass(frozen=True)
class Graph:
    """A closed dataflow graph."""

    name: str
    inputs: tuple[Port, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Port, ...]

    def __hash__(self) -> int:
        return hash((self.name, self.inputs, self.outputs, len(self.nodes)))

    @cached_property
    def producers(self) -> Mapping[Value, Node]:
        """The node that makes each value; graph inputs have none."""
        return {value: node for node in self.nodes for value in node.results}

    @cached_property
    def uses(self) -> Mapping[Value, tuple[Node, ...]]:
        """The nodes that take each value, in order, one entry for each use."""
        found: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for value in node.operands:
                found.setdefault(value, []).append(node)
        return {value: tuple(nodes) for value, nodes in found.items()}

    @cached_property
    def output_values(self) -> frozenset[Value]:
        return frozenset(port.value for port in self.outputs)

    @cached_property
    def flow(self) -> networkx.MultiDiGraph[int]:
        """The dataflow as a networkx MultiDiGraph over node positions; an edge for each use, keyed by operand place."""
        import networkx

        place = {value: index for index, node in enumerate(self.nodes) for value in node.results}
        flow: networkx.MultiDiGraph[int] = networkx.MultiDiGraph()
        flow.add_nodes_from(range(len(self.nodes)))
        for index, node in enumerate(self.nodes):
            for position, value in enumerate(node.operands):
                if value in place:
                    flow.add_edge(place[value], index, key=position)
        return flow

    def input(self, key: str) -> Port:
        """The input port of that key. Raises KeyError."""
        return _by_key(self.inputs, key)

    def output(self, key: str) -> Port:
        """The output port of that key. Raises KeyError."""
        return _by_key(self.outputs, key)

    def walk(self) -> Iterator[Node]:
        """Every node, those inside regions too, outer before inner."""
        pending = [iter(self.nodes)]
        while pending:
            for node in pending[-1]:
                yield node
                if node.regions:
                    pending.append(iter([inner for region in node.regions for inner in region.nodes]))
                    break
            else:
                pending.pop()

    def ancestors(self, values: Iterable[Value]) -> set[Value]:
        """All values that the given ones depend on, themselves included."""
        wanted = set(values)
        for node in reversed(self.nodes):
            if any(value in wanted for value in node.results):
                wanted.update(node.operands)
        return wanted

    def with_outputs(self, outputs: Sequence[Port], name: str | None = None) -> Graph:
        return replace(self, outputs=tuple(outputs), name=name or self.name)


def _by_key(ports: Sequence[Port], key: str) -> Port:
    for port in ports:
        if port.key == key:
            return port
    raise KeyError(f"{key!r} is none of {', '.join(port.key for port in ports)}")


class Builder:
    """Builds one graph: applies type rules as nodes are emitted and keeps names unique.

    `span` is given to nodes that are emitted without one, so that a pass sets it once for each source node; likewise
    `prefix` begins the names of results that are emitted without a name. Names are unique `among` another builder's
    too, so that the values of a region are told from those around it.
    """

    def __init__(self, name: str, dtype: DType = DType.F32, among: Builder | None = None) -> None:
        self.name = name
        self.dtype = dtype
        self.span: Span | None = None
        self.prefix = ""
        self._inputs: list[Port] = []
        self._nodes: list[Node] = []
        self._outputs: list[Port] = []
        self._names: set[str] = among._names if among else set()
        self._counts: dict[str, int] = among._counts if among else {}
        self._own: set[str] = set()
        self._constants: dict[tuple[Any, ...], Value] = {}

    @cached_property
    def ranges(self) -> Ranges:
        """What is known of the values so far: their bounds, and whether they can be infinite or NaN."""
        from tapeless.ir.range_analysis import Ranges

        return Ranges(self._nodes)

    @property
    def nodes(self) -> Sequence[Node]:
        """The nodes so far, in order: the builder's own list, which grows."""
        return self._nodes

    def unique(self, hint: str) -> str:
        """A name not used before: the hint itself, or the hint with a number."""
        name = hint
        while name in self._names:
            self._counts[hint] = self._counts.get(hint, 1) + 1
            name = f"{hint}.{self._counts[hint]}"
        self._names.add(name)
        self._own.add(name)
        return name

    def made(self, value: Value) -> bool:
        """Whether a value is an input or a result of this builder."""
        return value.name in self._own

    def input(self, label: str, type: Tensor, role: str, span: Span | None = None, name: str | None = None) -> Value:
        value = Value(self.unique(name or (f"d_{label}" if role == "gradient" else label)), type)
        self._inputs.append(Port(label, value, role, span))
        return value

    def output(
        self,
        label: str,
        value: Value,
        role: str,
        span: Span | None = None,
        part: Part | None = None,
        places: int | None = None,
    ) -> None:
        self._outputs.append(Port(label, value, role, span, part, places))

    def input_like(self, port: Port, type: Tensor | None = None) -> Value:
        """An input as a port of another graph, its value named alike."""
        value = Value(self.unique(port.value.name), type or port.value.type)
        self._inputs.append(replace(port, value=value))
        return value

    def output_like(self, port: Port, value: Value) -> None:
        """An output as a port of another graph, of a value of this one."""
        self._outputs.append(replace(port, value=value))

    def emit_node(
        self,
        op: str,
        operands: Sequence[Value],
        attrs: Mapping[str, Any],
        regions: Sequence[Graph] = (),
        names: Sequence[str] = (),
        span: Span | None = None,
        types: Sequence[Tensor] | None = None,
    ) -> tuple[Value, ...]:
        """Append a node and return its results, typed by the operation's rule unless their `types` are known.

        Raises IRTypeError where the rule is broken.
        """
        if types is None:
            from tapeless.ir.ops import operation

            types = operation(op).infer(tuple([value.type for value in operands]), attrs, tuple(regions))
        hints = list(names) or [self.prefix + op] * len(types)
        results = tuple(Value(self.unique(hint), type) for hint, type in zip(hints, types, strict=True))
        self._nodes.append(Node(op, tuple(operands), results, dict(attrs), tuple(regions), span or self.span))
        return results

    def emit(
        self,
        op: str,
        *operands: Value,
        name: str | None = None,
        span: Span | None = None,
        regions: Sequence[Graph] = (),
        **attrs: Any,
    ) -> Value:
        """Append a node that has one result and return it."""
        names = (name,) if name else ()
        (value,) = self.emit_node(op, operands, attrs, regions, names, span)
        return value

    def constant(self, value: float | int | bool, dtype: DType | None = None, shape: Shape = ()) -> Value:
        """A constant; equal ones are one node."""
        dtype = dtype or self.dtype
        number = dtype.record.number(value)
        key = (repr(number), dtype, shape)
        if key not in self._constants:
            name = f"c{number:g}" if dtype.is_float else f"c{number}"
            name = name.replace("-", "m").replace("+", "")
            self._constants[key] = self.emit("constant", name=name, value=number, dtype=dtype, shape=shape)
        return self._constants[key]

    def full(self, value: float, like: Value) -> Value:
        """A constant broadcast to the type of another value."""
        return self.broadcast_to(self.constant(value, like.type.dtype), like.type.shape, ())

    def broadcast_to(self, value: Value, shape: Sequence[Dim], axes: Sequence[int] | None = None) -> Value:
        """Broadcast: operand axis k becomes result axis `axes[k]` (trailing ones if not given)."""
        shape = tuple(shape)
        rank = value.type.rank
        axes = tuple(axes) if axes is not None else tuple(range(len(shape) - rank, len(shape)))
        if value.type.shape == shape and axes == tuple(range(rank)):
            return value
        return self.emit("broadcast", value, name=f"{value.name}.b", shape=shape, axes=axes)

    def graph(self) -> Graph:
        return Graph(self.name, tuple(self._inputs), tuple(self._nodes), tuple(self._outputs))

    def splice(self, graph: Graph, bindings: Mapping[str, Value]) -> dict[str, Value]:
        """Copy a graph's nodes here, its inputs bound by key; returns the values of its output ports by key.

        Raises KeyError for an input without a binding.
        """
        seen = {port.value: bindings[port.key] for port in graph.inputs}
        self.copy_nodes(graph.nodes, seen)
        return {port.key: seen[port.value] for port in graph.outputs}

    def copy_nodes(self, nodes: Iterable[Node], seen: dict[Value, Value]) -> None:
        """Copy nodes here in order, translating operands by `seen`, which gains their results."""
        for node in nodes:
            operands = tuple([seen[value] for value in node.operands])
            if node.op == "constant":
                seen[node.result] = self.constant(node.attrs["value"], node.attrs["dtype"], node.attrs["shape"])
                continue
            for value, copied in zip(node.results, self.copy_node(node, operands), strict=True):
                seen[value] = copied

    def copy_node(self, node: Node, operands: tuple[Value, ...]) -> tuple[Value, ...]:
        """Append a node of another graph, applied to values of this one."""
        types = types_on(node, operands)
        if types is None:
            names = [value.name for value in node.results]
            return self.emit_node(node.op, operands, node.attrs, node.regions, names, node.span)
        results = tuple([self._taken_over(value) for value in node.results])
        span = node.span or self.span
        same = operands == node.operands and results == node.results and span is node.span
        self._nodes.append(node if same else Node(node.op, operands, results, node.attrs, node.regions, span))
        return results

    def _taken_over(self, value: Value) -> Value:
        """A value as another graph has it, under another name if its own is taken."""
        name = self.unique(value.name)
        return value if name == value.name else Value(name, value.type)


def types_on(node: Node, operands: Sequence[Value]) -> Sequence[Tensor] | None:
    """The types of a node's results when it is applied to other operands of the same types; None where types differ."""
    for mine, other in zip(node.operands, operands, strict=True):
        if mine.type is not other.type and mine.type != other.type:
            return None
    return [value.type for value in node.results]


__all__ = [
    "INPUT_ROLES",
    "OUTPUT_ROLES",
    "PART_KINDS",
    "STATE_ROLES",
    "Attribute",
    "Builder",
    "Graph",
    "IRTypeError",
    "Node",
    "Part",
    "Port",
    "Span",
    "Value",
    "types_on",
]
