"""The tutorial, run from top to bottom as a newcomer would: files written, commands run, output compared."""

from __future__ import annotations

import doctest
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"`([\w.]+\.(?:tl|py|c))`")
IGNORED = (
    ".git",
    ".venv",
    "venv",
    "build",
    "dist",
    "__pycache__",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".hypothesis",
)
SAVE = '\ncode=$?; export -p > "$SESSION"; printf "cd %q\\n" "$PWD" >> "$SESSION"; exit $code\n'


def blocks():
    """(kind, text, file): kind is `sh`, `text` (what the commands before print) or `file`."""
    text = TUTORIAL.read_text("utf-8")
    end = 0
    for match in BLOCK.finditer(text):
        kind, body = match[1], match[2]
        if kind in ("sh", "text"):
            yield kind, body, None
        else:
            names = FILE.findall(text[end : match.start()])
            assert names, f"no file is named before the block\n{body}"
            yield "file", body, names[-1]
        end = match.end()


def run(text, folder, session, environment):
    """Runs commands as one goes on typing into a shell: folder and variables stay. What they print, and their code."""
    done = subprocess.run(
        ["bash", "-c", f'[ -f "$SESSION" ] && . "$SESSION"\nset -e -o pipefail\n{{\n{text}\n}}{SAVE}'],
        cwd=folder, env={**environment, "SESSION": str(session)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and "Traceback" not in done.stdout, f"{text}\n{done.stdout}"
    return done.stdout


def follow(clone, session, environment, skip=0):
    """Everything on the page but the first `skip` blocks."""
    matches = doctest.OutputChecker().check_output
    printed = ""
    for number, (kind, body, file) in enumerate(blocks()):
        if number < skip:
            continue
        if kind == "file":
            here = re.findall(r"^cd (.*)$", session.read_text(), re.MULTILINE)[-1]
            (Path(here) / file).write_text(body)
        elif kind == "sh":
            printed = run(body, clone, session, environment)
        else:
            flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            assert matches(body, printed, flags), f"the page says\n{body}\nbut this was printed\n{printed}"


@pytest.mark.slow
def test_the_tutorial_with_what_is_installed(tmp_path, monkeypatch):
    """All but the installation, which the slow test does."""
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    tapeless = Path(sys.executable).parent / "tapeless"
    if not tapeless.exists():
        pytest.skip("needs the command installed beside this interpreter")
    folder = tmp_path / "tutorial"
    folder.mkdir()
    shutil.copy(ROOT / "examples" / "digits" / "digits.npz", folder)
    session = tmp_path / "session"
    session.write_text(f"cd {folder}\n")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    follow(folder, session, {**os.environ, "PATH": path, "TAPELESS_CACHE": str(tmp_path / "cache")}, skip=1)


@pytest.mark.slow
def test_the_tutorial_from_a_fresh_clone(tmp_path):
    """Literally all of it, in a copy of this tree, with an empty home."""
    clone, home = tmp_path / "clone", tmp_path / "home"
    shutil.copytree(ROOT, clone, ignore=shutil.ignore_patterns(*IGNORED, "*.egg-info"))
    home.mkdir()
    kept = {
        k: v for k, v in os.environ.items() if k.startswith(("PIP_", "SSL_CERT", "REQUESTS_CA")) or "proxy" in k.lower()
    }
    environment = {**kept, "PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"}
    follow(clone, tmp_path / "session", environment)
