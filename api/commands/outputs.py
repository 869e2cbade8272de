"""What commands put out: files, refused before any work is done for them, and the standard streams, which may be
closed or break off.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import click

from tapeless.runtime.errors import UserError, printable


def require(path: Path, read: Iterable[str | Path] = (), what: str = "") -> None:
    """UserError unless a file can be written, and is none of those that the command reads; `what` it is to hold."""
    from tapeless.runtime.writing import check_writable

    check_writable(path, what=what)
    for other in read:
        with contextlib.suppress(OSError):
            if os.path.samefile(path, other):
                raise UserError(f"{path} can't be written: it is {other}, which is read")


def data_paths(files: Iterable[str]) -> list[str]:
    """The files among what `--data` is given: `FILE` or `NAME=FILE`."""
    return [path for file in files for path in (file, file.partition("=")[2]) if path]


def write_text(path: Path, text: str) -> None:
    """Writes a file. UserError if that is impossible."""
    from tapeless.runtime.writing import refusal, write_atomically

    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise UserError(refusal(path, error)) from error


def say(text: str) -> None:
    """A line on standard error. Nobody reads there any more: that is no reason to give up the work."""
    with contextlib.suppress(OSError):
        click.echo(printable(text), err=True)


def open_streams() -> None:
    """Standard streams that were closed (`>&-`) lead nowhere, so that no file takes their number; characters that
    the terminal's encoding lacks are escaped.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it takes the lowest number that is free
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def give_up_streams() -> None:
    """Standard streams lead nowhere from now on: what they still hold is written there when the process ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
