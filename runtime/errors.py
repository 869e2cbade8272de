"""Faults in what a person handed over (data, files, arguments), as opposed to faults in this package.

The command line prints these as messages and ends with exit code 2; a traceback is never what a user gets for them.
"""


class UserError(Exception):
    """Something the user gave can't be used; the message says what, where, and what to try."""

    exit_code = 2


class DataError(UserError, ValueError):
    """Data that do not fit the program: a missing input, a wrong shape or type, a label out of bounds, a NaN."""


class CheckpointError(UserError):
    """A file of weights that can't be read, written, or does not belong to this program."""


class TrainingStopped(UserError):
    """Training ended because the loss was not finite. The weights are those from before the failing step."""

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step
