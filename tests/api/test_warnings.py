"""What `check` warns of reaches whoever runs a model: as ModelWarning in Python, on standard error from the command
line, once.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import tapeless

MODEL = """model M:
    input  x: [batch, 4]
    target y: int[batch] < 3
    output probs = Dense(x, 3, softmax)
    loss cross_entropy(probs, y)
"""


def told(run: object) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run()  # type: ignore[operator]
    return [str(warning.message) for warning in caught if warning.category is tapeless.ModelWarning]


def test_python_is_told_once_also_from_the_cache(tmp_path: Path) -> None:
    data = {"x": np.ones((4, 4)), "y": np.zeros(4, np.int32)}

    def train() -> None:
        program = tapeless.load(MODEL).compile(cache=tmp_path)
        program.fit(data, epochs=1, progress=False)
        program.gradients(data)

    first, second = told(train), told(train)
    assert first == second
    (text,) = first
    assert text.startswith("warning[W0106]: `cross_entropy` takes scores") and "has been through `softmax`" in text
    assert len(told(lambda: tapeless.load(MODEL).build(tmp_path / "dist"))) == 1


def test_the_cache_tells_without_the_compiler(tmp_path: Path) -> None:
    script = (
        "import sys, tapeless, warnings\n"
        f"tapeless.load({MODEL!r}).compile(cache={str(tmp_path)!r}).parameters\n"
        "print('tapeless.compiler.language.parser' in sys.modules)\n"
    )
    runs = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True) for _ in range(2)
    ]
    assert [run.stdout.strip() for run in runs] == ["True", "False"]
    assert all("ModelWarning: warning[W0106]" in run.stderr for run in runs)


@pytest.mark.parametrize("command", ["train", "grad", "build", "check"])
def test_the_command_line_tells(command: str, tmp_path: Path) -> None:
    model, data = tmp_path / "m.tl", tmp_path / "m.npz"
    model.write_text(MODEL)
    np.savez(data, x=np.ones((4, 4)), y=np.zeros(4, np.int32))
    rest = {
        "train": ["--data", str(data), "--epochs", "1"],
        "grad": ["--data", str(data)],
        "build": ["--out", str(tmp_path)],
        "check": [],
    }
    done = subprocess.run(
        [sys.executable, "-m", "tapeless.commands.main", command, str(model), *rest[command]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("warning[W0106]") == 1 and "Warning:" not in done.stderr


def test_a_faulty_text_says_nothing_until_it_is_used() -> None:
    model = tapeless.load(MODEL.replace("Dense", "Dnse"))
    assert not told(model.compile)


def test_what_has_no_parameter_is_not_trained() -> None:
    program = tapeless.load("model M:\n    input x: [batch, 2]\n    loss mean(x)\n").compile()
    assert program.evaluate(np.ones((3, 2))) == {"loss": 1.0}
    with pytest.raises(tapeless.UserError, match="nothing to train"):
        program.fit(np.ones((3, 2)), progress=False)
