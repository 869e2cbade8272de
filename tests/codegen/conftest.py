"""What kernel tests share: the widths of vectors that they run over."""

from __future__ import annotations

import zlib
from collections import deque

import pytest

from .kernels import VECTORS, WIDTHS, Vectors


@pytest.fixture(params=("in turn", *(pytest.param(lanes, marks=pytest.mark.slow) for lanes in WIDTHS)))
def vectors(request: pytest.FixtureRequest) -> Vectors:
    """Kernels for vectors of all widths: one after the other, beginning anywhere; and at length, all for each."""
    if request.param == "in turn":
        targets = deque(WIDTHS.values())
        targets.rotate(zlib.crc32(request.node.name.encode()))
        VECTORS.begin(targets)
    else:
        VECTORS.begin([WIDTHS[request.param]])
    return VECTORS
