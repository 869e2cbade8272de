"""The command line: messages and exit codes, and a model from text to weights and predictions."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tapeless.commands.main import main

DIGITS = Path(__file__).parent.parent.parent / "examples" / "digits"


@pytest.fixture
def tapeless(capfd):
    """Runs a command line in this process: exit code, standard output, standard error."""

    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return ended.value.code, captured.out, captured.err

    return call


def test_help_names_every_command(tapeless):
    code, out, _ = tapeless("--help")
    assert code == 0
    for command in ("check", "train", "evaluate", "predict", "grad", "sample", "inspect", "run", "build", "std"):
        assert command in out
        assert tapeless(command, "--help")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fly"], "No such command 'fly'"),
        (["train"], "Missing argument 'MODEL.tl'"),
        (["train", "m.tl"], "there is no file m.tl"),
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
    script = f"{sys.executable} -m tapeless.commands.main --help | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr


def test_a_graph_runs_from_its_text(tapeless, tmp_path, monkeypatch):
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


@pytest.fixture
def here(tmp_path, monkeypatch, cache_folder, digits):
    """A folder with the digits model and a few of the data, and a cache that these tests share."""
    shutil.copy(DIGITS / "digits.tl", tmp_path)
    np.savez(tmp_path / "digits.npz", image=digits[0][:400], label=digits[1][:400])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAPELESS_CACHE", str(cache_folder))
    return tmp_path


def test_from_text_to_predictions(tapeless, here):
    line = ("digits.tl", "hidden=32", "--data", "digits.npz")
    code, out, err = tapeless("train", *line, "--epochs", 3, "--out", "w.safetensors", "--threads", 2)
    assert (code, err) == (0, "")
    assert out.startswith("3 epochs, 15 steps in ") and "validation_accuracy" in out
    code, out, _ = tapeless("evaluate", *line, "--weights", "w.safetensors")
    assert code == 0 and out.startswith("loss ")
    code, out, _ = tapeless("predict", *line, "--weights", "w.safetensors")
    assert code == 0 and out.splitlines()[0] == ",".join(f"probs.{k}" for k in range(10))
    assert len(out.splitlines()) == 401
    assert tapeless("predict", *line, "--weights", "w.safetensors", "--out", "p.npy")[0] == 0
    table = np.array([[float(number) for number in row.split(",")] for row in out.splitlines()[1:]], np.float32)
    np.testing.assert_array_equal(np.load("p.npy"), table)
    code, out, _ = tapeless("grad", *line, "--weights", "w.safetensors", "--out", "g.npz")
    assert code == 0 and "h.W       [64, 32]       norm " in out
    assert np.load("g.npz")["h.W"].shape == (64, 32)
    assert tapeless("train", *line, "--epochs", 1, "--quiet") == (0, "", "")
    code, out, _ = tapeless("build", "digits.tl", "hidden=32", "--out", "made")
    assert code == 0 and (here / "made" / "digits.h").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "digits.tl", "hiden=32", "--data", "digits.npz"], "hidden"),
        (["train", "digits.tl", "--data", "empty.npz"], "empty"),
        (["train", "digits.tl", "--data", "wrong.npz"], "`label` has 10 at row 3"),
        (["train", "digits.tl", "--data", "nan.npz"], "`image` has nan at row 5, place [5, 7]"),
        (["train", "digits.tl", "--data", "short.npz"], "the target `label: [batch]` is missing; found `image`"),
        (["train", "digits.tl", "--data", "digits.npz", "--weights", "digits.npz"], "can't be read as safetensors"),
        (["evaluate", "digits.tl", "--data", "digits.npz", "--weights", "none"], "no file of weights none"),
        (["check", "digits.tl", "--model", "Letters"], "Letters"),
        (["inspect", "digits.tl", "--stage", "llvm", "--dot"], "the stage 'llvm' is not a graph"),
        (["inspect", "digits.tl", "--entry", "fly"], "there is no entry 'fly'"),
        (["inspect", "digits.tl", "--target", "fly"], "there is no target 'fly'"),
        (["build", "digits.tl", "--target", "abacus"], "there is no target 'abacus'"),
        (["build", "digits.tl", "--out", "digits.npz/dist"], "can't be written"),
        (["check", "broken.tl"], "error["),
        (["check", "bytes.tl"], "is not a text in UTF-8"),
    ],
)
def test_what_a_user_gets_wrong_is_a_message(tapeless, here, arguments, message):
    with np.load("digits.npz") as data:
        image, label = data["image"].copy(), data["label"].copy()
    np.savez("empty.npz", image=image[:0], label=label[:0])
    np.savez("short.npz", image=image)
    label[3] = 10
    np.savez("wrong.npz", image=image, label=label)
    image[5, 7] = np.nan
    np.savez("nan.npz", image=image, label=label % 10)
    (here / "broken.tl").write_text("model Broken:\n    input x: [batch, 2]\n    loss mean(y)\n")
    (here / "bytes.tl").write_bytes(b"model \xff\n")
    code, _, err = tapeless(*arguments)
    assert code == 2
    assert message in err and "Traceback" not in err


def test_a_loss_that_is_not_finite_is_a_message_and_keeps_the_weights(tapeless, here):
    text = (here / "digits.tl").read_text()
    (here / "wild.tl").write_text(text.replace("cross_entropy(logits, label)", "mean(exp(exp(exp(logits * 1e3))))"))
    code, _, err = tapeless("train", "wild.tl", "--data", "digits.npz", "--out", "w.safetensors", "--batch", 32)
    assert code == 2
    assert "the loss (line 14) is not finite at step" in err
    assert (here / "w.safetensors").is_file()


def test_free_sizes_come_from_the_data(tapeless, here):
    text = (here / "digits.tl").read_text().replace("[batch, 64]", "[batch, pixels]")
    (here / "free.tl").write_text(text)
    line = ("free.tl", "hidden=16", "--data", "digits.npz")
    assert tapeless("train", *line, "--epochs", 1, "--out", "w.safetensors")[0] == 0
    code, out, _ = tapeless("evaluate", *line, "--weights", "w.safetensors")
    assert code == 0 and "predicted in columns:" in out and out.splitlines()[2].startswith("label |")
    assert "predicted" not in tapeless("evaluate", *line, "--weights", "w.safetensors", "--no-confusion")[1]
    code, _, err = tapeless("train", "free.tl", "pixels=60", "--data", "digits.npz")
    assert code == 2 and "`image: [batch, 60]` does not fit an array of shape [400, 64]" in err
    (here / "free.tl").write_text(text + "    loss mean(nothing)\n")
    assert tapeless("train", *line)[0] == 2


def test_learning_curves_and_log_lie_beside_the_weights(tapeless, here):
    import json

    pytest.importorskip("matplotlib")
    code, out, _ = tapeless(
        "train", "digits.tl", "hidden=16", "--data", "digits.npz", "--epochs", 3, "--out", "w.safetensors", "--plot"
    )
    assert code == 0 and "learning curves in w.png" in out
    assert (here / "w.png").read_bytes().startswith(b"\x89PNG")
    lines = [json.loads(line) for line in (here / "w.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3] and lines[-1]["step"] == 15
    assert {"loss", "accuracy", "validation_loss", "validation_accuracy", "seconds"} <= lines[0].keys()
    tapeless("train", "digits.tl", "hidden=16", "--data", "digits.npz", "--epochs", 5, "--resume", "w.safetensors")
    lines = [json.loads(line) for line in (here / "w.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5]


def test_a_confusion_table(digits, cache_folder):
    from tapeless import load, tables

    program = load(DIGITS / "digits.tl", hidden=16).compile(cache=cache_folder)
    program.fit(*digits, epochs=4)
    table = program.confusion(*digits)
    np.testing.assert_array_equal(table.sum(axis=1), np.bincount(digits[1]))
    accuracy = program.evaluate(*digits)["accuracy"]
    assert np.trace(table) / table.sum() == pytest.approx(accuracy, abs=1e-6)
    assert len(tables.confusion_text(table).splitlines()) == 13
    wide = np.eye(30, dtype=int)
    wide[3, 7] = 1234
    assert tables.confusion_text(wide) == "most often confused:\n  3 taken for 7: 1,234 times\n"


def test_hints_for_what_comes_next(tapeless, here):
    code, out, _ = tapeless("inspect", "op")
    assert code == 0 and {"add", "matmul", "scan"} <= set(out.split())
    code, out, _ = tapeless("inspect", "digits.tl", "--stage", "forward", "--entry", "predict")
    assert code == 0 and "output probs" in out and "loss" not in out.replace("# ", "")
    assert tapeless("inspect", "digits.tl", "--stage", "forward", "--out", "formulas.ir")[0] == 0
    code, _, err = tapeless("run", "formulas.ir", "--data", "digits.npz")
    assert code == 2 and "inspect --plain" in err
    code, out, _ = tapeless("train", "digits.tl", "hidden=16", "--data", "digits.npz", "--epochs", 1)
    assert code == 0 and "the weights were not saved; `--out" in out
    code, _, err = tapeless("check", "digits.tl", "hidden=0")
    assert code == 2 and "E0209" in err and "E0603" not in err
