"""What several commands of the command line share: their options, and what is made of them."""

from __future__ import annotations

import contextlib
import os
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tapeless.abi.dtypes import PRECISIONS
from tapeless.runtime.errors import ModelWarning, UserError

if TYPE_CHECKING:
    from tapeless.model import Model
    from tapeless.runtime.program import Group, Program

_IMPORTS = "tapeless.imports"
Command = TypeVar("Command", bound=Callable[..., Any])


def model_arguments(function: Command) -> Command:
    """MODEL.tl and its sizes: `tapeless train digits.tl hidden=256`."""
    function = click.argument("sizes", nargs=-1, metavar="[SIZE=NUMBER]...")(function)
    function = click.argument("file", metavar="MODEL.tl", type=click.Path(path_type=Path))(function)
    # Not handed to each command: only `load_model` asks for it.
    function = click.option(
        "--imports",
        type=click.Choice(["anywhere", "beside"]),
        default="anywhere",
        show_default=True,
        expose_value=False,
        callback=_remembered,
        help="Whence the text may import: for texts of strangers, only from their own folder.",
    )(function)
    return click.option("--model", metavar="NAME", help="Which model, where the file has several.")(function)


def _remembered(context: click.Context, option: click.Parameter, value: str) -> None:
    context.meta[_IMPORTS] = value


def compilation_options(function: Command) -> Command:
    function = click.option(
        "--dtype", type=click.Choice(list(PRECISIONS)), default=next(iter(PRECISIONS)), show_default=True
    )(function)
    function = click.option(
        "--threads", type=click.IntRange(1), help="Native threads. The results do not depend on it."
    )(function)
    function = click.option("--no-cache", is_flag=True, help="Compile anew and keep nothing on disk.")(function)
    return click.option("--seed", type=click.IntRange(0), default=0, show_default=True)(function)


def data_options(required: bool) -> Callable[[Command], Command]:
    columns = click.option(
        "--columns",
        multiple=True,
        metavar="NAME=COLUMN,...",
        help="Which columns of a CSV file make an input. May be given several times.",
    )
    files = click.option(
        "--data",
        "data_files",
        required=required,
        multiple=True,
        metavar="[NAME=]FILE",
        help="Arrays by name (.npz), one (.npy), or columns (.csv). May be given several times.",
    )
    return lambda function: files(columns(function))


def weights_option(required: bool) -> Callable[[Command], Command]:
    return click.option("--weights", required=required, metavar="FILE", help="Weights that `train --out` wrote.")


def load_model(file: Path, sizes: tuple[str, ...], model: str | None, freeze: tuple[str, ...] = ()) -> Model:
    from tapeless.model import load

    numbers: dict[str, int | float] = {}
    for size in sizes:
        name, equals, text = unicodedata.normalize("NFKC", size).partition("=")
        try:
            numbers[name] = int(text) if text.lstrip("+-").isdigit() else float(text)
        except ValueError:
            equals = ""
        if not equals or not name.isidentifier():
            raise UserError(f"{size!r} is not a size; sizes are given as NAME=NUMBER, for example hidden=256")
    for name in ("model", "freeze", "imports"):
        if name in numbers:
            raise UserError(f"`{name}` is not a size")
    return load(file, model=model, freeze=freeze, imports=click.get_current_context().meta[_IMPORTS], **numbers)


@contextlib.contextmanager
def warnings_told(tell: bool = True) -> Iterator[None]:
    """Warnings about a model's text go to standard error as they are; or nowhere, where they were told before: in
    training.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("always" if tell else "ignore", ModelWarning)
        plain = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **rest: Any) -> None:
            if issubclass(category, ModelWarning):
                click.echo(f"{message}\n", err=True)
            else:
                plain(message, category, *place, **rest)

        warnings.showwarning = show
        yield


def compile_model(
    model: Model,
    dtype: str,
    threads: int | None,
    no_cache: bool,
    seed: int,
    data: Mapping[str, Any],
    batch: int | None = None,
    group: Group = "train",
    max_memory: str | None = None,
    target: str | None = None,
) -> Program:
    """The compiled program, with one group of its entries; sizes that the model leaves free are those of the data."""
    cache: bool | str = False if no_cache else os.environ.get("TAPELESS_CACHE", True)

    def compiled(model: Model) -> Program:
        with warnings_told(group in ("train", "gradients")):
            return model.compile(
                batch=batch, seed=seed, dtype=dtype, threads=threads, cache=cache, max_memory=max_memory, target=target
            )

    program = compiled(model)
    try:
        program.image(group)
    except UserError:  # the text is asked for free sizes only now: a program from the cache needs no parser
        sized = model.sized_for(data)
        if sized.sizes == model.sizes:
            raise
        program = compiled(sized)
    return program


def arrays_for(model: Model, files: tuple[str, ...], columns: tuple[str, ...]) -> dict[str, Any]:
    """All arrays of the files by name. UsageError if there are no files and the model takes data."""
    if not files:
        from tapeless import dimensions

        declared = dimensions.declarations(model.text, model.file, model.name)
        if declared is None or declared.data:
            raise click.UsageError("Missing option '--data'.")
    return read_arrays(files, columns)


def read_arrays(files: tuple[str, ...], columns: tuple[str, ...]) -> dict[str, Any]:
    """All arrays of the files by name. `NAME=FILE` names the one array of an .npy file."""
    from tapeless.runtime.data import load

    groups: dict[str, list[str]] = {}
    for text in columns:
        name, equals, members = text.partition("=")
        if not equals or not members:
            raise UserError(f"{text!r}: columns are given as NAME=COLUMN,COLUMN,...")
        groups[name] = members.split(",")
    found: dict[str, Any] = {}
    for file in files:
        name, equals, path = file.partition("=")
        named = bool(equals) and name.isidentifier() and not Path(file).exists()
        arrays = load(path if named else file, groups or None)
        if named:
            if len(arrays) != 1:
                raise UserError(f"{path} holds {len(arrays)} arrays, so they can't be named `{name}`")
            arrays = {name: next(iter(arrays.values()))}
        for twice in arrays.keys() & found.keys():
            raise UserError(f"`{twice}` is in {file} and in another of the data files")
        found |= arrays
    return found


def numbers_text(values: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.6g}" for name, value in values.items())
