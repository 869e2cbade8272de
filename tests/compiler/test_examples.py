"""The repository's own programs: examples, standard library, and every program in the language's documentation."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tapeless.compiler.elaborate.modules import STANDARD, standard, standard_names
from tapeless.compiler.model import load
from tapeless.ir.interpreter import run
from tapeless.ir.text import read, write
from tapeless.ir.types import DType
from tapeless.ir.verifier import verify
from tapeless.standard import source

from .examples import EXAMPLES, name_of, sizes_of

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```\n(.*?)```", (ROOT / "docs" / "language.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
@pytest.mark.parametrize("dtype", [DType.F32, DType.F64])
def test_example_runs(path: Path, dtype: DType) -> None:
    model = load(path.read_text(encoding="utf-8"), path.name, sizes=sizes_of(path), dtype=dtype, model=name_of(path))
    state = run(model.init, {"seed": np.array([3, 4], np.uint32)})
    assert set(state) == {slot.name for slot in model.slots}
    rng = np.random.default_rng(0)
    data = {
        one.name: rng.integers(0, one.bound or 2, one.type.at(6))
        if one.type.dtype is DType.I32
        else rng.normal(size=one.type.at(6))
        for one in model.data
    }
    gradients = {f"grad({slot.name})": rng.normal(size=slot.type.at(6)) for slot in model.slots if slot.role == "param"}
    for graph in (*model.forward.values(), model.init, model.update):
        verify(graph)
        assert read(write(graph)) == graph
        known = {**state, **data, **gradients}
        for key, array in run(graph, {port.key: known[port.key] for port in graph.inputs}, rows=6).items():
            assert np.isfinite(array).all(), (graph.name, key)


@pytest.mark.parametrize("text", BLOCKS)
def test_documented_program(text: str) -> None:
    load(text, "documented.tl")


def test_every_standard_name_is_defined_once() -> None:
    names = [
        name
        for path in STANDARD.glob("*.tl")
        for name in re.findall(r"^(?:fn|layer|optimizer) +(\w+)", path.read_text(), re.MULTILINE)
    ]
    assert sorted(names) == sorted(set(names)) == sorted(standard_names())
    for name in names:
        defined = standard(name)
        assert defined is not None and defined.definition.name == name
        assert name in source(name)


def test_front_end_is_light() -> None:
    """Reading a model imports neither sympy nor networkx, which take longer than all it does."""
    script = f"""
import sys
from tapeless.compiler.model import load
load(open({str(ROOT / "examples" / "digits" / "digits.tl")!r}).read(), "digits.tl")
assert not {{"sympy", "networkx"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_only_other_than_means_are_warned_of() -> None:
    text = """
model M:
    input x: [batch, 3]
    param w: [3] = 1
    loss 0.5 * mean((x @ w) ** 2) + 1e-3 * sum(w ** 2)
    loss sum(abs(x)) / batch as size
    metric good = 1 - mean(x > 0)
    metric root = sqrt(mean(x ** 2))
    metric worst = max(abs(x))
"""
    warnings = load(text, "m.tl").warnings
    assert [(one.code, one.span.line if one.span else 0) for one in warnings] == [("W0101", 8), ("W0101", 9)]
