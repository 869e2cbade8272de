"""The command `tune`: how the kernels of a training step are best made on this machine, by measuring."""

from __future__ import annotations

import os
from pathlib import Path

import click

from tapeless.abi.dtypes import PRECISIONS
from tapeless.commands.options import load_model, model_arguments, warnings_told
from tapeless.runtime.errors import printable


@click.command()
@model_arguments
@click.option("--batch", type=click.IntRange(1), help="The rows of a training step, if not as the model says.")
@click.option("--dtype", type=click.Choice(list(PRECISIONS)), default=next(iter(PRECISIONS)), show_default=True)
def tune(file: Path, sizes: tuple[str, ...], model: str | None, batch: int | None, dtype: str) -> None:
    """Measures how the kernels of a training step are best made on this machine, and keeps that in the cache.

    What is compiled later for the same model, sizes and batch is made so. Results are the same bytes. Nothing else
    should be running meanwhile.
    """
    cache = os.environ.get("TAPELESS_CACHE", True)
    before = after = 0.0
    with warnings_told():
        for one in load_model(file, sizes, model).tune(batch, dtype, cache):
            before, after = before + one.before, after + one.after
            plan = one.best if one.best != one.expected else "as expected"
            click.echo(printable(f"{one.name:<32} {1e6 * one.before:10.1f} us  {1e6 * one.after:10.1f} us  {plan}"))
    click.echo(f"{'together, one call of each':<32} {1e6 * before:10.1f} us  {1e6 * after:10.1f} us")
