"""A hundred training steps in float64 against PyTorch's, whose losses and last parameters `tests/fixtures` holds."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tapeless

FIXTURES = Path(__file__).parents[1] / "fixtures"
TOLERANCE = 1e-8


def _told() -> Any:
    spec = importlib.util.spec_from_file_location("fixtures_trajectories", FIXTURES / "trajectories.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


told = _told()


@pytest.mark.slow
@pytest.mark.parametrize("name", told.PROGRAMS)
def test_hundred_steps(name: str) -> None:
    said = np.load(FIXTURES / "trajectories.npz")
    program = tapeless.load(told.PROGRAMS[name]).compile(batch=told.ROWS, seed=0, dtype="float64")
    begun = told.start(name)
    assert set(begun) == set(program.parameters)
    for parameter, value in begun.items():
        program.parameters[parameter][...] = value
    run = program.fit(told.data(name), epochs=told.STEPS, validation=0)
    losses = np.array(run.curves["loss"])
    np.testing.assert_allclose(losses, said[f"{name} losses"], rtol=TOLERANCE)
    ends = np.concatenate([np.ravel(program.parameters[parameter]) for parameter in begun])
    assert np.abs(ends - said[f"{name} ends"]).max() <= TOLERANCE * np.abs(ends).max()
