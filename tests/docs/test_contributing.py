"""What docs/contributing.md tells one to type is there to be run, and is what CI runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/contributing.md").read_text("utf-8")
CI = (ROOT / ".ci/run").read_text("utf-8")


def test_mypys_command_is_that_of_ci() -> None:
    (block,) = re.findall(r"<!-- also in \.ci/run -->\n```sh\n(.*?)```", PAGE, re.DOTALL)
    assert "mypy" in block
    for line in block.splitlines()[1:]:
        assert line in CI.splitlines(), line


@pytest.mark.parametrize("module", sorted(set(re.findall(r"python -m (tests\.[\w.]+)", PAGE))))
def test_modules_exist_and_take_the_option(module: str) -> None:
    source = (ROOT / (module.replace(".", "/") + ".py")).read_text("utf-8")
    for option in re.findall(re.escape(module) + r".*?(--\w+)", PAGE):
        assert f'"{option}"' in source


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`((?:tests|docs|\.ci)/[\w./*]*)`", PAGE))))
def test_files_exist(name: str) -> None:
    assert list(ROOT.glob(name.rstrip("/"))), name


def test_ci_installs_what_emulators_need() -> None:
    (packages,) = re.findall(r"apt-get install ([a-z -]+)\n", PAGE)
    (installed,) = re.findall(r"apt-get install [-a-z ]*--no-install-recommends ([a-z -]+)\n", CI)
    assert packages == installed and "TAPELESS_EMULATORS=required" in PAGE and "TAPELESS_EMULATORS=required" in CI
