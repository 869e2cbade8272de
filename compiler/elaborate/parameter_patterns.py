"""Patterns of the names of parameters, as in `freeze 'encoder.*'`."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from tapeless.compiler.elaborate.frames import Frame
from tapeless.compiler.elaborate.storage import Stored
from tapeless.compiler.language import ast
from tapeless.compiler.messages.near_names import nearest
from tapeless.ir.stacking import turn_names


def matching(frame: Frame, slots: Mapping[str, Stored], pattern: ast.Text) -> list[str]:
    """The parameters whose names a pattern matches: at least one."""
    parameters = [stored for stored in slots.values() if stored.role == "param"]
    names = [name for stored in parameters for name in turn_names(stored.name, stored.turns)]
    found = [stored.name for stored in parameters if matches(frame, stored, pattern)]
    if not found and names:
        near = nearest(pattern.value, names)
        shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
        raise frame.fault(
            "E0602",
            f"'{pattern.value}' matches no parameter",
            pattern.span,
            hint=f"Did you mean '{near}'?" if near else f"The parameters are {shown}.",
        )
    return found


def matches(frame: Frame, stored: Stored, pattern: ast.Text) -> bool:
    """Whether a pattern matches a parameter; of one that the turns of `repeat` have, it matches all turns' or
    none.
    """
    found = [fnmatchcase(name, pattern.value) for name in turn_names(stored.name, stored.turns)]
    if any(found) and not all(found):
        raise frame.fault(
            "E0602",
            f"'{pattern.value}' matches some turns of a `repeat` only, and its turns are one program",
            pattern.span,
            hint="Turns that differ are written with `for`.",
        )
    return all(found)
