"""The table of built-in functions and what each is given: its call's place and its arguments, checked in NumPy's
manner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from inspect import CO_VARARGS
from typing import Any, Protocol

from tapeless.compiler.elaborate.emission import Emitter
from tapeless.compiler.elaborate.folding import Mismatch
from tapeless.compiler.elaborate.frames import Frame
from tapeless.compiler.elaborate.values import AllBut, Builtin, Computed, Fault, describe
from tapeless.compiler.language import ast
from tapeless.compiler.messages.diagnostics import Diagnostic, Label
from tapeless.compiler.messages.newcomers_words import OF_TWO
from tapeless.ir.graph import Span
from tapeless.ir.types import Dim, Rows

BUILTINS: dict[str, Builtin] = {}


def builtin(name: str, *, elementwise: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function into the table. Its Python parameters after the first (the call) are the language's.

    An `elementwise` one makes each element of its result of those at the same place. One that takes `*tensors` has any
    number of positional arguments; all others are given by name.
    """

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        code = function.__code__
        parameters = code.co_varnames[1 : code.co_argcount]
        values = function.__defaults__ or ()
        defaults = dict(zip(parameters[len(parameters) - len(values) :], values, strict=True))
        variadic = bool(code.co_flags & CO_VARARGS)
        if variadic:
            defaults = dict(function.__kwdefaults__ or {})
            parameters = tuple(defaults)
        BUILTINS[name] = Builtin(
            name,
            function,
            tuple(parameter.rstrip("_") for parameter in parameters),
            {parameter.rstrip("_"): value for parameter, value in defaults.items()},
            variadic,
            elementwise,
        )
        return function

    return enter


class Surroundings(Protocol):
    """What a built-in function may ask of the elaboration around its call."""

    @property
    def emitter(self) -> Emitter:
        """The emitter of the graph under construction."""

    def report(self, diagnostic: Diagnostic) -> None:
        """Keep a warning."""

    def dim(self, frame: Frame, at: Span | ast.Expression, value: Any) -> Dim:
        """One size, written at a place. Raises Fault."""

    def parameters_so_far(self) -> Mapping[str, Computed]:
        """Every parameter that the graph under construction has read, by name."""

    def random_key(self, call: CallSite, draw: int) -> tuple[Any, ...]:
        """Seed, step, in loops the loop's step, and site of a draw."""


@dataclass
class CallSite:
    """One call of a built-in function: what is around it, where it stands, and what its arguments were written as."""

    around: Surroundings
    frame: Frame
    name: str
    span: Span
    written: dict[str, ast.Expression]
    named: frozenset[str] = frozenset()  # arguments that were given by name

    @property
    def emit(self) -> Emitter:
        """The emitter of the graph under construction."""
        return self.around.emitter

    def fault(
        self, code: str, message: str, at: str | None = None, labels: Iterable[Label] = (), hint: str | None = None
    ) -> Fault:
        """A fault at one argument, or at the call."""
        syntax = self.written.get(at) if at else None
        return self.frame.fault(code, message, syntax.span if syntax else self.span, labels, hint)

    def label(self, parameter: str, value: Any) -> list[Label]:
        """What an argument is and where it comes from."""
        syntax = self.written.get(parameter)
        return [self.frame.side(syntax, value)] if syntax else []

    def tensor(self, parameter: str, value: Any) -> Computed:
        """An argument that must be a tensor or a number."""
        if isinstance(value, Computed):
            return value
        if isinstance(value, tuple):
            return self.vector(parameter, value)
        if isinstance(value, (int, float, Rows)):
            return self.emit.computed(value)
        raise self.fault("E0401", f"`{self.name}` needs a tensor, not {describe(value)}", parameter)

    def number(self, parameter: str, value: Any) -> Any:
        """An argument that must be a number or a tensor, left as it is; a list is a vector."""
        if isinstance(value, tuple):
            return self.vector(parameter, value)
        if isinstance(value, (Computed, int, float, Rows)):
            return value
        raise self.fault("E0401", f"`{self.name}` needs a number or tensor, not {describe(value)}", parameter)

    def vector(self, parameter: str, value: tuple[Any, ...]) -> Computed:
        """A list that stands where a tensor is wanted."""
        try:
            return self.emit.vector(value)
        except Mismatch as mismatch:
            raise self.fault(
                mismatch.code, f"`{self.name}` needs a tensor: {mismatch}", parameter, hint=mismatch.hint
            ) from None

    def whole(self, parameter: str, value: Any) -> int:
        """An argument that must be a whole number known when compiling."""
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int:
            hint = (
                f"The {self.name} of two tensors is `{OF_TWO[self.name]}`."
                if parameter == "axis" and self.name in OF_TWO
                else None
            )
            raise self.fault("E0404",
                f"`{parameter}` of `{self.name}` must be a whole number known when compiling, not {describe(value)}",
                             parameter, hint=hint)  # fmt: skip
        return value

    def bound_meant(self, parameter: str, value: Any, of_two: str) -> None:
        """Warn of an axis that is given by its place and not by name: `max(a, 0)` reads as if 0 were a bound."""
        syntax = self.written.get(parameter)
        if syntax is None or parameter in self.named or self.frame.override is not None or isinstance(value, AllBut):
            return
        text = self.frame.module.source.slice(syntax.span)
        self.around.report(
            Diagnostic(
                "W0109",
                f"`{text}` is the axis along which `{self.name}` is taken",
                self.span,
                hint=(
                    f"The {self.name} of two values is `{of_two}(..., {text})`; an axis that is meant is written "
                    f"`axis = {text}`."
                ),
            )
        )

    def flag(self, parameter: str, value: Any) -> bool:
        """An argument that must be true or false."""
        if not isinstance(value, bool):
            raise self.fault(
                "E0404", f"`{parameter}` of `{self.name}` is true or false, not {describe(value)}", parameter
            )
        return value

    def axis(self, parameter: str, value: Any, x: Computed, of: str = "x") -> int:
        """One axis of a tensor, counted from either end."""
        axis = self.whole(parameter, value)
        if not -x.rank <= axis < x.rank:
            axes = "one axis" if x.rank == 1 else f"{x.rank} axes"
            last = f"The last axis is {x.rank - 1}, or -1." if x.rank else None
            what = f"a tensor of {axes}" if x.rank else "a single number"
            if self.name in OF_TWO and parameter in self.written and parameter not in self.named:
                last = f"The {self.name} of two values is `{OF_TWO[self.name]}`."
            raise self.fault("E0206", f"there is no axis {axis} in {what}",
                parameter if parameter in self.written else of,
                             self.label(of, x), last)  # fmt: skip
        return axis % x.rank

    def axes(self, parameter: str, value: Any, x: Computed, of: str = "x") -> tuple[int, ...]:
        """Axes of a tensor: all for None, one, a list, or `all but` some."""
        if value is None:
            return tuple(range(x.rank))
        if isinstance(value, AllBut):
            kept = {axis % x.rank for axis in value.axes if -x.rank <= axis < x.rank}
            return tuple(axis for axis in range(x.rank) if axis not in kept)
        if isinstance(value, tuple):
            axes = [self.axis(parameter, item, x, of) for item in value]
            if len(set(axes)) < len(axes):
                raise self.fault("E0206", f"`{parameter}` names one axis twice", parameter)
            return tuple(sorted(axes))
        return (self.axis(parameter, value, x, of),)
