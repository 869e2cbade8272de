"""Texts that go on: a model of characters says what may follow, and one character after the other is drawn from that.

Characters are ints here, places in an alphabet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tapeless.runtime.data import Data
from tapeless.runtime.errors import DataError, UserError

if TYPE_CHECKING:
    from tapeless.runtime.program import Program

Ints = npt.NDArray[np.int32]
Reals = npt.NDArray[np.float64]


def alphabet_among(inputs: Data) -> str | None:
    """The characters that an array `alphabet` among the data holds, in order: one text, or one character in each
    place.
    """
    if not isinstance(inputs, Mapping) or "alphabet" not in inputs:
        return None
    array = np.asarray(inputs["alphabet"])
    return "".join(array.ravel().tolist()) if array.dtype.kind == "U" else None


def checked_alphabet(alphabet: str, program: Program) -> str:
    """An alphabet that has a character for each int that the model knows. UserError if it has not."""
    _, _, count = character_model(program)
    if len(alphabet) != count or len(set(alphabet)) != count:
        raise UserError(
            f"the model knows {count} characters, and the alphabet has {len(set(alphabet))} different ones among "
            f"{len(alphabet)}"
        )
    return alphabet


def character_model(program: Program) -> tuple[str, str, int]:
    """The names of the input that takes a character at each place and of the output that says what follows, and how
    many characters there are. UserError if the model is no such model.
    """
    entry = program.image("step", 1).manifest.entries["step"]
    if len(entry.data) == 1 and entry.data[0].bound is not None and len(entry.data[0].shape) == 1:
        (data,) = entry.data
        for output in entry.outputs:
            if len(output.shape) == 2 and output.shape[1] == data.bound and output.dtype.kind == "f":
                return data.name, output.name, data.bound
    raise UserError(
        f"{program.manifest.model} is no model of characters: that has one input, `int[batch, t] < n`, and an "
        "output of n probabilities "
        "for each place"
    )


def continuation(
    program: Program,
    beginnings: npt.ArrayLike,
    length: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
) -> Iterator[Ints]:
    """Goes on from beginnings `[rows, n]`, at least a character each: `length` times the next one of each row,
    `[rows]`.

    Each is drawn from the model's probabilities raised to 1 / temperature (0: the likeliest is taken), of the `top_k`
    likeliest characters alone if that is given. A model whose sequences end begins again from the last half of one.
    """
    name, output, _ = character_model(program)
    said = np.asarray(beginnings, np.int32)
    if said.ndim != 2 or not said.size:
        raise DataError(f"beginnings are rows of one character or more, not an array of shape {list(said.shape)}")
    if not temperature >= 0:
        raise DataError(f"a temperature is 0 or more, not {temperature}")
    generator, places = np.random.default_rng(seed), program.places
    carry, unread = None, said[:, -places:] if places else said
    for _ in range(length):
        for column in unread.T:
            made, carry = program.step({name: np.ascontiguousarray(column)}, carry)
        probabilities = made[output] if isinstance(made, dict) else made
        drawn = _drawn(_checked(probabilities, output), temperature, top_k, generator)
        yield drawn
        said, unread = np.column_stack([said, drawn]), drawn[:, None]
        if places is not None and carry is not None and carry.position == places:
            carry, unread = None, said[:, -max(places // 2, 1) :]


def _checked(probabilities: npt.NDArray[Any], output: str) -> Reals:
    """UserError unless each row is a distribution."""
    found = probabilities.astype(np.float64)
    if found.min() < 0 or abs(found.sum(axis=1) - 1).max() > 1e-3:
        raise UserError(
            f"`{output}` holds no probabilities; a model of characters puts them out as `output probs = "
            "softmax(logits)`"
        )
    return found


def _drawn(probabilities: Reals, temperature: float, top_k: int | None, generator: np.random.Generator) -> Ints:
    """One place for each row."""
    if temperature == 0:
        return np.asarray(probabilities.argmax(axis=1), np.int32)
    with np.errstate(divide="ignore"):
        scores = np.log(probabilities)
    if top_k is not None and top_k < scores.shape[1]:
        least = np.partition(scores, -top_k, axis=1)[:, -top_k, None]
        scores = np.where(scores >= least, scores, -np.inf)
    sums = np.exp((scores - scores.max(axis=1, keepdims=True)) / temperature).cumsum(axis=1)
    # A place of weight 0 is never drawn: where sums do not rise, the first of them is passed as well.
    passed = sums <= generator.random((len(sums), 1)) * sums[:, -1:]
    return np.asarray(passed.sum(axis=1), np.int32)
