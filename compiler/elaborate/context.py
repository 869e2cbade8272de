"""What the parts of the elaborator share while one graph is made, and the two functions by which they recur.

Expressions hold calls, calls run bodies, and bodies hold statements with expressions: a part that meets syntax of
another kind hands it to `evaluate` or `run_body`, and knows nothing of who takes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tapeless.compiler.elaborate.emission import Emitter
from tapeless.compiler.elaborate.folding import Mismatch
from tapeless.compiler.elaborate.frames import Frame
from tapeless.compiler.elaborate.loops import Counted, Walk
from tapeless.compiler.elaborate.reporter import Reporter
from tapeless.compiler.elaborate.values import Fault, Poisoned
from tapeless.compiler.language import ast
from tapeless.compiler.messages.diagnostics import Label
from tapeless.ir.graph import Span
from tapeless.ir.types import IRTypeError

# What a part takes, by kind of syntax: the value of an expression, or nothing for a statement.
Rules = Mapping[type, Callable[[Frame, Any], Any]]


@dataclass(eq=False)
class Written:
    """How much has been written out so far, in all graphs of a program: calls run, turns of `for`."""

    calls: int = 0
    turns: int = 0


@dataclass(eq=False)
class Context:
    """One graph under construction.

    `emitter` takes the nodes: in a loop that of the loop's body, for a starting value that of the starting values.
    `training` is None where neither training nor evaluation is meant. `loops` are those around what is being run,
    from the outermost.
    """

    evaluate: Callable[[Frame, ast.Expression], Any]  # raises Fault or Poisoned
    run_body: Callable[[Frame, Sequence[ast.Statement]], None]
    reporter: Reporter
    written: Written
    emitter: Emitter
    training: bool | None
    loops: tuple[Counted | Walk, ...] = field(default=())

    @property
    def walks(self) -> tuple[Walk, ...]:
        """The loops that are run once, from the outermost."""
        return tuple(loop for loop in self.loops if isinstance(loop, Walk))

    @contextmanager
    def into(self, emitter: Emitter) -> Iterator[None]:
        """Emit what follows into another graph."""
        outer, self.emitter = self.emitter, emitter
        try:
            yield
        finally:
            self.emitter = outer

    def evaluate_all(self, frame: Frame, expressions: Iterable[ast.Expression]) -> list[Any]:
        """Several values. Faults of all of them are reported before giving up."""
        values: list[Any] = []
        failed = False
        for syntax in expressions:
            try:
                values.append(self.evaluate(frame, syntax))
            except Fault as fault:
                self.reporter.report(fault.diagnostic)
                failed = True
            except Poisoned:
                failed = True
        if failed:
            raise Poisoned
        return values

    def guarded(
        self, frame: Frame, span: Span, rule: Callable[[], Any], labels: Callable[[], Sequence[Label]] = tuple
    ) -> Any:
        """Apply emitting code, its mismatches placed in the text."""
        self.emitter.span = frame.shown(span)
        try:
            return rule()
        except Mismatch as mismatch:
            raise frame.fault(mismatch.code, str(mismatch), span, labels(), mismatch.hint) from None
        except IRTypeError as mismatch:
            raise frame.fault("E0401", str(mismatch), span, labels()) from None
