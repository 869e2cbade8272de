"""Arguments of the Python interface, checked where they come in. Knows nothing of what they are for."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Iterable

from tapeless.runtime.errors import UserError

MOST_ROWS_OF_A_BATCH = 1 << 24
MOST_THREADS = 1 << 10


def whole(name: str, value: object, least: int = 0, most: int | None = None) -> int:
    """The value as an integer within its limits. UserError if it is none."""
    limits = f"{least} or more" if most is None else f"from {least} to {most}"
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise UserError(f"`{name}` is a whole number, {limits}, not {value!r}") from None
    if isinstance(value, bool) or number < least or (most is not None and number > most):
        raise UserError(f"`{name}` is a whole number, {limits}, not {value!r}")
    return number


def real(name: str, value: object) -> float:
    """The value as a number of Python's: of NumPy's, too, or an array of one number. UserError if it is none."""
    if not isinstance(value, bool | str | bytes) and getattr(value, "shape", ()) == () and hasattr(value, "__float__"):
        return float(value)
    raise UserError(f"`{name}` is a number, not {value!r}")


def size(name: str, value: object) -> int | float:
    """A model's argument: a whole number, a real one, or a truth value, Python's or NumPy's."""
    if isinstance(value, bool) or str(getattr(value, "dtype", "")) == "bool":
        return bool(value)
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return real(name, value)


def rows_of_a_batch(value: object) -> int | None:
    return None if value is None else whole("batch", value, 1, MOST_ROWS_OF_A_BATCH)


def threads(value: object) -> int | None:
    return None if value is None else whole("threads", value, 1, MOST_THREADS)


def says_yes(answer: object) -> bool:
    """Whether an answer is True, be it Python's or NumPy's; no other value counts, however true."""
    return answer is True or (
        str(getattr(answer, "dtype", "")) == "bool" and getattr(answer, "shape", None) == () and bool(answer)
    )


def known(given: Iterable[str], names: Iterable[str]) -> None:
    """UserError, with the nearest name, if an option is none of those there are."""
    names = list(names)
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1, 0.5)
            hint = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(names)}"
            raise UserError(f"there is no option `{name}`; {hint}")
