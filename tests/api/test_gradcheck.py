"""`tapeless check --gradients`: what agrees, what differs, and what cannot be compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tapeless.commands.main import commands

RIGHT = """
fn leaky(x) = maximum(x, 0.01 * x)
    derivative where(x > 0, 1, 0.01)

fn power(x, y) = exp(y * log(x))
    derivative y * out / x, log(x) * out

model M:
    input x: [batch, n]
    target k: int[batch] < 4
    h = Dense(x, 5, leaky)
    loss cross_entropy(Dense(h, 4), k) + mean(power(sigmoid(h), 1.5))
"""


def check(tmp_path: Path, text: str, *more: str) -> tuple[str, str]:
    """What is printed, and the message of the error, if there is one."""
    (tmp_path / "m.tl").write_text(text)
    result = CliRunner().invoke(commands, ["check", str(tmp_path / "m.tl"), *more], standalone_mode=False)
    error = result.exception
    assert error is None or getattr(error, "exit_code", None) == 2, error
    return result.output, str(error or "")


def test_derivatives_that_agree(tmp_path):
    out, error = check(tmp_path, RIGHT, "--gradients", "n=3")
    assert not error and "DIFFER" not in out
    assert [line.split("  ")[0] for line in out.splitlines()[1:-1]] == [
        *("leaky by x", "power by x", "power by y"),
        *("loss by h.W", "loss by h.b", "loss by dense.W", "loss by dense.b"),
    ]


def test_a_wrong_one_is_named(tmp_path):
    out, error = check(tmp_path, RIGHT.replace("y * out / x", "y * out"), "--gradients", "n=3")
    assert "of 7 derivatives differ" in error
    line = next(line for line in out.splitlines() if "DIFFER" in line)
    assert line.startswith("power by x") and "DIFFER at x = " in line and ", y = " in line


def test_on_data(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.ones((9, 2)), k=np.arange(9) % 4)
    out, error = check(tmp_path, RIGHT, "--gradients", "--data", str(tmp_path / "d.npz"))
    assert not error and "loss by h.W" in out


@pytest.mark.parametrize(
    ("text", "message"),
    (
        (
            (
                "fn f(x) = log(-9 - x)\n    derivative 1 / (9 + x)\n\nmodel M:\n    input x: [batch]\n    output y "
                "= f(x)\n"
            ),
            "`f` has no finite value",
        ),
        (
            "model M:\n    input x: [batch]\n    param w = 1\n    loss mean(log(-w - x ** 2))\n",
            "give it data with --data",
        ),
    ),
)
def test_what_cannot_be_compared(tmp_path, text, message):
    assert message in check(tmp_path, text, "--gradients")[1]


def test_data_without_gradients_has_no_meaning(tmp_path):
    assert "--data is for --gradients" in check(tmp_path, RIGHT, "--data", "d.npz")[1]
