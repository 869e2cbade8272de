"""A bound on the memory of training: kept to, with the same weights; and what is said where it cannot be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tapeless
from tapeless.commands.main import main
from tapeless.compiler.language.byte_sizes import amount, bytes_of
from tapeless.compiler.language.format import formatted
from tapeless.compiler.messages.diagnostics import ProgramErrors
from tapeless.compiler.model import load

TEXT = """
model Net:
    input  x: [batch, 16]
    target y: int[batch] < 5
    h = Dense(x, 32)
    for k in 0..2:
        h = h + Dense(dropout(Dense(h, 128, tanh), 0.2), 32)
    loss cross_entropy(Dense(h, 5), y)

train Net:
    optimizer Adam(lr = 0.01)
    batch 128
"""


def needed(program: tapeless.Program) -> int:
    manifest = program.image("train").manifest
    return manifest.state.bytes + manifest.gradients.bytes + manifest.entries["train_step"].workspace


def test_the_bound_is_met_with_the_same_weights() -> None:
    rng = np.random.default_rng(0)
    data = {"x": rng.standard_normal((200, 16), np.float32), "y": rng.integers(0, 5, 200)}
    free = tapeless.load(TEXT).compile(cache=False)
    bound = needed(free) * 7 // 8
    bounded = tapeless.load(TEXT).compile(cache=False, max_memory=bound)
    assert needed(bounded) <= bound
    for program in (free, bounded):
        program.fit(data, epochs=2)
    for name, array in free.parameters.items():
        assert array.tobytes() == bounded.parameters[name].tobytes(), name


def test_a_bound_that_cannot_be_met(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "net.tl"
    file.write_text(TEXT, "utf-8")

    def memory(bound: str) -> int | str | None:
        with pytest.raises(SystemExit) as ended:
            main(["inspect", str(file), "--stage", "memory", "--max-memory", bound])
        return ended.value.code

    assert memory("100K") == 2
    said = capsys.readouterr().err
    assert "100K are allowed" in said and "Traceback" not in said
    assert memory(said.split("takes ")[1].split(" of memory")[0]) in (0, None)
    shown = capsys.readouterr().out
    assert "made again in the backward half" in shown and "keeps" in shown


@pytest.mark.parametrize("bound", ["2X", "-1", "0", 0, True, 1.5, ""])
def test_what_is_no_amount_of_memory(bound: object) -> None:
    with pytest.raises(tapeless.UserError, match="max_memory is a number of bytes"):
        tapeless.load(TEXT).compile(max_memory=bound)  # type: ignore[arg-type]


def test_amounts_of_memory() -> None:
    assert [bytes_of(text) for text in ("1", "2K", "1.5M", "2G", "1_000", "0", "0.0001K", "2g", "K", "2GB")] == [
        1, 2048, 3 << 19, 2 << 30, 1000, None, None, None, None, None,
    ]  # fmt: skip
    assert [amount(count) for count in (999, 1025, 3 << 19, 2 << 30)] == ["999 bytes", "1.1K", "1.5M", "2G"]


def test_the_setting() -> None:
    assert load(TEXT + "    memory 2G\n").memory == 2 << 30
    assert load(TEXT + "    memory 2 * 1000\n").memory == 2000
    assert load(TEXT).memory is None
    assert formatted(TEXT + "    memory   1.5M  # enough\n").endswith("    memory 1.5M  # enough\n")


@pytest.mark.parametrize(
    ("line", "code"),
    [("memory 2X", "E0105"), ("memory 0G", "E0601"), ("memory 0", "E0601"), ("memory 'much'", "E0601"),
     ("memory 2G, 3", "E0601"), ("epochs 2G", "E0105")],
)  # fmt: skip
def test_faults_in_the_setting(line: str, code: str) -> None:
    with pytest.raises(ProgramErrors) as faults:
        load(TEXT + f"    {line}\n")
    assert code in str(faults.value)
