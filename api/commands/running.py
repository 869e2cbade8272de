"""The commands that run a model: train, evaluate, predict, grad."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tapeless.commands import outputs
from tapeless.commands.options import (
    arrays_for,
    compilation_options,
    compile_model,
    data_options,
    load_model,
    model_arguments,
    numbers_text,
    weights_option,
)
from tapeless.runtime.errors import INTERRUPTED, TERMINATED, UserError

if TYPE_CHECKING:
    from tapeless.runtime.run import Run

_STARTED = time.perf_counter()


@click.command()
@model_arguments
@compilation_options
@data_options(False)
@click.option("--epochs", type=click.IntRange(0))
@click.option("--batch", type=click.IntRange(1), help="Rows of a training step.")
@click.option("--max-memory", metavar="SIZE", help="The most memory of a training step: 512M, 2G, or bytes.")
@click.option("--target", metavar="NAME", help="Instructions to use, such as x86-64-v3; all there are, if not given.")
@click.option("--validation", type=click.FloatRange(0, 1, max_open=True), help="Fraction of the rows to hold out.")
@click.option("--patience", type=click.IntRange(0), help="Epochs without improvement before training stops; 0: never.")
@click.option("--weights", metavar="FILE", help="Weights to begin with.")
@click.option(
    "--load",
    "parts",
    multiple=True,
    metavar="PATTERN=FILE",
    help="Parameters to begin with, by their names: 'encoder.*=pretrained.safetensors'. May be given several times.",
)
@click.option("--freeze", multiple=True, metavar="PATTERN", help="Parameters to leave alone, such as 'encoder.*'.")
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Where to save the weights and all else that --resume needs (.safetensors), with a log beside them (.jsonl).",
)
@click.option(
    "--every", metavar="SPAN", help='How often to save on the way: "5 epochs", "1000 steps", "10 min".  [default: 60 s]'
)
@click.option(
    "--resume",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Continue the run that this file holds, and save there if --out names no other.",
)
@click.option("--max-steps", type=click.IntRange(0), help="Stop, to be resumed, after so many steps of the run.")
@click.option("--plot", is_flag=True, help="Draw the learning curves beside the weights (.png).")
@click.option("--quiet", is_flag=True, help="Print nothing.")
def train(
    file: Path, sizes: tuple[str, ...], model: str | None, dtype: str, threads: int | None, no_cache: bool, seed: int,
    data_files: tuple[str, ...], columns: tuple[str, ...], epochs: int | None, batch: int | None,
    max_memory: str | None, target: str | None, validation: float | None, patience: int | None,
    weights: str | None, parts: tuple[str, ...], freeze: tuple[str, ...],
    out: Path | None, every: str | None, resume: Path | None, max_steps: int | None, plot: bool, quiet: bool,
) -> int | None:  # fmt: skip
    """Trains a model and saves its weights. What is not given is as the model's `train` section says.

    Ctrl-C ends training after the current step and saves; the exit code is then 130. So does SIGTERM, with 143.
    """
    out = out or resume
    if resume is not None and (weights is not None or parts):
        given = "--weights" if weights is not None else "--load"
        raise UserError(f"a run is resumed with its own weights; --resume and {given} exclude each other")
    if plot:
        from tapeless import curves

        if out is None:
            raise UserError("--plot draws beside the weights; say where with --out")
        curves.require()
    if out is not None:
        read: list[str | Path] = [file, *outputs.data_paths(data_files)]
        # what is resumed is read, and says itself that it is no checkpoint
        outputs.require(out, read if out != resume else ())
        for beside, what in ((".jsonl", "the log "), *([(".png", "the picture ")] if plot else [])):
            if out.suffix == beside:
                raise UserError(f"{out} can't hold the weights: {what}has that name; call them .safetensors")
            outputs.require(out.with_suffix(beside), read, what)
    loaded = load_model(file, sizes, model, freeze)
    data = arrays_for(loaded, data_files, columns)
    program = compile_model(loaded, dtype, threads, no_cache, seed, data, batch, max_memory=max_memory, target=target)
    if weights:
        program.load(weights)
    for part in parts:
        pattern, equals, source = part.partition("=")
        if not equals:
            raise UserError(
                f"{part!r}: what to load is given as PATTERN=FILE, for example 'encoder.*=pretrained.safetensors'"
            )
        program.load(source, only=pattern)
    before = time.perf_counter() - _STARTED
    ended = None
    try:
        run = program.fit(
            data, epochs=epochs, validation=validation, patience=patience, save=out, every=every,
            resume=resume or False,
            log=None if out is None else out.with_suffix(".jsonl"), max_steps=max_steps,
            progress=False if quiet else None,
        )  # fmt: skip
    except (KeyboardInterrupt, SystemExit) as stop:
        if program.run is None or not program.run.interrupted:
            raise
        run, ended = program.run, INTERRUPTED if isinstance(stop, KeyboardInterrupt) else TERMINATED
    for note in run.notes:
        outputs.say(f"note: {note}")
    written = [
        f"weights in {out}"
        if run.saved
        else f"{out} is as it was saved last"
        if out
        else "the weights were not saved; `--out weights.safetensors` saves them"
    ]
    if plot and out is not None and run.epochs:
        picture = out.with_suffix(".png")
        curves.draw(run, picture)
        written.append(f"learning curves in {picture}")
    if not quiet:
        _report(run, before, written)
    return ended


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def _report(run: Run, before: float, written: list[str]) -> None:
    if run.interrupted:
        outputs.say(f"interrupted in epoch {run.epochs + 1}" + ("; --resume continues" if run.saved else ""))
    first = f", the first step {before + run.first_step:.2f} s after the start" if run.first_step else ""
    click.echo(f"{_count(run.epochs, 'epoch')}, {_count(run.steps, 'step')} in {run.seconds:.2f} s{first}")
    if run.epochs:
        best = f" (best epoch, {run.best_epoch})" if run.best_epoch else ""
        click.echo(numbers_text(run.last) + best)
    for line in written:
        click.echo(line)


@click.command()
@model_arguments
@compilation_options
@data_options(False)
@weights_option(True)
@click.option("--confusion/--no-confusion", default=True, help="Whether a classifier's confusion table is printed.")
def evaluate(
    file: Path, sizes: tuple[str, ...], model: str | None, dtype: str, threads: int | None, no_cache: bool, seed: int,
    data_files: tuple[str, ...], columns: tuple[str, ...], weights: str, confusion: bool,
) -> None:  # fmt: skip
    """Prints the loss and the metrics over a set of data and, for a classifier, what it takes for what."""
    from tapeless import tables

    loaded = load_model(file, sizes, model)
    data = arrays_for(loaded, data_files, columns)
    program = compile_model(loaded, dtype, threads, no_cache, seed, data, group="evaluate")
    program.load(weights)
    click.echo(numbers_text(program.evaluate(data)))
    if confusion and (table := program.confusion(data)) is not None:
        click.echo(tables.confusion_text(table), nl=False)


@click.command()
@model_arguments
@compilation_options
@data_options(False)
@weights_option(True)
@click.option(
    "--out", metavar="FILE", type=click.Path(path_type=Path), help="A .npy, .npz or .csv file. Else CSV is printed."
)
def predict(
    file: Path, sizes: tuple[str, ...], model: str | None, dtype: str, threads: int | None, no_cache: bool, seed: int,
    data_files: tuple[str, ...], columns: tuple[str, ...], weights: str, out: Path | None,
) -> None:  # fmt: skip
    """Writes the model's outputs for a set of data."""
    from tapeless import tables

    if out is not None:
        tables.require(out)
        outputs.require(out, [file, weights, *outputs.data_paths(data_files)])
    loaded = load_model(file, sizes, model)
    data = arrays_for(loaded, data_files, columns)
    program = compile_model(loaded, dtype, threads, no_cache, seed, data, group="predict")
    program.load(weights)
    if out is not None:
        tables.require(out, len(program.output_names))
    result = program.predict(data)
    arrays = result if isinstance(result, dict) else {program.output_names[0]: result}
    if out is None:
        click.echo(tables.as_csv(arrays), nl=False)
    else:
        tables.write(out, arrays)


@click.command()
@model_arguments
@compilation_options
@data_options(False)
@weights_option(False)
@click.option(
    "--out", metavar="FILE", type=click.Path(path_type=Path), help="A .npz file for the gradients themselves."
)
@click.option(
    "--formulas", is_flag=True, help="Print the derivatives first, as simplified formulas below the lines they are of."
)
def grad(
    file: Path, sizes: tuple[str, ...], model: str | None, dtype: str, threads: int | None, no_cache: bool, seed: int,
    data_files: tuple[str, ...], columns: tuple[str, ...], weights: str | None, out: Path | None,
    formulas: bool,
) -> None:  # fmt: skip
    """Prints the size of every parameter's gradient over a set of data, taken as one batch."""
    import numpy as np

    from tapeless import tables

    if out is not None:
        tables.require(out)
        outputs.require(out, [file, *([weights] if weights else []), *outputs.data_paths(data_files)])
    loaded = load_model(file, sizes, model)
    data = arrays_for(loaded, data_files, columns)
    program = compile_model(loaded, dtype, threads, no_cache, seed, data, group="gradients")
    if weights:
        program.load(weights)
    gradients = program.gradients(data)
    if formulas:
        click.echo(loaded.sized_for(data).inspect(dtype).backward_formulas())
    width = max(map(len, gradients), default=0)
    for name, gradient in gradients.items():
        norm = float(np.linalg.norm(gradient.astype(np.float64)))
        click.echo(f"{name:<{width}}  {list(gradient.shape)!s:<14} norm {norm:.6g}")
    if out is not None:
        tables.write(out, gradients)
