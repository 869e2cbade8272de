"""What a program keeps: parameters, layer states, optimizer states, hyper-parameters and counters, with the node that
starts each. One for all graphs of a program: what training makes, evaluation finds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod

from tapeless.compiler.elaborate.emission import Emitter
from tapeless.compiler.elaborate.loops import Walk
from tapeless.compiler.elaborate.values import TooLarge
from tapeless.ir.graph import Graph, Span, Value
from tapeless.ir.types import DType, Tensor

SEED = Tensor(DType.U32, (2,))
COUNTER = Tensor(DType.I32)
COUNTERS = {"seed": SEED, "step": COUNTER, "steps": COUNTER, "epoch": COUNTER}
TURN = re.compile(r"\$(\d+)")  # in the name of a slot: a turn of the `repeat` that is the n-th of the loops run once
TENSORS = 20_000  # parameters and states of all turns: each has a name of its own, in the program and in its files


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


class Storage:
    """The slots, the graph `init` that starts them, and the numbers of the places where random numbers are drawn."""

    def __init__(self, name: str, real: DType) -> None:
        self.init = Emitter(name, real)
        self.seed = self.init.input("seed", SEED, "argument", None)
        self.slots: dict[str, Stored] = {}
        self.tensors = 0  # in the slots, those of each turn of a loop counted
        self.sites: dict[tuple[object, ...], int] = {}

    def keep(
        self,
        label: str,
        shape: tuple[int, ...],
        role: str,
        span: Span,
        initial: Value,
        repeats: tuple[Walk, ...],
        frozen: bool = False,
    ) -> None:
        """Enter a slot."""
        turns = tuple(walk.turns for walk in repeats if walk.turns is not None)
        self.tensors += prod(map(len, turns))
        if self.tensors > TENSORS:
            raise TooLarge(
                f"this program keeps more than {TENSORS} tensors, those of each turn of a loop counted", span
            )
        type_ = Tensor(self.init.real, (*(len(turn) for turn in turns), *shape))
        self.slots[label] = Stored(label, type_, role, span, initial, frozen, turns)

    def hyper(self, name: str, value: float, span: Span) -> Stored:
        """Enter a number that can be changed at run time."""
        self.init.span = span
        initial = self.init.emit("constant", name=name, value=float(value), dtype=self.init.real, shape=())
        self.slots[name] = Stored(name, Tensor(self.init.real), "hyper", span, initial)
        return self.slots[name]

    def count(self, span: Span) -> None:
        """Enter the slots that count: seed, step, planned steps, epoch."""
        zero = None
        for name, type_ in COUNTERS.items():
            if name == "seed":
                value = self.seed
            else:
                self.init.span = span
                zero = zero or self.init.constant(0, DType.I32)
                value = zero
            self.slots[name] = Stored(name, type_, "counter", span, value)

    def start(self) -> Graph:
        """The graph that gives every slot its starting value."""
        for stored in self.slots.values():
            self.init.output(stored.name, stored.initial, "state", stored.span)
        return self.init.graph()
