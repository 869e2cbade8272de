"""What the random run finds is kept in files that can be tried again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings

from tapeless.ir import text
from tapeless.ir.graph import Graph

from . import random_run


def test_what_fails_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(graph: Graph, *others: Any) -> None:
        assert not any(node.op == "tanh" for node in graph.nodes), "no tanh, please"

    monkeypatch.setattr(random_run.graphs, "check", refuse)
    as_drawn = settings(random_run.graphs.COMMON, phases=[Phase.generate])  # not made smaller, which takes its time
    monkeypatch.setattr(random_run.graphs, "COMMON", as_drawn)
    monkeypatch.setattr(random_run, "fuzzed", lambda seed, round: (1, [("texts-5.txt", "python ...")]))
    monkeypatch.setattr(random_run, "mutated", lambda seed, round, programs: (1, []))
    monkeypatch.setattr(random_run, "rounds", lambda one, seed, seconds: [one(seed, 0)])
    assert random_run.main(["--seed", "7", "--keep", str(tmp_path / "found")]) == 1
    said = capsys.readouterr().out
    assert said.startswith("python -m tests.fuzz.random_run --seed 7 ") and said.endswith("2 findings\n")
    (graph,) = (tmp_path / "found").glob("*.ir")
    assert f"kept as {graph}" in said and "no tanh, please" in graph.read_text()
    assert any(node.op == "tanh" for node in text.read(graph.read_text()).nodes)


def test_other_seeds_draw_other_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[int, list[str]] = {}
    for seed in (1, 2):
        kept = drawn.setdefault(seed, [])
        monkeypatch.setattr(random_run.graphs, "check", lambda graph, *_, kept=kept: kept.append(text.write(graph)))
        assert random_run.random_graphs(seed, 0)[1] == []
    assert drawn[1] != drawn[2]
