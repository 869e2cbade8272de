"""Sweeps: the slow set tries all of them, the fast set a few of each."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import pytest


def sweep(*axes: Iterable[Any], every: int) -> list[Any]:
    """The combinations of some parameters, a tuple being several of them, of which all but each so-manyth are slow."""
    made = []
    for place, case in enumerate(itertools.product(*axes)):
        known = [one for one in case if hasattr(one, "marks")]  # written as `pytest.param`
        values = [
            value
            for one in case
            for value in (one.values if one in known else one if isinstance(one, tuple) else (one,))
        ]
        marks = [mark for one in known for mark in one.marks] + [pytest.mark.slow] * (place % every != 0)
        made.append(pytest.param(*values, marks=marks, id=known[0].id if len(case) == len(known) == 1 else None))
    return made
