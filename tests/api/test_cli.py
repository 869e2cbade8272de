"""The command line: messages and exit codes, and a model from text to weights and predictions."""

import subprocess
import sys

import pytest

from tapeless import cli


@pytest.fixture
def tapeless(capfd):
    """Runs a command line in this process: exit code, standard output, standard error."""

    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            cli.main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return ended.value.code, captured.out, captured.err

    return call


def test_help_names_every_command(tapeless):
    code, out, _ = tapeless("--help")
    assert code == 0
    for command in ("check", "train", "evaluate", "predict", "grad", "inspect", "run", "build", "std"):
        assert command in out
        assert tapeless(command, "--help")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fly"], "No such command 'fly'"),
        (["train"], "Missing argument 'MODEL.tl'"),
        (["train", "m.tl"], "Missing option '--data'"),
        (["train", "m.tl", "--data", "d.npz"], "there is no file m.tl"),
        (["check", "m.tl", "hidden"], "'hidden' is not a size"),
        (["check", "m.tl", "hidden=many"], "'hidden=many' is not a size"),
        (["check", "."], "can't be read: Is a directory"),
        (["train", "m.tl", "--data", "d.npz", "--epochs", "-1"], "not in the range"),
        (["train", "m.tl", "--data", "d.npz", "--out", "none/w.safetensors"], "there is no folder none"),
        (["run", "none.ir", "--data", "none.npz"], "there is no data file none.npz"),
        (["std", "Adem"], "the standard library has no 'Adem'"),
        (["inspect", "op", "tamh"], "there is no operation 'tamh'"),
    ],
)
def test_wrong_command_lines(tapeless, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = tapeless(*arguments)
    assert code == 2
    assert message in err and "Traceback" not in err
    assert out == ""


def test_a_reader_that_stops_reading_is_no_fault():
    script = f"{sys.executable} -m tapeless.cli --help | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr


def test_a_graph_runs_from_its_text(tapeless, tmp_path, monkeypatch):
    import numpy as np

    monkeypatch.chdir(tmp_path)
    (tmp_path / "g.ir").write_text(
        "graph square {\n  input data x: %x : f32[batch, 2]\n  input param w: %w : f32[2]\n"
        "  %y : f32[batch, 2] = square(%x)\n  output output y: %y\n}\n"
    )
    np.savez("d.npz", x=np.array([[1, 2], [3, 4]]))
    code, out, err = tapeless("run", "g.ir", "--data", "d.npz", "--out", "r.npz")
    assert code == 0
    assert out == "y float32 [2, 2]: [[ 1.  4.] [ 9. 16.]]\n"
    assert err == "note: not among the data, so zero: w\n"
    np.testing.assert_array_equal(np.load("r.npz")["y"], [[1, 4], [9, 16]])
    assert tapeless("run", "g.ir", "--data", "d.npz", "--graph", "cube")[0] == 2
    (tmp_path / "g.ir").write_text("graph {")
    assert tapeless("run", "g.ir", "--data", "d.npz")[0] == 2
