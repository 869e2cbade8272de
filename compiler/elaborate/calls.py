"""Calls: arguments bound to parameters, shapes of arguments matched, and the body run in the caller's place
(inlining).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tapeless.compiler.elaborate import functions, scores
from tapeless.compiler.elaborate.declared_derivatives import with_derivative
from tapeless.compiler.elaborate.emission import dims_product
from tapeless.compiler.elaborate.evaluator import Evaluator
from tapeless.compiler.elaborate.functions import CallSite
from tapeless.compiler.elaborate.modules import fitting, standard
from tapeless.compiler.elaborate.scope import Frame, join
from tapeless.compiler.elaborate.values import (
    POISON,
    Binding,
    Builtin,
    Computed,
    Defined,
    Fault,
    Instance,
    Poisoned,
    TooLarge,
    describe,
    shape_text,
)
from tapeless.compiler.language import ast
from tapeless.compiler.language.statement_parser import made_by
from tapeless.compiler.messages.diagnostics import Diagnostic, Label
from tapeless.compiler.messages.near_names import meant, meant_argument
from tapeless.ir.graph import Span
from tapeless.ir.types import Dim, Rows

# Bodies inside bodies: more than a real model ever has, few enough for Python's own stack.
DEPTH = 40
# Calls in all: functions that call others twice grow like 2 ** depth, and each call is about 50 microseconds of compile
# time.
CALLS = 10_000


class Calls(Evaluator):
    """Evaluates calls."""

    def call(self, frame: Frame, syntax: ast.Call) -> Any:
        """A call of a built-in function, a definition, or a layer made by `use`."""
        function = self.evaluate(frame, syntax.function)
        is_root = frame.root is syntax
        if not isinstance(function, (Builtin, Defined, Instance)):
            self.shadowed(frame, syntax.function, function)
            hint = (
                "A product needs its `*`."
                if isinstance(function, (Computed, int, float)) and frame.override is None
                else None
            )
            if isinstance(function, str) and (near := meant(function, fitting(frame.module.names, "model"))):
                hint = f"Write `{near}`, without quotes."
            what = describe(function)
            called = syntax.function if frame.override is not None else None
            said = (
                f"`{called.name}` of `{frame.name}` is a function, not {what}"
                if isinstance(called, ast.Name)
                else f"{what} is not a function"
            )
            raise self.fault(frame, "E0303", said, syntax.function.span, hint=hint)
        if isinstance(function, Defined) and function.definition.kind == "optimizer":
            name = function.definition.name
            raise self.fault(
                frame,
                "E0303",
                f"`{name}` is an optimizer, and stands in the train section",
                syntax.function.span,
                hint=f"Write `optimizer {name}(...)` there.",
            )
        values = self.evaluate_all(frame, [argument.value for argument in syntax.arguments])
        if isinstance(function, Builtin) and function.variadic:
            return self.call_variadic(frame, syntax, function, values)
        if isinstance(function, Builtin):
            bound = self.bind(
                frame, syntax.span, function.name, function.parameters, set(function.defaults), syntax.arguments, values
            )
            return self.call_builtin(frame, syntax.span, function, bound)
        definition = (function.layer if isinstance(function, Instance) else function).definition
        names = [parameter.name for parameter in definition.parameters]
        optional = {parameter.name for parameter in definition.parameters if parameter.default is not None}
        given = function.arguments if isinstance(function, Instance) else {}
        bound = self.bind(frame, syntax.span, definition.name, names, optional, syntax.arguments, values, given)
        if definition.kind == "optimizer":
            raise self.fault(
                frame, "E0303", f"the optimizer `{definition.name}` belongs in a `train` section", syntax.span
            )
        if isinstance(function, Instance):
            return self.call_instance(frame, syntax, function, bound)
        return self.call_defined(frame, syntax.span, function, bound, is_root)

    def shadowed(self, frame: Frame, syntax: ast.Expression, value: Any) -> None:
        """A call of a name that stood for a function until this body gave it to something else. Raises Fault."""
        name = syntax.name if isinstance(syntax, ast.Name) else ""
        binding = frame.names.get(name)
        if binding is None or not (name in frame.module.names or standard(name) or name in functions.BUILTINS):
            return
        label = Label(f"`{name}`", f"is {describe(value)}", binding.span, binding.relation)
        raise self.fault(frame, "E0303", f"`{name}` is no function here: a value has taken its name", syntax.span,
            [label],
                         f"Give the value another name, and `{name}(...)` is the function again.")  # fmt: skip

    def call_builtin(
        self, frame: Frame, span: Span, function: Builtin, bound: Mapping[str, tuple[Any, ast.Argument]]
    ) -> Any:
        """Run a built-in function."""
        if function.run.__module__ != functions.pointwise.__name__:
            self.elementwise(frame, f"`{function.name}`", (value for value, _ in bound.values()), span)
        site = CallSite(self, frame, function.name, span,
            {name: argument.value for name, (_, argument) in bound.items()},
                        frozenset(argument.name for _, argument in bound.values() if argument.name))  # fmt: skip
        keyed = {name: value for name, (value, _) in bound.items()}

        def labels() -> list[Label]:
            return self.sides(
                frame, *((argument.value, value) for value, argument in bound.values() if isinstance(value, Computed))
            )

        ordered = [keyed.get(name, function.defaults.get(name)) for name in function.parameters]
        return self.guarded(frame, span, lambda: function.run(site, *ordered), labels)

    def call_variadic(self, frame: Frame, syntax: ast.Call, function: Builtin, values: Sequence[Any]) -> Any:
        """Run a built-in function of any number of positional arguments; in messages these are called 0, 1, 2."""
        self.elementwise(frame, f"`{function.name}`", values, syntax.span)
        pairs = list(zip(syntax.arguments, values, strict=True))
        named = [(argument, value) for argument, value in pairs if argument.name is not None]
        plain = [(argument, value) for argument, value in pairs if argument.name is None]
        bound = self.bind(frame, syntax.span, function.name, function.parameters, set(function.defaults),
                          [argument for argument, _ in named], [value for _, value in named])  # fmt: skip
        written = {name: argument.value for name, (_, argument) in bound.items()}
        listed = [argument.value for argument, _ in plain]
        if len(listed) == 1 and isinstance(listed[0], ast.Items):
            listed = list(listed[0].items)
        written |= {str(k): syntax for k, syntax in enumerate(listed)}
        site = CallSite(self, frame, function.name, syntax.span, written)
        given = dict(function.defaults) | {name: value for name, (value, _) in bound.items()}
        return self.guarded(frame, syntax.span, lambda: function.run(site, *(value for _, value in plain), **given))

    def bind(self, frame: Frame, span: Span, name: str, parameters: Sequence[str], optional: set[str],
        arguments: Sequence[ast.Argument],
             values: Sequence[Any], given: Mapping[str, tuple[Any, ast.Argument]] | None = None) -> dict[str,
             tuple[Any, ast.Argument]]:  # fmt: skip
        """Arguments by parameter. `given` are those that a `use` line has fixed. Raises Fault."""
        bound: dict[str, tuple[Any, ast.Argument]] = dict(given or {})
        fixed = set(bound)
        free = [parameter for parameter in parameters if parameter not in bound]
        listing = f"`{name}` takes {', '.join(f'`{parameter}`' for parameter in parameters) or 'no arguments'}."
        position = 0
        faults: list[Fault] = []
        for argument, value in zip(arguments, values, strict=True):
            if argument.name is None:
                if position >= len(free):
                    faults.append(
                        self.fault(
                            frame,
                            "E0306",
                            f"`{name}` takes {_counted(len(free))}, and this is one more",
                            argument.span,
                            hint=listing,
                        )
                    )
                    continue
                parameter = free[position]
                position += 1
            elif argument.name in parameters:
                parameter = argument.name
            else:
                near = meant_argument(argument.name, parameters)
                faults.append(self.fault(frame, "E0304", f"`{name}` has no argument `{argument.name}`", argument.span,
                                         hint=f"Did you mean `{near}`?" if near else listing))  # fmt: skip
                continue
            if parameter in bound and parameter not in fixed:
                raise self.fault(frame, "E0307", f"`{parameter}` of `{name}` is given twice", argument.span)
            if parameter in fixed:
                raise self.fault(frame, "E0307", f"`{parameter}` of `{name}` is fixed by its `use` line", argument.span)
            bound[parameter] = (value, argument)
        if faults:
            for fault in faults[1:]:
                self.report(fault.diagnostic)
            raise faults[0]
        for parameter in parameters:
            if parameter not in bound and parameter not in optional:
                if position and parameters[0] == "x" and isinstance(bound.get("x", (None,))[0], (int, float)):
                    listing = f"What it works on comes first: `{name}(x, ...)`."
                raise self.fault(frame, "E0305", f"`{name}` needs its argument `{parameter}`", span, hint=listing)
        return bound

    # --- Definitions

    def call_defined(self, frame: Frame, span: Span, function: Defined, bound: Mapping[str, tuple[Any, ast.Argument]],
        is_root: bool,
                     instance: Instance | None = None) -> Any:  # fmt: skip
        """Run a function's or layer's body in the caller's place and return its result."""
        if function.definition.kind == "layer":
            self.elementwise(frame, f"`{function.definition.name}`", (value for value, _ in bound.values()), span)
        callee = self.enter(frame, span, function, bound, is_root)
        if instance is not None:
            callee.instance = instance
            callee.path = instance.path
        emitter, where, root = self.emitter, self.emitter.where, frame.root
        emitter.where = callee.where
        try:
            self.run_body(callee, function.definition.body)
        finally:
            emitter.where = where
            frame.root = root
        if not callee.returned:
            if callee.broken:
                raise Poisoned
            raise self.fault(frame, "E0506", f"`{function.definition.name}` returns nothing here", span,
                             [Label(f"`{function.definition.name}`", "ends without `return`",
                                 function.definition.head)])  # fmt: skip
        if callee.result is POISON:
            raise Poisoned
        if function.definition.name in scores.SQUASHING and isinstance(callee.result, Computed):
            emitter.squashed[callee.result.value] = function.definition.name
        if function.definition.derivatives:
            return with_derivative(self, callee, function.definition, callee.result)
        return callee.result

    def enter(
        self, frame: Frame, span: Span, function: Defined, bound: Mapping[str, tuple[Any, ast.Argument]], is_root: bool
    ) -> Frame:
        """A frame for a call, its arguments bound and matched with their shapes."""
        definition, module = function.definition, function.module
        override = frame.override or (span if module.standard else None)
        callee = Frame(definition.kind, definition.name, module, self.emitter, frame, span, override)
        self.calls += 1
        if self.calls > CALLS:
            raise TooLarge(
                f"this program makes more than {CALLS} calls when its layers and functions are written out",
                self.shown(frame, span),
            )
        if frame.depth >= DEPTH:
            raise self.fault(
                frame, "E0311", f"`{definition.name}` is called inside itself, or too many calls deep", span
            )
        above: Frame | None = frame
        while above is not None:
            if above.name == definition.name and above.module is module and above.kind == definition.kind:
                hint = (
                    "Its value is called `out` in its derivative."
                    if definition.derivatives
                    else "Repeat a layer with `for k in 0..n:`."
                )
                raise self.fault(frame, "E0311", f"`{definition.name}` calls itself", span, hint=hint)
            above = above.caller
        callee.made = frozenset(name for statement in definition.body for name in made_by(statement))
        if definition.kind == "fn":
            callee.where = self.emitter.where
        else:
            parts: list[object] = list(frame.turn)
            if frame.target:
                parts = [frame.target, *parts]
                if not is_root:
                    parts.append(definition.name.lower())
            else:
                parts = [definition.name.lower(), *parts]
            callee.segment = join(*parts)
            callee.where = join(frame.where, callee.segment)
        for parameter in definition.parameters:
            self.bind_parameter(frame, callee, parameter, bound.get(parameter.name))
        if module.standard:
            self.check_scores(frame, callee, definition, bound)
        return callee

    def check_scores(
        self, frame: Frame, callee: Frame, definition: ast.Definition, given: Mapping[str, tuple[Any, ast.Argument]]
    ) -> None:
        """A loss of the standard library must be given scores of several classes, and should be given scores and no
        probabilities.
        """
        for parameter in definition.parameters:
            if parameter.name not in given:
                continue
            argument = given[parameter.name][1]
            value = callee.names[parameter.name].value
            if scores.of_one_class(definition.name, parameter, value):
                raise self.fault(frame, "E0512", f"`{definition.name}` over one class is always 0", argument.span,
                                 [self.side(frame, argument.value, value)],
                                 ("A single yes-or-no score goes to `binary_cross_entropy`; else "
                                     "the model needs one score for each class."))  # fmt: skip
            if frame.override is None and (found := scores.unfit(self.emitter, parameter, callee.names)):
                made, instead = found
                side = self.side(frame, argument.value, value)
                label = Label(side.subject, f"has been through `{made}`", side.span, side.relation)
                hint = f"Give it what `{made}` is given."
                self.report(
                    Diagnostic(
                        "W0106", f"`{definition.name}` {instead}", self.shown(frame, argument.span), (label,), hint
                    )
                )

    def bind_parameter(
        self, frame: Frame, callee: Frame, parameter: ast.Parameter, given: tuple[Any, ast.Argument] | None
    ) -> None:
        """One argument, or its default, as a name of the called body."""
        if given is not None:
            value, argument = given
            side = self.side(frame, argument.value, value)
            hidden = callee.override is not None
            subject = side.subject if hidden else parameter.name
            span = side.span if hidden else argument.span
            binding = Binding(
                value,
                subject,
                span,
                side.relation if hidden else "given",
                "argument",
                parameter,
                {"written": argument.value},
            )
        else:
            assert parameter.default is not None
            argument, side = None, None
            value = self.evaluate(callee, parameter.default)
            binding = Binding(value, parameter.name, parameter.span, "declared", "argument", parameter)
        if parameter.pattern is not None:
            where, span = (frame, argument.span) if argument else (callee, parameter.span)
            label = side or Label(parameter.name, f"is {describe(value)}", parameter.span)
            binding.value = self.match(where, span, callee, parameter, parameter.pattern, value, label)
        callee.names[parameter.name] = binding

    def match(
        self,
        frame: Frame,
        span: Span,
        callee: Frame,
        parameter: ast.Parameter,
        pattern: ast.Pattern,
        value: Any,
        label: Label,
    ) -> Computed:
        """Match an argument with its declared shape, binding the sizes that it names. Faults are the caller's, at
        the argument.
        """
        if isinstance(value, (int, float, Rows)) and not isinstance(value, bool):
            value = self.emitter.computed(value)
        elif isinstance(value, tuple):
            listed = value
            value = self.guarded(frame, span, lambda: self.emitter.vector(listed), lambda: [label])
        items = pattern.items
        written = "[" + ", ".join(_pattern_text(item) for item in items) + "]"
        declared = Label(callee.name, f"takes {written}", parameter.span)
        if not isinstance(value, Computed):
            raise self.fault(
                frame,
                "E0202",
                f"`{parameter.name}` of `{callee.name}` must be a tensor, not {describe(value)}",
                span,
                [declared],
            )
        open_place = next((place for place, item in enumerate(items) if isinstance(item, ast.Ellipsis)), None)
        named = len(items) - (open_place is not None)
        if value.rank < named or (open_place is None and value.rank > named):
            least = "at least " if open_place is not None else ""
            raise self.fault(frame, "E0202", f"`{callee.name}` needs `{parameter.name}` with {least}{_axes(named)}",
                span,
                             [label, declared], _rank_hint(value, named, open_place is not None))  # fmt: skip
        for place, item in enumerate(items):
            if isinstance(item, ast.Ellipsis):
                continue
            axis = place if open_place is None or place < open_place else place - len(items)
            size = value.shape[axis]
            if isinstance(item, ast.Number):
                if size != item.value:
                    message = f"`{callee.name}` needs {item.value} in axis {axis} of `{parameter.name}`, not {size}"
                    raise self.fault(frame, "E0202", message, span, [label, declared])
            elif item.name != "_":
                self.bind_size(frame, span, callee, item, size, axis, label)
        return value

    def bind_size(
        self, frame: Frame, span: Span, callee: Frame, item: ast.Name, size: Dim, axis: int, label: Label
    ) -> None:
        """Give a size its name, or check that it is what the name stands for already."""
        known = callee.names.get(item.name)
        if known is None and item.name == "batch":
            known = Binding(Rows(), "batch", None)
        if known is None:
            callee.names[item.name] = Binding(size, item.name, label.span, "found", "size", item, {"label": label})
            callee.axes[item.name] = axis
            return
        expected = known.value
        if isinstance(expected, float) and expected.is_integer():
            expected = int(expected)
        if expected != size:
            first = known.extra.get("label") or Label(f"`{item.name}`", f"is {expected}", known.span, known.relation)
            raise self.fault(
                frame,
                "E0203",
                f"`{callee.name}` needs one size `{item.name}`, but finds {expected} and {size}",
                span,
                [first, label],
            )
        callee.axes.setdefault(item.name, axis)

    # --- Layers made by `use`

    def make_instance(self, frame: Frame, syntax: ast.Use) -> Instance:
        """`use encoder = Dense(units = 64)`."""
        call = syntax.call
        if not isinstance(call, ast.Call):
            raise self.fault(
                frame,
                "E0401",
                "`use` needs a layer with its arguments",
                call.span,
                hint="Write `use encoder = Dense(units = 64)`.",
            )
        layer = self.evaluate(frame, call.function)
        if not isinstance(layer, Defined) or layer.definition.kind != "layer":
            raise self.fault(frame, "E0303", f"{describe(layer)} is not a layer", call.function.span)
        values = self.evaluate_all(frame, [argument.value for argument in call.arguments])
        names = [parameter.name for parameter in layer.definition.parameters]
        for argument in call.arguments:
            if argument.name is None:
                raise self.fault(frame, "E0306", "the arguments of a `use` line are given by name", argument.span,
                                 hint="What varies from call to call is given in the calls.")  # fmt: skip
        bound = self.bind(frame, call.span, layer.definition.name, names, set(names), call.arguments, values)
        return Instance(join(syntax.name, *frame.turn), layer, bound, frame)

    def call_instance(
        self, frame: Frame, syntax: ast.Call, instance: Instance, bound: Mapping[str, tuple[Any, ast.Argument]]
    ) -> Any:
        """Run a shared layer: every call finds the parameters that the first one made."""
        taken = self.taken_names()
        if instance.taken is None:
            owner = instance.frame
            wanted = join(self.path_of(owner), instance.name)
            instance.path = self.claim_path(wanted)
            instance.taken = frozenset(self.taken_names())
            taken = self.taken_names()
        saved = set(taken)
        taken.clear()
        taken.update(instance.taken)
        target = frame.target
        frame.target = instance.name
        try:
            return self.call_defined(frame, syntax.span, instance.layer, bound, True, instance)
        finally:
            frame.target = target
            taken.update(saved)

    # --- Provided by the statements and the model

    def run_body(self, frame: Frame, body: Sequence[ast.Statement]) -> None:
        raise AssertionError("bodies belong to `statements`")

    def taken_names(self) -> set[str]:
        raise AssertionError("parameters belong to `parameters`")

    def path_of(self, frame: Frame) -> str:
        raise AssertionError("parameters belong to `parameters`")

    def claim_path(self, wanted: str) -> str:
        raise AssertionError("parameters belong to `parameters`")


def _counted(count: int) -> str:
    return "no arguments" if not count else "one argument" if count == 1 else f"{count} arguments"


def _axes(count: int) -> str:
    return "one axis" if count == 1 else f"{count} axes"


def _pattern_text(item: ast.Name | ast.Number | ast.Ellipsis) -> str:
    return item.name if isinstance(item, ast.Name) else str(item.value) if isinstance(item, ast.Number) else ".."


def _rank_hint(value: Computed, named: int, is_open: bool) -> str | None:
    if is_open or value.rank <= named or named < 1:
        return None
    tail = value.shape[named - 1 :]
    if any(isinstance(dim, Rows) for dim in tail) and any(isinstance(dim, Rows) for dim in value.shape[: named - 1]):
        return None
    folded = (*value.shape[: named - 1], dims_product(tail))
    return f"`reshape(x, {shape_text(folded)})` joins the last axes."


__all__ = ["Calls", "Fault"]
