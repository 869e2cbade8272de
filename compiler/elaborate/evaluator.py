"""Expressions: what each kind of syntax computes. Calls are in `calls`, statements in `statements`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tapeless.compiler.elaborate import functions
from tapeless.compiler.elaborate.emission import FOLDED, Emitter, Mismatch, fold_list
from tapeless.compiler.elaborate.indexing import Line
from tapeless.compiler.elaborate.modules import fitting, standard
from tapeless.compiler.elaborate.scope import Frame
from tapeless.compiler.elaborate.values import (
    LONGEST_LIST,
    AllBut,
    Binding,
    Compared,
    Computed,
    Fault,
    Hole,
    Poison,
    Poisoned,
    bounded,
    describe,
    is_numbers,
    shape_text,
)
from tapeless.compiler.language import ast
from tapeless.compiler.messages.diagnostics import Diagnostic, Label
from tapeless.compiler.messages.near_names import hint_for
from tapeless.compiler.messages.newcomers_words import FOREIGN
from tapeless.ir.graph import Span
from tapeless.ir.types import Dim, DType, IRTypeError, Rows

CONSTANTS: dict[str, Any] = {"pi": math.pi, "inf": math.inf, "none": None, "batch": Rows(), "_": Hole()}
SPECIAL = ("training", "step", "steps")
_NUMERIC = (Computed, int, float, Rows)


class Evaluator:
    """Evaluates expressions in frames; collects faults."""

    def __init__(self) -> None:
        self.diagnostics: list[Diagnostic] = []
        self.reported: set[tuple[str, Span | None]] = set()
        self.emitter: Emitter
        self.training: bool | None = None
        self.sizes: dict[str, int | float] = {}
        self.counters: dict[str, Computed] = {}
        self.calls = 0
        self.mode_seen = False

    # --- Faults

    def report(self, diagnostic: Diagnostic) -> None:
        """Keep a diagnostic, once for each code and place."""
        key = (diagnostic.code, diagnostic.span)
        if key not in self.reported:
            self.reported.add(key)
            self.diagnostics.append(diagnostic)

    def fault(
        self, frame: Frame, code: str, message: str, span: Span, labels: Iterable[Label] = (), hint: str | None = None
    ) -> Fault:
        """A fault at a place of this frame's text: inside the standard library it points at the user's call instead."""
        labels = list(labels)
        if frame.override is not None:
            labels.append(Label("", f"found inside `{frame.name}`,", span, "written"))
            span = frame.override
        elif frame.call_span is not None and frame.kind != "model":
            labels.append(Label("", f"in `{frame.name}`,", frame.call_span, "called"))
        return Fault(Diagnostic(code, message, span, tuple(labels), hint))

    def shown(self, frame: Frame, span: Span) -> Span:
        """The place that nodes made by this text point at."""
        return frame.override or span

    def guarded(
        self, frame: Frame, span: Span, rule: Callable[[], Any], labels: Callable[[], Sequence[Label]] = tuple
    ) -> Any:
        """Apply emitting code, its mismatches placed in the text."""
        self.emitter.span = self.shown(frame, span)
        try:
            return rule()
        except Mismatch as mismatch:
            raise self.fault(frame, mismatch.code, str(mismatch), span, labels(), mismatch.hint) from None
        except IRTypeError as mismatch:
            raise self.fault(frame, "E0401", str(mismatch), span, labels()) from None

    # --- Names

    def lookup(self, frame: Frame, name: str, span: Span) -> Binding:
        """What a name stands for. Raises Fault or Poisoned."""
        binding = frame.names.get(name)
        if binding is not None:
            if isinstance(binding.value, Poison):
                raise Poisoned
            if isinstance(binding.value, Computed) and frame.emitter is not self.emitter:
                raise self.fault(
                    frame, "E0404", f"a starting value cannot depend on `{name}`, which is computed from data", span
                )
            return binding
        if name in SPECIAL:
            return Binding(self.special(frame, name, span), name, None)
        if name in frame.made and name not in CONSTANTS:
            if frame.broken:
                raise Poisoned
            raise self.fault(frame, "E0310", f"`{name}` is used before it has a value", span)
        if name in CONSTANTS:
            return Binding(CONSTANTS[name], name, None)
        module = frame.module
        if name in module.broken:
            raise Poisoned
        found: Any = module.names.get(name) or standard(name) or functions.BUILTINS.get(name)
        if found is not None:
            return Binding(found, name, None)
        if name in self.sizes and frame.kind == "model":
            return Binding(self.sizes[name], name, None)
        if module.incomplete or ("E0301", self.shown(frame, span)) in self.reported:
            raise Poisoned
        raise self.unknown(frame, name, span)

    def special(self, frame: Frame, name: str, span: Span) -> Any:
        """`training`, `step` and `steps`, where they have a meaning."""
        if name == "training":
            if self.training is None:
                raise self.fault(frame, "E0301", "`training` is known in models and layers only", span)
            self.mode_seen = True
            return self.training
        if name in self.counters:
            counter = self.counters[name]
            if isinstance(counter, Computed) and not self.emitter.root.builder.made(counter.value):
                raise self.fault(
                    frame,
                    "E0404",
                    f"a starting value cannot depend on `{name}`, which counts as training goes on",
                    span,
                )
            return counter
        if frame.override is None:
            raise self.fault(frame, "E0301", f"`{name}` is known in optimizers and schedules only", span)
        while frame.caller is not None and frame.caller.override is not None:
            frame = frame.caller
        meant = FOREIGN.get(frame.name.capitalize())
        raise self.fault(frame, "E0301",
            f"`{frame.name}` is a schedule, which counts steps: it has a meaning in the train section only", span,
                         hint=f"Did you mean `{meant}`?" if meant else None)  # fmt: skip

    def unknown(self, frame: Frame, name: str, span: Span) -> Fault:
        """The fault of a name that nothing has, with the nearest one that exists."""
        return self.fault(frame, "E0301", f"there is no `{name}` here", span, hint=hint_for(name, self.known(frame)))

    def known(self, frame: Frame) -> list[str]:
        """Every name that could be meant in a frame, local ones first."""
        return [*frame.names, *fitting(frame.module.names, frame.kind), *functions.BUILTINS, *CONSTANTS, *SPECIAL]

    # --- Expressions

    def evaluate(self, frame: Frame, syntax: ast.Expression) -> Any:
        """The value of an expression. Raises Fault or Poisoned."""
        return _RULES[type(syntax)](self, frame, syntax)

    def evaluate_all(self, frame: Frame, expressions: Iterable[ast.Expression]) -> list[Any]:
        """Several values. Faults of all of them are reported before giving up."""
        values: list[Any] = []
        failed = False
        for syntax in expressions:
            try:
                values.append(self.evaluate(frame, syntax))
            except Fault as fault:
                self.report(fault.diagnostic)
                failed = True
            except Poisoned:
                failed = True
        if failed:
            raise Poisoned
        return values

    def number(self, frame: Frame, syntax: ast.Number) -> int | float:
        return syntax.value

    def truth(self, frame: Frame, syntax: ast.Truth) -> bool:
        return syntax.value

    def text(self, frame: Frame, syntax: ast.Text) -> str:
        return syntax.value

    def name(self, frame: Frame, syntax: ast.Name) -> Any:
        variable = frame.line.variable(syntax.name) if frame.line is not None else None
        if frame.line is not None and variable is not None:
            return frame.line.elements.place(variable)
        return self.lookup(frame, syntax.name, syntax.span).value

    def items(self, frame: Frame, syntax: ast.Items | ast.Several) -> tuple[Any, ...]:
        return bounded(tuple(self.evaluate_all(frame, syntax.items)), syntax.span)

    def unary(self, frame: Frame, syntax: ast.Unary) -> Any:
        value = self.evaluate(frame, syntax.operand)
        if syntax.operator == "not":
            if isinstance(truth := _truth(value), bool):
                return not truth
            return self.guarded(frame, syntax.span, lambda: self.emitter.logical("logical_not", value))
        if is_numbers(value) and isinstance(value, tuple):
            return self.guarded(frame, syntax.span, lambda: fold_list("*", -1, value))
        value = self.tensor_of(frame, syntax.operand, value)
        self.numeric(frame, syntax.operand, value, "`-`")
        return self.guarded(frame, syntax.span, lambda: self.emitter.negative(value))

    def tensor_of(self, frame: Frame, syntax: ast.Expression, value: Any) -> Any:
        """A value where a tensor is wanted: a list is a vector there."""
        return (
            self.guarded(frame, syntax.span, lambda: self.emitter.vector(value)) if isinstance(value, tuple) else value
        )

    def numeric(self, frame: Frame, syntax: ast.Expression, value: Any, user: str) -> Any:
        """The value, which must be a number or a tensor."""
        if not isinstance(value, _NUMERIC):
            raise self.fault(frame, "E0401", f"{user} needs numbers, not {describe(value)}", syntax.span)
        return value

    def binary(self, frame: Frame, syntax: ast.Binary) -> Any:
        operator = syntax.operator
        left, right = self.evaluate_all(frame, (syntax.left, syntax.right))
        labels = lambda: self.sides(frame, (syntax.left, left), (syntax.right, right))  # noqa: E731
        if operator in ("and", "or"):
            one, other = _truth(left), _truth(right)
            if isinstance(one, bool) and isinstance(other, bool):
                return (one and other) if operator == "and" else (one or other)
            return self.guarded(
                frame, syntax.span, lambda: self.emitter.logical(f"logical_{operator}", left, right), labels
            )
        if operator in ("==", "!=") and isinstance(left, str) and isinstance(right, str):
            return (left == right) is (operator == "==")
        if operator == "+" and isinstance(left, tuple) and isinstance(right, tuple):
            return bounded(left + right, syntax.span)
        if operator == "*" and isinstance(left, tuple) and len(left) == 1 and type(right) is int:
            # `[1] * n` is a list of n ones; a longer list is a vector
            return bounded(left * min(right, LONGEST_LIST + 1), syntax.span)
        if isinstance(left, tuple) or isinstance(right, tuple):
            if operator in ("==", "!=") and isinstance(left, tuple) and isinstance(right, tuple):
                whole = (left == right) is (operator == "==")
                alike = is_numbers(left) and is_numbers(right) and len(left) == len(right)
                return Compared.of(fold_list(operator, left, right), whole) if alike else whole
            if operator in FOLDED and is_numbers(left) and is_numbers(right):
                return self.guarded(frame, syntax.span, lambda: fold_list(operator, left, right), labels)
            left, right = (
                self.tensor_of(frame, part, value) for part, value in ((syntax.left, left), (syntax.right, right))
            )
        self.numeric(frame, syntax.left, left, f"`{operator}`")
        self.numeric(frame, syntax.right, right, f"`{operator}`")
        if operator == "@":
            return self.product(frame, syntax, left, right)
        return self.guarded(frame, syntax.span, lambda: self.emitter.binary(operator, left, right), labels)

    def product(self, frame: Frame, syntax: ast.Binary, left: Any, right: Any) -> Computed:
        """`left @ right`."""
        labels = self.sides(frame, (syntax.left, left), (syntax.right, right))
        self.elementwise(frame, "`@`", (left, right), syntax.span)
        for value in (left, right):
            if not isinstance(value, Computed) or not value.rank:
                raise self.fault(
                    frame,
                    "E0204",
                    "`@` multiplies matrices and vectors",
                    syntax.span,
                    labels,
                    "Multiply by a number with `*`.",
                )
        inner, other = left.shape[-1], right.shape[-2] if right.rank > 1 else right.shape[0]
        if inner != other:
            raise self.fault(frame, "E0204", "`@` needs the inner dimensions to agree", syntax.span, labels,
                             f"{inner} != {other}." + self.mended(frame, syntax, left, right))  # fmt: skip
        result: Computed = self.guarded(frame, syntax.span, lambda: self.emitter.matmul(left, right), lambda: labels)
        return result

    def mended(self, frame: Frame, syntax: ast.Binary, left: Computed, right: Computed) -> str:
        """What would make the inner dimensions agree."""
        if frame.override is not None:
            return ""
        if isinstance(syntax.right, ast.Name):
            binding = frame.names.get(syntax.right.name)
            declared = binding.syntax if binding else None
            if isinstance(declared, ast.Param) and declared.dims and len(declared.dims) == right.rank == 2:
                if right.shape[1] == left.shape[-1]:
                    return f" Did you mean `transpose({syntax.right.name}, [1, 0])`?"
                last = frame.module.source.slice(declared.dims[1].span)
                return f" Did you mean `param {declared.name}: [{self.dim_text(frame, left)}, {last}]`?"
        if right.rank > 2 and right.shape[-1] == left.shape[-1]:
            swapped = [*range(right.rank - 2), right.rank - 1, right.rank - 2]
            return f" Did you mean `transpose({frame.module.source.slice(syntax.right.span)}, {swapped})`?"
        if right.rank == 2 and right.shape[1] == left.shape[-1]:
            return f" Did you mean `transpose({frame.module.source.slice(syntax.right.span)}, [1, 0])`?"
        if right.rank <= 2 and left.rank == 2 and left.shape[0] == right.shape[0]:
            return f" Did you mean `transpose({frame.module.source.slice(syntax.left.span)}, [1, 0])`?"
        return ""

    def dim_text(self, frame: Frame, left: Computed) -> str:
        """The inner size as a number, or the name it has in this frame's shapes."""
        return str(left.shape[-1])

    def sides(self, frame: Frame, *operands: tuple[ast.Expression, Any]) -> list[Label]:
        """What each operand is, and where it comes from."""
        labels = []
        for syntax, value in operands:
            if isinstance(syntax, ast.Number):
                continue
            label = self.side(frame, syntax, value)
            if label not in labels:
                labels.append(label)
        return labels

    def side(self, frame: Frame, syntax: ast.Expression, value: Any) -> Label:
        """One operand: its name or text, its kind, its place."""
        if isinstance(syntax, ast.Name) and syntax.name in frame.names:
            binding = frame.names[syntax.name]
            return Label(binding.subject, f"is {describe(value)}", binding.span, binding.relation)
        text = frame.module.source.slice(syntax.span)
        subject = f"`{text}`" if 0 < len(text) <= 40 and syntax.span.line == syntax.span.end_line else "this"
        return Label(subject, f"is {describe(value)}")

    def conditional(self, frame: Frame, syntax: ast.Conditional) -> Any:
        """`a if condition else b`: the branch that is not taken is not evaluated."""
        by_mode = frame.by_mode
        chosen = syntax.then if self.branch(frame, syntax.condition) else syntax.otherwise
        if frame.root is syntax:
            frame.root = chosen
        try:
            return self.evaluate(frame, chosen)
        finally:
            frame.by_mode = by_mode

    def branch(self, frame: Frame, syntax: ast.Expression) -> bool:
        """A condition that chooses between branches; the frame notes whether `training` decides."""
        seen, self.mode_seen = self.mode_seen, False
        try:
            result = self.condition(frame, syntax)
            frame.by_mode = frame.by_mode or self.mode_seen
            return result
        finally:
            self.mode_seen = seen

    def condition(self, frame: Frame, syntax: ast.Expression) -> bool:
        """A condition that is known when compiling."""
        value = _truth(self.evaluate(frame, syntax))
        if isinstance(value, Computed):
            raise self.fault(frame, "E0405", "this condition depends on data, so both branches would be needed",
                syntax.span,
                             self.sides(frame, (syntax, value)),
                             self.differs(frame, syntax) or self.elsewise(frame))  # fmt: skip
        if not isinstance(value, bool):
            raise self.fault(frame, "E0401", f"a condition is needed here, not {describe(value)}", syntax.span)
        return value

    def index(self, frame: Frame, syntax: ast.Index) -> Any:
        """`E[tokens]`, `shape(x)[0]`."""
        if frame.line is not None and id(syntax) in frame.line.accesses:
            return frame.line.element(syntax)
        found = self.shift(frame, syntax.items[0]) if len(syntax.items) == 1 else None
        if found is not None:
            return self.element(frame, syntax, *found)
        value = self.evaluate(frame, syntax.value)
        if syntax.otherwise is not None:
            raise self.fault(frame, "E0804",
                "`else` after an index says what is outside of a scan's axis, and this is no step of one", syntax.span,
                             hint="In `scan over t:` write `x[t - 1] else 0`.")  # fmt: skip
        if not isinstance(value, (Computed, tuple)):
            raise self.fault(
                frame, "E0401", f"only tensors and lists have an index, not {describe(value)}", syntax.value.span
            )
        items = [self.place(frame, item) for item in syntax.items]
        if (
            isinstance(value, tuple)
            and not any(isinstance(item, Computed | tuple) for item in items)
            and len(items) == 1
        ):
            return self.list_index(frame, syntax, value, items)
        value = self.tensor_of(frame, syntax.value, value)
        source = frame.module.source
        written = [source.slice(item.span) for item in syntax.items]
        tensors = [(part, item) for part, item in zip(syntax.items, items, strict=True) if isinstance(item, Computed)]
        labels = self.sides(frame, (syntax.value, value), *tensors)  # type: ignore[arg-type]
        return self.guarded(
            frame, syntax.span, lambda: functions.indexed(self.emitter, value, items, written), lambda: labels
        )

    def place(
        self, frame: Frame, item: ast.Expression | ast.Slice | ast.Ellipsis
    ) -> slice | int | Computed | tuple[int, ...] | None:
        """One part of an index: Python's slice, a whole number, a list of them, an int tensor, or None for `...`."""
        if isinstance(item, ast.Ellipsis):
            return None
        if isinstance(item, ast.Slice):
            ends = (item.start, item.stop, item.step)
            return slice(
                *(
                    None if end is None else self.whole(frame, end, "a slice goes from one whole number to another")
                    for end in ends
                )
            )
        value = self.evaluate(frame, item)
        if isinstance(value, Computed) and value.rank == 0 and value.dtype is not DType.I32:
            return self.whole(frame, item, "an index is a whole number known when compiling, or an int tensor")
        if isinstance(value, tuple) and value and all(type(one) is int for one in value):
            return value
        value = self.tensor_of(frame, item, value)
        if isinstance(value, Computed):
            return value
        hint = "`expand_dims(x, 1)` is x with a new axis 1." if value is None else None
        return self.whole(frame, item, "an index is a whole number known when compiling, or an int tensor", hint)

    def whole(self, frame: Frame, syntax: ast.Expression, rule: str, hint: str | None = None) -> int:
        """A whole number known when compiling."""
        value = self.evaluate(frame, syntax)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int:
            raise self.fault(
                frame, "E0404", f"{rule}, not {describe(value)}", syntax.span, hint=hint or self.differs(frame, syntax)
            )
        return value

    def list_index(self, frame: Frame, syntax: ast.Index, value: tuple[Any, ...], items: list[Any]) -> Any:
        """`shape(x)[0]`, `shape(x)[1:]`."""
        if len(items) != 1 or not isinstance(items[0], (int, slice)):
            raise self.fault(frame, "E0212", "a list has one index, a whole number or a slice", syntax.span)
        (item,) = items
        if isinstance(item, int) and not -len(value) <= item < len(value):
            raise self.fault(frame, "E0212", f"index {item} is outside a list of {len(value)}", syntax.span)
        if isinstance(item, slice) and item.step == 0:
            raise self.fault(frame, "E0212", "the step of this slice is 0", syntax.span)
        return value[item]

    def all_but(self, frame: Frame, syntax: ast.AllBut) -> AllBut:
        """`all but c`: axes by the names they have in the shapes of this layer's arguments."""
        missing = [name for name in syntax.names if name not in frame.axes]
        if missing:
            hint = "Name the axis in the argument's shape: `layer Norm(x[n, c, ..]):`."
            raise self.fault(
                frame, "E0908", f"`{missing[0]}` names no axis of an argument here", syntax.span, hint=hint
            )
        return AllBut(tuple(frame.axes[name] for name in syntax.names))

    def stacked(self, frame: Frame, syntax: ast.Stacked) -> Any:
        raise AssertionError("scans belong to `scans`")

    def shift(self, frame: Frame, item: Any) -> Any:
        raise AssertionError("scans belong to `scans`")

    def element(self, frame: Frame, syntax: ast.Index, walk: Any, distance: int, axis: int | None = None) -> Computed:
        raise AssertionError("scans belong to `scans`")

    def reduction(self, frame: Frame, syntax: ast.Reduction) -> Any:
        """`sum[k where k <= q] w[n, q, k]`; by itself a line with no index on the left."""
        if frame.line is not None:
            return frame.line.reduction(syntax)
        return Line(self, frame).value((), syntax)

    def elementwise(self, frame: Frame, what: str, values: Iterable[Any], span: Span) -> None:
        """Elements of a line with index variables go into functions of one element only. Raises Fault."""
        indexed = self.emitter.indexed
        if indexed and any(isinstance(value, Computed) and value.value in indexed for value in values):
            raise self.fault(frame, "E1006", f"{what} works on whole tensors, and this is one element", span,
                             hint="Reduce over an index (`sum[i] ...`), or call it on a line of its own.")  # fmt: skip

    def call(self, frame: Frame, syntax: ast.Call) -> Any:
        raise AssertionError("calls belong to `calls`")

    def elsewise(self, frame: Frame) -> str | None:
        """What to write in the place of a condition that depends on data, in the user's own text."""
        return None if frame.override is not None else "Choose element by element with `where(condition, a, b)`."

    def differs(self, frame: Frame, syntax: ast.Syntax) -> str | None:
        """A hint where something known when compiling would differ from turn to turn of a `repeat`."""
        bindings = [frame.names.get(part.name) for part in ast.walk(syntax) if isinstance(part, ast.Name)]
        if any(
            binding is not None and binding.kind == "turn" and isinstance(binding.value, Computed)
            for binding in bindings
        ):
            return "The turns of `repeat` are one piece of code. Turns that differ are written with `for`."
        return None

    # --- Sizes

    def dims(self, frame: Frame, shape: Iterable[ast.Expression]) -> tuple[Dim, ...]:
        """A written shape: whole numbers of at least 1 and multiples of `batch`; a list in it stands for its items."""
        shape = tuple(shape)
        values = self.evaluate_all(frame, shape)
        return tuple(self.dim(*self.origin(frame, syntax), value=size) for syntax,
        value in zip(shape, values, strict=True)
                     for size in (value if isinstance(value, tuple) else (value,)))  # fmt: skip

    def origin(self, frame: Frame, syntax: ast.Expression) -> tuple[Frame, ast.Expression]:
        """Where a size was written: for a standard layer's argument, the argument in the user's call."""
        binding = frame.names.get(syntax.name) if isinstance(syntax, ast.Name) else None
        written = binding.extra.get("written") if binding else None
        if frame.override is not None and frame.caller is not None and written is not None:
            return self.origin(frame.caller, written)
        return frame, syntax

    def dim(self, frame: Frame, at: Span | ast.Expression, value: Any) -> Dim:
        """One size, written at a place; one that has a name says where that comes from."""
        span = at if isinstance(at, Span) else at.span
        labels = self.sides(frame, (at, value)) if isinstance(at, ast.Name) else []
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, Rows) or (type(value) is int and 1 <= value < 2**31):
            return value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.fault(frame, "E0209",
                f"a size must be a whole number known when compiling, not {describe(value)}", span, labels,
                             None if isinstance(at, Span) else self.differs(frame, at))  # fmt: skip
        hint = "`//` divides and rounds down." if math.isfinite(value) and value != int(value) else None
        raise self.fault(
            frame,
            "E0209",
            f"a size must be a whole number {'below 2**31' if value >= 2**31 else 'of at least 1'}, not {value:g}",
            span,
            labels,
            hint,
        )

    def fixed(self, frame: Frame, dims: Sequence[ast.Expression], owner: str) -> tuple[int, ...]:
        """A written shape that must not hold `batch`."""
        shape = self.dims(frame, dims)
        for syntax in dims:
            if any(isinstance(dim, Rows) for dim in shape) and any(
                isinstance(dim, Rows) for dim in self.dims(frame, (syntax,))
            ):
                raise self.fault(frame, "E0208", f"{owner} cannot have `batch` in its shape {shape_text(shape)}",
                    syntax.span,
                                 hint=("The number of rows is free at run time; what is "
                                     "stored needs fixed sizes.") if frame.override is None else
                                 (f"`{frame.name}` works along the last axis, which is `batch` "
                                     "here. Did you mean `reshape(x, [batch, 1])`?"))  # fmt: skip
        return tuple(dim for dim in shape if isinstance(dim, int))

    def random_key(self, call: functions.CallSite, draw: int) -> tuple[Any, ...]:
        raise AssertionError("random draws belong to `parameters`")

    def parameters_so_far(self) -> dict[str, Computed]:
        raise AssertionError("parameters belong to `parameters`")

    def real(self) -> DType:
        """The program's real type."""
        return self.emitter.real


_RULES: dict[type, Callable[[Any, Frame, Any], Any]] = {
    ast.Number: Evaluator.number,
    ast.Truth: Evaluator.truth,
    ast.Text: Evaluator.text,
    ast.Name: Evaluator.name,
    ast.Items: Evaluator.items,
    ast.Several: Evaluator.items,
    ast.Unary: Evaluator.unary,
    ast.Binary: Evaluator.binary,
    ast.Conditional: Evaluator.conditional,
    ast.Index: Evaluator.index,
    ast.AllBut: Evaluator.all_but,
    ast.Stacked: lambda evaluator, frame, syntax: evaluator.stacked(frame, syntax),
    ast.Reduction: Evaluator.reduction,
    ast.Call: lambda evaluator, frame, syntax: evaluator.call(frame, syntax),
}


def _truth(value: Any) -> Any:
    """What a condition takes two lists that were compared for."""
    return value.whole if isinstance(value, Compared) else value
