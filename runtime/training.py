"""The training loop: epochs of native chunks of steps, validation, early stopping with the best weights kept.

Python sees chunks of at most some fifty milliseconds, never steps: Ctrl-C and progress work, and cost nothing. Between
two chunks a run is described in full by the program's state and its `Progress`, so it can be stopped, saved and resumed
after any of them, and other threads have their turn with the program.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tapeless.abi.calls import NOT_FINITE
from tapeless.runtime import arguments, claims, resumption
from tapeless.runtime.data import Data, Examples, native
from tapeless.runtime.errors import CheckpointError, TrainingStopped, UserError
from tapeless.runtime.log import JsonLines
from tapeless.runtime.manifest import Settings
from tapeless.runtime.order import Order, shuffle, split
from tapeless.runtime.progress import reporter
from tapeless.runtime.resumption import Progress
from tapeless.runtime.run import Options, Run
from tapeless.runtime.saving import DEFAULT, Timetable
from tapeless.runtime.staging import call_over, rows_of
from tapeless.runtime.stopping import Interrupts, watched
from tapeless.runtime.writing import check_writable

if TYPE_CHECKING:
    from tapeless.runtime.program import Program

CHUNK_SECONDS = 0.04  # below 50 ms even when one chunk runs a quarter longer than the last


def fit(program: Program, inputs: Data, targets: Data, options: Options) -> Run:
    """Trains until the epochs are over, early stopping ends it, or Ctrl-C does; see `Program.fit`.

    Raises TrainingStopped if the loss stops being finite; the weights are then those before the failing step. Ctrl-C
    and SIGTERM are raised, as KeyboardInterrupt and SystemExit, once the step at hand is done and saved.
    """
    program.run = None
    with program.turns.entry, program.turns.hold:
        training = Training(program, inputs, targets, options)
    program.run = training.so_far
    return training.run()


class Training:
    """One call of `fit`."""

    def __init__(self, program: Program, inputs: Data, targets: Data, options: Options) -> None:
        self.begin = time.perf_counter()
        self.program, self.options = program, options
        self.timetable = Timetable.parse(options.every or DEFAULT)
        if options.save is not None:
            check_writable(options.save, CheckpointError)
        if options.log is not None:
            check_writable(options.log, what="the log ")
            if options.save is not None and os.path.realpath(options.save) == os.path.realpath(options.log):
                raise UserError(f"{options.save} can't hold the weights and the log at once")
        notes = self._resumed()
        self.image = program.image("train")
        if not self.image.manifest.gradients.slots and not self.image.manifest.state.with_role("state"):
            raise UserError(
                f"the model {self.image.manifest.model} has no parameter that training changes, so there is "
                "nothing to train"
            )
        self.entry = self.image.manifest.entries["train_step"]
        self.batch = self.image.manifest.capacity
        self.names = list(dict.fromkeys(result.name for result in self.entry.results))
        self.examples = program.bind("train_step", inputs, targets)
        program.memory()
        self.progress = self._progress()
        self.settings = self.progress.settings
        held, self.train = split(program, self.examples.rows, self.settings.validation)
        self.held: tuple[Examples, Order | None] | None = None if held is None else (self.examples, held)
        if isinstance(options.validation, tuple):
            self.held = (program.bind("evaluate", *options.validation), None)
        if self.progress.best is None:
            self.progress.best = watched(self.settings, self.names, self.held is not None)
        self._check_company()
        self.order = np.empty(len(self.train), np.int32)
        threads = options.threads or program.threads
        self.call = call_over(self.image, "train_step", program.memory(), threads, self.examples, self.order)
        self._plan()
        self.so_far = Run(self.progress.curves, self.progress.epochs, self.progress.steps, notes=notes, program=program)
        self.log = JsonLines(options.log) if options.log is not None else None
        self.stopped = self.progress_lost = False
        self.chunk = self.batch
        self.kept = np.empty_like(program.memory().state)  # the state as it was before the current chunk
        self.guarded = self._finite()  # weights that were set to infinity on purpose are left alone

    # -- before the first step

    def _check_company(self) -> None:
        """UserError if every batch has one row and the program takes a variance over the rows."""
        line, rows = self.image.manifest.statistics, len(self.train)
        if line is not None and min(self.batch, rows) == 1:
            why = "there is one row to train on" if rows == 1 else "batches have one row"
            raise UserError(
                f"line {line} uses the variance over the rows of a batch, and {why}: one value has no variance; "
                "train with more rows in a batch, or normalise each row by itself, as `LayerNorm` does"
            )

    def _resumed(self) -> list[str]:
        """Brings the program to where the run to be resumed stands; remarks about it."""
        options, program = self.options, self.program
        notes = []
        if options.batch is not None:
            program.batch = options.batch
        if isinstance(options.resume, bool):
            if options.resume and program.progress is None:
                raise UserError("there is no run to resume: this program has not been trained since it was made")
        else:
            notes = program.resume(options.resume)
        if not options.resume:
            program.progress = None
        elif program.progress is not None:
            wanted = program.progress.settings.batch
            if program.batch not in (None, wanted):
                raise UserError(f"training can't be resumed with batch {program.batch}: it was begun with {wanted}")
            program.batch = wanted
        return notes

    def _progress(self) -> Progress:
        """Where the run stands: at its beginning, or where it was stopped."""
        program, options = self.program, self.options
        known = program.progress
        own = isinstance(options.validation, tuple)
        asked = {name: value for name in ("epochs", "patience", "monitor", "rising")
                 if (value := getattr(options, name)) is not None}  # fmt: skip
        if isinstance(options.validation, float | int | np.number):
            asked["validation"] = float(options.validation)
        elif own:
            asked["validation"] = 0.0
        defaults = self.image.manifest.settings if known is None else known.settings
        settings: Settings = replace(defaults, batch=self.batch, **asked)
        data = resumption.fingerprint(self.entry.data, self.examples)
        if known is None:
            found = Progress(settings, self.examples.rows, data, own)
        else:
            if own != known.own_validation:
                raise UserError("training can't be resumed without the validation data that it was begun with")
            claims.fits(known, self.entry)
            resumption.continued(known, settings, asked, data)
            found = known
        program.progress = found
        return found

    def _plan(self) -> None:
        """Tells the schedules how many steps are planned, and brings weights and sums to where the run stands."""
        state, progress = self.program.state, self.progress
        resumption.wake(state, progress)
        per_epoch = -(-len(self.train) // self.batch)
        if "steps" in state:
            planned = int(state["step"]) - progress.steps + self.settings.epochs * per_epoch
            if planned > claims.MOST:
                raise UserError(
                    f"a run makes at most {claims.MOST:,} steps; {self.settings.epochs} epochs would be {planned:,}"
                )
            state["steps"][...] = planned
        if progress.position:
            shuffle(self.program, self.train, self.order, int(state["epoch"]))
            self.call.sums[:] = progress.sums

    # -- the loop

    def run(self) -> Run:
        run = self.so_far
        failure: TrainingStopped | None = None
        with Interrupts() as self.interrupts:
            try:
                self._loop()
            except TrainingStopped as error:
                failure = error
            except KeyboardInterrupt:
                if self.interrupts.asked is not None:  # for the second time
                    raise
                self.interrupts.asked = signal.SIGINT  # it came by another way: a callback raised it
            finally:
                self._rest()
            self._save()
            run.interrupted = self.interrupts.asked is not None
        if failure is not None:
            raise failure
        if run.interrupted:
            raise self.interrupts.wish()
        return run

    def _loop(self) -> None:
        options, progress, run = self.options, self.progress, self.so_far
        if self.log is not None:
            self.log.begin(run)
        self.timetable.begin(progress.epochs, progress.steps)
        with reporter(options.progress, self.settings.epochs, len(self.train)) as self.report:
            self.report.resumed(progress.epochs, progress.position)
            while not self._over() and self.interrupts.asked is None:
                with self._turn():
                    self._chunk()
                    values = self._end_epoch() if progress.position == len(self.train) else None
                if values is not None:
                    self._tell(values)
                self._save_if_due()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """While nothing else uses the program, and no Ctrl-C is raised: what is done here is done whole."""
        turns = self.program.turns
        with turns.entry:
            pass  # whoever stands there goes first
        with turns.hold, self.interrupts.held():
            try:
                yield
            except TrainingStopped:
                raise
            except BaseException:
                self.progress_lost = True  # it ended at no known place
                raise

    def _rest(self) -> None:
        """Leaves the program as it is to be used, however the loop ended, and the record of the run with it."""
        progress, run = self.progress, self.so_far
        with self.program.turns.hold, self.interrupts.held():
            self.program.progress = None if self.progress_lost else progress
            resumption.rest(self.program.state, progress)
            if progress.best is not None and progress.best.epoch:
                run.best_epoch = progress.best.epoch
            run.interrupted = self.interrupts.asked is not None
            run.seconds = time.perf_counter() - self.begin

    def _over(self) -> bool:
        progress, most = self.progress, self.options.max_steps
        return (
            self.stopped
            or progress.epochs >= self.settings.epochs
            or (progress.best is not None and progress.position == 0 and progress.best.exhausted(progress.epochs))
            or (most is not None and progress.steps >= most)
        )

    def _chunk(self) -> None:
        """A few steps, up to the end of the epoch at most. TrainingStopped if the loss is not finite."""
        progress, rows, batch = self.progress, len(self.train), self.batch
        if progress.position == 0:
            shuffle(self.program, self.train, self.order, int(self.program.state["epoch"]))
            self.call.sums[:] = 0
        limits = [self.timetable.steps_left(progress.steps)]
        limits.append(None if self.options.max_steps is None else self.options.max_steps - progress.steps)
        steps = min([self.chunk // batch, *(max(limit, 1) for limit in limits if limit is not None)])
        if self.guarded:
            np.copyto(self.kept, self.program.memory().state)
        started = time.perf_counter()
        done = self.call.run(progress.position, min(progress.position + steps * batch, rows))
        seconds = time.perf_counter() - started
        if self.guarded and not self._finite():
            raise self._spoilt()
        count = done - progress.position
        progress.steps += -(-count // batch)
        progress.position, progress.sums = done, [float(total) for total in self.call.sums]
        self.so_far.steps = progress.steps
        if self.call.status == NOT_FINITE:
            raise self._not_finite()
        if self.so_far.first_step is None:
            self.so_far.first_step = time.perf_counter() - self.begin
        self.report.advance(count)
        # A chunk at the end of an epoch may be short, so grow by what the time of this one says, eightfold at most.
        fitting = int(count * min(CHUNK_SECONDS / max(seconds, 1e-9), 8.0))
        if count == self.chunk or fitting < self.chunk:
            self.chunk = max(fitting // batch, 1) * batch

    def _end_epoch(self) -> dict[str, float]:
        """Measures and records the epoch, keeps the weights if they are the best so far; its numbers."""
        progress, run, state = self.progress, self.so_far, self.program.state
        state["epoch"][...] += 1
        values = self.entry.averages(progress.sums, len(self.train))
        if self.held is not None:
            measured = self.program.evaluate_examples(*self.held)
            values |= {f"validation_{name}": value for name, value in measured.items()}
        run.record(values)
        progress.epochs, progress.position, progress.sums = run.epochs, 0, []
        best = progress.best
        if best is not None and best.better(value := values[best.key]):
            best.value, best.epoch = value, run.epochs
            slots = self.program.manifest.state.with_role("param", "state")
            best.weights = {slot.name: state[slot.name].copy() for slot in slots}
        return values

    def _tell(self, values: dict[str, float]) -> None:
        """The log and the callbacks of the epoch that has ended."""
        run, state = self.so_far, self.program.state
        self.report.epoch(run.epochs, values)
        if self.log is not None:
            self.log.on_epoch(run)
        counters = {slot.name: state[slot.name].copy() for slot in self.program.manifest.state.with_role("counter")}
        called = [callback.on_epoch for callback in self.options.callbacks]
        for function in [*([self.options.on_epoch] if self.options.on_epoch else []), *called]:
            self.stopped = arguments.says_yes(function(run)) or self.stopped
        # Whatever a callback has loaded or applied, the run goes on from there, but its counters are its own.
        self.program.progress = self.progress
        for name, value in counters.items():
            state[name][...] = value

    def _save(self) -> None:
        """The checkpoint of the run's end. Where Ctrl-C was pressed, that it can't be written is no reason to go on."""
        path, run = self.options.save, self.so_far
        if path is None:
            return
        try:
            self.program.save(path)
            run.saved = Path(path)
        except CheckpointError as error:
            if not run.interrupted:
                raise
            run.notes.append(f"the end of the run was not saved: {error}")

    def _save_if_due(self) -> None:
        """A checkpoint on the way. That it can't be written, because the disk is full, does not end training."""
        path = self.options.save
        if path is None or not self.timetable.due(self.progress.epochs, self.progress.steps):
            return
        try:
            self.program.save(path)
        except CheckpointError as error:
            if (note := f"a checkpoint was left out: {error}") not in self.so_far.notes:
                self.so_far.notes.append(note)

    def _finite(self) -> bool:
        """Whether every trained parameter is finite."""
        with np.errstate(over="ignore", invalid="ignore"):  # a sum is finite when all its terms are, barring overflow
            return all(np.isfinite(view.sum()) or np.isfinite(view).all() for view in self.program.trainable())

    def _spoilt(self) -> TrainingStopped:
        """Repeats a chunk after which parameters are not finite, up to the step that made them so, and undoes that one.

        A finite loss can have a gradient that is not: sqrt at 0.
        """
        progress, state, rows = self.progress, self.program.memory().state, len(self.train)
        np.copyto(state, self.kept)
        self.call.sums[:] = progress.sums or 0
        while progress.position < rows:
            np.copyto(self.kept, state)
            end = min(progress.position + self.batch, rows)
            self.call.run(progress.position, end)
            if self.call.status == NOT_FINITE:
                return self._not_finite()
            if not self._finite():
                np.copyto(state, self.kept)
                break
            progress.steps += 1
            progress.position, progress.sums = end, [float(total) for total in self.call.sums]
        self.so_far.steps = progress.steps
        return self._not_finite("the gradient of the loss")

    def _not_finite(self, what: str = "the loss") -> TrainingStopped:
        result, best = self.entry.results[0], self.progress.best
        where = f" (line {result.line})" if result.line else ""
        kept = f"those of epoch {best.epoch}, the best" if best is not None and best.epoch else "those before that step"
        step = int(self.program.state["step"]) + 1
        reason, grown = self._reason() or ("", True)
        # Where steps before were finite, the weights may have grown beyond bounds; no rate is to blame for the very
        # first.
        advice = ". A smaller learning rate or `clip_norm` often helps" if grown and self.progress.steps else ""
        return TrainingStopped(
            f"{what}{where} is not finite at step {step}, in epoch {self.progress.epochs + 1}"
            f"{f': {reason}{chr(10)}' if reason else '; '}the weights are {kept}{advice}",
            step,
        )

    def _reason(self) -> tuple[str, bool] | None:
        """See `Replay`: what the failing step's forward and backward pass say when they are gone through once more."""
        if self.program.replay is None:
            return None
        chosen = self.order[self.progress.position : self.progress.position + self.batch]
        pairs = zip(self.entry.data, self.examples.arrays, strict=True)
        batch = {spec.name: native(spec, rows_of(spec, array, chosen)) for spec, array in pairs}
        return self.program.replay(self.program.state, batch, chosen)
