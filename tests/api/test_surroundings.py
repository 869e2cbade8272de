"""Surroundings that are not as they should be: a message and exit code 2, never a traceback, and nothing lost.

Command lines run in processes of their own, as a person would start them, but for those that only say what is wrong
with their words and data.
"""

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tapeless.commands.main import main
from tapeless.runtime.writing import write_atomically

DIGITS = Path(__file__).parent.parent.parent / "examples" / "digits"
ROOT = os.geteuid() == 0 if hasattr(os, "geteuid") else False
KILLS = 200
TAPELESS = (sys.executable, "-m", "tapeless.commands.main")
LINE = ("digits.tl", "hidden=16", "--data", "digits.npz")


@pytest.fixture
def here(tmp_path, monkeypatch, cache_folder, digits):
    shutil.copy(DIGITS / "digits.tl", tmp_path)
    np.savez(tmp_path / "digits.npz", image=digits[0][:400], label=digits[1][:400])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAPELESS_CACHE", str(cache_folder))
    return tmp_path


def tapeless(*arguments, **how):
    done = subprocess.run(
        [*TAPELESS, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        **how,
    )
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    return done


def refused(*arguments, message, **how):
    done = tapeless(*arguments, **how)
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert message in done.stderr and "error" in done.stderr.lower(), done.stderr


@pytest.fixture
def refused_here(capfd):
    """The same in this process."""

    def call(*arguments, message):
        with pytest.raises(SystemExit) as ended:
            main([*map(str, arguments)])
        said = capfd.readouterr().err
        assert ended.value.code == 2 and message in said and "error" in said.lower(), said

    return call


@pytest.mark.slow
def test_outputs_that_can_not_be_written(here):
    (here / "folder").mkdir()
    refused("train", *LINE, "--out", "none/w.safetensors", message="there is no folder none")
    refused("train", *LINE, "--out", "folder", message="it is a folder")
    refused("train", *LINE, "--out", "digits.npz/w.safetensors", message="there is no folder digits.npz")
    refused("train", *LINE, "--out", "/proc/w.safetensors", message="/proc/w.safetensors can't be written")
    refused("train", *LINE, "--out", "w" * 300, message="can't be written: File name too long")
    (here / "w.jsonl").mkdir()
    refused("train", *LINE, "--out", "w.safetensors", message="the log w.jsonl can't be written")
    assert tapeless("train", *LINE, "--out", "v.safetensors", "--epochs", 1, "--quiet").returncode == 0
    line = (*LINE, "--weights", "v.safetensors")
    refused("predict", *line, "--out", "none/p.npy", message="none/p.npy can't be written")
    refused("predict", *line, "--out", "p.xls", message="can't be written as .xls")
    refused("grad", *line, "--out", "/proc/g.npz", message="can't be written")
    refused("inspect", "digits.tl", "--out", "/proc/x", message="can't be written")
    refused("build", "digits.tl", "--out", "/proc/x", message="can't be written")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*TAPELESS, "predict", *line],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2 and "No space left on device" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.skipif(ROOT, reason="root may write anywhere")
def test_a_folder_without_permission(here):
    (here / "locked").mkdir(mode=0o555)
    refused("train", *LINE, "--out", "locked/w.safetensors", message="can't be written: Permission denied")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--resume", "none.safetensors"), "there is no file of weights none.safetensors"),
        (("--resume", "digits.npz"), "can't be read as safetensors"),
        (("--resume", "w.safetensors", "--weights", "w.safetensors"), "exclude each other"),
        (("--every", "now and then", "--out", "w.safetensors"), "not every 'now and then'"),
        (("--plot",), "say where with --out"),
        (("--epochs", "many"), "not a valid integer"),
        (("--validation", "1.5"), "not in the range"),
        (("--patience", "-1"), "not in the range"),
        (("--max-steps", "x"), "not a valid integer"),
        (("--threads", "0"), "not in the range"),
        (("--seed", "-1"), "not in the range"),
        (("--dtype", "float16"), "is not one of"),
        (("--fly",), "No such option"),
        (("--data", "digits.npz"), "and in another of the data files"),
        (("--columns", "image"), "columns are given as NAME=COLUMN"),
        (("surplus",), "'surplus' is not a size"),
    ],
)
def test_wrong_command_lines(here, refused_here, arguments, message):
    refused_here("train", *LINE, *arguments, message=message)


def test_wrong_data(here, refused_here, digits):
    image, label = digits[0][:50], digits[1][:50]

    def case(message, *files, **arrays):
        np.savez(here / "d.npz", **arrays)
        data = [part for file in files or ("d.npz",) for part in ("--data", file)]
        refused_here("train", "digits.tl", "hidden=16", *data, message=message)

    case("there is no data file none.npz", "none.npz")
    case("the target `label: [batch]` is missing; found `image`", image=image)
    case("`image: [batch, 64]` does not fit an array of shape [50, 60]", image=image[:, :60], label=label)
    case("the arrays have different numbers of rows: `image` has 50, `label` has 49", image=image, label=label[:49])
    case("`image` holds <U1, not numbers", image=np.full((50, 64), "x"), label=label)
    case("`image` holds complex128, not numbers", image=image.astype(np.complex128), label=label)
    case("it holds integers", image=image, label=label + 0.5)
    case("`label` has 10 at row 7; it is declared `< 10`", image=image, label=np.where(np.arange(50) == 7, 10, label))
    case("`label` has -1 at row 0", image=image, label=label.astype(np.int64) - label[0] - 1)
    case(
        "`image` has inf at row 3, place [3, 0]",
        image=np.where(np.arange(50)[:, None] == 3, np.inf, image),
        label=label,
    )
    case("the data are empty", image=image[:0], label=label[:0])
    case("d.npz can't be read as .npz", image=np.array([{}], dtype=object), label=label)
    case("data come as .npz, .npy, .csv or .safetensors", "digits.tl")
    (here / "short.npz").write_bytes((here / "digits.npz").read_bytes()[:500])
    case("short.npz can't be read as .npz", "short.npz")
    (here / "t.csv").write_text(
        "label," + ",".join(f"image.{k}" for k in range(63)) + "\n" + ",".join(["1"] * 64) + "\n"
    )
    case("does not fit an array of shape [1, 63]", "t.csv")
    line = ("train", "digits.tl", "--data", "t.csv", "--columns")
    refused_here(*line, "image=image.0,pixel", message="t.csv has no column 'pixel'")
    (here / "t.csv").write_text("label,image.0\n1,nan\n")
    columns = "image=" + ",".join(["image.0"] * 64)
    refused_here(*line, columns, "--columns", "label=label", message="`image` has nan at row 0")


def test_files_of_arrays_by_name(here, digits):
    np.save("pixels.npy", digits[0][:100].astype(np.float64))
    np.save("label.npy", digits[1][:100].astype(np.uint8))
    done = tapeless(
        "train", "digits.tl", "hidden=16", "--data", "image=pixels.npy", "--data", "label.npy", "--epochs", 1
    )
    assert done.returncode == 0 and done.stdout.startswith("1 epoch, 2 steps in")
    refused("train", "digits.tl", "--data", "image=digits.npz", message="holds 2 arrays")


def test_ctrl_c_saves_and_training_goes_on(here):
    whole = tapeless("train", *LINE, "--epochs", 4, "--patience", 0, "--out", "whole.safetensors")
    assert whole.returncode == 0
    arguments = [
        sys.executable,
        "-m",
        "tapeless.commands.main",
        "train",
        *LINE,
        "--patience",
        "0",
        "--out",
        "w.safetensors",
    ]
    process = subprocess.Popen(
        [*arguments, "--epochs", "1000000"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    log = here / "w.jsonl"
    limit = time.monotonic() + 60
    while not (log.exists() and log.stat().st_size) and time.monotonic() < limit:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, (out, err)
    assert err.startswith("interrupted in epoch ") and "Traceback" not in err and "weights in w.safetensors" in out
    steps = int(re.split(" epochs?, ", out)[1].split(" steps")[0].replace(",", ""))
    again = tapeless("train", *LINE, "--resume", "w.safetensors", "--max-steps", steps + 7)
    assert again.returncode == 0 and f" {steps + 7:,} steps in" in again.stdout


def test_progress_is_shown_on_a_terminal_and_nowhere_else(here):
    quiet = tapeless("train", *LINE, "--epochs", 2)
    assert quiet.stderr == ""
    main, other = pty.openpty()
    subprocess.run(
        [*TAPELESS, "train", *LINE, "--epochs", "2"],
        stderr=other, stdout=subprocess.PIPE, check=True, env={**os.environ, "TERM": "xterm", "COLUMNS": "160"},
    )  # fmt: skip
    os.close(other)
    shown = b""
    while True:
        try:
            part = os.read(main, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(main)
    text = shown.decode()
    assert "epoch 2/2" in text and "accuracy" in text and "val. loss" in text and "/s" in text


def _mounted(folder):
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    return done.returncode == 0


@pytest.mark.skipif(not ROOT or shutil.which("mount") is None, reason="only root may mount a small file system")
def test_a_full_disk_loses_nothing(here):
    small = here / "small"
    small.mkdir()
    if not _mounted(small):
        pytest.skip("mounting is not allowed here")
    try:
        out = small / "w.safetensors"
        assert tapeless("train", *LINE, "--epochs", 1, "--out", out, "--quiet").returncode == 0
        before = out.read_bytes()
        wide = ("digits.tl", "hidden=400", "--data", "digits.npz", "--epochs", 2, "--out", out)
        refused("train", *wide, "--every", "1 steps", message="can't be written: No space left on device")
        assert out.read_bytes() == before
        assert [name for name in os.listdir(small) if name.endswith(".part")] == []
        (small / "fill").write_bytes(bytes(64 * 1024 - len(before) - 12288))
        refused("predict", *LINE, "--weights", out, "--out", small / "p.npz", message="can't be written")
        refused("build", "digits.tl", "--out", small / "made", message="No space left on device")
    finally:
        subprocess.run(["umount", str(small)], check=True)


SAVING = """
import os
import sys
import tapeless
program = tapeless.load("digits.tl").compile(cache=sys.argv[1])
def save(turn):
    program.parameters["h.W"][...] = turn
    program.parameters["logits.W"][...] = turn
    program.save("w.safetensors")
save(0)
for k, _ in enumerate(sys.stdin, 1):  # a child for each line, which saves until it is killed
    child, turn = os.fork(), 1000 * k
    while not child:
        save(turn)
        turn += 1
    print(child, flush=True)
    os.waitpid(child, 0)
    print("gone", flush=True)
"""


@pytest.mark.slow
def test_killed_while_saving_leaves_the_old_or_the_new(here, cache_folder):
    from safetensors.numpy import load_file

    generator = np.random.default_rng(0)
    path, seen = here / "w.safetensors", set()
    command = [sys.executable, "-c", SAVING, str(cache_folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        for _ in range(KILLS):
            process.stdin.write("go\n")
            process.stdin.flush()
            child = int(process.stdout.readline())
            time.sleep(float(generator.uniform(0, 0.03)))
            os.kill(child, signal.SIGKILL)
            assert process.stdout.readline() == "gone\n"
            if path.exists():
                tensors = load_file(path)
                values = {float(value) for name in ("h.W", "logits.W") for value in np.unique(tensors[name])}
                assert len(values) == 1, "a checkpoint holds parts of two"
                seen |= values
    assert len(seen) > 2
    write_atomically(path, b"")
    assert [name for name in os.listdir(here) if name.endswith(".part")] == [], "what killed ones leave is cleared away"
