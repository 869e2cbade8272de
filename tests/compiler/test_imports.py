"""Programs of several files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tapeless.compiler.diagnostics import ProgramErrors
from tapeless.compiler.model import load

MAIN = """
import "own.tl"

model M:
    input x: [batch, 3]
    output y = Own(x, 4)
"""
OWN = """
import "deeper.tl"

layer Own(x[.., i], units):
    return curve(Dense(x, units))
"""
DEEPER = "import \"own.tl\"\n\nfn curve(x) = tanh(x) ** 2\n"


def test_imports_of_imports(tmp_path: Path) -> None:
    (tmp_path / "own.tl").write_text(OWN)
    (tmp_path / "deeper.tl").write_text(DEEPER)
    model = load(MAIN, str(tmp_path / "main.tl"))
    assert [Path(source.file).name for source in model.sources] == ["main.tl", "own.tl", "deeper.tl"]
    assert {slot.name for slot in model.slots if slot.role == "param"} == {"y.dense.W", "y.dense.b"}


def test_faults_of_imported_files_have_their_places(tmp_path: Path) -> None:
    (tmp_path / "own.tl").write_text("layer Own(x[.., i], units):\n    param W: [units, i] = 0\n    return x @ W\n")
    with pytest.raises(ProgramErrors) as caught:
        load(MAIN, str(tmp_path / "main.tl"))
    text = caught.value.render()
    assert "own.tl:3:12" in text and "main.tl:6" in text and "return x @ W" in text


def test_near_file_names(tmp_path: Path) -> None:
    (tmp_path / "own.tl").write_text(OWN)
    with pytest.raises(ProgramErrors, match=r'Did you mean `import "own\.tl"`'):
        load(MAIN.replace("own.tl", "owm.tl"), str(tmp_path / "main.tl"))
