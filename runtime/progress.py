"""What is shown while a program trains: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress


class Reporter:
    """Shows nothing; the form that others share. Use it in a `with` block."""

    def __enter__(self) -> Reporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def advance(self, rows: int) -> None:
        """So many more examples are done."""

    def epoch(self, number: int, values: dict[str, float]) -> None:
        """An epoch has ended with these losses and metrics."""


class Bar(Reporter):
    """A bar with epoch, losses and metrics, examples per second and the time left."""

    def __init__(self, epochs: int, rows: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._epochs, self._rows = epochs, rows
        self._progress: Progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[values]}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            refresh_per_second=10,
        )
        self._task = self._progress.add_task(f"epoch 0/{epochs}", total=epochs * rows, values="", rate="")

    def __enter__(self) -> Reporter:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def advance(self, rows: int) -> None:
        speed = self._progress.tasks[0].speed
        self._progress.update(self._task, advance=rows, rate=f"{speed:,.0f}/s" if speed else "")

    def epoch(self, number: int, values: dict[str, float]) -> None:
        shown = "  ".join(f"{name.replace('validation_', 'val. ')} {value:.4g}" for name, value in values.items())
        self._progress.update(self._task, description=f"epoch {number}/{self._epochs}", values=shown)


def reporter(show: bool | None, epochs: int, rows: int) -> Reporter:
    """The bar if it is wanted: by default when standard error is a terminal."""
    if show is None:
        show = sys.stderr.isatty()
    return Bar(epochs, rows) if show else Reporter()
