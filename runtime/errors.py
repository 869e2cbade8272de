"""Faults in what a person handed over (data, files, arguments), as opposed to faults in this package.

The command line prints these as messages and ends with exit code 2; a traceback is never what a user gets for them.
"""

from __future__ import annotations

INTERRUPTED = 128 + 2  # what a shell reports for a process that Ctrl-C ended
TERMINATED = 128 + 15  # and SIGTERM
MOST_MESSAGE = 20_000  # characters: nobody reads more


def printable(text: str) -> str:
    """A text without characters that a terminal would obey, or that would show it in another order than it has."""
    return (
        text
        if text.isprintable()
        else "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
    )


class UserError(Exception):
    """Something the user gave can't be used; the message says what, where, and what to try.

    What it quotes may come from anybody's file, so it is made printable here, and no longer than anybody reads.
    """

    exit_code = 2

    def __init__(self, message: str = "") -> None:
        text = printable(message)
        super().__init__(text if len(text) <= MOST_MESSAGE else text[:MOST_MESSAGE].rstrip() + "\n... and more")


class DataError(UserError, ValueError):
    """Data that do not fit the program: a missing input, a wrong shape or type, a label out of bounds, a NaN."""


class CheckpointError(UserError):
    """A file of weights that can't be read, written, or does not belong to this program."""


class TrainingStopped(UserError):
    """Training ended because the loss was not finite. The weights are those from before the failing step."""

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step

    def __reduce__(self) -> tuple[type[TrainingStopped], tuple[str, int]]:
        return type(self), (str(self), self.step)  # a worker process hands its faults over as pickles


class ModelWarning(UserWarning):
    """Something in a model's text is allowed and hardly meant."""
