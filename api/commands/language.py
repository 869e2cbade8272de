"""Commands about the language itself: `fmt` lays programs out, `explain` prints the page of a diagnostic's code."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tapeless.commands.outputs import write_text
from tapeless.runtime.errors import UserError


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--check", is_flag=True, help="Writes nothing; names the files that would change and ends with code 1.")
def fmt(files: tuple[Path, ...], check: bool) -> int:
    """Lays programs out in the one way; `-` reads standard input and writes standard output."""
    from tapeless.compiler.language.format import formatted
    from tapeless.compiler.messages.diagnostics import ProgramErrors

    changed = False
    for file in files:
        text = _text(file)
        try:
            made = formatted(text, str(file))
        except ProgramErrors as errors:
            raise UserError(errors.render()) from None
        if str(file) == "-" and not check:
            click.echo(made, nl=False)
        elif made != text:
            changed = True
            click.echo(f"{file}: {'would change' if check else 'formatted'}")
            if not check:
                write_text(file, made)
    return 1 if check and changed else 0


def _text(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_bytes().decode("utf-8")
    except OSError as error:
        raise UserError(f"{file} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{file} is not a text in UTF-8") from None


@click.command()
@click.argument("code", required=False)
def explain(code: str | None) -> None:
    """Explains a diagnostic's code, such as E0204: a broken program, why, and the mended one. Without one, lists
    all.
    """
    from tapeless.compiler.messages.codes import TITLES
    from tapeless.compiler.messages.explain import page

    if code is None:
        click.echo("\n".join(f"{name}  {title}" for name, title in TITLES.items()))
        return
    try:
        click.echo(page(code), nl=False)
    except KeyError as error:
        raise UserError(str(error.args[0])) from None
