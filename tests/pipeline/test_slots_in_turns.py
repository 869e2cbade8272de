"""Slots whose new values are stored beside the old ones: which, and that nobody who calls can tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from tapeless.codegen.program import driver
from tapeless.compiler import entries
from tapeless.compiler.model import load
from tapeless.compiler.passes.pipelines import lowered, simplified
from tapeless.ir.graph import Graph
from tapeless.ir.machine import X86_64_V4
from tapeless.ir.target import Target, host
from tapeless.runtime.errors import TrainingStopped
from tapeless.runtime.program import Program

from .test_shared_rows import eager
from .test_widths import programs_for

FIT = """
model Fit(n = 1000000):
    input  x: [batch, n]
    target y: [batch, n]
    param w: [n] = 0.5
    loss {loss}
train Fit:
    optimizer {optimizer}
    batch {batch}
"""
ERROR = "mean((tanh(w * x) - y) ** 2)"
FITS = {
    "plain": (ERROR, "SGD(lr = 0.1)", 1, {"w"}),
    "moments": (ERROR, "Adam(lr = 0.1)", 1, {"w", "w.m", "w.v"}),
    "a sum over rows": (ERROR, "SGD(lr = 0.1)", 2, set()),
    "more than one kernel": (
        "mean((" + " + ".join(f"tanh({k} * w * x)" for k in range(2, 14)) + " - y) ** 2)",
        "SGD(lr = 0.1)",
        1,
        set(),
    ),
    "a norm first": (ERROR, "SGD(lr = 0.1)\n    clip_norm 1", 1, set()),
    "no element-wise work": ("mean((x @ w - y[:, 0]) ** 2)", "SGD(lr = 0.1)", 1, set()),
}


def step_of(name: str, n: int, rows: int | None) -> Graph:
    loss, optimizer, batch, _ = FITS[name]
    text = FIT.format(loss=loss, optimizer=optimizer, batch=batch)
    model = load(text, "m.tl", sizes={"n": n})
    return lowered(simplified(entries.train_step(model)), X86_64_V4, rows or model.settings.batch)


def turning(graph: Graph) -> set[str]:
    return {port.label for port in graph.outputs if port.turns}


@pytest.mark.parametrize("name", FITS)
def test_which_take_turns(name: str) -> None:
    assert turning(step_of(name, 1_000_000, None)) == FITS[name][-1]


def test_small_slots_and_batches_of_more_rows_do_not() -> None:
    assert not turning(step_of("plain", 1000, None))
    assert not turning(step_of("plain", 1_000_000, 2))


def test_where_a_call_is_one_step_none_does() -> None:
    text = "model M:\n    param w: [1000000] = 0.5\n    loss mean(tanh(w))\ntrain M:\n    optimizer SGD(lr = 0.1)\n"
    step = simplified(entries.train_step(load(text, "m.tl")))
    assert not turning(lowered(step, X86_64_V4, 1))


def test_the_update_is_in_the_sweep_of_the_loss() -> None:
    graph = step_of("plain", 1_000_000, None)
    (sweep,) = (
        node
        for node in graph.nodes
        if node.op == "kernel" and any(value.type.shape == (1_000_000,) for value in node.results)
    )
    assert [value.type.shape for value in sweep.results if value.type.shape != (1_000_000,)] == [(10,)]


def small(target: Target) -> Target:
    """A target on which every slot is large, and all work worth cutting."""
    cut = eager(target)
    return replace(cut, machine=replace(cut.machine, core_cache=0))


def programs(optimizer: str, n: int, threads: Sequence[int], target: Target, dtype: str = "float32") -> list[Program]:
    text = FIT.format(loss=ERROR, optimizer=optimizer, batch=1)
    return programs_for(target, text, dtype, 1, threads, n=n)


def numbers(rows: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    return rng.normal(size=(rows, n)), rng.normal(size=(rows, n))


def state(program: Program) -> bytes:
    return b"".join(value.tobytes() for value in program.state.values())


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
@pytest.mark.parametrize("n", [1, 3, 17, 65, pytest.param(7, marks=pytest.mark.slow), 1000])
def test_bytes_are_those_of_slots_that_are_overwritten(n: int, dtype: str) -> None:
    """After an odd and an even number of steps, by any number of threads."""
    (plain,) = programs("Adam(lr = 0.1)", n, (1,), host(), dtype)
    turned = programs("Adam(lr = 0.1)", n, (1, 2, 3), small(host()), dtype)
    assert turned[0].image("train").manifest.entries["train_step"].workspace > (
        plain.image("train").manifest.entries["train_step"].workspace
    )
    for rows in (1, 2, 5):
        x, y = numbers(rows, n)
        for program in (plain, *turned):
            program.fit(x, y, epochs=1, validation=0.0)
        assert {state(program) for program in turned} == {state(plain)}


def in_sequence(program: Program, data: object, order: np.ndarray, epoch: int) -> None:
    order[:] = np.arange(len(order))


@pytest.mark.parametrize("row", [0, 1, 2, 3])
def test_a_loss_that_is_not_finite_leaves_the_step_before(row: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within one call, whichever of the two places the slots are in; where the driver is cut into functions, too."""
    monkeypatch.setattr("tapeless.runtime.training.shuffle", in_sequence)
    x, y = numbers(5, 129)
    (good,) = programs("SGD(lr = 0.1)", 129, (1,), host())
    if row:
        good.fit(x[:row], y[:row], epochs=1, validation=0.0)
    y[row, 5] = 1e30  # its square is too large
    for section in (driver.SECTION, 1):
        monkeypatch.setattr(driver, "SECTION", section)
        for program in programs("SGD(lr = 0.1)", 129, (1, 2), small(host())):
            program.state["step"][...] = 0
            with pytest.raises(TrainingStopped):
                program.fit(x, y, epochs=1, validation=0.0)
            assert program.state["w"].tobytes() == good.state["w"].tobytes()
            assert program.state["step"] == row
