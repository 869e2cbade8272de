"""Frames: the names of one running body, and where its values and parameters hang in the program's tree of names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tapeless.compiler.elaborate.emission import Emitter
from tapeless.compiler.elaborate.modules import Module
from tapeless.compiler.elaborate.values import Binding, Instance
from tapeless.ir.graph import Span

if TYPE_CHECKING:
    from tapeless.compiler.elaborate.indexing import Line


@dataclass(eq=False)
class Frame:
    """One running body of a model, layer, function, optimizer or train section.

    In an optimizer `axes_of_parameter` is the shape of its parameter, whose first axes may be `turns_of_parameter`,
    and `starts` are the names known to starting values. `line` is the line with index variables that is being
    evaluated, if one is.
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


def join(*parts: object) -> str:
    """Parts of a name with dots between them, empty ones left out."""
    return ".".join(str(part) for part in parts if part != "")
