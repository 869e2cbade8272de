"""The rewriter: a graph builder that simplifies each node as it is emitted.

It tries the rules for the node's operation, folds constants and reuses an equal node made before (common
subexpressions). A rule emits through the same rewriter, so what it makes is simplified too; a budget stops rules that
undo each other and reports the last ones fired. Graphs that go in and out compute the same values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

import numpy as np

from tapeless.compiler.passes.layout import FREE
from tapeless.compiler.passes.scan_rules import slim
from tapeless.ir.graph import Builder, Graph, Node, Span, Value, types_on
from tapeless.ir.interpreter import computed_dtypes, evaluate
from tapeless.ir.types import DType, Tensor

Apply = Callable[["Rewriter", Node], Value | None]
COMMUTATIVE = frozenset({"add", "mul", "strong_product", "maximum", "minimum", "eq", "ne", "logical_and", "logical_or"})
BUDGET = 100
_NAME = attrgetter("name")


class RewriteLoop(Exception):
    """Rules undid each other: the message names the last ones fired."""


@dataclass(frozen=True)
class Rule:
    """A rewrite of nodes with one of the operations `ops`.

    `apply` gets the node (its operands are values of the rewriter, its result is not made yet) and returns the value to
    take instead, or None where the rule does not match. `example` emits an expression on which the rule fires, for the
    generic test of all rules: it gets a builder and x, y : f64[batch, 4], r : f64[batch], k : i32[batch].
    """

    name: str
    ops: tuple[str, ...]
    apply: Apply
    example: Callable[..., Value]


def computation(
    op: str, operands: Sequence[Value], attrs: Mapping[str, Any], regions: Sequence[Graph]
) -> tuple[Any, ...]:
    """What a node computes, as a key: equal for nodes whose results are the same."""
    ordered = sorted(operands, key=_NAME) if op in COMMUTATIVE else operands
    return (op, tuple(ordered), tuple(sorted(attrs.items())), tuple(map(id, regions)))


class Rewriter(Builder):
    """A builder that applies rules, folds constants and shares equal nodes."""

    def __init__(self, name: str, dtype: DType, rules: Sequence[Rule]) -> None:
        super().__init__(name, dtype)
        self._rules: dict[str, list[Rule]] = {}
        for rule in rules:
            for op in rule.ops:
                self._rules.setdefault(op, []).append(rule)
        self._made: dict[tuple[Any, ...], tuple[Value, ...]] = {}
        self._producers: dict[Value, Node] = {}
        self._trying: list[str] = []
        self.fired: set[str] = set()
        self.asked = 0  # operations that were to be emitted, before any simplification

    @property
    def depth(self) -> int:
        """How many rules are being applied, one inside another."""
        return len(self._trying)

    def made_by(self, value: Value, *ops: str) -> Node | None:
        """The node that made a value, if its operation is one of `ops`."""
        node = self._producers.get(value)
        return node if node and node.op in ops else None

    def number(self, value: Value) -> float | None:
        """The number that a constant, or a broadcast constant, holds."""
        node = self.made_by(value, "broadcast", "constant")
        while node and node.op == "broadcast":
            node = self.made_by(node.operands[0], "broadcast", "constant")
        return None if node is None else float(node.attrs["value"])

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
        if not self._trying and op not in FREE:
            self.asked += 1
        key = computation(op, operands, attrs, regions)
        known = self._made.get(key)
        if known is not None:
            return known
        node = Node(op, tuple(operands), (), attrs, tuple(regions), span or self.span)
        simpler = self._simplify(node, names)
        if simpler is not None:
            self._made[key] = (simpler,)
            return (simpler,)
        results = super().emit_node(op, operands, attrs, regions, names, span, types)
        self._producers.update(dict.fromkeys(results, self._nodes[-1]))
        self._made[key] = results
        return results

    def copy_node(self, node: Node, operands: tuple[Value, ...]) -> tuple[Value, ...]:
        names = [value.name for value in node.results]
        return self.emit_node(node.op, operands, node.attrs, node.regions, names, node.span, types_on(node, operands))

    def _simplify(self, node: Node, names: Sequence[str]) -> Value | None:
        folded = self._fold(node)
        if folded is not None:
            return folded
        for rule in self._rules.get(node.op, ()):
            before, self.span = self.span, node.span or self.span
            self._trying.append(rule.name)
            if self.depth > BUDGET:
                raise RewriteLoop(f"rules undo each other: {', '.join(self._trying[-6:])}")
            made = len(self._nodes)
            value = rule.apply(self, node)
            self._trying.pop()
            self.span = before
            if value is not None:
                self.fired.add(rule.name)
                return self._named(value, names) if len(self._nodes) > made else value
        return None

    def _named(self, value: Value, names: Sequence[str]) -> Value:
        """What a rule made last, under the name of the node it stands for, unless the rule named it."""
        last = self._nodes[-1]
        default = self.prefix + last.op
        if not names or last.results != (value,) or value.name.removesuffix(f".{self._counts.get(default)}") != default:
            return value
        self._names.remove(value.name)
        renamed = Value(self.unique(names[0]), value.type)
        self._nodes[-1] = self._producers[renamed] = replace(last, results=(renamed,))
        own = computation(last.op, last.operands, last.attrs, last.regions)
        # also what rules inside have found to be this value, all of it later than the node
        for key, results in reversed(self._made.items()):
            if results == (value,):
                self._made[key] = (renamed,)
            if key == own:
                break
        return renamed

    def _fold(self, node: Node) -> Value | None:
        """The constant that a scalar node over constants computes."""
        if not node.operands or node.regions or any(value.type.shape for value in node.operands):
            return None
        constants = [self.made_by(value, "constant") for value in node.operands]
        if not all(constants) or node.op in ("broadcast", "reshape"):
            return None
        inner = Builder("fold", self.dtype)
        values = [inner.constant(c.attrs["value"], c.attrs["dtype"]) for c in constants if c]
        inner.output("folded", inner.emit_node(node.op, values, node.attrs)[0], "result")
        graph = inner.graph()
        (result,) = evaluate(graph, [], 0, computed_dtypes())
        return self.constant(np.asarray(result).item(), graph.outputs[0].value.type.dtype)


def rewrite(graph: Graph, rules: Sequence[Rule]) -> Graph:
    """The graph rebuilt through a rewriter with these rules, without what no output needs."""
    rewriter = Rewriter(graph.name, _dtype(graph), rules)
    seen = {port.value: rewriter.input_like(port) for port in graph.inputs}
    rewriter.copy_nodes(rewritten_inside(graph.nodes, rules), seen)
    for port in graph.outputs:
        rewriter.output_like(port, seen[port.value])
    return without_dead_code(rewriter.graph())


def rewritten_inside(nodes: Iterable[Node], rules: Sequence[Rule]) -> Iterator[Node]:
    """Nodes, the bodies of scans among them rewritten."""
    for node in nodes:
        yield replace(node, regions=tuple(rewrite(body, rules) for body in node.regions)) if node.op == "scan" else node


def without_dead_code(graph: Graph) -> Graph:
    """The graph without nodes, and parts of scans, that no output depends on. Inputs stay: they are its signature."""
    wanted = {port.value for port in graph.outputs}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if not any(value in wanted for value in node.results):
            continue
        kept.append(slim(node, wanted) if node.op == "scan" else node)
        wanted.update(kept[-1].operands)
    return Graph(graph.name, graph.inputs, tuple(reversed(kept)), graph.outputs)


def _dtype(graph: Graph) -> DType:
    """The program's real element type, as the graph shows it."""
    for port in (*graph.inputs, *graph.outputs):
        if port.value.type.dtype.is_float:
            return port.value.type.dtype
    return DType.F32
