"""Index notation: `y[n, o] = sum[i] x[n, i] * W[o, i]`.

A line with index variables is evaluated like any other, on tensors that have one axis for each of its variables, of
size 1 where a value does not depend on one: broadcasting then means what the notation means. A first walk over the
line finds the variables and where they are used, `ranges` says how far they go; then the line is evaluated, with
three things of its own: a variable, an element of a tensor (slices, windows, diagonals and gathers, its axes brought
into the line's order), and a reduction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tapeless.compiler.elaborate.affine_indices import Affine
from tapeless.compiler.elaborate.context import Context, Rules
from tapeless.compiler.elaborate.emission import Emitter
from tapeless.compiler.elaborate.frames import Frame
from tapeless.compiler.elaborate.functions.elements import Elements
from tapeless.compiler.elaborate.functions.movement import along, parted, without
from tapeless.compiler.elaborate.index_ranges import OutOfRange, Use, Variable, infer
from tapeless.compiler.elaborate.names import Names
from tapeless.compiler.elaborate.operands import tensor_of
from tapeless.compiler.elaborate.scan_steps import Steps
from tapeless.compiler.elaborate.sizes import Sizes
from tapeless.compiler.elaborate.values import Computed, Fault, describe
from tapeless.compiler.language import ast
from tapeless.compiler.messages.diagnostics import Label
from tapeless.ir.types import Dim, DType, Rows


@dataclass(frozen=True)
class IndexedTensor:
    """One element `x[i, 2 * j + u, k[i]]`: the tensor, and for each axis an index that is affine or computed."""

    tensor: Computed
    items: tuple[Affine | ast.Expression, ...]


@dataclass(frozen=True, eq=False)
class Lines:
    """Evaluates lines with index variables."""

    context: Context
    names: Names
    sizes: Sizes
    steps: Steps

    @property
    def rules(self) -> Rules:
        """The kinds of syntax that this part takes."""
        return {ast.Reduction: self.reduction}

    def value(
        self, frame: Frame, left: Sequence[ast.Expression | ast.IndexVariable], right: ast.Expression
    ) -> Computed:
        """What stands on the right, as a tensor with an axis for each variable on the left. Raises Fault."""
        return Line(self, frame).value(left, right)

    def reduction(self, frame: Frame, syntax: ast.Reduction) -> Computed:
        """`sum[k where k <= q] w[n, q, k]`; by itself a line with no index on the left."""
        return self.value(frame, (), syntax) if frame.line is None else frame.line.reduction(syntax)


class Line:
    """One line with index variables, in one frame."""

    def __init__(self, parts: Lines, frame: Frame) -> None:
        self.context, self.names, self.sizes, self.steps = parts.context, parts.names, parts.sizes, parts.steps
        self.frame = frame
        self.variables: list[Variable] = []
        self.elements = Elements(parts.context.emitter, self.variables)
        self.scopes: list[dict[str, Variable]] = [{}]
        self.summed: dict[int, dict[str, Variable]] = {}
        self.accesses: dict[int, IndexedTensor] = {}
        self.uses: list[Use] = []
        self.walked: list[ast.Index] = []  # `x[t]` of a scan around the line

    @property
    def emit(self) -> Emitter:
        return self.context.emitter

    def fault(
        self, code: str, message: str, syntax: ast.Syntax, labels: Sequence[Label] = (), hint: str | None = None
    ) -> Fault:
        return self.frame.fault(code, message, syntax.span, labels, hint)

    def text(self, syntax: ast.Syntax) -> str:
        return self.frame.module.source.slice(syntax.span)

    # --- The whole line

    def value(self, left: Sequence[ast.Expression | ast.IndexVariable], right: ast.Expression) -> Computed:
        """What stands on the right, as a tensor with an axis for each variable on the left. Raises Fault."""
        for item in left:
            if not isinstance(item, ast.IndexVariable):
                raise self.fault(
                    "E1005",
                    "to the left of `=` stand index variables alone",
                    item,
                    hint="Shift or pick on the right: `y[i] = x[i + 1]`.",
                )
            self.declare(item, True)
        self.collect(right)
        self.infer()
        if self.frame.line is not None:
            raise self.fault("E1005", "a line with indices stands inside another one", right)
        outer, self.emit.indexed = self.emit.indexed, set()
        self.frame.line = self
        try:
            made = self.single(right, self.context.evaluate(self.frame, right))
            result: Computed = self.context.guarded(self.frame, right.span, lambda: self.elements.finished(made))
            return result
        finally:
            self.frame.line = None
            self.emit.indexed = outer

    def single(self, syntax: ast.Syntax, value: Any) -> Any:
        """A value that must be one number for each value of the variables."""
        if isinstance(value, Computed) and value.rank and value.value not in self.emit.indexed:
            raise self.fault(
                "E1006",
                f"one element is needed here, not {describe(value)}",
                syntax,
                [self.frame.side(syntax, value)],  # type: ignore[arg-type]
                (
                    "Give each of its axes an index: "
                    f"`{self.text(syntax)}[{', '.join('ijklmn'[k % 6] for k in range(value.rank))}]`."
                ),
            )
        if not isinstance(value, (Computed, int, float, Rows)):
            raise self.fault("E0401", f"a number is needed here, not {describe(value)}", syntax)
        return value

    # --- First walk: variables and uses

    def declare(self, item: ast.IndexVariable, left: bool) -> Variable:
        """A new variable in the innermost scope."""
        if item.name in self.scopes[-1]:
            raise self.fault(
                "E1005",
                f"the index `{item.name}` stands here twice",
                item,
                hint="A diagonal is written on the right: `d[i] = A[i, i]`.",
            )
        variable = Variable(item.name, item.span, len(self.variables), left)
        if item.size is not None:
            size = self.sizes.dim(self.frame, item.size, self.context.evaluate(self.frame, item.size))
            variable.size, variable.stated = size, True
        self.variables.append(variable)
        self.scopes[-1][item.name] = variable
        return variable

    def variable(self, name: str) -> Variable | None:
        """The variable that a name is here, innermost first."""
        return next((scope[name] for scope in reversed(self.scopes) if name in scope), None)

    def collect(self, syntax: ast.Syntax) -> None:
        """Find the variables and elements below a node."""
        if isinstance(syntax, ast.Reduction):
            self.scopes.append({})
            for item in syntax.variables:
                self.declare(item, False)
            if not syntax.variables:
                raise self.fault(
                    "E1002",
                    f"`{syntax.operator}[]` runs over no index",
                    syntax,
                    hint=f"Name one: `{syntax.operator}[i] x[i]`.",
                )
            self.summed[id(syntax)] = self.scopes[-1]
            for part in (syntax.condition, syntax.body):
                if part is not None:
                    self.collect(part)
            self.scopes.pop()
        elif isinstance(syntax, ast.Index) and (self.mentions(syntax) or self.unknown(syntax)):
            self.access(syntax)
        else:
            if (
                isinstance(syntax, ast.Index)
                and len(syntax.items) == 1
                and self.steps.shift(self.frame, syntax.items[0]) is not None
            ):
                self.walked.append(syntax)
            for child in ast.children(syntax):
                self.collect(child)

    def mentions(self, syntax: ast.Syntax) -> bool:
        """Whether a variable is named below a node."""
        return any(isinstance(part, ast.Name) and self.variable(part.name) is not None for part in ast.walk(syntax))

    def unknown(self, syntax: ast.Index) -> bool:
        """Whether an index holds a name that nothing has, perhaps a variable that was forgotten."""
        known = self.names.known(self.frame)
        return any(isinstance(item, ast.Name) and item.name not in known for item in syntax.items)

    def access(self, syntax: ast.Index) -> None:
        """One element: its tensor, and an index for each axis."""
        if self.mentions(syntax.value):
            raise self.fault(
                "E1006",
                "one element has no indices of its own",
                syntax,
                hint="Write all indices in one bracket: `x[i, j]`.",
            )
        value = tensor_of(self.context, self.frame, syntax.value, self.context.evaluate(self.frame, syntax.value))
        if not isinstance(value, Computed):
            raise self.fault("E0401", f"only tensors have elements, not {describe(value)}", syntax.value)
        side = [self.frame.side(syntax.value, value)]
        for part in syntax.items:
            if isinstance(part, (ast.Slice, ast.Ellipsis)):
                raise self.fault(
                    "E1006",
                    f"`{self.text(part)}` takes many elements, and one is needed here",
                    part,
                    side,
                    "Give the axis an index variable.",
                )
        if len(syntax.items) != value.rank:
            axes = "one axis" if value.rank == 1 else f"{value.rank} axes"
            written = "is one index" if len(syntax.items) == 1 else f"are {len(syntax.items)} indices"
            raise self.fault("E1006", f"`{self.text(syntax.value)}` has {axes}, and here {written}", syntax, side)
        value, others = self.stepped(syntax, value)
        items: list[Affine | ast.Expression] = []
        for extent, item in zip(value.shape, others, strict=True):
            found = self.affine(item)
            if found is None:
                if not any(isinstance(part, (ast.Index, ast.Call)) for part in ast.walk(item)) and self.mentions(item):
                    raise self.fault(
                        "E1001",
                        f"`{self.text(item)}` is not a sum of index variables and whole multiples of them",
                        item,
                        hint=(
                            "Reshape or gather first: an index such as `k[i]`, of a "
                            "bounded int tensor, may be anything."
                        ),
                    )
                self.collect(item)
                items.append(item)
                continue
            items.append(self.placed(item, found, extent))
            if found.steps:
                self.uses.append(
                    Use(extent, found.first, found.steps, item.span, self.text(item), self.text(syntax.value))
                )
        self.accesses[id(syntax)] = IndexedTensor(value, tuple(items))

    def stepped(self, syntax: ast.Index, value: Computed) -> tuple[Computed, Sequence[ast.Expression]]:
        """Inside a scan over t, `x[n, t - 1, i] else 0` is an element of the step's `x[t - 1] else 0`: that, and the
        other indices.
        """
        items = [item for item in syntax.items if not isinstance(item, (ast.Slice, ast.Ellipsis))]
        for axis, item in enumerate(items):
            found = None if self.mentions(item) else self.steps.shift(self.frame, item)
            if (
                found is not None
                and value.shape[axis] == found[0].emitter.length
                and not self.emit.builder.made(value.value)
            ):
                walk, distance = found
                return self.steps.element(self.frame, syntax, walk, distance, axis), [
                    *items[:axis],
                    *items[axis + 1 :],
                ]
        if syntax.otherwise is not None:
            raise self.fault(
                "E1004", "`else` outside the range belongs to `scan`", syntax, hint="Pad the tensor first."
            )
        return value, items

    def placed(self, item: ast.Expression, index: Affine, extent: Dim) -> Affine:
        """An index; one without variables counts from either end, and must be inside."""
        if index.steps:
            return index
        if isinstance(extent, Rows):
            raise self.fault(
                "E0214", f"the rows of `batch` stay together: `{self.text(item)}` would take one of them", item
            )
        if not -extent <= index.first < extent:
            raise self.fault(
                "E0212",
                f"index {index.first} is outside an axis of {extent}",
                item,
                hint=f"The last place is {extent - 1}, or -1.",
            )
        return Affine(index.first % extent, ())

    def affine(self, syntax: ast.Expression) -> Affine | None:
        """An index as a sum of multiples of variables; None for any other. Names that nothing has are faults."""
        if isinstance(syntax, ast.Name):
            variable = self.variable(syntax.name)
            if variable is not None:
                return Affine(0, ((variable, 1),))
            if syntax.name not in self.names.known(self.frame):
                raise self.fault(
                    "E1005",
                    f"`{syntax.name}` is an index on neither side",
                    syntax,
                    hint=(f"Put it on the left of `=`, or reduce over it: `sum[{syntax.name}]`."),
                )
        if isinstance(syntax, ast.Unary) and syntax.operator == "-":
            inner = self.affine(syntax.operand)
            return inner and inner.scaled(-1)
        if isinstance(syntax, ast.Binary) and syntax.operator in ("+", "-", "*") and self.mentions(syntax):
            left, right = self.affine(syntax.left), self.affine(syntax.right)
            if left is None or right is None:
                return None
            if syntax.operator == "*":
                return (
                    left.scaled(right.first)
                    if not right.steps
                    else right.scaled(left.first)
                    if not left.steps
                    else None
                )
            return left.plus(right if syntax.operator == "+" else right.scaled(-1))
        if self.mentions(syntax):
            return None
        value = self.context.evaluate(self.frame, syntax)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return Affine(value, ()) if type(value) is int else None

    def infer(self) -> None:
        """Give every variable its range."""
        try:
            infer(self.variables, self.uses)
        except OutOfRange as found:
            for step in self.walked:  # a whole tensor, whose axes would have said more
                self.single(step, self.context.evaluate(self.frame, step))
            labels = [
                Label(
                    f"`{use.tensor}`",
                    (
                        f"has {use.extent if isinstance(use.extent, int) else '`batch`'} places where "
                        f"`{use.written}` stands"
                    ),
                    use.span,
                    "used",
                )
                for use in found.uses
            ]
            raise self.frame.fault(found.code, str(found), found.span, labels, found.hint) from None

    # --- Second walk: values

    def element(self, syntax: ast.Index) -> Computed:
        """`x[i, 2 * j + u, k[i]]`."""
        access = self.accesses[id(syntax)]
        computed: dict[int, Computed] = {}
        for axis, item in enumerate(access.items):
            if not isinstance(item, Affine):
                value = self.single(item, self.context.evaluate(self.frame, item))
                computed[axis] = self.emit.computed(value, DType.I32 if type(value) is int else None)
        labels = [self.frame.side(syntax.value, access.tensor)]
        made: Computed = self.context.guarded(
            self.frame, syntax.span, lambda: self.picked(access, computed), lambda: labels
        )
        return made

    def picked(self, access: IndexedTensor, computed: dict[int, Computed]) -> Computed:
        """Slices, windows, flips; then diagonals, gathers, and the line's order."""
        emit, x = self.emit, access.tensor
        parts: list[tuple[int, Dim, int]] = []
        for item, dim in zip(access.items, x.shape, strict=True):
            parts.append(item.part(dim) if isinstance(item, Affine) else (0, dim, 1))
        x = parted(emit, x, parts)
        axes: list[Variable | Computed | None] = []
        for place, item in enumerate(access.items):
            if not isinstance(item, Affine):
                axes.append(computed[place])
            elif len(item.steps) < 2:
                axes.append(item.steps[0][0] if item.steps else None)
            else:
                x = self.windowed(x, len(axes), item.steps)
                axes += [variable for variable, _ in item.steps]
        x = without(emit, x, [k for k, name in enumerate(axes) if name is None])
        walked = [name for name in axes if name is not None]
        x, walked = self.elements.on_diagonals(x, walked)
        if any(isinstance(name, Computed) for name in walked):
            return self.elements.gathered(x, walked)
        return self.elements.spread(x, [name for name in walked if isinstance(name, Variable)])

    def windowed(self, x: Computed, axis: int, steps: Sequence[tuple[Variable, int]]) -> Computed:
        """The axis that a sum of variables walks becomes an axis for each of them."""
        emit = self.emit
        for k, (variable, step) in enumerate(steps[:-1]):
            rest = steps[k + 1 :]
            last = len(rest) == 1
            kernel = rest[0][0].size if last else 1 + sum(abs(s) * v.last for v, s in rest)
            made = emit.emit(
                "windows",
                x.value,
                axis=axis + k,
                size=variable.size,
                kernel=kernel,
                step=abs(step),
                dilation=abs(rest[0][1]) if last else 1,
            )
            x = Computed(made, x.bound)
        for k, (variable, step) in enumerate(steps):
            if step < 0 and variable.last:
                assert isinstance(variable.size, int)
                x = parted(emit, x, along(x, axis + k, (variable.last, variable.size, -1)))
        return x

    @contextmanager
    def scope(self, syntax: ast.Reduction) -> Iterator[list[Variable]]:
        """The variables of a reduction, known inside it."""
        self.scopes.append(self.summed[id(syntax)])
        try:
            yield list(self.summed[id(syntax)].values())
        finally:
            self.scopes.pop()

    def reduction(self, syntax: ast.Reduction) -> Computed:
        """`sum[k where k <= q] body`."""
        with self.scope(syntax) as variables:
            condition = None
            if syntax.condition is not None:
                condition = self.context.evaluate(self.frame, syntax.condition)
                if isinstance(condition, Computed):
                    self.single(syntax.condition, condition)
            body = self.single(syntax.body, self.context.evaluate(self.frame, syntax.body))
            made: Computed = self.context.guarded(
                self.frame, syntax.span, lambda: self.elements.reduced(syntax.operator, variables, body, condition)
            )
            return made
