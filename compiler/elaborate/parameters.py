"""What a program stores: parameters, layer states, optimizer states, with their names and starting values.

Starting values are computed in a graph of their own (`init`), by the same language: an initialiser is a function of
`shape`,
`fan_in` and `fan_out`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

from tapeless.compiler.elaborate.calls import Calls
from tapeless.compiler.elaborate.emission import Emitter, Mismatch, Operand
from tapeless.compiler.elaborate.evaluator import CONSTANTS, SPECIAL
from tapeless.compiler.elaborate.functions import CallSite
from tapeless.compiler.elaborate.scan_graphs import BodyEmitter
from tapeless.compiler.elaborate.scope import Frame, join
from tapeless.compiler.elaborate.values import Binding, Builtin, Computed, Defined, TooLarge, describe
from tapeless.compiler.language import ast
from tapeless.compiler.messages.diagnostics import Label
from tapeless.ir.graph import Span, Value
from tapeless.ir.types import DType, Tensor

# Draws of the forward pass count from 0, those of starting values from here: adding a dropout changes no starting
# value.
FIRST_INITIAL_SITE = 1 << 30
SEED = Tensor(DType.U32, (2,))
COUNTER = Tensor(DType.I32)
TURN = re.compile(r"\$(\d+)")  # in the name of a slot: a turn of the `repeat` that is the n-th of the loops run once
TENSORS = 20_000  # parameters and states of all turns: each has a name of its own, in the program and in its files
TURNS = re.compile(r"\.[$]?\d+(?=\.|$)")  # in names: turns of any loop
COUNTERS = {"seed": SEED, "step": COUNTER, "steps": COUNTER, "epoch": COUNTER}


@dataclass
class Stored:
    """One slot of the program's state and the node of `init` that starts it."""

    name: str
    type: Tensor
    role: str
    span: Span
    initial: Value
    frozen: bool = False
    turns: tuple[range, ...] = ()  # of a slot that holds a parameter of each turn of `repeat`: its first axes


@dataclass(eq=False)
class Counted:
    """A turn of `for`: the `place`-th of `count`."""

    place: int
    count: int


@dataclass(eq=False)
class Walk:
    """A loop whose body is being run once: a scan over the axis `axis`, or the turns of a `repeat`."""

    frame: Frame
    emitter: BodyEmitter
    axis: str = ""
    place: int = 0  # of the axis, in what is walked: from the front, or, negative, from the back
    turns: range | None = None
    yields: dict[str, Computed] = field(default_factory=dict)
    updates: dict[str, tuple[Computed, Span]] = field(default_factory=dict)  # what a turn stores
    starting: BodyEmitter | None = None  # the body that makes the turns' starting values, while they are made


class Parameters(Calls):
    """Keeps the slots while graphs are elaborated."""

    def __init__(self, name: str, real: DType) -> None:
        super().__init__()
        self.init = Emitter(name, real)
        self.seed = self.init.input("seed", SEED, "argument", None)
        self.slots: dict[str, Stored] = {}
        self.tensors = 0  # in the slots, those of each turn of a loop counted
        self.taken: set[str] = set()
        self.declared: set[str] = set()
        self.ports: dict[str, Value] = {}
        self.sites: dict[tuple[object, ...], int] = {}
        self.loops: tuple[Counted | Walk, ...] = ()

    @property
    def walks(self) -> tuple[Walk, ...]:
        """The loops that are run once, from the outermost."""
        return tuple(loop for loop in self.loops if isinstance(loop, Walk))

    # --- Names

    def taken_names(self) -> set[str]:
        return self.taken

    def claim_path(self, wanted: str) -> str:
        """A prefix for parameters that nothing else has: the wanted one, or the wanted one numbered."""
        path, count = wanted, 1
        while path in self.taken:
            count += 1
            path = f"{wanted}_{count}"
        self.taken.add(path)
        return path

    def path_of(self, frame: Frame) -> str:
        """The prefix of a body's parameters, made final on first need."""
        if frame.path is None:
            if frame.caller is None:
                frame.path = ""
            elif frame.kind == "fn":
                frame.path = self.path_of(frame.caller)
            else:
                frame.path = self.claim_path(join(self.path_of(frame.caller), frame.segment))
        return frame.path

    # --- Slots

    def port(self, label: str, type: Tensor, role: str, span: Span | None) -> Value:
        """The input port of a slot in the graph under construction, made on first need."""
        if label not in self.ports:
            self.ports[label] = self.emitter.root.input(label, type, role, span)
        return self.ports[label]

    def param(self, frame: Frame, syntax: ast.Param) -> None:
        """`param W: [i, units] ~ he_normal`."""
        if frame.kind not in ("model", "layer"):
            raise self.fault(frame, "E0108", f"a parameter cannot be made inside the {_kind(frame)} `{frame.name}`",
                syntax.span,
                             hint="Parameters belong to layers and models.")  # fmt: skip
        self.in_every_mode(frame, "parameter", syntax.span)
        dims = syntax.dims or ()
        shape = self.fixed(frame, dims, f"the parameter `{syntax.name}`")
        self.fresh(frame, syntax.name, syntax.span)
        label = self.label_of(frame, syntax.name)
        repeats = self.repeats_of(label)
        if label not in self.slots:
            initial = self.initial(frame, syntax, shape, label, repeats)
            self.keep(label, shape, "param", self.shown(frame, syntax.span), initial, repeats, syntax.frozen)
        stored = self.slots[label]
        kept = stored.type.shape[len(repeats) :]
        if kept != shape:
            was = Label(f"`{label}`", f"is {list(kept)}", stored.span, "made")
            raise self.fault(
                frame, "E0203", f"the shared parameter `{label}` cannot be {list(shape)} here", syntax.span, [was]
            )
        value = Computed(self.of_turn(stored, repeats))
        frame.names[syntax.name] = Binding(
            value, syntax.name, syntax.span, "declared", "param", syntax, {"slot": label}
        )

    def lookup(self, frame: Frame, name: str, span: Span) -> Binding:
        """What a name stands for: `h.W` is a parameter of a layer above, in a loop that of the turn at hand. Raises
        Fault or Poisoned.
        """
        head, dot, rest = name.partition(".")
        if dot and frame.kind in ("model", "layer") and (frame.path is not None or frame.caller is None):
            labels = [
                join(self.path_of(frame), head, *frame.turn[:depth], rest) for depth in range(len(frame.turn), -1, -1)
            ]
            label = next((label for label in labels if label in self.parameters_so_far()), None)
            if label is not None:
                if frame.emitter is not self.emitter:
                    raise self.fault(
                        frame, "E0404", f"a starting value cannot depend on `{name}`, which is computed from data", span
                    )
                stored = self.slots[label]
                return Binding(
                    Computed(self.of_turn(stored, self.repeats_of(label))), name, stored.span, "made", "param"
                )
            if head in frame.made and head not in frame.names:
                raise self.fault(frame, "E0310", f"`{head}` is used before it has a value", span)
        return super().lookup(frame, name, span)

    def known(self, frame: Frame) -> list[str]:
        """Every name that could be meant in a frame, the parameters of its layers among them."""
        start = f"{frame.path}." if frame.path else ""
        reached = self.parameters_so_far() if frame.path is not None or frame.caller is None else {}
        return [
            *super().known(frame),
            *(
                label.removeprefix(start)
                for label in reached
                if label.startswith(start) and "." in label.removeprefix(start)
            ),
        ]

    def state(self, frame: Frame, syntax: ast.State) -> None:
        """`state mean: [c] = 0`; in an optimizer each parameter has one of its own shape."""
        optimizer = frame.kind == "optimizer"
        if frame.kind not in ("model", "layer", "optimizer"):
            raise self.fault(
                frame, "E0108", f"a state cannot be made inside the {_kind(frame)} `{frame.name}`", syntax.span
            )
        self.in_every_mode(frame, "state", syntax.span)
        if syntax.value is None:
            raise self.fault(
                frame,
                "E0510",
                f"the state `{syntax.name}` needs a starting value",
                syntax.span,
                hint=f"Write `state {syntax.name} = 0`.",
            )
        dims = syntax.dims or ()
        shape: tuple[Any, ...] = self.fixed(frame, dims, f"the state `{syntax.name}`")
        if optimizer and syntax.dims is None:
            shape = frame.axes_of_parameter
        self.fresh(frame, syntax.name, syntax.span)
        label = self.label_of(frame, syntax.name)
        repeats = () if optimizer else self.repeats_of(label)
        if label not in self.slots:
            written = syntax.value
            initial = self.started(
                frame, label, repeats, shape, written.span, lambda inner: self.evaluate(inner, written)
            )
            role = "optimizer" if optimizer else "state"
            self.keep(label, shape, role, self.shown(frame, syntax.span), initial, repeats)
            if optimizer and frame.turns_of_parameter:
                if syntax.dims is not None:
                    raise self.fault(
                        frame,
                        "E0510",
                        (
                            f"in `repeat` the state `{syntax.name}` has the shape of its parameter, so it cannot "
                            "have one here"
                        ),
                        syntax.span,
                    )
                self.slots[label].turns = frame.turns_of_parameter
        stored = self.slots[label]
        current = Computed(self.of_turn(stored, repeats))
        frame.names[syntax.name] = Binding(
            current, syntax.name, syntax.span, "declared", "state", syntax, {"slot": label}
        )

    def parameters_so_far(self) -> dict[str, Computed]:
        """Every parameter that the graph under construction has read, by name."""
        return {
            label: Computed(value)
            for label, value in self.ports.items()
            if label in self.slots and self.slots[label].role == "param"
        }

    def keep(self, label: str, shape: tuple[int, ...], role: str, span: Span, initial: Value, repeats: tuple[Walk, ...],
             frozen: bool = False) -> None:  # fmt: skip
        """Enter a slot."""
        turns = tuple(walk.turns for walk in repeats if walk.turns is not None)
        self.tensors += prod(map(len, turns))
        if self.tensors > TENSORS:
            raise TooLarge(
                f"this program keeps more than {TENSORS} tensors, those of each turn of a loop counted", span
            )
        type_ = Tensor(self.init.real, (*(len(turn) for turn in turns), *shape))
        self.slots[label] = Stored(label, type_, role, span, initial, frozen, turns)

    def repeats_of(self, label: str) -> tuple[Walk, ...]:
        """The open `repeat` loops of which each turn has a slot of its own under this label."""
        walks = self.walks
        return tuple(walks[int(depth)] for depth in TURN.findall(label))

    def of_turn(self, stored: Stored, repeats: tuple[Walk, ...]) -> Value:
        """What a slot holds for the turns at hand."""
        value = self.port(stored.name, stored.type, stored.role, stored.span)
        for walk in repeats:
            value = walk.emitter.element(walk.emitter.outer.own(value), stored.name)
        return value

    def label_of(self, frame: Frame, name: str) -> str:
        """The full name of what this body stores under a name. Raises Fault if it exists."""
        label = join(self.path_of(frame), name, *frame.turn)
        if label in self.declared and not self.shares(frame):
            label = self.claim_path(label)
        if frame.kind == "optimizer":
            while label in self.slots and self.slots[label].role != "optimizer":
                label += "_2"
        self.declared.add(label)
        return label

    def shares(self, frame: Frame | None) -> bool:
        """Whether this body runs inside a layer made by `use`."""
        while frame is not None:
            if frame.instance is not None:
                return True
            frame = frame.caller
        return False

    def fresh(self, frame: Frame, name: str, span: Span) -> None:
        """The name must be new in this body, but for the turns of a loop."""
        if name in CONSTANTS or name in SPECIAL or (frame.kind == "model" and name in COUNTERS):
            what = "is how the program counts" if name in COUNTERS else "has a fixed meaning"
            raise self.fault(
                frame, "E0309", f"`{name}` {what} and cannot be declared", span, hint="Choose another name."
            )
        known = frame.names.get(name)
        switch = known is not None and known.kind == "argument" and isinstance(known.value, bool)
        if known is None or switch or (frame.turn and known.span == span):
            return  # what a yes-or-no argument asks for may have its name
        first = Label(f"`{name}`", "is here too", known.span, "first declared")
        raise self.fault(frame, "E0302", f"`{name}` has a meaning already", span, [first])

    def in_every_mode(self, frame: Frame, kind: str, span: Span) -> None:
        """Slots are the same in training and evaluation."""
        above: Frame | None = frame
        while above is not None:
            if above.by_mode:
                raise self.fault(frame, "E0507", f"this {kind} would exist only in training, or only in evaluation",
                    span,
                                 hint="Declare it before `if training:`.")  # fmt: skip
            above = above.caller

    # --- Starting values

    @contextmanager
    def starting(self, frame: Frame, label: str) -> Iterator[Frame]:
        """Evaluate into `init`; values of the graph under construction are out of reach."""
        emitter = self.emitter
        self.emitter = self.init
        self.init.where = label
        self.init.shared.clear()  # each slot has nodes of its own, so that a reader sees what starts it
        inner = frame
        if frame.kind == "optimizer":
            inner = Frame(
                "optimizer", frame.name, frame.module, self.init, frame.caller, frame.call_span, frame.override
            )
            inner.names = {
                name: binding for name, binding in frame.names.items() if not isinstance(binding.value, Computed)
            }
            inner.names |= frame.starts
        try:
            yield inner
        finally:
            self.emitter = emitter

    def initial(
        self, frame: Frame, syntax: ast.Param, shape: tuple[int, ...], label: str, repeats: tuple[Walk, ...]
    ) -> Value:
        """The node of `init` that makes a parameter's starting value."""
        if syntax.value is None and syntax.initialiser is None:
            scalar = not shape
            raise self.fault(
                frame,
                "E0510",
                f"the parameter `{syntax.name}` needs a starting value",
                syntax.span,
                hint=f"Write `param {syntax.name} = 0`."
                if scalar
                else "Add `= 0`, or an initialiser such as `~ he_normal`.",
            )
        written, initialiser = syntax.value, syntax.initialiser
        if written is not None:
            return self.started(frame, label, repeats, shape, written.span, lambda inner: self.evaluate(inner, written))
        assert initialiser is not None
        return self.started(
            frame, label, repeats, shape, initialiser.span, lambda inner: self.draw(inner, initialiser, shape)
        )

    def started(self, frame: Frame, label: str, repeats: tuple[Walk, ...], shape: tuple[int, ...], span: Span,
                make: Callable[[Frame], Any]) -> Value:  # fmt: skip
        """The node of `init` that starts a slot: of one that each turn of `repeat` has, a scan over the turns."""
        with self.starting(frame, label) as inner:
            for walk in repeats:
                assert walk.turns is not None
                walk.starting = self.emitter = BodyEmitter(self.emitter, len(walk.turns))
            try:
                value = make(inner)
                if isinstance(value, (int, float)):
                    self.emitter = self.init
                    return self.filled(
                        inner, value, (*(len(walk.turns or ()) for walk in repeats), *shape), span, label
                    )
                made = self.filled(inner, value, shape, span, label)
                for walk in reversed(repeats):
                    body = walk.starting
                    assert body is not None
                    self.emitter = body.outer
                    ((made,)) = body.scan([], [], [Computed(made)])[1]
                    self.emitter.claim(Computed(made), label)
                return made
            finally:
                for walk in repeats:
                    walk.starting = None

    def draw(self, frame: Frame, syntax: ast.Expression, shape: tuple[int, ...]) -> Any:
        """Call an initialiser, `he_normal` or `normal(0, 0.02)`, giving it what it asks for of shape, fan_in and
        fan_out.
        """
        call = syntax if isinstance(syntax, ast.Call) else None
        function = self.evaluate(frame, call.function if call else syntax)
        if (
            not isinstance(function, (Defined, Builtin))
            or (isinstance(function, Defined) and function.definition.kind != "fn")
            or (isinstance(function, Builtin) and function.variadic)
        ):
            raise self.fault(frame, "E0303", f"an initialiser is needed after `~`, not {describe(function)}",
                syntax.span,
                             hint="A fixed value is written with `=`.")  # fmt: skip
        arguments = call.arguments if call else ()
        values = self.evaluate_all(frame, [argument.value for argument in arguments])
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
        bound = self.bind(frame, syntax.span, name, parameters, optional, arguments, values, given)
        if isinstance(function, Builtin):
            return self.call_builtin(frame, syntax.span, function, bound)
        return self.call_defined(frame, syntax.span, function, bound, False)

    def filled(self, frame: Frame, value: Any, shape: tuple[int, ...], span: Span, label: str) -> Value:
        """A starting value stretched to its slot's shape."""
        if isinstance(value, tuple):
            listed = value
            value = self.guarded(frame, span, lambda: self.emitter.vector(listed, self.init.real))
        if not isinstance(value, (Computed, int, float)):
            name = (
                value.definition.name
                if isinstance(value, Defined)
                else value.name
                if isinstance(value, Builtin)
                else None
            )
            hint = f"An initialiser follows `~`: `~ {name}`." if name else None
            raise self.fault(
                frame, "E0401", f"a starting value is a number or a tensor, not {describe(value)}", span, hint=hint
            )

        def stretch() -> Value:
            tensor = self.emitter.as_real(value)
            if self.emitter.meet([tensor.shape, shape]) != shape:
                raise Mismatch("E0201", f"the starting value {describe(tensor)} does not fit the shape {list(shape)}")
            result = self.emitter.broadcast(tensor, shape)
            if result.value not in self.emitter.claims:
                self.emitter.claim(result, label)
            return result.value

        stretched: Value = self.guarded(frame, span, stretch)
        return stretched

    # --- Random draws

    def random_key(self, call: CallSite, draw: int) -> tuple[Any, ...]:
        """Seed, step, in loops the loop's step, and site of a draw: its place in the program has a number of its
        own.
        """
        initial = self.emitter.root is self.init
        label = TURNS.sub(".*", self.init.where) if initial else ""
        place = (initial, label, call.frame.place, call.span.line, call.span.column, draw)
        if place not in self.sites:
            count = sum(1 for other in self.sites if other[0] is initial)
            self.sites[place] = count + (FIRST_INITIAL_SITE if initial else 0)
        seed = self.seed if initial else self.port("seed", SEED, "counter", None)
        step = self.init.constant(0, DType.I32) if initial else self.port("step", COUNTER, "counter", None)
        turn = self.turn_number(initial)
        return seed, step, *(() if turn is None else (turn,)), self.sites[place]

    def turn_number(self, initial: bool) -> Value | None:
        """The number of the turn or step at hand, counted through all loops around; None outside of loops. Starting
        values do not depend on the steps of scans.
        """
        loops = [loop for loop in self.loops if isinstance(loop, Counted) or not initial or loop.starting is not None]
        if not loops:
            return None
        emitter = self.emitter
        total: Operand = 0
        for loop in loops:
            place: Operand
            if isinstance(loop, Counted):
                length, place = loop.count, loop.place
            else:
                body = loop.starting if initial and loop.starting else loop.emitter
                length, place = body.length, Computed(body.place())
            total = emitter.binary("+", emitter.binary("*", total, length), place) if total != 0 else place
        return emitter.computed(total, DType.I32).value


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Fan-in and fan-out: the axes of a matrix [in, out]; of a kernel [out, in, ...] all but the first, and all but
    the second.
    """
    if len(shape) < 2:
        return (shape[0], shape[0]) if shape else (1, 1)
    if len(shape) == 2:
        return shape[0], shape[1]
    return prod(shape[1:]), shape[0] * prod(shape[2:])


def _kind(frame: Frame) -> str:
    return "function" if frame.kind == "fn" else frame.kind
