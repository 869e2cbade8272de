"""The commands that run a model: train, evaluate, predict, grad."""

from __future__ import annotations

import time
from pathlib import Path

import click

from tapeless.command_options import (
    compilation_options,
    compile_model,
    data_options,
    load_model,
    model_arguments,
    numbers_text,
    read_arrays,
    weights_option,
)
from tapeless.runtime.errors import TrainingStopped, UserError

_STARTED = time.perf_counter()


@click.command()
@model_arguments
@compilation_options
@data_options
@click.option("--epochs", type=click.IntRange(0))
@click.option("--batch", type=click.IntRange(1), help="Rows of a training step.")
@click.option("--validation", type=click.FloatRange(0, 1, max_open=True), help="Fraction of the rows to hold out.")
@click.option("--patience", type=click.IntRange(0), help="Epochs without improvement before training stops; 0: never.")
@click.option("--weights", metavar="FILE", help="Weights to begin with.")
@click.option(
    "--out", metavar="FILE", type=click.Path(path_type=Path), help="Where to save the weights (.safetensors)."
)
@click.option("--quiet", is_flag=True, help="Print nothing.")
def train(
    file: Path, sizes: tuple[str, ...], model: str | None, dtype: str, threads: int | None, no_cache: bool, seed: int,
    data_file: str, columns: tuple[str, ...], epochs: int | None, batch: int | None, validation: float | None,
    patience: int | None, weights: str | None, out: Path | None, quiet: bool,
) -> int | None:  # fmt: skip
    """Trains a model and saves its weights. What is not given is as the model's `train` section says."""
    if out is not None and not out.absolute().parent.is_dir():
        raise UserError(f"{out} can't be written: there is no folder {out.parent}")
    program = compile_model(load_model(file, sizes, model), dtype, threads, no_cache, seed, batch)
    arrays = read_arrays(data_file, columns)
    if weights:
        program.load(weights)
    before = time.perf_counter() - _STARTED
    options = {"epochs": epochs, "validation": validation, "patience": patience}
    try:
        run = program.fit(arrays, progress=False if quiet else None, **options)
    except TrainingStopped:
        if out is not None:
            program.save(out)
        raise
    if out is not None:
        program.save(out)
    if not quiet:
        first = f", the first step {before + run.first_step:.2f} s after the start" if run.first_step else ""
        click.echo(f"{run.epochs} epochs, {run.steps} steps in {run.seconds:.2f} s{first}")
        if run.epochs:
            best = f" (best epoch, {run.best_epoch})" if run.best_epoch else ""
            click.echo(numbers_text(run.last) + best)
        if out is not None:
            click.echo(f"weights in {out}")
    return 130 if run.interrupted else None


@click.command()
@model_arguments
@compilation_options
@data_options
@weights_option(True)
def evaluate(
    file: Path, sizes: tuple[str, ...], model: str | None, dtype: str, threads: int | None, no_cache: bool, seed: int,
    data_file: str, columns: tuple[str, ...], weights: str,
) -> None:  # fmt: skip
    """Prints the loss and the metrics over a set of data."""
    program = compile_model(load_model(file, sizes, model), dtype, threads, no_cache, seed)
    program.load(weights)
    click.echo(numbers_text(program.evaluate(read_arrays(data_file, columns))))


@click.command()
@model_arguments
@compilation_options
@data_options
@weights_option(True)
@click.option(
    "--out", metavar="FILE", type=click.Path(path_type=Path), help="A .npy, .npz or .csv file. Else CSV is printed."
)
def predict(
    file: Path, sizes: tuple[str, ...], model: str | None, dtype: str, threads: int | None, no_cache: bool, seed: int,
    data_file: str, columns: tuple[str, ...], weights: str, out: Path | None,
) -> None:  # fmt: skip
    """Writes the model's outputs for a set of data."""
    from tapeless import tables

    program = compile_model(load_model(file, sizes, model), dtype, threads, no_cache, seed)
    program.load(weights)
    result = program.predict(read_arrays(data_file, columns))
    outputs = result if isinstance(result, dict) else {program.output_names[0]: result}
    if out is None:
        click.echo(tables.as_csv(outputs), nl=False)
    else:
        tables.write(out, outputs)


@click.command()
@model_arguments
@compilation_options
@data_options
@weights_option(False)
@click.option(
    "--out", metavar="FILE", type=click.Path(path_type=Path), help="A .npz file for the gradients themselves."
)
def grad(
    file: Path, sizes: tuple[str, ...], model: str | None, dtype: str, threads: int | None, no_cache: bool, seed: int,
    data_file: str, columns: tuple[str, ...], weights: str | None, out: Path | None,
) -> None:  # fmt: skip
    """Prints the size of every parameter's gradient over a set of data, taken as one batch."""
    import numpy as np

    from tapeless import tables

    program = compile_model(load_model(file, sizes, model), dtype, threads, no_cache, seed)
    if weights:
        program.load(weights)
    gradients = program.gradients(read_arrays(data_file, columns))
    width = max(map(len, gradients), default=0)
    for name, gradient in gradients.items():
        norm = float(np.linalg.norm(gradient.astype(np.float64)))
        click.echo(f"{name:<{width}}  {list(gradient.shape)!s:<14} norm {norm:.6g}")
    if out is not None:
        tables.write(out, gradients)
