"""That the tests' programs begin with NaN where nothing may be read, in this process and in those that tests start."""

import subprocess
import sys

import numpy as np

from tapeless.runtime.call import Memory

SAME = """
import numpy as np
from tapeless.runtime.call import Memory
gradients = np.zeros(8, np.uint8)
print(Memory(np.zeros(0, np.uint8), gradients).workspace(8).view(np.float32), gradients.view(np.float64))
"""


def test_gradients_and_workspace_are_poisoned():
    gradients = np.zeros(64, np.uint8)
    memory = Memory(np.zeros(64, np.uint8), gradients)
    assert np.isnan(gradients.view(np.float64)).all()
    for _ in range(2):  # at each call: what an earlier one has left is no more to be read than what was never written
        assert np.isnan(memory.workspace(64).view(np.float32)).all()
        memory.workspace(64)[:] = 0


def test_so_are_those_of_programs_that_tests_start():
    assert (
        subprocess.run([sys.executable, "-c", SAME], check=True, capture_output=True, text=True).stdout
        == "[nan nan] [nan]\n"
    )
