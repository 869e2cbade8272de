"""Programs of several files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tapeless.compiler.language.files import MOST_FILES, Reach, files, imports
from tapeless.compiler.messages.diagnostics import ProgramErrors, Source
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
DEEPER = 'import "own.tl"\n\nfn curve(x) = tanh(x) ** 2\n'


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


def test_files_may_import_each_other(tmp_path: Path) -> None:
    (tmp_path / "own.tl").write_text(OWN.replace("curve(Dense", "bend(Dense") + "fn twice(x) = 2 * x\n")
    (tmp_path / "deeper.tl").write_text("import 'own.tl'\nfn bend(x) = twice(tanh(x))\n")
    assert load(MAIN, str(tmp_path / "main.tl")).slots


def test_a_file_is_read_once_whatever_it_is_called(tmp_path: Path) -> None:
    """By paths, two lines of imports would double what is read with every step."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "own.tl").write_text("import 'sub/../own.tl'\nimport './sub/../own.tl'\nfn Own(x, n) = n * x\n")
    found = files(Source(str(tmp_path / "main.tl"), MAIN))
    assert len(found.sources) == 2


@pytest.mark.parametrize("quote", "'\"")
def test_the_lexer_finds_what_the_parser_imports(tmp_path: Path, quote: str) -> None:
    (tmp_path / "own.tl").write_text("fn Own(x, n) = n * x\n")
    main = MAIN.replace('"', quote) + f"# import {quote}comment.tl{quote}\n"
    assert list(imports(Source("m.tl", main))) == ["own.tl"]
    assert len(load(main, str(tmp_path / "main.tl")).sources) == 2


@pytest.fixture
def strangers(tmp_path: Path) -> Path:
    """A folder with what a text from elsewhere might want to read, in it and above it."""
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    for path in (tmp_path / "above.tl", folder / "sub" / "in.tl", folder / "secret.txt", tmp_path / "secret.txt"):
        path.write_text("fn Own(x, n) = n * x\n")
    (folder / "big.tl").write_text("# " + "x" * 1_000_000)
    (folder / "bytes.tl").write_bytes(b"\xff\xfe")
    (folder / "folder.tl").mkdir()
    os.mkfifo(folder / "pipe.tl")
    os.symlink("/dev/zero", folder / "device.tl")
    os.symlink(folder / "secret.txt", folder / "link.tl")
    os.symlink(tmp_path / "above.tl", folder / "out.tl")
    os.symlink(tmp_path, folder / "up")
    return folder


FORBIDDEN = (
    "secret.txt",
    "../secret.txt",
    "big.tl",
    "bytes.tl",
    "folder.tl",
    "pipe.tl",
    "device.tl",
    "link.tl",
    "none.tl",
    "\0.tl",
    "x" * 400 + ".tl",
)
OUTSIDE = ("../above.tl", "out.tl", "up/above.tl", "sub/../../above.tl")


def said(folder: Path, path: str, reach: Reach) -> str:
    """What is said about an import, without its path and place and what is near."""
    with pytest.raises(ProgramErrors) as caught:
        load(MAIN.replace("own.tl", path), str(folder / "main.tl"), reach=reach)
    text = caught.value.render()
    assert "fn Own" not in text and len(caught.value.diagnostics) == 1
    return caught.value.diagnostics[0].message.replace(path, "*")


@pytest.mark.parametrize("reach", ["anywhere", "beside"])
def test_a_forbidden_file_looks_like_a_missing_one(strangers: Path, reach: Reach) -> None:
    refused = (*FORBIDDEN, *OUTSIDE, str(strangers.parent / "above.tl")) if reach == "beside" else FORBIDDEN
    missing = said(strangers, "none.tl", reach)
    for path in refused:
        assert said(strangers, path, reach) == missing, path


def test_within_its_folder_a_text_imports_as_ever(strangers: Path) -> None:
    assert load(MAIN.replace("own.tl", "sub/in.tl"), str(strangers / "main.tl"), reach="beside").slots
    for path in OUTSIDE:
        assert load(MAIN.replace("own.tl", path), str(strangers / "main.tl")).slots


def test_at_most_so_many_files(tmp_path: Path) -> None:
    for k in range(MOST_FILES + 10):
        (tmp_path / f"f{k}.tl").write_text(f"import 'f{k + 1}.tl'\n")
    with pytest.raises(ProgramErrors, match="cannot be imported"):
        load("import 'f0.tl'\n" + MAIN, str(tmp_path / "main.tl"))
