"""What a call of `fit` is asked for, and what it hands back: options, callbacks, the run itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tapeless.runtime.arguments import real, rows_of_a_batch, threads, whole
from tapeless.runtime.data import Data
from tapeless.runtime.errors import UserError

if TYPE_CHECKING:
    from tapeless.runtime.program import Program


class Callback(Protocol):
    """What is called while a program trains. Training ends after the epoch at which one returns True."""

    def on_epoch(self, run: Run) -> object: ...


@dataclass(frozen=True)
class Options:
    """What a call of `fit` may set; None leaves it to the model's `train` section.

    `validation` is the fraction of the rows that are held out, or a pair (inputs, targets) of its own. `patience` is
    the number of epochs without improvement of `monitor` (a loss or metric; `rising` if more is better) after which
    training stops and the best weights are restored; 0 means never. `progress` shows a bar; by default only on a
    terminal and in a notebook.

    `on_epoch` is a function, and `callbacks` are objects with a method of that name, called after each epoch with the
    run so far; training ends if one returns True.

    `save` is a file that is written when training ends and, as `every` says ("5 epochs", "1000 steps", "60 s"), on the
    way. `resume` is such a file, or True to go on from where this program's last `fit` was stopped: training then
    continues, bit for bit, as if it had never stopped, with the settings it was begun with; only `epochs` and
    `patience` may be given anew. `log` is a file that gains a line of JSON for each epoch. `max_steps` stops training,
    as Ctrl-C does, when the run has made so many steps in all.
    """

    epochs: int | None = None
    batch: int | None = None
    validation: float | tuple[Data, Data] | None = None
    patience: int | None = None
    monitor: str | None = None
    rising: bool | None = None
    threads: int | None = None
    progress: bool | None = None
    on_epoch: Callable[[Run], object] | None = None
    callbacks: Sequence[Callback] = ()
    save: str | Path | None = None
    every: str | None = None
    resume: bool | str | Path = False
    log: str | Path | None = None
    max_steps: int | None = None

    def __post_init__(self) -> None:
        """Plain integers of all that count as such; UserError for what is no possible value."""
        for name in ("epochs", "patience", "max_steps"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, whole(name, value))
        object.__setattr__(self, "batch", rows_of_a_batch(self.batch))
        object.__setattr__(self, "threads", threads(self.threads))
        if self.rising is not None:
            object.__setattr__(self, "rising", bool(self.rising))
        if self.validation is not None and not isinstance(self.validation, tuple):
            try:
                object.__setattr__(self, "validation", real("validation", self.validation))
            except UserError:
                raise UserError(
                    f"`validation` is a fraction of the rows or a pair (inputs, targets), not {self.validation!r}"
                ) from None
        if isinstance(self.validation, tuple) and len(self.validation) != 2:
            raise UserError(f"`validation` is a pair (inputs, targets), not {len(self.validation)} things")


@dataclass
class Run:
    """What a call of `fit` did. `curves` has a number for each epoch: `loss`, `accuracy`, `validation_loss`, ...

    `epochs` and `steps` count from the beginning of the run, before it was resumed; `seconds` are those of this call.
    `interrupted` says that Ctrl-C or a SIGTERM ended it: `fit` then raises what they do, and `program.run` is the
    run. `saved` is the file that holds its end; `notes` are remarks for the person who called.
    """

    curves: dict[str, list[float]] = field(default_factory=dict)
    epochs: int = 0
    steps: int = 0
    seconds: float = 0.0
    first_step: float | None = None
    best_epoch: int | None = None
    interrupted: bool = False
    saved: Path | None = None
    notes: list[str] = field(default_factory=list)
    program: Program | None = field(default=None, repr=False, compare=False)

    def record(self, values: dict[str, float]) -> None:
        self.epochs += 1
        for name, value in values.items():
            self.curves.setdefault(name, []).append(value)

    def at(self, epoch: int) -> dict[str, float]:
        """The numbers of one epoch; the first is 1."""
        return {name: values[epoch - 1] for name, values in self.curves.items()}

    @property
    def last(self) -> dict[str, float]:
        """The numbers of the weights that were kept: of the best epoch if that is known, else of the last."""
        if not self.epochs:
            return {}
        return self.at(self.epochs if self.best_epoch is None else self.best_epoch)
