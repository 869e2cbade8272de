"""When training ends before its epochs are over: early stopping, and Ctrl-C."""

from __future__ import annotations

import math
import signal
import threading
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import Any

import numpy.typing as npt

from tapeless.runtime.errors import UserError
from tapeless.runtime.manifest import Settings


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
    """Ctrl-C as a wish that the training loop asks for between chunks of steps, where all is in order.

    A second Ctrl-C is a KeyboardInterrupt at once. Outside the main thread, and where the process handles the signal
    in its own way, nothing is changed.
    """

    def __init__(self) -> None:
        self.asked = False
        self._installed = False

    def __enter__(self) -> Interrupts:
        usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if usual and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._handle)
            self._installed = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
