"""`tapeless fmt` and `tapeless explain` on the command line."""

import pytest
from click.testing import CliRunner

from tapeless.commands.main import commands
from tapeless.runtime.errors import UserError

UNTIDY = "model M:\n  input x:[batch,8]\n  output y=x  # the same\n"
TIDY = "model M:\n    input x: [batch, 8]\n    output y = x  # the same\n"


def run(*arguments: str, text: str | None = None):
    return CliRunner().invoke(commands, list(arguments), input=text, standalone_mode=False)


def test_fmt_writes_and_says_so(tmp_path):
    file = tmp_path / "model.tl"
    file.write_text(UNTIDY)
    checked = run("fmt", "--check", str(file))
    assert checked.return_value == 1 and "would change" in checked.output and file.read_text() == UNTIDY
    assert "formatted" in run("fmt", str(file)).output and file.read_text() == TIDY
    again = run("fmt", "--check", str(file))
    assert again.return_value == 0 and not again.output


def test_fmt_of_standard_input():
    assert run("fmt", "-", text=UNTIDY).output == TIDY


def test_fmt_leaves_what_it_cannot_read(tmp_path):
    file = tmp_path / "model.tl"
    file.write_text("model M\n    x = (\n")
    result = run("fmt", str(file))
    assert isinstance(result.exception, UserError) and "E0101" in str(result.exception)
    assert file.read_text() == "model M\n    x = (\n"
    assert isinstance(run("fmt", str(tmp_path / "none.tl")).exception, UserError)


def test_explain():
    assert run("explain", "e0204").output.startswith("# E0204: ")
    assert "E0204  inner dimensions" in run("explain").output
    result = run("explain", "E0299")
    assert isinstance(result.exception, UserError) and "there is no code E0299" in str(result.exception)


@pytest.mark.parametrize("command", ("fmt", "explain"))
def test_help(command):
    assert run(command, "--help").exit_code == 0
