"""The examples do what their texts say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@pytest.mark.slow
def test_the_digits_are_told_apart():
    script = EXAMPLES / "digits" / "accuracy.py"
    printed = subprocess.run([sys.executable, script], check=True, capture_output=True, text=True).stdout
    found = re.search(r"mean accuracy (\S+)", printed)
    assert found is not None and float(found[1]) > 0.97, printed


def test_the_readme_shows_the_model_of_the_example():
    readme = (EXAMPLES.parent / "README.md").read_text()
    model = (EXAMPLES / "digits" / "digits.tl").read_text()
    blocks = readme.split("```")[1::2]
    (shown,) = [block.lstrip("\n") for block in blocks if "model Digits" in block]
    assert shown in model


def test_the_regression_finds_the_certified_answer():
    pytest.importorskip("scipy")
    script = EXAMPLES / "scipy" / "misra1a.py"
    printed = subprocess.run([sys.executable, script], check=True, capture_output=True, text=True).stdout
    errors = [float(error) for error in re.findall(r"relative error (\S+)", printed)]
    assert len(errors) == 3 and max(errors) < 1e-8, printed


def printed_by(module: str, *arguments: str) -> str:
    """What `python -m examples.MODULE` prints, started from the repository's folder."""
    command = [sys.executable, "-m", f"examples.{module}", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=EXAMPLES.parent).stdout


def number(printed: str, before: str) -> float:
    """The number that is printed after some words."""
    found = re.search(re.escape(before) + r"\s+([-+\d.e]+)", printed)
    assert found is not None, printed
    return float(found[1])


def test_trigrams_say_what_the_text_is_worth():
    assert 2.5 < number(printed_by("text.trigram"), "trigrams:") < 3.1
