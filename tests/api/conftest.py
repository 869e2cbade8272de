"""What the tests of the public face share: the digits, and a cache of their own for the session."""

import signal
from pathlib import Path

import numpy as np
import pytest

import tapeless

DIGITS = Path(__file__).parent.parent.parent / "examples" / "digits"

# a shell's job in the background ignores it, and so would its children
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def digits():
    """Images and labels."""
    with np.load(DIGITS / "digits.npz") as data:
        return data["image"], data["label"]


@pytest.fixture(scope="session")
def model():
    return tapeless.load(DIGITS / "digits.tl")
