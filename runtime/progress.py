"""What is shown while a program trains: a bar on a terminal or in a notebook, nothing elsewhere."""

from __future__ import annotations

import contextlib
import html
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress

NOTEBOOK_SECONDS = 0.2  # between two pictures of a notebook's bar


class Reporter:
    """Shows nothing; the form that others share. Use it in a `with` block."""

    def __enter__(self) -> Reporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def resumed(self, epochs: int, rows: int) -> None:
        """So many epochs, and rows of the one that follows, had been done before."""

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
        with contextlib.suppress(OSError):  # the terminal is gone: training goes on
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._progress.stop()

    def resumed(self, epochs: int, rows: int) -> None:
        self._progress.update(
            self._task, completed=epochs * self._rows + rows, description=f"epoch {epochs}/{self._epochs}"
        )

    def advance(self, rows: int) -> None:
        speed = self._progress.tasks[0].speed
        self._progress.update(self._task, advance=rows, rate=f"{speed:,.0f}/s" if speed else "")

    def epoch(self, number: int, values: dict[str, float]) -> None:
        self._progress.update(self._task, description=f"epoch {number}/{self._epochs}", values=numbers(values))


class NotebookBar(Reporter):
    """The same in a notebook: one piece of HTML, shown once and replaced as training goes on."""

    def __init__(self, epochs: int, rows: int) -> None:
        self._epochs, self._total = epochs, max(epochs * rows, 1)
        self._rows, self._done, self._before = rows, 0, 0
        self._number, self._values = 0, ""
        self._handle: Any = None
        self._begin = self._shown = time.monotonic()

    def __enter__(self) -> Reporter:
        from IPython.display import HTML, display

        self._begin = time.monotonic()
        self._handle = display(HTML(self.html()), display_id=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._show()

    def resumed(self, epochs: int, rows: int) -> None:
        self._number = epochs
        self._done = self._before = epochs * self._rows + rows

    def advance(self, rows: int) -> None:
        self._done += rows
        if time.monotonic() - self._shown >= NOTEBOOK_SECONDS:
            self._show()

    def epoch(self, number: int, values: dict[str, float]) -> None:
        self._number, self._values = number, numbers(values)

    def html(self) -> str:
        """The bar as it is now."""
        rate = (self._done - self._before) / max(time.monotonic() - self._begin, 1e-9)
        left = f"{(self._total - self._done) / rate:,.0f} s left" if rate else ""
        parts = [f"epoch {self._number}/{self._epochs}", self._values, f"{rate:,.0f}/s" if rate else "", left]
        bar = f'<progress max="{self._total}" value="{self._done}"></progress>'
        return f"<div>{bar} <code>{html.escape('  '.join(part for part in parts if part))}</code></div>"

    def _show(self) -> None:
        from IPython.display import HTML

        self._shown = time.monotonic()
        if self._handle is not None:  # IPython gives none where nothing can be replaced
            self._handle.update(HTML(self.html()))


def numbers(values: dict[str, float]) -> str:
    """Losses and metrics on one line."""
    return "  ".join(f"{name.replace('validation_', 'val. ')} {value:.4g}" for name, value in values.items())


def in_notebook() -> bool:
    """Whether a notebook runs this process. IPython is asked only where it is loaded already."""
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"


def _terminal(stream: TextIO | None) -> bool:
    """Whether a stream leads to a terminal; there may be none, or a closed one."""
    return stream is not None and not stream.closed and stream.isatty()


def reporter(show: bool | None, epochs: int, rows: int) -> Reporter:
    """The bar if it is wanted: by default when standard error is a terminal, and in a notebook."""
    notebook = in_notebook()
    if show is None:
        show = notebook or _terminal(sys.stderr)
    if not show:
        return Reporter()
    return NotebookBar(epochs, rows) if notebook else Bar(epochs, rows)
