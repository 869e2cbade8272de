"""A million inputs to each function of float32, over all exponents and both signs, and a thousand of float64: what
docs/numerics.md is made by. Of float64 the quick tests take a fifth.
"""

from __future__ import annotations

import pytest

numerics = pytest.importorskip("benchmarks.numerics")
pytest.importorskip("scipy")


@pytest.mark.parametrize("name", numerics.NAMES)
def test_functions(name):
    count, worst, _, wrong = numerics.measure(name, 4093)
    assert count >= 10**6 and worst <= 4 and wrong == 0


@pytest.mark.parametrize("name", numerics.PAIRS)
def test_functions_of_two(name):
    _, worst, _, wrong = numerics.measure_pairs(name, 10**6)
    assert worst <= 4 and wrong == 0


@pytest.mark.parametrize("count", (200, pytest.param(1000, marks=pytest.mark.slow)))
@pytest.mark.parametrize("name", (*numerics.NAMES, *numerics.PAIRS))
def test_functions_of_float64(name, count):
    pytest.importorskip("mpmath")
    _, worst, _, wrong = numerics.measure_double(name, count)
    assert worst <= 4 and wrong == 0
