"""The examples do what their texts say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def printed_by(module: str, *arguments: str) -> str:
    """What `python -m examples.MODULE` prints, started from the repository's folder."""
    command = [sys.executable, "-m", f"examples.{module}", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=EXAMPLES.parent).stdout


def number(printed: str, before: str) -> float:
    """The number that is printed after some words."""
    found = re.search(re.escape(before) + r"\s+([-+]?\d+\.?\d*(?:e[-+]?\d+)?)", printed)
    assert found is not None, printed
    return float(found[1])


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


@pytest.mark.slow
def test_the_digits_are_told_apart():
    assert number(printed_by("digits.accuracy"), "mean accuracy") > 0.97


@pytest.mark.slow
def test_convolution_tells_digits_apart(tmp_path: Path):
    printed = printed_by("cnn", "--picture", str(tmp_path / "picture.png"))
    assert number(printed, "mean accuracy") >= 0.985


@pytest.mark.slow
def test_convolution_learns(tmp_path: Path):
    assert number(drawn_by("cnn", tmp_path), "mean accuracy") > 0.8


def test_trigrams_say_what_the_text_is_worth():
    assert 2.5 < number(printed_by("text.trigram"), "trigrams:") < 3.1


def drawn_by(example: str, folder: Path) -> str:
    """What an example's short form prints; its picture has to be there, and that of its README small enough to keep."""
    pytest.importorskip("sklearn")
    printed = printed_by(example, "--short", "--picture", str(folder / "picture.png"))
    assert (folder / "picture.png").read_bytes().startswith(b"\x89PNG")
    kept = EXAMPLES / example.replace(".", "/")
    pictures = re.findall(r"!\[[^]]*\]\((.*?)\)", (kept / "README.md").read_text())
    assert pictures and all((kept / name).stat().st_size < 60_000 for name in pictures)
    return printed


@pytest.mark.slow
def test_logistic_regression_finds_the_weights_of_scikit_learn(tmp_path: Path):
    printed = drawn_by("cancer", tmp_path)
    assert number(printed, "largest difference of a weight") < 1e-4
    assert number(printed, "held-out accuracy") > 0.95


@pytest.mark.slow
def test_early_stopping_saves_a_network_from_learning_by_heart(tmp_path: Path):
    printed = drawn_by("diabetes", tmp_path)
    assert number(printed, "network") < 64 < number(printed, "not stopped")


@pytest.mark.slow
def test_an_autoencoder_says_more_with_eight_numbers_than_principal_components(tmp_path: Path):
    printed = drawn_by("autoencoder", tmp_path)
    assert number(printed, "autoencoder") < 0.7 * number(printed, "principal components")


@pytest.mark.slow
def test_a_variational_autoencoder_knows_more_than_single_pixels(tmp_path: Path):
    printed = drawn_by("vae", tmp_path)
    assert number(printed, "variational autoencoder") < number(printed, "pixels one by one") - 2
    assert number(printed, "of which divergence") > 1


@pytest.mark.slow
def test_a_mixture_reaches_the_likelihood_of_expectation_maximisation(tmp_path: Path):
    printed = drawn_by("mixture", tmp_path)
    assert number(printed, "gradient descent") == pytest.approx(number(printed, "scikit-learn"), abs=1e-4)


@pytest.mark.slow
def test_word_vectors_know_more_than_frequencies(tmp_path: Path):
    printed = drawn_by("words", tmp_path)
    assert number(printed, "from their vectors") < number(printed, "from the frequencies of both")


@pytest.mark.slow
def test_a_small_gpt_learns_and_writes(tmp_path: Path):
    printed = drawn_by("gpt", tmp_path)
    assert number(printed, "GPT:") < 4.3 and printed.count("-" * 72) == 3


@pytest.mark.slow
def test_a_network_finds_how_heat_spreads_from_the_equation_alone(tmp_path: Path):
    printed = drawn_by("heat", tmp_path)
    assert number(printed, "relative error of the temperature") < 0.05
    assert number(printed, "relative error of the flow") < 0.15


@pytest.mark.slow
def test_differential_equations_are_fitted_through_their_solution(tmp_path: Path):
    printed = drawn_by("lynx", tmp_path)
    rates = [number(printed, f"{name} =") for name in "abcd"]
    assert rates == pytest.approx([0.54, 0.0272, 0.796, 0.0237], rel=0.01)
    assert number(printed, "Neural, fitted to 21 years: error") < number(
        printed, "LotkaVolterra, fitted to 21 years: error"
    )


@pytest.mark.slow
def test_a_recurrent_network_learns_and_writes(tmp_path: Path):
    printed = drawn_by("lstm", tmp_path)
    assert number(printed, "LSTM:") < 4 and printed.count("-" * 72) == 3
