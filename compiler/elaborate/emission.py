"""Arithmetic of the language on top of the graph builder: constants folded, kinds promoted, broadcasts written out.

An Emitter knows the place in the text and the name that the next nodes belong to; whoever evaluates a statement sets
both. It knows nothing of scopes and syntax. Faults are raised as `Mismatch`, without a place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tapeless.compiler.elaborate.bounds import bound_after, bound_of, power_bound
from tapeless.compiler.elaborate.emission_record import EmissionRecord
from tapeless.compiler.elaborate.folding import (
    GREATEST,
    LEAST,
    Mismatch,
    Operand,
    dims_product,
    fold,
    in_whole_numbers,
    rows_in,
    size_of,
)
from tapeless.compiler.elaborate.naming import named
from tapeless.compiler.elaborate.single_row import SingleRow
from tapeless.compiler.elaborate.values import Computed, TooLarge, describe, shape_text
from tapeless.ir.graph import Builder, Graph, Node, Part, Span, Value
from tapeless.ir.types import Dim, DType, Rows, Tensor


@dataclass(frozen=True)
class Labelled:
    """An input that holds labels of so many classes, or the number of those that do not count; `whole`: all of it
    does.
    """

    source: Value
    classes: int
    ignored: int
    whole: bool
    span: Span


_ARITHMETIC = {"+": "add", "-": "sub", "*": "mul", "/": "div", "//": "floor_divide", "%": "remainder"}
# `>` and `>=` are `<` and `<=` with the sides exchanged.
_COMPARISONS = {
    "<": ("lt", False),
    "<=": ("le", False),
    ">": ("lt", True),
    ">=": ("le", True),
    "==": ("eq", False),
    "!=": ("ne", False),
}
AXES = 32
ELEMENTS = 10**12  # of one tensor, for each row of the data: more than any memory holds
NODES = 20_000  # in one graph: a second of reading alone, and far beyond what unrolled code is good for
_OF_INTEGERS = ("sum", "prod", "max", "min")
_LARGEST_CHAIN = 16  # x ** 16 is four squarings; beyond, `pow` is as good


class Emitter:
    """Emits one graph."""

    def __init__(self, name: str, real: DType) -> None:
        self.use(Builder(name, real))
        self.real = real
        # whether the ints are numbers of steps, whose products are real: they grow beyond 32 bits
        self.counts_steps = False
        self.where = ""
        self.span: Span | None = None
        self.claims: dict[Value, str] = {}
        self.shared: dict[tuple[Any, ...], Value] = {}
        self.reduced: dict[Value, Value] = {}
        self.averaged: dict[Value, tuple[Dim, ...]] = {}  # of a variance, the sizes of the axes it was taken over
        # of a quotient of sums over the batch, numerator and denominator
        self.totals: dict[Value, tuple[Value, Value]] = {}
        self.squashed: dict[Value, str] = {}  # results of `softmax` and its kin: see `loss_arguments`
        self.indexed: set[Value] = set()  # the values of a line with index variables: an axis for each variable of it
        self.labelled: list[Labelled] = []
        # what means nothing in a batch of one row: statistics over the rows alone, and what is made of them
        self.lone: set[Value] = set()
        self.less: set[Value] = set()  # the number of rows, less a number
        self.single = SingleRow()
        self.count = self.differentiated = 0
        self.gradients: dict[tuple[Any, ...], tuple[Graph, int]] = {}  # of parts of the graph: see `differentiation`
        # of derivatives, by place: operations asked for, operations written
        self.derived: dict[Span, tuple[int, int]] = {}

    def use(self, builder: Builder) -> None:
        """Emit into this builder."""
        self.builder = builder
        self.record = EmissionRecord(builder)

    def around(self) -> tuple[Emitter, dict[Value, Value]] | None:
        """In a loop's body, the emitter around it, and what the body takes from there: its inputs, and what they
        stand for.
        """
        return None

    @property
    def root(self) -> Emitter:
        """The emitter of the whole graph: that of a loop's body has others around it."""
        return self

    def own(self, value: Value) -> Value:
        """A value in the terms of this emitter's graph, which takes it in if it has to."""
        return value

    def term(self, value: Value) -> Value | None:
        """A value in the terms of this emitter's graph; None if the graph does not hold it."""
        return value if self.builder.made(value) else None

    # --- Nodes

    def emit(
        self, op: str, *operands: Value, name: str | None = None, regions: Sequence[Graph] = (), **attrs: Any
    ) -> Value:
        """One node of one result, named after the statement it is part of."""
        self.count_one()
        hint = name or (f"{self.where}.{op}" if self.where else op)
        made = self.builder.emit_node(op, [self.own(value) for value in operands], attrs, regions, (hint,), self.span)[
            0
        ]
        self.follow(made, operands)
        if self.single.tells_nothing(self.builder.nodes[-1]):
            self.lone.add(made)
        shape = made.type.shape
        if len(shape) > AXES:
            raise TooLarge(
                f"this tensor has {len(shape)} axes; at most {AXES} are possible", self.span or Span("", 1, 1, 1, 2)
            )
        if math.prod(dim if isinstance(dim, int) else dim.multiple for dim in shape) > ELEMENTS:
            raise TooLarge(f"this tensor has more than {ELEMENTS:.0e} elements", self.span or Span("", 1, 1, 1, 2))
        return made

    def follow(self, made: Value, operands: Sequence[Value]) -> None:
        """What is made of a line's values is one of them, and so is what is made of statistics over the rows."""
        if self.indexed and not self.indexed.isdisjoint(operands):
            self.indexed.add(made)
        if self.lone and not self.lone.isdisjoint(operands):
            self.lone.add(made)

    def region(self, op: str, operands: Sequence[Value], attrs: Mapping[str, Any], body: Graph) -> tuple[Value, ...]:
        """A node that holds a region, its results named after what the region gives."""
        self.count_one()
        names = [port.value.name for port in body.outputs]
        results = self.builder.emit_node(op, [self.own(value) for value in operands], attrs, (body,), names, self.span)
        for made in results:
            self.follow(made, operands)
        return results

    def copied(self, node: Node, operands: Sequence[Value]) -> tuple[Value, ...]:
        """A node of another graph, on operands of this one, named after the statement it is now part of."""
        if node.op == "constant":
            return (self.constant(node.attrs["value"], node.attrs["dtype"]),)
        self.count_one()
        hints = [f"{self.where}.{node.op}" if self.where else node.op] * len(node.results)
        return self.builder.emit_node(
            node.op, [self.own(value) for value in operands], node.attrs, node.regions, hints, self.span
        )

    def count_derived(self, nodes: int) -> None:
        """Count the nodes of a part whose derivative is about to be found. Raises TooLarge."""
        self.root.differentiated += nodes
        if self.root.differentiated > NODES:
            raise TooLarge(
                f"derivatives of more than {NODES} operations are written in this program",
                self.span or Span("", 1, 1, 1, 2),
            )

    def count_one(self) -> None:
        """Count a node. Raises TooLarge."""
        self.root.count += 1
        if self.root.count > NODES:
            raise TooLarge(
                f"this program has more than {NODES} operations when it is written out",
                self.span or Span("", 1, 1, 1, 2),
            )

    def once(self, op: str, *operands: Value, name: str | None = None, **attrs: Any) -> Value:
        """Like `emit`, but equal nodes are one: for broadcasts and the like, which a reader wants to see once."""
        key = (op, operands, tuple(attrs.items()))
        if key not in self.shared:
            self.shared[key] = self.emit(op, *operands, name=name, **attrs)
        self.follow(self.shared[key], operands)
        return self.shared[key]

    def constant(self, number: float | int | bool, dtype: DType | None = None) -> Value:
        """A scalar constant of the program's real type unless told otherwise."""
        self.builder.span = self.span
        made = self.builder.constant(number, dtype or self.real)
        self.single.constant(made, number)
        return made

    def claim(self, value: object, name: str) -> None:
        """Name a value as the program does. Inputs keep their names; of several claims the outermost (shortest)
        wins.
        """
        if isinstance(value, Computed):
            known = self.claims.get(value.value)
            if known is None or name.count(".") < known.count("."):
                self.claims[value.value] = name

    def graph(self) -> Graph:
        """The graph so far, without nodes that no output needs, its values named as claimed."""
        return named(self.builder.graph(), self.claims)

    # --- Kinds

    def computed(self, operand: Operand, dtype: DType | None = None) -> Computed:
        """An operand as a tensor; a number becomes a constant of the given kind (real unless told), a size its
        count.
        """
        if isinstance(operand, tuple):
            operand = self.vector(operand, dtype)
        if isinstance(operand, Computed):
            return operand if dtype is None or operand.dtype is dtype else self.cast(operand, dtype)
        if isinstance(operand, Rows):
            return Computed(self.once("count", shape=(operand,), dtype=self.real))
        if dtype is DType.I32 and not LEAST <= operand <= GREATEST:
            raise Mismatch(
                "E0406", f"`{operand}` is too large for an int, which has 32 bits", "Calculate with reals: `real(k)`."
            )
        return Computed(self.constant(operand, dtype or self.real), bound_of(operand))

    def vector(self, items: tuple[Any, ...], dtype: DType | None = None) -> Computed:
        """A list of numbers as a tensor; lists in it are the rows of a matrix. Raises Mismatch."""
        for item in items:
            if isinstance(item, Computed) and item.rank:
                raise Mismatch(
                    "E0401",
                    f"a vector is made of numbers, and this list holds {describe(item)}",
                    "`stack(a, b, axis = 1)` puts tensors side by side.",
                )
            if not isinstance(item, (Computed, int, float, Rows, tuple)):
                raise Mismatch("E0401", f"a vector is made of numbers, and this list holds {describe(item)}")
        if not items:
            raise Mismatch("E0401", "a tensor is needed here, and an empty list is none")
        kind = dtype or self.kind_of(items)
        if kind is DType.I32 and any(type(item) is int and abs(item) >= 2**31 for item in items):
            kind = self.real
        parts = [self.computed(item, kind) for item in items]
        shapes = [part.shape for part in parts]
        if other := next((shape for shape in shapes if shape != shapes[0]), None):
            raise Mismatch(
                "E0213", f"the rows of a matrix have one length: {shape_text(shapes[0])} and {shape_text(other)}"
            )
        lifted = [self.emit("reshape", part.value, shape=(1, *part.shape)) for part in parts]
        bounds = [part.bound for part in parts if part.bound is not None]
        bound = max(bounds) if kind is DType.I32 and len(bounds) == len(parts) else None
        return Computed(self.emit("concat", *lifted, axis=0) if len(lifted) > 1 else lifted[0], bound)

    def kind_of(self, items: Sequence[Any]) -> DType:
        """The kind in which the items of a list meet; that of booleans alone is bool."""
        kinds = {
            self.kind_of(item) if isinstance(item, tuple) else DType.BOOL if _is_bool(item) else self.common((item,))
            for item in items
        }
        return kinds.pop() if len(kinds) == 1 else self.real if self.real in kinds else DType.I32

    def as_real(self, operand: Operand) -> Computed:
        """An operand as a real tensor."""
        return self.computed(operand, self.real)

    def cast(self, operand: Computed, dtype: DType) -> Computed:
        """An operand with another element type."""
        if operand.dtype is dtype:
            return operand
        return Computed(self.once("cast", operand.value, dtype=dtype))

    def common(self, operands: Sequence[Operand], at_least: DType | None = None) -> DType:
        """The kind in which operands meet: real if any is, else int (booleans count as 0 and 1)."""
        for operand in operands:
            if isinstance(operand, (float, Rows)) or (isinstance(operand, Computed) and operand.dtype.is_float):
                return self.real
            if isinstance(operand, tuple) and self.kind_of(operand) is self.real:
                return self.real
        return at_least or DType.I32

    # --- Broadcasting

    def meet(self, shapes: Sequence[Sequence[Dim]]) -> tuple[Dim, ...]:
        """NumPy's broadcast of several shapes. Raises Mismatch."""
        result: tuple[Dim, ...] = ()
        for shape in shapes:
            result = self._meet(result, tuple(shape))
        return result

    def _meet(self, left: tuple[Dim, ...], right: tuple[Dim, ...]) -> tuple[Dim, ...]:
        if left == right:
            return left
        rank = max(len(left), len(right))
        one: tuple[Dim, ...] = (1,)
        a, b = one * (rank - len(left)) + left, one * (rank - len(right)) + right
        dims: list[Dim] = []
        for axis, (m, n) in enumerate(zip(a, b, strict=True)):
            if m == n or n == 1:
                dims.append(m)
            elif m == 1:
                dims.append(n)
            else:
                raise Mismatch("E0201", f"{shape_text(left)} and {shape_text(right)} do not broadcast: {m} against {n}"
                               + (f" in axis {axis - rank}" if rank > 1 else ""))  # fmt: skip
        if (
            sum(isinstance(dim, Rows) for dim in dims) > 1
            and not self.indexed
            and max(rows_in(left), rows_in(right)) < 2
        ):
            raise Mismatch("E0201",
                f"{shape_text(left)} and {shape_text(right)} would pair every row of the batch with every other",
                           "Give both the same axes, for example with reshape(y, [batch, 1]).")  # fmt: skip
        return tuple(dims)

    def broadcast(self, operand: Computed, shape: Sequence[Dim]) -> Computed:
        """An operand stretched to a shape it broadcasts to; axes of size 1 that stretch are taken out first."""
        shape = tuple(shape)
        if operand.shape == shape:
            return operand
        offset = len(shape) - operand.rank
        kept = [axis for axis in range(operand.rank) if operand.shape[axis] == shape[axis + offset]]
        value = operand.value
        if len(kept) < operand.rank:
            shrunk = tuple(operand.shape[axis] for axis in kept)
            before = self.reduced.get(value)
            if before is not None and before.type.shape == shrunk:
                value = before
            else:
                value = self.once("reshape", value, name=f"{value.name}.r", shape=shrunk)
        axes = tuple(axis + offset for axis in kept)
        if axes != tuple(range(len(shape))):
            value = self.once("broadcast", value, name=f"{value.name}.b", shape=shape, axes=axes)
        self.follow(value, (operand.value,))
        return Computed(value, operand.bound)

    def aligned(self, operands: Sequence[Operand], dtype: DType) -> list[Value]:
        """Operands as tensors of one kind and one shape."""
        tensors = [self.computed(operand, dtype) for operand in operands]
        self.together(tensors)
        shape = self.meet([tensor.shape for tensor in tensors])
        return [self.broadcast(tensor, shape).value for tensor in tensors]

    def together(self, tensors: Sequence[Computed]) -> None:
        """Elements of a line with index variables meet elements and single numbers only. Raises Mismatch."""
        if self.indexed and any(tensor.value in self.indexed for tensor in tensors):
            for tensor in tensors:
                if tensor.rank and tensor.value not in self.indexed:
                    raise Mismatch(
                        "E1006", f"one element meets {describe(tensor)}", "Give each axis of that tensor an index."
                    )

    def pointwise(self, op: str, *operands: Operand, dtype: DType | None = None) -> Computed:
        """A pointwise operation on operands that broadcast."""
        kind = dtype or self.common(operands)
        made = self.emit(op, *self.aligned(operands, kind))
        return Computed(made, bound_after(op, operands) if made.type.dtype is DType.I32 else None)

    # --- Operators

    def binary(self, symbol: str, left: Operand, right: Operand) -> Operand:
        """Any operator between two operands but `@`, `and`, `or`. Raises Mismatch."""
        if not isinstance(left, (Computed, Rows)) and not isinstance(right, (Computed, Rows)):
            folded: Operand = fold(symbol, left, right)
            return folded
        if isinstance(left, Rows) or isinstance(right, Rows):
            size = size_of(symbol, left, right)
            if size is not None:
                return size
        if symbol in _COMPARISONS:
            symbol, left, right = in_whole_numbers(symbol, left, right)
            op, exchanged = _COMPARISONS[symbol]
            if exchanged:
                left, right = right, left
            return self.pointwise(op, left, right)
        if symbol == "**":
            return self.power(left, right)
        of_steps = self.counts_steps and symbol == "*" and isinstance(left, Computed) and isinstance(right, Computed)
        dtype = self.real if symbol == "/" or of_steps else self.common((left, right))
        made = self.pointwise(_ARITHMETIC[symbol], left, right, dtype=dtype)
        if symbol == "-" and left == Rows() and type(right) is int and right > 0:
            self.less.add(made.value)
        elif symbol == "/" and isinstance(right, Computed) and right.value in self.less:
            self.lone.add(made.value)
        return made

    def counts(self, value: Value, size: Dim) -> bool:
        """Whether a value is `arange(size)`."""
        self.record.update()
        node = self.record.producer(value)
        return node is not None and node.op == "iota" and node.attrs["shape"] == (size,)

    def beside_a_variance(self, dims: Sequence[Dim], mean: Value) -> None:
        """Note a mean over axes of these sizes that goes with a variance: over the rows and nothing else, neither is
        told by one row.
        """
        if tuple(dim for dim in dims if dim != 1) == (Rows(),):
            self.lone.add(mean)

    def power(self, base: Operand, exponent: Operand) -> Computed:
        """`base ** exponent`; small whole exponents become products, which hold for negative bases and cost less. Of
        an int it is an int where the exponent is a whole number.
        """
        if type(exponent) is int and exponent >= 0 and self.common((base,)) is DType.I32 and not self.counts_steps:
            return self.whole_power(self.computed(base, DType.I32), exponent)
        if isinstance(exponent, (int, float)) and float(exponent).is_integer() and 0 < abs(exponent) <= _LARGEST_CHAIN:
            x = self.as_real(base)
            # The reciprocal first: its powers, and their derivatives, leave the float's range no sooner than the result
            # does.
            return self._repeated(x if exponent > 0 else self.pointwise("reciprocal", x), abs(int(exponent)))
        if exponent == 0.5:
            return self.pointwise("sqrt", base, dtype=self.real)
        return self.pointwise("pow", base, exponent, dtype=self.real)

    def _repeated(self, x: Computed, times: int) -> Computed:
        if times == 1:
            return x
        half = self._repeated(x, times // 2)
        squared = self.pointwise("square", half) if x.dtype.is_float else self.pointwise("mul", half, half)
        return self.pointwise("mul", squared, x) if times % 2 else squared

    def whole_power(self, x: Computed, times: int) -> Computed:
        """An int multiplied by itself; like all arithmetic of ints, it wraps around."""
        if times == 0:
            return self.broadcast(Computed(self.constant(1, DType.I32), 2), x.shape)
        return Computed(self._repeated(x, times).value, power_bound(x, times))

    def negative(self, operand: Operand) -> Operand:
        """`-x`."""
        return self.pointwise("neg", operand) if isinstance(operand, (Computed, Rows, tuple)) else -operand

    def logical(self, op: str, *operands: Operand) -> Operand:
        """`logical_and`, `logical_or`, `logical_not` of booleans."""
        tensors = [self.truth(operand) for operand in operands]
        self.together(tensors)
        shape = self.meet([tensor.shape for tensor in tensors])
        return Computed(self.emit(op, *(self.broadcast(tensor, shape).value for tensor in tensors)))

    def truth(self, operand: Operand) -> Computed:
        """An operand that must be boolean. Raises Mismatch."""
        if isinstance(operand, tuple):
            operand = self.vector(operand)
        if isinstance(operand, bool):
            return Computed(self.constant(operand, DType.BOOL))
        if isinstance(operand, Computed) and operand.dtype is DType.BOOL:
            return operand
        raise Mismatch(
            "E0401", f"a condition is needed here, not {describe(operand)}", "Compare it with something: `x > 0`."
        )

    # --- Products and reductions

    def matmul(self, left: Computed, right: Computed) -> Computed:
        """NumPy's `@`. The inner sizes agree; the axes before the last two broadcast. Raises Mismatch where they do
        not.
        """
        a, b = self.as_real(left), self.as_real(right)
        if b.rank > 2:
            return self.stacked(a, b)
        inner = a.shape[-1]
        if a.rank == 1 and b.rank == 1:
            return self.reduce("sum", self.pointwise("mul", a, b), (0,))
        lead = a.shape[:-1]
        tail = b.shape[1:]
        x = a.value if a.rank == 2 else self.emit("reshape", a.value, shape=(dims_product(lead), inner))
        y = b.value if b.rank == 2 else self.emit("reshape", b.value, shape=(inner, 1))
        product = self.emit("matmul", x, y, transpose_a=False, transpose_b=False)
        if a.rank == 2 and b.rank == 2:
            return Computed(product)
        return Computed(self.emit("reshape", product, shape=lead + tail))

    def stacked(self, a: Computed, b: Computed) -> Computed:
        """A product for each place of the axes before the last two."""
        row = a.rank == 1
        if row:
            a = Computed(self.emit("reshape", a.value, shape=(1, *a.shape)))
        lead = self.meet([a.shape[:-2], b.shape[:-2]])
        x, y = self.broadcast(a, (*lead, *a.shape[-2:])), self.broadcast(b, (*lead, *b.shape[-2:]))
        product = Computed(self.emit("matmul", x.value, y.value, transpose_a=False, transpose_b=False))
        if not row:
            return product
        return Computed(self.emit("reshape", product.value, shape=(*lead, b.shape[-1])))

    def reduce(self, op: str, operand: Computed, axes: Sequence[int], keepdims: bool = False) -> Computed:
        """A reduction over axes; none to reduce leaves the tensor as it is. Of ints it is an int where it is one of
        theirs.
        """
        x = operand if operand.dtype is DType.I32 and op in _OF_INTEGERS else self.as_real(operand)
        axes = tuple(sorted(axes))
        result = Computed(self.emit(op, x.value, axes=axes), x.bound if op in ("max", "min") else None) if axes else x
        return self.keep(result, x.shape, axes) if keepdims else result

    def keep(self, reduced: Computed, shape: Sequence[Dim], axes: Sequence[int]) -> Computed:
        """A reduced tensor with its reduced axes put back as ones."""
        kept = tuple(1 if axis in axes else dim for axis, dim in enumerate(shape))
        if kept == reduced.shape:
            return reduced
        value = self.emit("reshape", reduced.value, name=f"{reduced.value.name}.k", shape=kept)
        self.reduced[value] = reduced.value
        return Computed(value, reduced.bound)

    def size(self, dims: Sequence[Dim]) -> Operand:
        """The number of elements: a number, or a count of rows at run time."""
        if sum(isinstance(dim, Rows) for dim in dims) > 1:
            first, *rest = dims
            return self.pointwise("mul", self.as_real(self.size([first])), self.as_real(self.size(rest)))
        total = dims_product(dims)
        return total if isinstance(total, int) else Computed(self.once("count", shape=(total,), dtype=self.real))

    def input(self, label: str, type: Tensor, role: str, span: Span | None) -> Value:
        """An input port."""
        return self.builder.input(label, type, role, span)

    def output(self, label: str, value: Value, role: str, span: Span | None, part: Part | None = None) -> None:
        """An output port."""
        self.builder.output(label, value, role, span, part)


def _is_bool(item: Any) -> bool:
    return isinstance(item, bool) or (isinstance(item, Computed) and item.dtype is DType.BOOL)
