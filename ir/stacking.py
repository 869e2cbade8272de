"""Slots that hold one tensor for each turn of a loop: the names of the turns' tensors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product

TURN = re.compile(r"\$\d+")


def turn_names(name: str, turns: Sequence[range]) -> list[str]:
    """The names of a slot's tensors in the order of its first axes: `block.$0.W` over turns 0 and 1 holds
    `block.0.W` and
    `block.1.W`. A slot without turns holds one tensor, of its own name."""
    return [_named(name, numbers) for numbers in product(*turns)]


def _named(name: str, numbers: Sequence[int]) -> str:
    found = iter(numbers)
    return TURN.sub(lambda _: str(next(found)), name) if numbers else name
