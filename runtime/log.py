"""A run's log: a line of JSON for each epoch, appended as the epochs end."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

from tapeless.runtime.errors import UserError
from tapeless.runtime.run import Run
from tapeless.runtime.writing import write_atomically


class JsonLines:
    """A callback that writes the log. Where a run is resumed, the lines of the epochs before are kept."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._begin = time.perf_counter()

    def begin(self, run: Run) -> None:
        """Empties the file, up to the epochs that the run already has."""
        try:
            lines = self.path.read_text("utf-8").splitlines() if run.epochs and self.path.is_file() else []
            kept = [line for line in lines if self._epoch(line) <= run.epochs]
            write_atomically(self.path, "".join(line + "\n" for line in kept).encode())
        except (OSError, UnicodeDecodeError) as error:
            raise self._fault(error) from error

    def on_epoch(self, run: Run) -> None:
        numbers = {name: value if math.isfinite(value) else None for name, value in run.at(run.epochs).items()}
        line = {"epoch": run.epochs, "step": run.steps, "seconds": round(time.perf_counter() - self._begin, 3)}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**line, **numbers}) + "\n")
        except OSError as error:  # the disk is full: the run goes on, and its end says so
            note = str(self._fault(error))
            if note not in run.notes:
                run.notes.append(note)

    def _fault(self, error: OSError | UnicodeDecodeError) -> UserError:
        return UserError(f"the log {self.path} can't be written: {getattr(error, 'strerror', None) or error}")

    @staticmethod
    def _epoch(line: str) -> float:
        try:
            return float(json.loads(line)["epoch"])
        except (ValueError, KeyError, TypeError):
            return float("inf")
