"""Tuning: every plan computes the same bytes, the best is kept, and what is compiled later is made by it."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

import tapeless
from tapeless.codegen.program import tuning
from tapeless.commands.main import commands

TEXT = """
model Net:
    input  x: [batch, 70]
    target y: [batch, 33]
    h = Dense(x, 50, tanh)
    loss mean((Dense(h, 33) - y) ** 2)

train Net:
    optimizer Adam
    batch 24
"""


@pytest.fixture
def last_is_best(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Instead of measuring: each plan takes less than the one before. Collects how many there were."""
    counts: list[int] = []

    def measured(node: object, functions: list[object], target: object, capacity: int) -> list[float]:
        counts.append(len(functions))
        return [1 / (place + 1) for place in range(len(functions))]

    monkeypatch.setattr(tuning, "_measured", measured)
    return counts


def trained(model: tapeless.Model, folder: object, threads: int) -> bytes:
    program = model.compile(cache=folder, threads=threads)
    rng = np.random.default_rng(0)
    data = {"x": rng.normal(size=(100, 70)), "y": rng.normal(size=(100, 33))}
    program.fit(data, epochs=2, validation=0.0, progress=False)
    return b"".join(program.parameters[name].tobytes() for name in sorted(program.parameters))


def test_what_is_computed_stays_the_same(tmp_path, last_is_best):
    model = tapeless.load(TEXT)
    before = trained(model, tmp_path / "plain", 1)
    found = list(model.tune(cache=tmp_path / "tuned"))
    assert len(last_is_best) == len(found) > 3 and min(last_is_best) > 3
    assert all(one.best != one.expected and one.after < one.before for one in found)
    for threads in (1, 3):
        assert trained(tapeless.load(TEXT), tmp_path / "tuned", threads) == before


def test_what_is_compiled_later_is_made_by_what_was_found(tmp_path, last_is_best):
    plain = tapeless.load(TEXT).compile(cache=tmp_path).image("train").digest
    list(tapeless.load(TEXT).tune(cache=tmp_path))
    tuned = tapeless.load(TEXT).compile(cache=tmp_path).image("train").digest
    assert tuned != plain
    assert tapeless.load(TEXT).compile(cache=tmp_path / "other", tune=True).image("train").digest == tuned
    assert tapeless.load(TEXT).compile(cache=tmp_path, batch=7).image("train").digest != tuned


def test_a_plan_is_taken_if_it_is_still_possible():
    target = tapeless.pipeline.target_named(None)
    graph = tapeless.load(TEXT).pipeline("float32").fused("train_step", target.machine)
    product = next(node for node in graph.nodes if node.op == "kernel" and node.attrs["family"] == "matmul")
    made = tuning.planned(product, target, 24)
    other = next(plan for plan in made.alternatives() if str(plan) != str(made.plan))
    assert tuning.chosen(made, "key", {"key": str(other)}) == other
    assert tuning.chosen(made, "key", {"key": "broadcast, tiles 99x9 of 16"}) == made.plan
    assert tuning.chosen(made, "another", {"key": str(other)}) == made.plan


def test_measuring(tmp_path, monkeypatch):
    """On this machine, for real."""
    monkeypatch.setattr(tuning, "LONGEST", 1e-5)
    monkeypatch.setenv("TAPELESS_CACHE", str(tmp_path / "cache"))
    text = tmp_path / "net.tl"
    text.write_text(TEXT.replace("Dense(x, 50, tanh)", "tanh(x)"))
    result = CliRunner().invoke(commands, ["tune", str(text), "--batch", "8"])
    assert result.exit_code == 0, result.output
    assert "together" in result.output and result.output.count(" us ") > 4
