"""Loops around what is being run: turns of `for` that are written out, and bodies that are run once for all steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tapeless.compiler.elaborate.frames import Frame
from tapeless.compiler.elaborate.scan_graphs import BodyEmitter
from tapeless.compiler.elaborate.values import Computed
from tapeless.ir.graph import Span

if TYPE_CHECKING:
    from tapeless.compiler.elaborate.context import Context


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


@contextmanager
def inside_loop(context: Context, frame: Frame, walk: Walk) -> Iterator[None]:
    """Run what follows as the body of a loop; names, turn and emitter are then what they were before."""
    names, stacked = dict(frame.names), dict(frame.stacked)
    outer, broken, loops, turn = context.emitter, frame.broken, context.loops, frame.turn
    context.emitter = frame.emitter = walk.emitter
    context.loops, frame.broken = (*loops, walk), False
    try:
        yield
    finally:
        context.emitter = frame.emitter = outer
        context.loops, frame.broken, frame.turn = loops, frame.broken or broken, turn
        frame.names, frame.stacked = names, stacked
