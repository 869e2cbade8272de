"""The command line. A fault of the user's is a message and exit code 2, never a traceback.

Each command imports what it needs when it runs, so that `tapeless --help` is instant.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from pathlib import Path

import click

from tapeless.abi.dtypes import PRECISIONS
from tapeless.commands import language, outputs, running, sampling, tuning
from tapeless.commands.options import data_options, load_model, model_arguments, read_arrays, warnings_told
from tapeless.runtime.errors import INTERRUPTED, UserError, printable

STAGES = (
    "ast", "forward", "backward", "update", "simplified", "fused", "scheduled", "loops", "llvm", "asm", "memory",
    "timing",
)  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and ends the process."""
    outputs.open_streams()
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    try:
        # Not by click's own `main`, which ends the process itself where standard output breaks off.
        with commands.make_context("tapeless", list(sys.argv[1:] if arguments is None else arguments)) as context:
            code = commands.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as ended:
        code = ended.exit_code
    except UserError as error:
        outputs.say(_message(error))
        code = error.exit_code
    except click.ClickException as error:
        with contextlib.suppress(OSError):
            error.show()
        code = 2
    except (click.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except BrokenPipeError:  # `tapeless inspect ... | head`
        code = 0
    except OSError as error:  # the disk is full, the terminal is gone
        where = f"{error.filename}: " if error.filename else ""
        outputs.say(f"error: {where}{error.strerror or error}")
        code = 2
    except MemoryError:
        outputs.say("error: there is not enough memory")
        code = 2
    outputs.give_up_streams()
    sys.exit(code if isinstance(code, int) else 0)


def _message(error: UserError) -> str:
    text = str(error)
    return text if text.startswith(("error", "warning")) else f"error: {text}"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tapeless")
def commands() -> None:
    """Compiles a page of text into a native program that trains."""


for command in (
    *(running.train, running.evaluate, running.predict, running.grad),
    sampling.sample,
    tuning.tune,
    *(language.fmt, language.explain),
):
    commands.add_command(command)


@commands.command()
@model_arguments
@click.option(
    "--gradients", is_flag=True, help="Compares derivatives with differences, in float64, on --data or on made-up data."
)
@data_options(False)
def check(
    file: Path, sizes: tuple[str, ...], model: str | None, gradients: bool, data_files: tuple[str, ...],
    columns: tuple[str, ...],
) -> None:  # fmt: skip
    """Reports every fault of a model's text; with --gradients, also whether its derivatives are right."""
    if data_files and not gradients:
        raise UserError("--data is for --gradients")
    data = read_arrays(data_files, columns) if data_files else None
    loaded = load_model(file, sizes, model)
    if data is not None:
        loaded = loaded.sized_for(data)
    warnings = loaded.check()
    if warnings:
        outputs.say(warnings)
    if gradients:
        from tapeless import gradcheck

        found = gradcheck.compare(loaded, data)
        click.echo(gradcheck.table(found), nl=False)
        if differing := [one for one in found if not one.agrees]:
            raise UserError(f"{file}: {len(differing)} of {len(found)} derivatives differ from what differences give")
    click.echo(f"{file}: no faults found")


@commands.command()
@model_arguments
@click.option("--stage", type=click.Choice(STAGES), default="backward", show_default=True)
@click.option("--entry", default=None, metavar="NAME", help="train_step, gradients, predict, step, evaluate, init, ...")
@click.option("--dot", is_flag=True, help="A drawing for Graphviz, for the stages that are graphs.")
@click.option("--plain", is_flag=True, help="Without source lines: a text that `tapeless run` reads.")
@click.option("--batch", type=click.IntRange(1))
@click.option("--max-memory", metavar="SIZE", help="The most memory of a training step: 512M, 2G, or bytes.")
@click.option("--dtype", type=click.Choice(list(PRECISIONS)), default=next(iter(PRECISIONS)), show_default=True)
@click.option("--target", metavar="NAME", help="The machine, as for build; this one if not given.")
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path))
def inspect(
    file: Path, sizes: tuple[str, ...], model: str | None, stage: str, entry: str | None, dot: bool, plain: bool,
    batch: int | None, max_memory: str | None, dtype: str, target: str | None, out: Path | None,
) -> None:  # fmt: skip
    """Prints a stage of the compilation; `tapeless inspect op NAME` prints an operation's definition, `inspect op`
    lists them.
    """
    from tapeless import inspector

    if out is not None:
        outputs.require(out, [file])
    if str(file) == "op" and not file.exists():
        text = "\n".join(inspector.operation_text(name) for name in sizes) if sizes else inspector.operations_text()
    else:
        inspection = load_model(file, sizes, model).inspect(dtype, batch, target, max_memory)
        text = inspection.dot(stage, entry) if dot else inspection.stage(stage, entry, source=not plain)
    if out is None:
        click.echo(printable(text), nl=not text.endswith("\n"))
    else:
        outputs.write_text(out, text)


@commands.command()
@click.argument("file", metavar="FILE.ir", type=click.Path(path_type=Path))
@data_options(True)
@click.option("--graph", metavar="NAME", help="Which graph, where the file has several.")
@click.option("--precision", type=click.Choice(list(PRECISIONS)), help="Compute real numbers in this type.")
@click.option("--rows", type=click.IntRange(0), help="Use so many of the data's rows.")
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path), help="An .npz file for the results.")
def run(
    file: Path, data_files: tuple[str, ...], columns: tuple[str, ...], graph: str | None, precision: str | None,
    rows: int | None,
    out: Path | None,
) -> None:  # fmt: skip
    """Executes the text of a graph, of any stage, in the reference interpreter.

    The data have an array for each of the graph's inputs. Inputs that are missing there are zero, with a note.
    """
    from tapeless import interpreting, tables

    if out is not None:
        tables.require(out)
        outputs.require(out, [file, *outputs.data_paths(data_files)])
    results = interpreting.run_file(
        file, read_arrays(data_files, columns), graph, precision, rows, note=lambda text: outputs.say(f"note: {text}")
    )
    for name, value in results.items():
        click.echo(printable(f"{name} {value.dtype} {list(value.shape)}: {tables.excerpt(value)}"))
    if out is not None:
        tables.write(out, results)


@commands.command()
@model_arguments
@click.option("--target", metavar="NAME", help="The machine to build for. This one, if not given.")
@click.option("--batch", type=click.IntRange(1), help="The most rows of one step.")
@click.option("--max-memory", metavar="SIZE", help="The most memory of a training step: 512M, 2G, or bytes.")
@click.option("--dtype", type=click.Choice(list(PRECISIONS)), default=next(iter(PRECISIONS)), show_default=True)
@click.option("--out", metavar="FOLDER", default="dist", show_default=True, type=click.Path(path_type=Path))
def build(
    file: Path, sizes: tuple[str, ...], model: str | None, target: str | None, batch: int | None,
    max_memory: str | None, dtype: str,
    out: Path,
) -> None:  # fmt: skip
    """Writes the program as a library with a C header."""
    with warnings_told():
        written = load_model(file, sizes, model).build(
            out, target=target, batch=batch, dtype=dtype, max_memory=max_memory
        )
    for path in written:
        click.echo(f"{path}  {path.stat().st_size:,} bytes")


@commands.command()
@click.argument("name", required=False)
def std(name: str | None) -> None:
    """Prints the source of a definition of the standard library, or lists them all."""
    from tapeless import standard

    click.echo(standard.source(name) if name else standard.listing(), nl=False)


if __name__ == "__main__":
    main()
