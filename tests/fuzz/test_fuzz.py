"""A fixed few of the mutated programs; many more are tried by running `mutations.py`."""

from __future__ import annotations

import pytest

from .mutations import corpus, faults


@pytest.mark.parametrize("seed", range(2))
def test_only_diagnostics(seed: int) -> None:
    assert next(faults(seed, 150, corpus()), None) is None
