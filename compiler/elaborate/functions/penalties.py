"""Penalties on the parameters themselves: l1 and l2, terms of a loss."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from tapeless.compiler.elaborate.functions.registry import CallSite, builtin
from tapeless.compiler.elaborate.values import Computed
from tapeless.compiler.messages.near_names import nearest


def _enter(name: str, op: str, what: str) -> None:
    def run(call: CallSite, names: Any = "*") -> Computed:
        if not isinstance(names, str):
            raise call.fault("E0401", f"`{name}` takes parameters by name, as in `{name}('*.W')`", "names")
        made = call.around.parameters_so_far()
        found = [parameter for label, parameter in made.items() if fnmatchcase(label, names)]
        if not found:
            near = nearest(names, made)
            hint = (
                f"Did you mean '{near}'?"
                if near
                else f"So far there are {', '.join(made)}."
                if made
                else "None has been made so far."
            )
            raise call.fault("E0602", f"'{names}' matches no parameter", "names", hint=hint)
        emit = call.emit
        total: Any = None
        for parameter in found:
            part = emit.reduce("sum", emit.pointwise(op, parameter), range(parameter.rank))
            total = part if total is None else emit.pointwise("add", total, part)
        return Computed(total.value)

    run.__doc__ = f"The sum of the {what} of all parameters made so far whose names match."
    builtin(name)(run)


_enter("l1", "abs", "absolute values")
_enter("l2", "square", "squares")
