"""A fixed few of what the fuzzers try; many more are tried by running them: `python -m tests.fuzz.checkpoints`,
`entries`, `data_files`,
`texts`, and `mutations.py`."""

from __future__ import annotations

import os
import signal
from types import ModuleType

import pytest

from . import checkpoints, children, data_files, entries, texts
from .mutations import corpus, faults

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="children are watched by /proc")


@pytest.mark.parametrize("seed", range(2))
def test_only_diagnostics(seed: int) -> None:
    assert next(faults(seed, 150, corpus()), None) is None


@pytest.mark.parametrize(
    ("fuzzer", "count"),
    [(data_files, 150), (checkpoints, 15), (entries, 15), (texts, 8)],
    ids=lambda one: getattr(one, "__name__", None),
)
def test_nothing_is_found(fuzzer: ModuleType, count: int) -> None:
    prepared(fuzzer)
    assert list(children.findings(fuzzer.attempt, range(count))) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fuzzer", "count"),
    [(data_files, 1500), (checkpoints, 500), (entries, 300), (texts, 150)],
    ids=lambda one: getattr(one, "__name__", None),
)
def test_nothing_is_found_among_more(fuzzer: ModuleType, count: int) -> None:
    prepared(fuzzer)
    assert list(children.findings(fuzzer.attempt, range(10**6, 10**6 + count))) == []


def prepared(fuzzer: ModuleType) -> None:
    """What all cases begin with is made once, before there are children."""
    if hasattr(fuzzer, "material"):
        fuzzer.material()


def _bad(number: int) -> str | None:
    """Fails in each of the ways that a child is watched for."""
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 2:
        return "said"
    if number == 3:
        raise ValueError("raised")
    if number == 4:
        bytearray(2 * children.MEMORY)
    while number == 5:
        pass
    return None


def test_findings_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "SECONDS", 0.2)
    found = dict(children.findings(_bad, range(8)))
    assert list(found) == [1, 2, 3, 4, 5]
    assert (
        "SIGKILL" in found[1]
        and found[2] == "said"
        and "raised" in found[3]
        and "MemoryError" in found[4]
        and "took over" in found[5]
    )
