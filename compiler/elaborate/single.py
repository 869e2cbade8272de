"""What a batch of one row says: which values are then the same, which are zero whatever the data, and which say nothing.

The mean over the rows of one row is that row, so `mean((x - mean(x, axis = 0)) ** 2, axis = 0)` is zero and no variance, however it is
written. What is linear in deviations from a mean is zero with them; what is not, as their squares, tells of how rows differ.
"""

from __future__ import annotations

from tapeless.ir.graph import Node, Value
from tapeless.ir.ops import OPERATIONS
from tapeless.ir.types import Rows

_REDUCTIONS = ("sum", "prod", "max", "min")  # of one number: that number
_LENGTHS = ("norm",)  # of one number: its size
_SHAPES = ("broadcast", "reshape", "transpose", "stop_gradient", "cast")
_PRODUCTS = ("mul", "strong_product", "matmul")
_ZERO_AT_ZERO = ("square", "abs", "sqrt", "cbrt", "tanh", "sin", "sinh", "atan", "erf", "expm1", "log1p")
_ONE_PLACE = (1, Rows())  # sizes, where a batch has one row
LINEAR, CURVED = 1, 2  # in the deviations that are zero


class SingleRow:
    """Follows the nodes of a graph in the order in which they are made."""

    def __init__(self) -> None:
        self.same: dict[Value, Value] = {}  # equal to an earlier one
        self.zero: dict[Value, int] = {}  # zero, and how it depends on deviations
        self.ones: set[Value] = set()
        self.known: dict[tuple[object, ...], Value] = {}  # by operation and operands, element by element

    def tells_nothing(self, node: Node) -> bool:
        """Whether a value says how rows differ, so that of one row it says nothing; takes note of the node."""
        if len(node.results) != 1 or node.regions:
            return False
        made, op = node.result, node.op
        zeros = [self.zero.get(value, 0) for value in node.operands]
        if op == "count":
            if node.attrs["shape"] == (Rows(),):
                self.ones.add(made)
        elif op in _REDUCTIONS or op in _LENGTHS:
            return self._reduced(node, zeros[0])
        elif op in _SHAPES:
            self._shaped(node, zeros[0])
        elif op in ("div", "mul") and node.operands[1] in self.ones:
            self._alike(made, node.operands[0])
        elif op in _PRODUCTS:
            return self._product(node, zeros)
        elif op in ("div", "neg") and zeros[0]:
            self.zero[made] = zeros[0] if op == "neg" or not self._varies(node.operands[1]) else CURVED
        elif op in _ZERO_AT_ZERO and zeros[0]:
            self.zero[made] = CURVED
        elif op in ("add", "sub"):
            return self._sum(node, zeros)
        elif OPERATIONS[op].family == "pointwise":
            self._congruent(node)
        return False

    def _root(self, value: Value) -> Value:
        return self.same.get(value, value)

    def _varies(self, value: Value) -> bool:
        """Whether it is made of rows, and not the same number for all of them."""
        return _by_row(self._root(value))

    def _alike(self, made: Value, other: Value) -> None:
        self.same[made] = self._root(other)
        if other in self.zero:
            self.zero[made] = self.zero[other]
        if other in self.ones:
            self.ones.add(made)

    def _congruent(self, node: Node) -> None:
        op, roots = node.op, [self._root(value) for value in node.operands]
        if op == "mul" and roots[0] is roots[1]:
            op, roots = "square", roots[:1]
        key = (op, *roots, *node.attrs.items())
        self.same[node.result] = self.known.setdefault(key, self._root(node.result))

    def _reduced(self, node: Node, zero: int) -> bool:
        operand, axes = node.operands[0], node.attrs["axes"]
        over = [dim for axis in axes if (dim := operand.type.shape[axis]) != 1]
        of_rows = over == [Rows()]
        if zero:
            self.zero[node.result] = CURVED if node.op in _LENGTHS else zero
            return of_rows and self.zero[node.result] == CURVED
        if node.op in _REDUCTIONS and (of_rows or not over):
            self._alike(node.result, operand)
        return False

    def _shaped(self, node: Node, zero: int) -> None:
        operand, made = node.operands[0], node.result
        if operand in self.ones:
            self.ones.add(made)
        elif self._in_order(node):
            self._alike(made, operand)
        elif zero:
            self.zero[made] = zero

    @staticmethod
    def _in_order(node: Node) -> bool:
        """Whether the elements are those of the operand, in their order, where the rows are one."""
        before, after = node.operands[0].type.shape, node.result.type.shape
        if node.op == "transpose":
            axes = [axis for axis in node.attrs["perm"] if before[axis] not in _ONE_PLACE]
            return axes == sorted(axes)
        return node.op != "cast" and [dim for dim in before if dim not in _ONE_PLACE] == [dim for dim in after if dim not in _ONE_PLACE]

    def _product(self, node: Node, zeros: list[int]) -> bool:
        a, b = node.operands
        if not any(zeros):
            if node.op != "matmul":
                self._congruent(node)
            return False
        other = b if zeros[0] else a
        curved = CURVED in zeros or all(zeros) or self._varies(other)
        self.zero[node.result] = CURVED if curved else LINEAR
        return node.op == "matmul" and curved and not _by_row(node.result)

    def _sum(self, node: Node, zeros: list[int]) -> bool:
        a, b = node.operands
        made = node.result
        if all(zeros):
            self.zero[made] = max(zeros)
        elif zeros[1]:
            self._alike(made, a)
        elif zeros[0] and node.op == "add":
            self._alike(made, b)
        elif node.op == "sub" and a is not b and self._root(a) is self._root(b):
            self.zero[made] = LINEAR if _by_row(made) else CURVED
            return not _by_row(made)
        else:
            self._congruent(node)
        return False


def _by_row(value: Value) -> bool:
    return any(isinstance(dim, Rows) for dim in value.type.shape)
