"""Frames: the names of one running body, where its values and parameters hang in the program's tree of names, and where
in the text its faults are shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tapeless.compiler.elaborate.emission import Emitter
from tapeless.compiler.elaborate.modules import Module
from tapeless.compiler.elaborate.values import Binding, Fault, Instance, describe
from tapeless.compiler.language import ast
from tapeless.compiler.messages.diagnostics import Diagnostic, Label
from tapeless.ir.graph import Span

if TYPE_CHECKING:
    from tapeless.compiler.elaborate.index_notation import Line


@dataclass(eq=False)
class Frame:
    """One running body of a model, layer, function, optimizer or train section.

    In an optimizer `axes_of_parameter` is the shape of its parameter, whose first axes may be `turns_of_parameter`,
    and `starts` are the names known to starting values. `line` is the line with index variables that is being
    evaluated, if one is. `stacked` is what the steps of scans have yielded, along the axis again.
    `where` prefixes the names of values; `segment` is this body's part of its parameters' names, which become final
    (`path`) when the first parameter is made. `override` is the user's place that nodes and faults of a standard
    library body point at.
    """

    kind: str
    name: str
    module: Module
    emitter: Emitter
    caller: Frame | None = None
    call_span: Span | None = None
    override: Span | None = None
    where: str = ""
    segment: str = ""
    path: str | None = None
    names: dict[str, Binding] = field(default_factory=dict)
    stacked: dict[str, Binding] = field(default_factory=dict)
    made: frozenset[str] = frozenset()
    turn: tuple[int | str, ...] = ()
    target: str | None = None
    root: object = None
    result: Any = None
    returned: bool = False
    broken: bool = False
    axes: dict[str, int] = field(default_factory=dict)
    instance: Instance | None = None
    by_mode: bool = False
    axes_of_parameter: tuple[int, ...] = ()
    turns_of_parameter: tuple[range, ...] = ()
    starts: dict[str, Binding] = field(default_factory=dict)
    line: Line | None = None

    @property
    def depth(self) -> int:
        """How many bodies this one runs inside."""
        depth, frame = 0, self.caller
        while frame is not None:
            depth, frame = depth + 1, frame.caller
        return depth

    @property
    def place(self) -> tuple[object, ...]:
        """What distinguishes this body from every other in the program, but for turns of loops: its call's place, up
        to the model.
        """
        found: list[object] = []
        frame: Frame | None = self
        while frame is not None:
            span = frame.call_span
            found.append((span.file, span.line, span.column) if span else frame.name)
            if frame.kind == "optimizer":
                found.append(frame.path)  # a rule draws for each parameter by itself
            frame = frame.caller
        return tuple(found)

    def value_name(self, name: str) -> str:
        """What a value is called in the graph; what an optimizer stores is called the next of its slot."""
        known = self.names.get(name)
        if self.kind == "optimizer" and known is not None and known.kind in ("state", "weight"):
            return join(self.where, "" if known.kind == "weight" else name, "next")
        return join(self.where, name, *self.turn)

    def shown(self, span: Span) -> Span:
        """The place that nodes made by this text point at."""
        return self.override or span

    def fault(
        self, code: str, message: str, span: Span, labels: Iterable[Label] = (), hint: str | None = None
    ) -> Fault:
        """A fault at a place of this frame's text: inside the standard library it points at the user's call instead."""
        labels = list(labels)
        if self.override is not None:
            labels.append(Label("", f"found inside `{self.name}`,", span, "written"))
            span = self.override
        elif self.call_span is not None and self.kind != "model":
            labels.append(Label("", f"in `{self.name}`,", self.call_span, "called"))
        return Fault(Diagnostic(code, message, span, tuple(labels), hint))

    def sides(self, *operands: tuple[ast.Expression, Any]) -> list[Label]:
        """What each operand is, and where it comes from."""
        labels = []
        for syntax, value in operands:
            if isinstance(syntax, ast.Number):
                continue
            label = self.side(syntax, value)
            if label not in labels:
                labels.append(label)
        return labels

    def side(self, syntax: ast.Expression, value: Any) -> Label:
        """One operand: its name or text, its kind, its place."""
        if isinstance(syntax, ast.Name) and syntax.name in self.names:
            binding = self.names[syntax.name]
            return Label(binding.subject, f"is {describe(value)}", binding.span, binding.relation)
        text = self.module.source.slice(syntax.span)
        subject = f"`{text}`" if 0 < len(text) <= 40 and syntax.span.line == syntax.span.end_line else "this"
        return Label(subject, f"is {describe(value)}")


def join(*parts: object) -> str:
    """Parts of a name with dots between them, empty ones left out."""
    return ".".join(str(part) for part in parts if part != "")
