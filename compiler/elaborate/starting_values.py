"""Starting values of slots, computed in a graph of their own by the same language: an initialiser is a function of
`shape`, `fan_in` and `fan_out`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

from tapeless.compiler.elaborate.arguments import bind
from tapeless.compiler.elaborate.builtin_calls import Builtins
from tapeless.compiler.elaborate.context import Context
from tapeless.compiler.elaborate.folding import Mismatch
from tapeless.compiler.elaborate.frames import Frame
from tapeless.compiler.elaborate.inlining import Inlining
from tapeless.compiler.elaborate.loops import Walk
from tapeless.compiler.elaborate.scan_graphs import BodyEmitter
from tapeless.compiler.elaborate.storage import Storage
from tapeless.compiler.elaborate.values import Builtin, Computed, Defined, describe
from tapeless.compiler.language import ast
from tapeless.ir.graph import Span, Value


@dataclass(frozen=True, eq=False)
class StartingValues:
    """Evaluates what starts a slot."""

    context: Context
    storage: Storage
    builtins: Builtins
    inlining: Inlining

    @contextmanager
    def starting(self, frame: Frame, label: str) -> Iterator[Frame]:
        """Evaluate into `init`; values of the graph under construction are out of reach."""
        self.storage.init.where = label
        self.storage.init.shared.clear()  # each slot has nodes of its own, so that a reader sees what starts it
        inner = frame
        if frame.kind == "optimizer":
            inner = Frame(
                "optimizer", frame.name, frame.module, self.storage.init, frame.caller, frame.call_span, frame.override
            )
            inner.names = {
                name: binding for name, binding in frame.names.items() if not isinstance(binding.value, Computed)
            }
            inner.names |= frame.starts
        with self.context.into(self.storage.init):
            yield inner

    def initial(
        self, frame: Frame, syntax: ast.Param, shape: tuple[int, ...], label: str, repeats: tuple[Walk, ...]
    ) -> Value:
        """The node of `init` that makes a parameter's starting value."""
        if syntax.value is None and syntax.initialiser is None:
            scalar = not shape
            raise frame.fault(
                "E0510",
                f"the parameter `{syntax.name}` needs a starting value",
                syntax.span,
                hint=f"Write `param {syntax.name} = 0`."
                if scalar
                else "Add `= 0`, or an initialiser such as `~ he_normal`.",
            )
        written, initialiser = syntax.value, syntax.initialiser
        if written is not None:
            return self.started(
                frame, label, repeats, shape, written.span, lambda inner: self.context.evaluate(inner, written)
            )
        assert initialiser is not None
        return self.started(
            frame, label, repeats, shape, initialiser.span, lambda inner: self.draw(inner, initialiser, shape)
        )

    def started(
        self,
        frame: Frame,
        label: str,
        repeats: tuple[Walk, ...],
        shape: tuple[int, ...],
        span: Span,
        make: Callable[[Frame], Any],
    ) -> Value:
        """The node of `init` that starts a slot: of one that each turn of `repeat` has, a scan over the turns."""
        with self.starting(frame, label) as inner:
            for walk in repeats:
                assert walk.turns is not None
                walk.starting = self.context.emitter = BodyEmitter(self.context.emitter, len(walk.turns))
            try:
                value = make(inner)
                if isinstance(value, (int, float)):
                    self.context.emitter = self.storage.init
                    return self.filled(
                        inner, value, (*(len(walk.turns or ()) for walk in repeats), *shape), span, label
                    )
                made = self.filled(inner, value, shape, span, label)
                for walk in reversed(repeats):
                    body = walk.starting
                    assert body is not None
                    self.context.emitter = body.outer
                    ((made,)) = body.scan([], [], [Computed(made)])[1]
                    self.context.emitter.claim(Computed(made), label)
                return made
            finally:
                for walk in repeats:
                    walk.starting = None

    def draw(self, frame: Frame, syntax: ast.Expression, shape: tuple[int, ...]) -> Any:
        """Call an initialiser, `he_normal` or `normal(0, 0.02)`, giving it what it asks for of shape, fan_in and
        fan_out.
        """
        call = syntax if isinstance(syntax, ast.Call) else None
        function = self.context.evaluate(frame, call.function if call else syntax)
        if (
            not isinstance(function, (Defined, Builtin))
            or (isinstance(function, Defined) and function.definition.kind != "fn")
            or (isinstance(function, Builtin) and function.variadic)
        ):
            raise frame.fault(
                "E0303",
                f"an initialiser is needed after `~`, not {describe(function)}",
                syntax.span,
                hint="A fixed value is written with `=`.",
            )
        arguments = call.arguments if call else ()
        values = self.context.evaluate_all(frame, [argument.value for argument in arguments])
        if isinstance(function, Builtin):
            parameters, optional = function.parameters, set(function.defaults)
            name = function.name
        else:
            definition = function.definition
            name, parameters = definition.name, tuple(parameter.name for parameter in definition.parameters)
            optional = {parameter.name for parameter in definition.parameters if parameter.default is not None}
        fan_in, fan_out = fans(shape)
        explicit = {argument.name for argument in arguments}
        provided = {"shape": shape, "size": shape, "fan_in": fan_in, "fan_out": fan_out}
        given = {
            key: (value, ast.Argument(syntax.span, key, ast.Name(syntax.span, key)))
            for key, value in provided.items()
            if key in parameters and key not in explicit
        }
        bound = bind(self.context.reporter, frame, syntax.span, name, parameters, optional, arguments, values, given)
        if isinstance(function, Builtin):
            return self.builtins.call(frame, syntax.span, function, bound)
        return self.inlining.call(frame, syntax.span, function, bound, False)

    def filled(self, frame: Frame, value: Any, shape: tuple[int, ...], span: Span, label: str) -> Value:
        """A starting value stretched to its slot's shape."""
        if isinstance(value, tuple):
            listed = value
            value = self.context.guarded(
                frame, span, lambda: self.context.emitter.vector(listed, self.storage.init.real)
            )
        if not isinstance(value, (Computed, int, float)):
            name = (
                value.definition.name
                if isinstance(value, Defined)
                else value.name
                if isinstance(value, Builtin)
                else None
            )
            hint = f"An initialiser follows `~`: `~ {name}`." if name else None
            raise frame.fault(
                "E0401", f"a starting value is a number or a tensor, not {describe(value)}", span, hint=hint
            )

        def stretch() -> Value:
            tensor = self.context.emitter.as_real(value)
            if self.context.emitter.meet([tensor.shape, shape]) != shape:
                raise Mismatch("E0201", f"the starting value {describe(tensor)} does not fit the shape {list(shape)}")
            result = self.context.emitter.broadcast(tensor, shape)
            if result.value not in self.context.emitter.claims:
                self.context.emitter.claim(result, label)
            return result.value

        stretched: Value = self.context.guarded(frame, span, stretch)
        return stretched


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Fan-in and fan-out: the axes of a matrix [in, out]; of a kernel [out, in, ...] all but the first, and all but
    the second.
    """
    if len(shape) < 2:
        return (shape[0], shape[0]) if shape else (1, 1)
    if len(shape) == 2:
        return shape[0], shape[1]
    return prod(shape[1:]), shape[0] * prod(shape[2:])
