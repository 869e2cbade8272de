"""The training loop: epochs of native chunks of steps, validation, early stopping with the best weights kept.

Python sees chunks of at most some fifty milliseconds, never steps: Ctrl-C and progress work, and cost nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tapeless.runtime.call import Call
from tapeless.runtime.context import NOT_FINITE
from tapeless.runtime.data import Data, Examples
from tapeless.runtime.errors import DataError, TrainingStopped, UserError
from tapeless.runtime.manifest import Settings
from tapeless.runtime.progress import Reporter, reporter

if TYPE_CHECKING:
    from tapeless.runtime.program import Program

CHUNK_SECONDS = 0.04  # below 50 ms even when one chunk runs a quarter longer than the last
VALIDATION_EPOCH = -1  # the permutation that splits off the validation rows is that of an epoch that never comes
Order = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Options:
    """What a call of `fit` may set; None leaves it to the model's `train` section.

    `validation` is the fraction of the rows that are held out, or a pair (inputs, targets) of its own. `patience` is
    the number of epochs without improvement of `monitor` (a loss or metric; `rising` if more is better) after which
    training stops and the best weights are restored; 0 means never. `progress` shows a bar; by default only on a
    terminal. `on_epoch` is called after each epoch with the run so far; training ends if it returns True.
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


@dataclass
class Run:
    """What a call of `fit` did. `curves` has a number for each epoch: `loss`, `accuracy`, `validation_loss`, ..."""

    curves: dict[str, list[float]] = field(default_factory=dict)
    epochs: int = 0
    steps: int = 0
    seconds: float = 0.0
    first_step: float | None = None
    best_epoch: int | None = None
    interrupted: bool = False

    def record(self, values: dict[str, float]) -> None:
        self.epochs += 1
        for name, value in values.items():
            self.curves.setdefault(name, []).append(value)

    @property
    def last(self) -> dict[str, float]:
        """The numbers of the weights that were kept: of the best epoch if that is known, else of the last."""
        index = -1 if self.best_epoch is None else self.best_epoch - 1
        return {name: values[index] for name, values in self.curves.items()}


@dataclass
class _Best:
    """The best value so far of the number that early stopping watches, and the weights that gave it."""

    key: str
    rising: bool
    patience: int
    value: float | None = None
    epoch: int = 0
    weights: dict[str, npt.NDArray[np.generic]] = field(default_factory=dict)

    def better(self, value: float) -> bool:
        return self.value is None or (value > self.value if self.rising else value < self.value)


def fit(program: Program, inputs: Data, targets: Data, options: Options) -> Run:
    """Trains until the epochs are over, early stopping ends it, or Ctrl-C does; see `Program.fit`.

    Raises TrainingStopped if the loss stops being finite; the weights are then those before the failing step.
    """
    begin = time.perf_counter()
    if options.batch is not None:
        program.batch = options.batch
    image = program.image("train")
    entry = image.manifest.entries["train_step"]
    settings = _settings(image.manifest.settings, options)
    examples = program.bind("train", "train_step", inputs, targets)
    held, train = _split(program, examples, settings, options)
    if held is None and isinstance(options.validation, tuple):
        held = (program.bind("train", "evaluate", *options.validation), None)
    threads = options.threads or program.threads

    state = program.state
    rows, batch = len(train), image.manifest.capacity
    per_epoch = -(-rows // batch)
    counters = {name: state[name] for name in ("epoch", "step", "steps") if name in state}
    if "steps" in counters:
        counters["steps"][...] = int(state["step"]) + settings.epochs * per_epoch
    names = [result.name for result in entry.results]
    best = _best(settings, names, held is not None)

    run, chunk = Run(), batch
    report = reporter(options.progress, settings.epochs, rows)
    order = np.empty(rows, np.int32)
    call = Call(image, "train_step", program.memory(), threads, examples.arrays, order=order)
    try:
        with report:
            for epoch in range(settings.epochs):
                shuffle(program, train, order, int(state["epoch"]))
                chunk = _epoch(call, run, report, rows, batch, chunk, begin)
                if call.status == NOT_FINITE:
                    raise _not_finite(program, entry.results[0].line, epoch + 1)
                state["epoch"][...] += 1
                values = {name: float(total) / rows for name, total in zip(names, call.sums, strict=False)}
                if held is not None:
                    measured = program.evaluate_examples(*held)
                    values |= {f"validation_{name}": value for name, value in measured.items()}
                run.record(values)
                report.epoch(run.epochs, values)
                stop = best is not None and _watch(best, run, program)
                if options.on_epoch is not None:
                    stop = options.on_epoch(run) is True or stop
                if stop:
                    break
    except KeyboardInterrupt:
        run.interrupted = True
    if best is not None and best.weights:
        for name, values_kept in best.weights.items():
            state[name][...] = values_kept
        run.best_epoch = best.epoch
    run.seconds = time.perf_counter() - begin
    return run


def _epoch(call: Call, run: Run, report: Reporter, rows: int, batch: int, chunk: int, begin: float) -> int:
    """One pass over the rows in chunks; the size of chunk that fits CHUNK_SECONDS, for the next one."""
    call.sums[:] = 0
    position = 0
    while position < rows:
        started = time.perf_counter()
        done = call.run(position, min(position + chunk, rows))
        seconds = time.perf_counter() - started
        if call.status == NOT_FINITE:
            return chunk
        if run.first_step is None:
            run.first_step = time.perf_counter() - begin
        run.steps += -(-(done - position) // batch)
        report.advance(done - position)
        # A chunk at the end of an epoch may be short, so grow by what the time of this one says, eightfold at most.
        fitting = int((done - position) * min(CHUNK_SECONDS / max(seconds, 1e-9), 8.0))
        if done - position == chunk or fitting < chunk:
            chunk = max(fitting // batch, 1) * batch
        position = done
    return chunk


def shuffle(program: Program, rows: Order, order: Order, epoch: int) -> None:
    """Writes `rows` into `order` as the program's own permutation of that epoch arranges them."""
    state = program.state
    places = np.empty(len(rows), np.int32)
    before = int(state["epoch"])
    state["epoch"][...] = epoch
    seed = (int(state["seed"][0]), int(state["seed"][1]))
    call = Call(program.image("train"), "permutation", program.memory(), 1, (), (places,), seed=seed, epoch=epoch)
    call.run(0, len(rows))
    state["epoch"][...] = before
    np.take(rows, places, out=order)


def _split(
    program: Program, examples: Examples, settings: Settings, options: Options
) -> tuple[tuple[Examples, Order | None] | None, Order]:
    """The held-out rows with their order, if a fraction is held out, and the rows to train on, both ascending."""
    rows = np.arange(examples.rows, dtype=np.int32)
    if isinstance(options.validation, tuple) or settings.validation == 0:
        return None, rows
    if not 0 <= settings.validation < 1:
        raise UserError(f"the validation fraction lies between 0 and 1; {settings.validation} does not")
    count = max(round(settings.validation * examples.rows), 1)
    if count >= examples.rows:
        raise DataError(f"{examples.rows} row is too few to hold some out for validation; set validation to 0")
    mixed = np.empty_like(rows)
    shuffle(program, rows, mixed, VALIDATION_EPOCH)
    return (examples, np.sort(mixed[:count])), np.sort(mixed[count:])


def _settings(settings: Settings, options: Options) -> Settings:
    """The `train` section with what the call says put over it."""
    given = {
        name: value
        for name in ("epochs", "patience", "monitor", "rising")
        if (value := getattr(options, name)) is not None
    }
    if isinstance(options.validation, float | int):
        given["validation"] = float(options.validation)
    result = replace(settings, **given)
    if result.epochs < 0:
        raise UserError(f"the number of epochs is 0 or more, not {result.epochs}")
    return result


def _best(settings: Settings, names: list[str], held: bool) -> _Best | None:
    if not settings.patience:
        return None
    name = settings.monitor or "loss"
    if name not in names:
        raise UserError(f"early stopping watches `{name}`, but the program measures {', '.join(names)}")
    return _Best(f"validation_{name}" if held else name, settings.rising, settings.patience)


def _watch(best: _Best, run: Run, program: Program) -> bool:
    """Keeps the weights if they are the best so far; whether it is time to stop."""
    value = run.curves[best.key][-1]
    if best.better(value):
        best.value, best.epoch = value, run.epochs
        slots = program.manifest.state.with_role("param", "state")
        best.weights = {slot.name: program.state[slot.name].copy() for slot in slots}
    return run.epochs - best.epoch >= best.patience


def _not_finite(program: Program, line: int | None, epoch: int) -> TrainingStopped:
    step = int(program.state["step"]) + 1
    where = f" (line {line})" if line else ""
    return TrainingStopped(
        f"the loss{where} is not finite at step {step}, in epoch {epoch}; the weights are those before that step. "
        "A smaller learning rate or `clip_norm` often helps",
        step,
    )
