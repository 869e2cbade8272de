"""Graphs as formulas: nodes written in infix, as the model language would, small steps folded into the line that uses
them.

A value gets a line of its own if it has a name in the program, is used more than once, or leaves the graph; broadcasts
and constants never do. For reading only: the text form of `ir.text` is the one that parses back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tapeless.ir.graph import Graph, Node, Value
from tapeless.ir.ops import OPERATIONS
from tapeless.ir.types import DType, shape_text

ATOM, POWER, UNARY, PRODUCT, SUM, RELATION = 100, 90, 80, 70, 60, 50
RECIPROCAL = "1 / "
WIDEST = 90  # characters: a longer formula is cut at its operands


@dataclass(frozen=True)
class Formula:
    """Text and how tightly its outermost operator binds."""

    text: str
    binding: int = ATOM

    def inside(self, binding: int) -> str:
        """The text, in parentheses where it binds less tightly than its surroundings."""
        return self.text if self.binding >= binding else f"({self.text})"


Written = Callable[[Node, list[Formula]], Formula]


def _infix(symbol: str, binding: int, right: int = 1) -> Written:
    def write(node: Node, operands: list[Formula]) -> Formula:
        left, other = operands
        return Formula(f"{left.inside(binding)} {symbol} {other.inside(binding + right)}", binding)

    return write


def _prefix(symbol: str) -> Written:
    return lambda node, operands: Formula(f"{symbol}{operands[0].inside(UNARY)}", UNARY)


def _reduction(node: Node, operands: list[Formula]) -> Formula:
    axes = node.attrs["axes"]
    axis = f", axis = {axes[0]}" if len(axes) == 1 else f", axis = [{', '.join(map(str, axes))}]"
    whole = len(axes) == node.operands[0].type.rank
    return Formula(f"{node.op}({operands[0].text}{'' if whole else axis})")


def _matmul(node: Node, operands: list[Formula]) -> Formula:
    left = operands[0].inside(POWER) + (".T" if node.attrs["transpose_a"] else "")
    right = operands[1].inside(POWER) + (".T" if node.attrs["transpose_b"] else "")
    return Formula(f"{left} @ {right}", PRODUCT)


def _product(node: Node, operands: list[Formula]) -> Formula:
    """x * y; a product with a reciprocal is a division."""
    for one, other in (operands, operands[::-1]):
        if other.text.startswith(RECIPROCAL):
            return Formula(f"{one.inside(PRODUCT)} / {other.text[len(RECIPROCAL) :]}", PRODUCT)
    return _infix("*", PRODUCT, 0)(node, operands)


def _count(node: Node, operands: list[Formula]) -> Formula:
    text = " * ".join(map(str, node.attrs["shape"]))
    return Formula(text, PRODUCT if "*" in text else ATOM)


def _number(node: Node, operands: list[Formula]) -> Formula:
    value = node.attrs["value"]
    text = f"{value:.6g}" if isinstance(value, float) else str(value).lower()
    return Formula(text, UNARY if text.startswith("-") else ATOM)


def _slice(node: Node, operands: list[Formula]) -> Formula:
    """As Python writes it: `x[:, 1:3]`, `x[:, ::-1]`."""
    parts = []
    for start, size, step, extent in zip(
        *(node.attrs[k] for k in ("start", "size", "step")), node.operands[0].type.shape, strict=True
    ):
        if (start, size, step) == (0, extent, 1):
            parts.append(":")
            continue
        stop = start + size * step
        first = str(start) if start != (0 if step > 0 else extent - 1) else ""
        last = str(stop) if 0 <= stop < extent else ""
        parts.append(f"{first}:{last}" + (f":{step}" if step != 1 else ""))
    return Formula(f"{operands[0].inside(ATOM)}[{', '.join(parts)}]")


def _pad(node: Node, operands: list[Formula]) -> Formula:
    start, step, axis = (node.attrs[k] for k in ("start", "step", "axis"))
    every = f", step = {step}" if step != 1 else ""
    return Formula(f"pad({operands[0].text}, axis = {axis}, size = {node.attrs['size']}, start = {start}{every})")


def _windows(node: Node, operands: list[Formula]) -> Formula:
    """What is 1 is left out."""
    attrs = {key: node.attrs[key] for key in ("axis", "size", "kernel", "step", "dilation") if key in node.attrs}
    named = [f"{key} = {value}" for key, value in attrs.items() if key not in ("step", "dilation") or value != 1]
    return Formula(f"{node.op}({', '.join([operands[0].text, *named])})")


def _concat(node: Node, operands: list[Formula]) -> Formula:
    return Formula(f"concat({', '.join(operand.text for operand in operands)}, axis = {node.attrs['axis']})")


def _cast(node: Node, operands: list[Formula]) -> Formula:
    """A boolean counts as 0 and 1 without a word; other casts are written out."""
    if node.operands[0].type.dtype is DType.BOOL:
        return Formula(f"[{operands[0].text}]")
    if node.operands[0].type.dtype is node.attrs["dtype"]:
        return operands[0]
    return Formula(f"{node.attrs['dtype']}({operands[0].text})")


WRITTEN: Mapping[str, Written] = {
    "add": _infix("+", SUM, 0),
    "sub": _infix("-", SUM),
    "mul": _product,
    "strong_product": _product,
    "div": _infix("/", PRODUCT),
    "floor_divide": _infix("//", PRODUCT),
    "remainder": _infix("%", PRODUCT),
    "pow": _infix("**", POWER),
    "lt": _infix("<", RELATION),
    "le": _infix("<=", RELATION),
    "eq": _infix("==", RELATION),
    "ne": _infix("!=", RELATION),
    "neg": _prefix("-"),
    "logical_not": _prefix("not "),
    "square": lambda node, operands: Formula(f"{operands[0].inside(ATOM)} ** 2", POWER),
    "reciprocal": lambda node, operands: Formula(f"{RECIPROCAL}{operands[0].inside(POWER)}", PRODUCT),
    "select": lambda node, operands: Formula(f"where({', '.join(operand.text for operand in operands)})"),
    "matmul": _matmul,
    "constant": _number,
    "broadcast": lambda node, operands: operands[0],
    "with_derivative": lambda node, operands: operands[0],
    "reshape": lambda node, operands: Formula(f"reshape({operands[0].text}, {shape_text(node.attrs['shape'])})"),
    "only_row": lambda node, operands: Formula(f"{operands[0].inside(ATOM)}[0]"),
    "after": lambda node, operands: Formula(f"{operands[0].inside(ATOM)} after {operands[1].text}"),
    "count": _count,
    "iota": lambda node, operands: Formula(f"index[{node.attrs['axis']}]"),
    "cast": _cast,
    "pick": lambda node, operands: Formula(f"{operands[0].inside(ATOM)}[{operands[1].text}]"),
    "gather": lambda node, operands: Formula(f"{operands[0].inside(ATOM)}[{operands[1].text}]"),
    "argmax": lambda node, operands: Formula(f"argmax({operands[0].text}, axis = {node.attrs['axis']})"),
    "random_uniform": lambda node, operands: Formula(f"random.uniform(site {node.attrs['site']})"),
    "slice": _slice,
    "pad": _pad,
    "windows": _windows,
    "overlap_add": _windows,
    "align_windows": _windows,
    "concat": _concat,
    "sum": _reduction,
    "prod": _reduction,
    "max": _reduction,
    "min": _reduction,
    "logsumexp": _reduction,
    "norm": _reduction,
}
HIDDEN = frozenset({"broadcast", "constant", "iota", "count"})


def _called(node: Node, operands: list[Formula]) -> Formula:
    return Formula(f"{node.op}({', '.join(operand.text for operand in operands)})")


class Formulas:
    """The formulas of one graph: `lines` for those that stand alone, in the graph's order. `called` writes operations
    that have no notation of their own.
    """

    def __init__(self, graph: Graph, called: Written = _called) -> None:
        self._graph = graph
        self._called = called
        self._folded: dict[Value, Formula] = {}

    def lines(self) -> Iterator[tuple[Node, str]]:
        """Each node that has a line, and the formula of its result."""
        for node in self._graph.nodes:
            if node.regions:
                yield node, f"{node.op}({', '.join(value.name for value in node.operands)})"
                continue
            formula = WRITTEN.get(node.op, self._called)(node, [self._operand(value) for value in node.operands])
            if self._folds(node, formula):
                self._folded[node.results[0]] = formula
            else:
                yield node, formula.text

    def _operand(self, value: Value) -> Formula:
        return self._folded.get(value, Formula(value.name))

    def _folds(self, node: Node, formula: Formula) -> bool:
        (value,) = node.results
        if value in self._graph.output_values:
            return False
        if node.op in HIDDEN:
            return True
        uses = self._graph.uses.get(value, ())
        if len(uses) != 1 or uses[0].regions or len(formula.text) > WIDEST:
            return False
        user = uses[0]
        if node.span and user.span and node.span.line != user.span.line:
            return False
        last = value.name.split(".")[-2 if value.name.split(".")[-1].isdigit() and "." in value.name else -1]
        return last in OPERATIONS or last == "b"
