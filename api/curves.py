"""Learning curves as a picture. Needs matplotlib, the extra `plot`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from tapeless.runtime.errors import UserError
from tapeless.runtime.writing import refusal, write_atomically

if TYPE_CHECKING:
    from tapeless.runtime.run import Run

VALIDATION = "validation_"


def require() -> None:
    """UserError if matplotlib is missing: asked before training, not after it."""
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise UserError("drawing learning curves needs matplotlib: pip install 'tapeless[plot]'")


def draw(run: Run, path: str | Path) -> None:
    """Writes a picture (.png, .svg, .pdf) with a panel for each loss and metric, validation beside training."""
    require()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path = Path(path)
    names = [name for name in run.curves if not name.startswith(VALIDATION)]
    if not names:
        raise UserError("there are no learning curves to draw: no epoch has ended")
    figure = Figure(figsize=(4.8 * len(names), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    for panel, name in zip(panels, names, strict=True):
        for key, label in ((name, "training"), (VALIDATION + name, "validation")):
            if key in run.curves:
                values = run.curves[key]
                panel.plot(range(1, len(values) + 1), values, label=label)
        if run.best_epoch is not None:
            panel.axvline(run.best_epoch, color="0.6", linewidth=1, linestyle="--", label="weights kept")
        panel.set_xlabel("epoch")
        panel.set_ylabel(name)
        panel.legend(frameon=False)
    content = io.BytesIO()
    try:
        figure.savefig(content, format=path.suffix.lstrip(".").lower() or "png", dpi=150)
        write_atomically(path, content.getvalue())
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    except OSError as error:
        raise UserError(refusal(path, error)) from error
