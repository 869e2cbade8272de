"""The order in which a run sees its rows: what is held out, and how each epoch is shuffled.

Both come from the program's own permutation, which the seed and the number of the epoch decide, so that any epoch's
order can be made again from these two alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tapeless.runtime.call import Call
from tapeless.runtime.errors import DataError, UserError

if TYPE_CHECKING:
    from tapeless.runtime.program import Program

VALIDATION_EPOCH = -1  # the permutation that splits off the validation rows is that of an epoch that never comes
MOST_ROWS = 2**31 - 1  # row numbers are int32
Order = npt.NDArray[np.int32]


def shuffle(program: Program, rows: Order, order: Order, epoch: int) -> None:
    """Writes `rows` into `order` as the program's own permutation of that epoch arranges them."""
    state = program.state
    places = np.empty(len(rows), np.int32)
    before = int(state["epoch"])
    state["epoch"][...] = epoch
    seed = (int(state["seed"][0]), int(state["seed"][1]))
    call = Call(
        program.having("permutation"), "permutation", program.memory(), 1, (), (places,), seed=seed, epoch=epoch
    )
    call.run(0, len(rows))
    state["epoch"][...] = before
    np.take(rows, places, out=order)


def held_rows(count: int, validation: float) -> int:
    """How many of the rows are held out."""
    return max(round(validation * count), 1) if validation else 0


def split(program: Program, count: int, validation: float) -> tuple[Order | None, Order]:
    """The rows that are held out (None if none are) and those to train on, both ascending."""
    if not 0 <= validation < 1:
        raise UserError(f"the validation fraction lies between 0 and 1; {validation} does not")
    if count > MOST_ROWS:
        raise DataError(f"a run takes at most {MOST_ROWS:,} rows, not {count:,}")
    rows = np.arange(count, dtype=np.int32)
    if validation == 0:
        return None, rows
    held = held_rows(count, validation)
    if held >= count:
        raise DataError(f"{count} row is too few to hold some out for validation; set validation to 0")
    mixed = np.empty_like(rows)
    shuffle(program, rows, mixed, VALIDATION_EPOCH)
    return np.sort(mixed[:held]), np.sort(mixed[held:])
