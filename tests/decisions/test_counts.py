"""What the compiler decides stays as it is kept in `counts.json`, and what is lost shows there."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from typing import Any

import pytest

from tapeless.codegen.kernels import product_plan
from tapeless.codegen.program import schedule

from ..sweep import sweep
from .counts import KEPT, MODELS, TARGET, counts, image_of

fusion = importlib.import_module("tapeless.compiler.passes.fusion")
NAMED = json.loads(KEPT.read_text("utf-8"))


def test_every_model_is_kept() -> None:
    assert sorted(NAMED) == sorted(MODELS)


@pytest.mark.parametrize("name", sweep(MODELS, every=9))
def test_decisions(name: str) -> None:
    """A difference that is meant: python -m tests.decisions.counts --write."""
    assert counts(image_of(MODELS[name])) == NAMED[name]


def apart(lifetimes: Any) -> tuple[dict[Any, int], int]:
    """No two pieces of the workspace share memory."""
    offsets, size = {}, 0
    for piece in lifetimes:
        offsets[piece.key], size = size, size + -(-piece.bytes // 64) * 64
    return offsets, size


LOST = {
    "reuse of memory": (schedule, "place_workspace", apart, "workspace"),
    "tiles": (product_plan, "choose_tile", lambda shape, lanes, machine, vectors=0: product_plan.Tile(1, 1), "loads"),
    "parts": (product_plan, "_shares", lambda kind, parts, row_tiles, column_tiles: ("rows", 1), "parts"),
    "weights of tasks": (schedule, "cost", lambda task, machine, capacity: 1, "cost"),
    "packed transposes": (
        fusion._Fusion,
        "_family",
        staticmethod(lambda node, known=fusion._Fusion._family: known(node).replace("pack", "nest")),
        "kernels",
    ),
}


def test_lost_fusion_shows() -> None:
    small = replace(TARGET, machine=replace(TARGET.machine, largest_kernel=4))
    made = counts(image_of(MODELS["benchmarks/models/mlp"], small))
    assert made["kernels"] != NAMED["benchmarks/models/mlp"]["kernels"]


@pytest.mark.parametrize("lost", LOST)
def test_a_decision_that_is_lost_shows(lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    home, name, worse, shown = LOST[lost]
    monkeypatch.setattr(home, name, worse)
    made = counts(image_of(MODELS["benchmarks/models/mlp"]))
    assert made[shown] != NAMED["benchmarks/models/mlp"][shown]
