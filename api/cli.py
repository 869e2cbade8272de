"""The command line. A fault of the user's is a message and exit code 2, never a traceback.

Each command imports what it needs when it runs, so that `tapeless --help` is instant.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tapeless.runtime.errors import TrainingStopped, UserError

if TYPE_CHECKING:
    from tapeless.model import Model
    from tapeless.runtime.program import Program

STAGES = (
    "ast", "forward", "backward", "update", "simplified", "fused", "scheduled", "loops", "llvm", "asm", "memory", "timing",
)  # fmt: skip
_STARTED = time.perf_counter()
Command = TypeVar("Command", bound=Callable[..., Any])


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and ends the process."""
    try:
        code = commands.main(arguments, prog_name="tapeless", standalone_mode=False)
        sys.stdout.flush()
    except UserError as error:
        click.echo(_message(error), err=True)
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = 2
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except BrokenPipeError:  # `tapeless inspect ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code if isinstance(code, int) else 0)


def _message(error: UserError) -> str:
    text = str(error)
    return text if text.startswith(("error", "warning")) else f"error: {text}"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tapeless")
def commands() -> None:
    """Compiles a page of text into a native program that trains."""


# -- what several commands share


def _model(function: Command) -> Command:
    """MODEL.tl and its sizes: `tapeless train digits.tl hidden=256`."""
    function = click.argument("sizes", nargs=-1, metavar="[SIZE=NUMBER]...")(function)
    function = click.argument("file", metavar="MODEL.tl", type=click.Path(path_type=Path))(function)
    return click.option("--model", metavar="NAME", help="Which model, where the file has several.")(function)


def _compilation(function: Command) -> Command:
    function = click.option("--dtype", type=click.Choice(["float32", "float64"]), default="float32", show_default=True)(
        function
    )
    function = click.option(
        "--threads", type=click.IntRange(1), help="Native threads. The results do not depend on it."
    )(function)
    function = click.option("--no-cache", is_flag=True, help="Compile anew and keep nothing on disk.")(function)
    return click.option("--seed", type=click.IntRange(0), default=0, show_default=True)(function)


def _data(function: Command) -> Command:
    function = click.option(
        "--columns",
        multiple=True,
        metavar="NAME=COLUMN,...",
        help="Which columns of a CSV file make an input. May be given several times.",
    )(function)
    return click.option(
        "--data",
        "data_file",
        required=True,
        metavar="FILE",
        help="Arrays by name (.npz), one (.npy), or columns (.csv).",
    )(function)


def _weights(required: bool) -> Callable[[Command], Command]:
    return click.option("--weights", required=required, metavar="FILE", help="Weights that `train --out` wrote.")


def _load(file: Path, sizes: tuple[str, ...], model: str | None) -> Model:
    from tapeless.model import load

    numbers: dict[str, int | float] = {}
    for size in sizes:
        name, equals, text = size.partition("=")
        try:
            numbers[name] = int(text) if text.lstrip("+-").isdigit() else float(text)
        except ValueError:
            equals = ""
        if not equals or not name.isidentifier():
            raise UserError(f"{size!r} is not a size; sizes are given as NAME=NUMBER, for example hidden=256")
    if model is not None and "model" in numbers:
        raise UserError("`model` is not a size")
    return load(file, model=model, **numbers)


def _compile(
    model: Model, dtype: str, threads: int | None, no_cache: bool, seed: int, batch: int | None = None
) -> Program:
    cache: bool | str = False if no_cache else os.environ.get("TAPELESS_CACHE", True)
    return model.compile(batch=batch, seed=seed, dtype=dtype, threads=threads, cache=cache)


def _arrays(file: str, columns: tuple[str, ...]) -> dict[str, Any]:
    from tapeless.runtime.data import load

    groups: dict[str, list[str]] = {}
    for text in columns:
        name, equals, members = text.partition("=")
        if not equals or not members:
            raise UserError(f"{text!r}: columns are given as NAME=COLUMN,COLUMN,...")
        groups[name] = members.split(",")
    return load(file, groups or None)


def _numbers(values: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.6g}" for name, value in values.items())


# -- commands


@commands.command()
@_model
def check(file: Path, sizes: tuple[str, ...], model: str | None) -> None:
    """Reports every fault of a model's text."""
    warnings = _load(file, sizes, model).check()
    if warnings:
        click.echo(warnings, err=True)
    click.echo(f"{file}: no faults found")


@commands.command()
@_model
@_compilation
@_data
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
    program = _compile(_load(file, sizes, model), dtype, threads, no_cache, seed, batch)
    arrays = _arrays(data_file, columns)
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
            click.echo(_numbers(run.last) + best)
        if out is not None:
            click.echo(f"weights in {out}")
    return 130 if run.interrupted else None


@commands.command()
@_model
@_compilation
@_data
@_weights(True)
def evaluate(
    file: Path, sizes: tuple[str, ...], model: str | None, dtype: str, threads: int | None, no_cache: bool, seed: int,
    data_file: str, columns: tuple[str, ...], weights: str,
) -> None:  # fmt: skip
    """Prints the loss and the metrics over a set of data."""
    program = _compile(_load(file, sizes, model), dtype, threads, no_cache, seed)
    program.load(weights)
    click.echo(_numbers(program.evaluate(_arrays(data_file, columns))))


@commands.command()
@_model
@_compilation
@_data
@_weights(True)
@click.option(
    "--out", metavar="FILE", type=click.Path(path_type=Path), help="A .npy, .npz or .csv file. Else CSV is printed."
)
def predict(
    file: Path, sizes: tuple[str, ...], model: str | None, dtype: str, threads: int | None, no_cache: bool, seed: int,
    data_file: str, columns: tuple[str, ...], weights: str, out: Path | None,
) -> None:  # fmt: skip
    """Writes the model's outputs for a set of data."""
    from tapeless import tables

    program = _compile(_load(file, sizes, model), dtype, threads, no_cache, seed)
    program.load(weights)
    result = program.predict(_arrays(data_file, columns))
    outputs = result if isinstance(result, dict) else {program.output_names[0]: result}
    if out is None:
        click.echo(tables.as_csv(outputs), nl=False)
    else:
        tables.write(out, outputs)


@commands.command()
@_model
@_compilation
@_data
@_weights(False)
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

    program = _compile(_load(file, sizes, model), dtype, threads, no_cache, seed)
    if weights:
        program.load(weights)
    gradients = program.gradients(_arrays(data_file, columns))
    width = max(map(len, gradients), default=0)
    for name, gradient in gradients.items():
        norm = float(np.linalg.norm(gradient.astype(np.float64)))
        click.echo(f"{name:<{width}}  {list(gradient.shape)!s:<14} norm {norm:.6g}")
    if out is not None:
        tables.write(out, gradients)


@commands.command()
@_model
@click.option("--stage", type=click.Choice(STAGES), default="backward", show_default=True)
@click.option("--entry", default=None, metavar="NAME", help="train_step, gradients, predict, evaluate, init, ...")
@click.option("--dot", is_flag=True, help="A drawing for Graphviz, for the stages that are graphs.")
@click.option("--plain", is_flag=True, help="Without source lines: a text that `tapeless run` reads.")
@click.option("--batch", type=click.IntRange(1))
@click.option("--dtype", type=click.Choice(["float32", "float64"]), default="float32", show_default=True)
@click.option("--target", metavar="NAME", help="The machine, as for build; this one if not given.")
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path))
def inspect(
    file: Path, sizes: tuple[str, ...], model: str | None, stage: str, entry: str | None, dot: bool, plain: bool,
    batch: int | None, dtype: str, target: str | None, out: Path | None,
) -> None:  # fmt: skip
    """Prints a stage of the compilation; `tapeless inspect op NAME` prints an operation's definition."""
    from tapeless import inspector

    if str(file) == "op" and not file.exists():
        text = "\n".join(inspector.operation_text(name) for name in sizes)
    else:
        inspection = _load(file, sizes, model).inspect(dtype, batch, target)
        text = inspection.dot(stage, entry) if dot else inspection.stage(stage, entry, source=not plain)
    if out is None:
        click.echo(text, nl=not text.endswith("\n"))
    else:
        _write_text(out, text)


@commands.command()
@click.argument("file", metavar="FILE.ir", type=click.Path(path_type=Path))
@_data
@click.option("--graph", metavar="NAME", help="Which graph, where the file has several.")
@click.option("--precision", type=click.Choice(["float32", "float64"]), help="Compute real numbers in this type.")
@click.option("--rows", type=click.IntRange(0), help="Use so many of the data's rows.")
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path), help="An .npz file for the results.")
def run(
    file: Path, data_file: str, columns: tuple[str, ...], graph: str | None, precision: str | None, rows: int | None,
    out: Path | None,
) -> None:  # fmt: skip
    """Executes the text of a graph, of any stage, in the reference interpreter.

    The data have an array for each of the graph's inputs. Inputs that are missing there are zero, with a note.
    """
    from tapeless import interpreting, tables

    results = interpreting.run_file(file, _arrays(data_file, columns), graph, precision, rows, note=_note)
    for name, value in results.items():
        click.echo(f"{name} {value.dtype} {list(value.shape)}: {tables.excerpt(value)}")
    if out is not None:
        tables.write(out, results)


@commands.command()
@_model
@click.option("--target", metavar="NAME", help="The machine to build for. This one, if not given.")
@click.option("--batch", type=click.IntRange(1), help="The most rows of one step.")
@click.option("--dtype", type=click.Choice(["float32", "float64"]), default="float32", show_default=True)
@click.option("--out", metavar="FOLDER", default="dist", show_default=True, type=click.Path(path_type=Path))
def build(
    file: Path, sizes: tuple[str, ...], model: str | None, target: str | None, batch: int | None, dtype: str,
    out: Path,
) -> None:  # fmt: skip
    """Writes the program as a library with a C header."""
    for path in _load(file, sizes, model).build(out, target=target, batch=batch, dtype=dtype):
        click.echo(f"{path}  {path.stat().st_size:,} bytes")


@commands.command()
@click.argument("name", required=False)
def std(name: str | None) -> None:
    """Prints the source of a definition of the standard library, or lists them all."""
    from tapeless import standard

    click.echo(standard.source(name) if name else standard.listing(), nl=False)


def _note(text: str) -> None:
    click.echo(f"note: {text}", err=True)


def _write_text(path: Path, text: str) -> None:
    from tapeless.runtime.checkpoint import write_atomically

    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise UserError(f"{path} can't be written: {error.strerror or error}") from error


if __name__ == "__main__":
    main()
