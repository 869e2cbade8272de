"""Arguments of a call, given by place or by name, bound to parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tapeless.compiler.elaborate.frames import Frame
from tapeless.compiler.elaborate.reporter import Reporter
from tapeless.compiler.elaborate.values import Fault
from tapeless.compiler.language import ast
from tapeless.compiler.messages.near_names import meant_argument
from tapeless.ir.graph import Span


def bind(
    reporter: Reporter,
    frame: Frame,
    span: Span,
    name: str,
    parameters: Sequence[str],
    optional: set[str],
    arguments: Sequence[ast.Argument],
    values: Sequence[Any],
    given: Mapping[str, tuple[Any, ast.Argument]] | None = None,
) -> dict[str, tuple[Any, ast.Argument]]:
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
                    frame.fault(
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
            faults.append(
                frame.fault(
                    "E0304",
                    f"`{name}` has no argument `{argument.name}`",
                    argument.span,
                    hint=f"Did you mean `{near}`?" if near else listing,
                )
            )
            continue
        if parameter in bound and parameter not in fixed:
            raise frame.fault("E0307", f"`{parameter}` of `{name}` is given twice", argument.span)
        if parameter in fixed:
            raise frame.fault("E0307", f"`{parameter}` of `{name}` is fixed by its `use` line", argument.span)
        bound[parameter] = (value, argument)
    if faults:
        for fault in faults[1:]:
            reporter.report(fault.diagnostic)
        raise faults[0]
    for parameter in parameters:
        if parameter not in bound and parameter not in optional:
            if position and parameters[0] == "x" and isinstance(bound.get("x", (None,))[0], (int, float)):
                listing = f"What it works on comes first: `{name}(x, ...)`."
            raise frame.fault("E0305", f"`{name}` needs its argument `{parameter}`", span, hint=listing)
    return bound


def _counted(count: int) -> str:
    return "no arguments" if not count else "one argument" if count == 1 else f"{count} arguments"
