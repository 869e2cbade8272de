"""Programs for a kind of processor by name: apart in the cache, and refused where they would not run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tapeless
from tapeless.commands.main import main
from tapeless.ir.target import TARGETS, runnable

TEXT = """
model Line:
    input  x: [batch, 3]
    target y: [batch, 1]
    out = Dense(x, 1)
    loss mean((out - y) ** 2)

train Line:
    optimizer SGD(lr = 0.1)
    batch 8
"""
FOREIGN = next(name for name in TARGETS if name not in runnable())


def data() -> dict[str, np.ndarray]:
    x = np.random.default_rng(0).standard_normal((32, 3), np.float32)
    return {"x": x, "y": x.sum(1, keepdims=True)}


@pytest.mark.parametrize("name", runnable())
def test_every_target_that_runs_here_learns_the_same(name: str) -> None:
    made = tapeless.load(TEXT).compile(target=name, cache=False)
    usual = tapeless.load(TEXT).compile(cache=False)
    for program in (made, usual):
        program.fit(data(), epochs=3, validation=0.0, patience=0, progress=False)
    np.testing.assert_allclose(made.parameters["out.W"], usual.parameters["out.W"], rtol=1e-4)


def test_targets_lie_in_the_cache_beside_each_other(tmp_path: Path) -> None:
    digests = []
    for name in (None, runnable()[-1], "host", None):
        digests.append(tapeless.load(TEXT).compile(target=name, cache=tmp_path).image("train").digest)
        files = len(list(tmp_path.glob("*.image")))
    assert digests[0] == digests[2] == digests[3]
    assert (digests[0] != digests[1]) == (files > 2)  # the warnings, and one program or two


def test_a_target_that_does_not_run_here_is_refused() -> None:
    with pytest.raises(tapeless.UserError, match=f"{FOREIGN} don't run on this machine; it runs host"):
        tapeless.load(TEXT).compile(target=FOREIGN, cache=False).image("train")
    with pytest.raises(tapeless.UserError, match="there is no target 'z80'"):
        tapeless.load(TEXT).compile(target="z80", cache=False).image("train")


def test_the_command_line_takes_a_target(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "line.tl"
    model.write_text(TEXT)
    np.savez(tmp_path / "line.npz", **data())  # type: ignore[arg-type]
    asked = ["train", str(model), "--data", str(tmp_path / "line.npz"), "--no-cache", "--quiet", "--epochs", "1"]
    for name, code in ((runnable()[-1], 0), (FOREIGN, 2)):
        with pytest.raises(SystemExit) as ended:
            main([*asked, "--target", name])
        assert ended.value.code == code
    assert "run on this machine" in capsys.readouterr().err
