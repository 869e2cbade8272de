"""What is made again in the backward half: cuts that are known by hand, and the same values whatever is made again."""

from __future__ import annotations

import numpy as np
import pytest

from tapeless.compiler import entries
from tapeless.compiler.model import Model, load
from tapeless.compiler.passes.pipelines import lowered, simplified
from tapeless.compiler.passes.rematerialise import Steps, TooMuch, rematerialised, steps, within
from tapeless.ir.graph import Graph
from tapeless.ir.interpreter import run
from tapeless.ir.machine import X86_64_V3
from tapeless.ir.verifier import verify

ROWS = 8
WAVES = """
model Waves(width = 8):
    input  x: [batch, 4]
    target y: [batch, width]
    h = Dense(x, width)
    for k in 0..4:
        wide = Dense(h, 4 * width)
        h = h + Dense(sin(wide) * sin(2 * wide), width)
    loss mean_squared_error(h, y)
"""
NOISY = """
model Noisy:
    input  x: [batch, 4]
    target y: [batch, 4]
    h = x
    for k in 0..3:
        h = LayerNorm(h + Dense(dropout(Dense(h, 16, gelu), 0.5), 4))
    loss mean_squared_error(h, y)
"""


def training(text: str, **sizes: int) -> tuple[Model, Graph, Steps]:
    model = load(text, sizes=sizes)
    graph = simplified(entries.train_step(model))
    return model, graph, steps(graph, X86_64_V3, ROWS)


def outputs(model: Model, graph: Graph) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    given = {
        port.key: rng.uniform(0.1, 1, port.value.type.at(ROWS)).astype(port.value.type.dtype.numpy)
        if port.value.type.dtype.is_float
        else np.ones(port.value.type.at(ROWS), port.value.type.dtype.numpy)
        for port in graph.inputs
    }
    return run(graph, given, rows=ROWS)


def test_of_a_block_one_value_is_kept_then_none() -> None:
    """All that the way back reads of a block are functions of `wide`; and that is a product of the block's beginning,
    which is kept in any case: with a rising price it keeps `wide` alone, and then nothing."""
    _, _, found = training(WAVES, width=512)
    kept: dict[int, dict[tuple[str, ...], None]] = {}
    for choice in found.choices:
        wide = tuple(value.name for value in choice.kept if value.type.shape[-1:] == (2048,))
        kept.setdefault(choice.stretch, {})[wide] = None
    blocks = [list(wide) for wide in kept.values() if any(wide)]
    assert len(blocks) >= 3
    for names in blocks:
        assert [len(some) for some in names] == sorted((len(some) for some in names), reverse=True)
        assert names[-1] == () and len(names[-2]) == 1 and names[-2][0].startswith("wide.")


def test_steps_free_more_and_more_for_a_rising_price() -> None:
    _, _, found = training(WAVES)
    freed = found.freed()
    assert freed == sorted(set(freed)) and len(freed) == len(found.choices) + 1


@pytest.mark.parametrize("text", [WAVES, NOISY], ids=["waves", "noisy"])
def test_the_same_values_whatever_is_made_again(text: str) -> None:
    model, graph, found = training(text)
    expected = outputs(model, graph)
    for count in range(1, len(found.choices) + 1, 3):
        made = rematerialised(found, found.first(count))
        verify(made)
        assert sum(node.op == "after" for node in made.nodes) > 0
        for name, array in outputs(model, made).items():
            assert array.tobytes() == expected[name].tobytes(), name


def test_draws_are_made_again_from_their_counters() -> None:
    _, graph, found = training(NOISY)
    made = rematerialised(found, found.first(len(found.choices)))
    draws = [sum(node.op == "random_uniform" for node in one.nodes) for one in (graph, made)]
    assert draws[1] > draws[0]
    verify(lowered(made, X86_64_V3))


def test_as_few_steps_as_the_bound_asks_for() -> None:
    _, graph, found = training(WAVES)
    total, freed = 10_000_000, found.freed()

    def weigh(made: Graph) -> int:  # frees half of what is said
        again = {value.name.removesuffix(".again") for node in made.nodes for value in node.results}
        taken = [k for k in range(len(freed)) if {v.name for c in found.first(k) for v in c.again} <= again]
        return total - freed[max(taken)] // 2

    assert within(graph, X86_64_V3, ROWS, total, lambda made: made, weigh).choices == ()
    for wanted in (freed[3] // 2, freed[-1] // 4, freed[-1] // 2):
        bounded = within(graph, X86_64_V3, ROWS, total - wanted, lambda made: made, weigh)
        assert weigh(bounded.graph) <= total - wanted
    with pytest.raises(TooMuch) as fault:
        within(graph, X86_64_V3, ROWS, total - freed[-1], lambda made: made, weigh)
    assert fault.value.bytes == total - freed[-1] // 2
