"""When a run writes checkpoints on its way: every so many epochs, steps or seconds."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from tapeless.runtime.errors import UserError

DEFAULT = "60 s"
_UNITS = {"epoch": "epochs", "epochs": "epochs", "step": "steps", "steps": "steps", "s": "seconds",
    "seconds": "seconds",
          "min": "minutes", "h": "hours"}  # fmt: skip
_SECONDS = {"seconds": 1.0, "minutes": 60.0, "hours": 3600.0}


@dataclass
class Timetable:
    """`due` says whether it is time, `steps_left` how many steps may be made before it must be asked again."""

    count: float
    unit: str
    _last: float = 0.0

    @staticmethod
    def parse(text: str) -> Timetable:
        """From "5 epochs", "1000 steps", "60 s", "10 min". UserError if it is none of these."""
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)?\s*([a-z]+)\s*", text)
        unit = _UNITS.get(match[2]) if match else None
        count = float(match[1] or 1) if match else 0.0
        if unit in _SECONDS:
            count, unit = count * _SECONDS[unit], "seconds"
        if match is None or unit is None or count <= 0 or (unit != "seconds" and count != int(count)):
            raise UserError(f'checkpoints are written every "5 epochs", "1000 steps" or "60 s", not every {text!r}')
        return Timetable(count, unit)

    def begin(self, epochs: int, steps: int) -> None:
        self._last = self._now(epochs, steps)

    def steps_left(self, steps: int) -> int | None:
        """How many steps until a checkpoint is due; None if steps do not decide."""
        return int(self._last + self.count) - steps if self.unit == "steps" else None

    def due(self, epochs: int, steps: int) -> bool:
        now = self._now(epochs, steps)
        if now - self._last < self.count:
            return False
        self._last = now
        return True

    def _now(self, epochs: int, steps: int) -> float:
        return {"epochs": float(epochs), "steps": float(steps)}.get(self.unit, time.monotonic())
