"""One graph's elaboration, put together: which part takes which syntax, and what each part needs of the others.

A part is given the parts it needs, and each of those stands above it here; only `evaluate` and `run_body` lead back up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tapeless.compiler.elaborate.argument_shapes import Matching
from tapeless.compiler.elaborate.assignments import Assignments
from tapeless.compiler.elaborate.builtin_calls import Around, Builtins
from tapeless.compiler.elaborate.calls import Calls
from tapeless.compiler.elaborate.conditions import Conditions
from tapeless.compiler.elaborate.context import Context, Rules, Written
from tapeless.compiler.elaborate.control import Control
from tapeless.compiler.elaborate.declarations import Declarations
from tapeless.compiler.elaborate.draws import Draws
from tapeless.compiler.elaborate.emission import Emitter, Labelled
from tapeless.compiler.elaborate.frames import Frame
from tapeless.compiler.elaborate.index_notation import Lines
from tapeless.compiler.elaborate.inlining import Inlining
from tapeless.compiler.elaborate.inputs import Inputs
from tapeless.compiler.elaborate.interface import Interface
from tapeless.compiler.elaborate.literals import Literals
from tapeless.compiler.elaborate.names import Names
from tapeless.compiler.elaborate.operators import Operators
from tapeless.compiler.elaborate.paths import Paths
from tapeless.compiler.elaborate.ports import Ports
from tapeless.compiler.elaborate.repeats import Repeats
from tapeless.compiler.elaborate.reporter import Reporter
from tapeless.compiler.elaborate.results import Results
from tapeless.compiler.elaborate.scan_steps import Steps
from tapeless.compiler.elaborate.scans import Scans
from tapeless.compiler.elaborate.shared_layers import SharedLayers
from tapeless.compiler.elaborate.sizes import Sizes
from tapeless.compiler.elaborate.starting_values import StartingValues
from tapeless.compiler.elaborate.storage import Storage
from tapeless.compiler.elaborate.subscripts import Subscripts
from tapeless.compiler.elaborate.updates import Updates
from tapeless.compiler.elaborate.values import POISON, Binding, Fault, Poisoned
from tapeless.compiler.language import ast
from tapeless.compiler.language.statement_parser import made_by
from tapeless.ir.graph import Graph


@dataclass(frozen=True, eq=False)
class Common:
    """What the graphs of one program have in common. `sizes` are those given from outside, `gradients` those of parts
    of the graphs that have been found (see `differentiation`), `labelled` is what losses say of labels.
    """

    reporter: Reporter
    storage: Storage
    sizes: Mapping[str, int | float]
    written: Written = field(default_factory=Written)
    gradients: dict[tuple[Any, ...], tuple[Graph, int]] = field(default_factory=dict)
    labelled: list[Labelled] = field(default_factory=list)


class TakesSyntax(Protocol):
    """What takes some kinds of syntax."""

    @property
    def rules(self) -> Rules:
        """The rule for each of them."""


class Elaborator:
    """Runs bodies and evaluates expressions into one graph."""

    def __init__(self, common: Common, emitter: Emitter, training: bool | None) -> None:
        storage = common.storage
        context = self.context = Context(
            self.evaluate, self.run_body, common.reporter, common.written, emitter, training
        )
        self.interface = Interface()
        self.paths = paths = Paths(storage)
        self.ports = ports = Ports(context, storage)
        self.names = names = Names(context, paths, ports, common.sizes)
        self.updates = updates = Updates(context)

        sizes = Sizes(context)
        conditions = Conditions(context, names)
        steps = Steps(context)
        lines = Lines(context, names, sizes, steps)

        builtins = Builtins(context, Around(context, sizes, ports, Draws(context, storage, ports)))
        self.inlining = inlining = Inlining(context, Matching(context))
        shared_layers = SharedLayers(context, paths, inlining)
        calls = Calls(context, builtins, inlining, shared_layers)

        starting = StartingValues(context, storage, builtins, inlining)
        assignments = Assignments(context, ports, lines, updates)
        repeats = Repeats(context, updates)
        self.parts: tuple[TakesSyntax, ...] = (
            Literals(context),
            names,
            Operators(context),
            conditions,
            Subscripts(context, steps),
            steps,
            lines,
            calls,
            assignments,
            Declarations(context, storage, paths, ports, sizes, starting),
            shared_layers,
            Control(context, conditions, repeats),
            Scans(context, names, sizes),
            Inputs(context, names, sizes, self.interface),
            Results(context, storage, names, assignments, self.interface),
        )
        self._rules: Rules = {kind: rule for part in self.parts for kind, rule in part.rules.items()}

    def evaluate(self, frame: Frame, syntax: ast.Expression) -> Any:
        """The value of an expression. Raises Fault or Poisoned."""
        return self._rules[type(syntax)](frame, syntax)

    def run_body(self, frame: Frame, body: Sequence[ast.Statement]) -> None:
        """Run statements in order until one returns. A fault poisons the names its statement would have made, and
        the next runs.
        """
        for statement in body:
            if frame.returned:
                break
            try:
                self._rules[type(statement)](frame, statement)
            except Fault as fault:
                self.context.reporter.report(fault.diagnostic)
                _poison(frame, statement)
            except Poisoned:
                _poison(frame, statement)
            frame.target = frame.root = None


def _poison(frame: Frame, statement: ast.Statement) -> None:
    """The names that a failed statement would have made have no value, and say nothing more."""
    frame.broken = True
    for name in made_by(statement):
        frame.names[name] = Binding(POISON, name, None)
    pending = [statement]
    while pending:
        item = pending.pop()
        if isinstance(item, (ast.Return, ast.Require)):  # what follows relies on what is required
            frame.returned, frame.result = True, POISON
        elif isinstance(item, ast.Yield):
            items = item.value.items if isinstance(item.value, ast.Several) else (item.value,)
            yielded = [name.name for name in items if isinstance(name, ast.Name)]
            frame.stacked |= {name: Binding(POISON, f"stacked {name}", None) for name in yielded}
        elif isinstance(item, ast.If):
            pending += [*item.then, *item.otherwise]
        elif isinstance(item, (ast.For, ast.Scan)):
            pending += item.body
