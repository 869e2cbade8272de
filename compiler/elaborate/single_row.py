"""What a batch of one row says: which values are then the same, which no longer depend on the data, and which say
nothing.

The mean over the rows of one row is that row, so `mean((x - mean(x, axis = 0)) ** 2, axis = 0)` is zero and no
variance, however it is written. What is linear in deviations from a mean is zero with them, for any number of rows
too once it is summed; what is not, as their squares, tells of how rows differ. A value minus itself is zero for any
number of rows, and no deviation.
"""

from __future__ import annotations

from tapeless.ir.graph import Node, Value
from tapeless.ir.ops import OPERATIONS
from tapeless.ir.types import Dim, Rows

_REDUCTIONS = ("sum", "prod", "max", "min", "logsumexp")  # of one number: that number
_PRODUCTS = ("mul", "strong_product", "matmul")
_COMPARISONS = ("lt", "le", "eq", "ne")
_ZERO_AT_ZERO = ("neg", "square", "abs", "sqrt", "cbrt", "tanh", "sin", "sinh", "atan", "erf", "expm1", "log1p")
_FOLLOWED = ("pointwise", "shape", "movement", "indexing", "reduction", "product")
_ONE_PLACE = (1, Rows())  # sizes, where a batch has one row
LINEAR, CURVED = 1, 2  # in the deviations


class SingleRow:
    """Follows the nodes of a graph in the order in which they are made."""

    def __init__(self) -> None:
        self.same: dict[Value, Value] = {}  # to what it is, element by element, where there is one row
        self.ever: dict[Value, Value] = {}  # to what it is for any number of rows
        self.fixed: dict[Value, int] = {}  # no longer made of data, and how it depends on deviations
        self.zero: set[Value] = set()
        self.ones: set[Value] = set()
        self.negated: dict[Value, Value] = {}
        self.fed: dict[Value, bool] = {}  # whether it is made of data at all
        self.known: dict[tuple[object, ...], Value] = {}

    def constant(self, made: Value, number: float) -> None:
        """Take note of a constant."""
        self.fed[made] = False
        self.same[made] = self.ever[made] = self.known.setdefault(("constant", number), made)
        if number == 1:
            self.ones.add(made)

    def take(self, inner: Value, outside: Value, around: SingleRow) -> None:
        """`inner` is what `outside` is, in a loop's body what that is around it."""
        self.fed[inner] = around._fed(outside)
        self.same[inner], self.ever[inner] = around._root(outside), around.ever.get(outside, outside)
        self._flags(inner, outside, around)

    def tells_nothing(self, node: Node) -> bool:
        """Whether a value says how rows differ, so that of one row it says nothing; takes note of the node."""
        if node.op == "with_derivative":
            self.take(node.result, node.operands[0], self)
            return False
        if len(node.results) != 1 or OPERATIONS[node.op].family not in _FOLLOWED:
            return False
        made, op, operands = node.result, node.op, node.operands
        self.fed[made] = any(self._fed(value) for value in operands)
        ever = tuple(self.ever.get(value, value) for value in operands)
        self.ever[made] = (
            ever[0] if op == "stop_gradient" else self.known.setdefault((op, "ever", *ever, *node.attrs.items()), made)
        )
        if op == "count":
            if node.attrs["shape"] == (Rows(),):
                self.ones.add(made)
        elif op in ("div", "mul") and operands[1] in self.ones:
            self._alike(made, operands[0])
        elif op == "matmul" or OPERATIONS[op].family == "reduction":
            return self._met(node)
        elif op in ("add", "sub"):
            return self._sum(node)
        elif OPERATIONS[op].family == "pointwise":
            self._pointwise(node)
        elif operands:
            self._moved(node)
        return False

    def _root(self, value: Value) -> Value:
        return self.same.get(value, value)

    def _fed(self, value: Value) -> bool:
        return self.fed.get(value, _by_row(value))

    def _flags(self, made: Value, other: Value, of: SingleRow | None = None) -> None:
        of = of or self
        if other in of.fixed:
            self.fixed[made] = of.fixed[other]
        for here, there in ((self.zero, of.zero), (self.ones, of.ones)):
            if other in there:
                here.add(made)
        if other in of.negated:
            self.negated[made] = of.negated[other]

    def _alike(self, made: Value, other: Value) -> None:
        self.same[made] = self._root(other)
        self._flags(made, other)

    def _congruent(self, node: Node) -> None:
        op, roots = node.op, [self._root(value) for value in node.operands]
        if op == "mul" and roots[0] is roots[1]:
            op, roots = "square", roots[:1]
        sizes = () if OPERATIONS[op].family == "pointwise" else tuple(_sizes(value) for value in node.operands)
        self.same[node.result] = self.known.setdefault(
            (op, *roots, *sizes, *node.attrs.items()), self._root(node.result)
        )

    def _differ(self, a: Value, b: Value) -> bool:
        """Whether two values are the same of one row, and not of more."""
        return self._root(a) is self._root(b) and self.ever.get(a, a) is not self.ever.get(b, b)

    def _depends(self, node: Node) -> int:
        """How a value depends on deviations, if on no data beside them; 0 if it does not, or on other data too."""
        fed = [value for value in node.operands if self._fed(value)]
        return max((self.fixed[value] for value in fed), default=0) if all(value in self.fixed for value in fed) else 0

    def _pointwise(self, node: Node) -> None:
        made, op, operands = node.result, node.op, node.operands
        zeros = [value for value in operands if value in self.zero]
        if op in _PRODUCTS and zeros:
            self.zero.add(made)
            other = operands[1] if operands[0] in self.zero else operands[0]
            self.fixed[made] = (
                max(self.fixed[value] for value in zeros) if len(zeros) == 1 and not self._fed(other) else CURVED
            )
        elif op == "div" and operands[0] in self.zero:
            self.zero.add(made)
            self.fixed[made] = CURVED if self._fed(operands[1]) else self.fixed[operands[0]]
        elif op in _COMPARISONS and self._differ(*operands):
            self.fixed[made] = CURVED
        elif depends := self._depends(node):
            self.fixed[made] = depends if op == "neg" else CURVED
            if zeros and op in _ZERO_AT_ZERO:
                self.zero.add(made)
        else:
            self._congruent(node)
            if op == "neg":
                self.negated[made] = self._root(operands[0])

    def _sum(self, node: Node) -> bool:
        """A sum or a difference."""
        a, b = node.operands
        made, zeros = node.result, [value in self.zero for value in node.operands]
        opposite = node.op == "add" and (self.negated.get(a) is self._root(b) or self.negated.get(b) is self._root(a))
        if all(zeros):
            self.zero.add(made)
            self.fixed[made] = max(self.fixed[a], self.fixed[b])
        elif zeros[1]:
            self._alike(made, a)
        elif zeros[0] and node.op == "add":
            self._alike(made, b)
        elif opposite or (node.op == "sub" and self._differ(a, b)):
            self.zero.add(made)
            self.fixed[made] = LINEAR if _by_row(made) else CURVED
            return not _by_row(made)
        elif depends := self._depends(node):
            self.fixed[made] = depends
        else:
            self._congruent(node)
        return False

    def _moved(self, node: Node) -> None:
        """What moves elements about."""
        operand, made = node.operands[0], node.result
        if operand in self.ones and node.op in ("broadcast", "reshape", "transpose", "cast"):
            self.ones.add(made)
        if OPERATIONS[node.op].family == "shape" and (
            _in_order(node) or (node.op == "broadcast" and not operand.type.rank)
        ):
            self._alike(made, operand)
        elif depends := self._depends(node):
            self.fixed[made] = depends
            if all(value in self.zero for value in node.operands if value.type.dtype.is_float):
                self.zero.add(made)
        else:
            self._congruent(node)

    def _met(self, node: Node) -> bool:
        """A reduction, or a product of matrices."""
        made, operand = node.result, node.operands[0]
        if node.op == "matmul":
            zeros = [value for value in node.operands if value in self.zero]
            depends = self._depends(node)
            if zeros:
                self.zero.add(made)
                depends = (
                    CURVED
                    if len(zeros) > 1 or all(map(self._fed, node.operands))
                    else max(self.fixed[value] for value in zeros)
                )
            if depends:
                self.fixed[made] = depends
            return depends == CURVED and not _by_row(made)
        axes = node.attrs["axes"] if "axes" in node.attrs else (node.attrs["axis"],) if "axis" in node.attrs else ()
        over = [operand.type.shape[axis] for axis in axes]
        if operand in self.fixed:
            self.fixed[made] = self.fixed[operand] if node.op in _REDUCTIONS else CURVED
            if operand in self.zero and node.op != "logsumexp":
                self.zero.add(made)
            return Rows() in over and self.fixed[made] == CURVED
        if node.op in _REDUCTIONS and over and all(dim in _ONE_PLACE for dim in over):
            self._alike(made, operand)
        else:
            self._congruent(node)
        return False


def _by_row(value: Value) -> bool:
    return any(isinstance(dim, Rows) for dim in value.type.shape)


def _in_order(node: Node) -> bool:
    """Whether the elements are those of the operand, in their order, where the rows are one."""
    before = node.operands[0].type.shape
    if node.op == "transpose":
        axes = [axis for axis in node.attrs["perm"] if before[axis] not in _ONE_PLACE]
        return axes == sorted(axes)
    return _sizes(node.operands[0]) == _sizes(node.result)


def _sizes(value: Value) -> tuple[Dim, ...]:
    """Of the axes that are more than one place where the rows are one."""
    return tuple(dim for dim in value.type.shape if dim not in _ONE_PLACE)
