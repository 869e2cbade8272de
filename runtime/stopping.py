"""When training ends before its epochs are over: early stopping, Ctrl-C, and SIGTERM."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import Any

import numpy.typing as npt

from tapeless.runtime.errors import TERMINATED, UserError
from tapeless.runtime.manifest import Settings

USUAL = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


@dataclass
class Best:
    """The best value so far of the number that early stopping watches, and the weights that gave it."""

    key: str
    rising: bool
    patience: int
    value: float | None = None
    epoch: int = 0
    weights: dict[str, npt.NDArray[Any]] = field(default_factory=dict)

    def better(self, value: float) -> bool:
        if math.isnan(value):
            return False
        return self.value is None or (value > self.value if self.rising else value < self.value)

    def exhausted(self, epochs: int) -> bool:
        """Whether patience is at an end after so many epochs."""
        return epochs - self.epoch >= self.patience


def watched(settings: Settings, names: list[str], held: bool) -> Best | None:
    """What early stopping watches according to the settings; None if it is off. `held`: rows are held out."""
    if not settings.patience:
        return None
    name = settings.monitor or "loss"
    if name not in names:
        raise UserError(f"early stopping watches `{name}`, but the program measures {', '.join(names)}")
    return Best(f"validation_{name}" if held else name, settings.rising, settings.patience)


class Interrupts:
    """Ctrl-C, and a SIGTERM, as a wish that the training loop asks for between chunks of steps, where all is in order.

    A second one is raised at once, though within `held` only at its end. Outside the main thread, and where the
    process handles a signal in its own way, nothing is changed.
    """

    def __init__(self) -> None:
        self.asked: int | None = None  # the signal that came first
        self._urgent = self._holding = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number, usual in USUAL.items():
                if signal.getsignal(number) is usual:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            if signal.getsignal(number) == self._handle:  # else the caller has set another one meanwhile
                signal.signal(number, before)

    @contextmanager
    def held(self) -> Iterator[None]:
        """While something is done that is done whole, or not at all."""
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
        if self._urgent:
            self._urgent = False
            raise self.wish()

    def wish(self) -> BaseException:
        """What the first signal would have raised had nobody waited."""
        return SystemExit(TERMINATED) if self.asked == signal.SIGTERM else KeyboardInterrupt()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked is None:
            self.asked = number
        elif self._holding:
            self._urgent = True
        else:
            raise self.wish()
