"""What commands put out: files are refused before any work, and closed or broken standard streams are no traceback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

import tapeless
from tapeless.commands.main import commands

TEXT = """
model Line:
    input  x: [batch]
    target y: [batch]
    param w = 0
    output z = w * x
    loss mean((z - y) ** 2)

train Line:
    optimizer SGD(lr = 0.1)
    epochs 2
"""


@pytest.fixture
def here(tmp_path, monkeypatch, cache_folder):
    (tmp_path / "line.tl").write_text(TEXT)
    np.savez(tmp_path / "d.npz", x=np.linspace(0, 1, 20), y=np.linspace(0, 2, 20))
    tapeless.load(TEXT).compile().save(tmp_path / "w.safetensors")
    os.mkfifo(tmp_path / "pipe.npz")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAPELESS_CACHE", str(cache_folder))
    return tmp_path


def refused(monkeypatch, *line):
    """The message of a command that is refused before it has read or computed anything."""
    monkeypatch.setattr("tapeless.model.load", lambda *_, **__: pytest.fail("the model was read before"))
    result = CliRunner().invoke(commands, line, standalone_mode=False)
    assert isinstance(result.exception, tapeless.UserError), result.exception
    return str(result.exception)


TRAIN = ("train", "line.tl", "--data", "d.npz")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ((*TRAIN, "--out", "/dev/null"), "/dev/null can't be written: it is a device"),
        ((*TRAIN, "--out", "pipe.npz"), "it is a pipe"),
        ((*TRAIN, "--out", "."), "it is a folder"),
        ((*TRAIN, "--out", "no/w"), "there is no folder no"),
        ((*TRAIN, "--out", "d.npz"), "it is d.npz, which is read"),
        (("train", "line.tl", "--data", "x=d.npz", "--out", "d.npz"), "it is d.npz, which is read"),
        ((*TRAIN, "--out", "line.tl"), "it is line.tl, which is read"),
        ((*TRAIN, "--out", "w.jsonl"), "w.jsonl can't hold the weights: the log has that name"),
        ((*TRAIN, "--out", "pipe.safetensors"), "the log pipe.jsonl can't be written: it is a pipe"),
        (
            ("predict", "line.tl", "--data", "d.npz", "--weights", "w", "--out", "/dev/null"),
            r"\(s\) can't be written as a file without a suffix",
        ),
        (("predict", "line.tl", "--data", "d.npz", "--weights", "w", "--out", "pipe.npz"), "it is a pipe"),
        (("grad", "line.tl", "--data", "d.npz", "--out", "no/g.npz"), "there is no folder no"),
        (("run", "line.ir", "--data", "d.npz", "--out", "pipe.npz"), "it is a pipe"),
        (("inspect", "line.tl", "--out", "/dev/null"), "it is a device"),
    ],
)
def test_outputs_are_refused_before_any_work(here, monkeypatch, line, message):
    os.mkfifo("pipe.jsonl")
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(refused(monkeypatch, *line))
    assert np.load("d.npz").files == ["x", "y"]


def test_a_picture_is_refused_before_training(here, monkeypatch):
    pytest.importorskip("matplotlib")
    os.mkfifo("v.png")
    assert "the picture v.png can't be written: it is a pipe" in refused(
        monkeypatch, *TRAIN, "--plot", "--out", "v.safetensors"
    )
    assert "the picture has that name" in refused(monkeypatch, *TRAIN, "--plot", "--out", "u.png")


def test_build_is_refused_before_it_compiles(here, monkeypatch):
    from tapeless.pipeline import Pipeline

    monkeypatch.setattr(Pipeline, "image", lambda *_: pytest.fail("it was compiled before"))
    os.mkdir("dist")
    os.mkfifo("dist/line.so")
    for folder, message in (
        ("w.safetensors", "is no folder"),
        ("w.safetensors/deep", "is no folder"),
        ("dist", "it is a pipe"),
    ):
        with pytest.raises(tapeless.UserError, match=message):
            tapeless.load("line.tl").build(folder)


def test_fit_refuses_its_files_first(here):
    x, program = np.linspace(0, 1, 20), tapeless.load(TEXT).compile()
    os.mkfifo("pipe.jsonl")
    for options in ({"save": "/dev/null"}, {"log": "pipe.jsonl"}, {"save": "same", "log": "./same"}):
        with pytest.raises(tapeless.UserError, match="can't"):
            program.fit(x, x, on_epoch=lambda run: pytest.fail("it was trained before"), **options)


def test_weights_and_log_go_where_links_lead_with_the_modes_they_had(here):
    os.mkdir("store")
    for name in ("v.safetensors", "v.jsonl"):
        (here / "store" / name).write_bytes(b"")
        (here / "store" / name).chmod(0o640)
        (here / name).symlink_to(f"store/{name}")
    result = CliRunner().invoke(commands, [*TRAIN, "--out", "v.safetensors"], standalone_mode=False)
    assert result.exception is None, result.exception
    for name in ("v.safetensors", "v.jsonl"):
        assert (here / name).is_symlink() and (here / "store" / name).stat().st_mode & 0o777 == 0o640
    assert len((here / "v.jsonl").read_text().splitlines()) == 2
    tapeless.load(TEXT).compile().load("v.safetensors")


def test_fmt_keeps_the_mode(here):
    (here / "line.tl").write_text(TEXT.replace("w * x", "w*x"))
    (here / "line.tl").chmod(0o600)
    CliRunner().invoke(commands, ["fmt", "line.tl"], standalone_mode=False)
    assert (here / "line.tl").stat().st_mode & 0o777 == 0o600 and "w * x" in (here / "line.tl").read_text()


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a shell")
@pytest.mark.parametrize(
    ("redirections", "code"),
    [(">&-", 0), ("2>&-", 0), (">&- 2>&- <&-", 0), ("| true", 0), ("2>&1 | true", 0), (">/dev/full", 2)],
)
def test_streams_that_are_closed_break_off_or_are_full(here, redirections, code):
    """The work is done all the same, and no file takes a closed stream's number."""
    tapeless_ = f"'{sys.executable}' -m tapeless.commands.main train line.tl --data d.npz --out v.safetensors"
    script = f"{{ {tapeless_}; echo $? >code; }} {redirections}"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr + done.stdout and "Exception ignored" not in done.stderr
    assert (here / "code").read_text() == f"{code}\n"
    tapeless.load(TEXT).compile().load("v.safetensors")


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a shell")
def test_an_error_without_a_stream_to_tell_it_on(here):
    done = subprocess.run(
        ["sh", "-c", f"'{sys.executable}' -m tapeless.commands.main check none.tl 2>&-"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and done.stderr == ""
