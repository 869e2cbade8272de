"""Random draws: each place in the program has a number of its own, and so has each turn of a loop."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from tapeless.compiler.elaborate.context import Context
from tapeless.compiler.elaborate.folding import Operand
from tapeless.compiler.elaborate.functions import CallSite
from tapeless.compiler.elaborate.loops import Counted
from tapeless.compiler.elaborate.ports import Ports
from tapeless.compiler.elaborate.storage import COUNTER, SEED, Storage
from tapeless.compiler.elaborate.values import Computed
from tapeless.ir.graph import Value
from tapeless.ir.types import DType

# Draws of the forward pass count from 0, those of starting values from here: adding a dropout changes no starting
# value.
FIRST_INITIAL_SITE = 1 << 30
TURNS = re.compile(r"\.[$]?\d+(?=\.|$)")  # in names: turns of any loop


@dataclass(frozen=True, eq=False)
class Draws:
    """Numbers the draws."""

    context: Context
    storage: Storage
    ports: Ports

    def random_key(self, call: CallSite, draw: int) -> tuple[Any, ...]:
        """Seed, step, in loops the loop's step, and site of a draw: its place in the program has a number of its
        own.
        """
        initial = self.context.emitter.root is self.storage.init
        label = TURNS.sub(".*", self.storage.init.where) if initial else ""
        place = (initial, label, call.frame.place, call.span.line, call.span.column, draw)
        if place not in self.storage.sites:
            count = sum(1 for other in self.storage.sites if other[0] is initial)
            self.storage.sites[place] = count + (FIRST_INITIAL_SITE if initial else 0)
        seed = self.storage.seed if initial else self.ports.port("seed", SEED, "counter", None)
        step = (
            self.storage.init.constant(0, DType.I32) if initial else self.ports.port("step", COUNTER, "counter", None)
        )
        turn = self.turn_number(initial)
        return seed, step, *(() if turn is None else (turn,)), self.storage.sites[place]

    def turn_number(self, initial: bool) -> Value | None:
        """The number of the turn or step at hand, counted through all loops around; None outside of loops. Starting
        values do not depend on the steps of scans.
        """
        loops = [
            loop for loop in self.context.loops if isinstance(loop, Counted) or not initial or loop.starting is not None
        ]
        if not loops:
            return None
        emitter = self.context.emitter
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
