"""The models of benchmarks/models/gradbench have the derivatives that differences give, at small sizes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tapeless import gradcheck
from tapeless.model import load

MODELS = Path(__file__).parents[2] / "benchmarks" / "models" / "gradbench"
SIZES: dict[str, dict[str, int]] = {
    "ba": {"cameras": 3, "points": 5},
    "gmm": {"d": 3, "k": 2},
    "kmeans": {"d": 2, "k": 3},
    "llsq": {"m": 4},
    "lstm": {"l": 2, "d": 3, "places": 5},
    "ode": {"n": 5},
    "scan": {"width": 3, "places": 7},
}


@pytest.mark.parametrize("name", sorted(path.stem for path in MODELS.glob("*.tl")))
def test_derivatives(name: str) -> None:
    compared = gradcheck.compare(load(MODELS / f"{name}.tl", **SIZES[name]), None)
    assert compared and all(one.agrees for one in compared), gradcheck.table(compared)
