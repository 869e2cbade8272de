"""Every operation of the registry: complete, typed, and with a derivative that agrees with central differences."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from tapeless.ir.graph import Builder, Graph
from tapeless.ir.interpreter import run
from tapeless.ir.ops import OPERATIONS, NoDerivative, Sample
from tapeless.ir.ops import formula as formulas
from tapeless.ir.types import DType, Tensor
from tapeless.ir.verifier import verify

ROWS = 5
SAMPLES = [(name, index) for name, op in OPERATIONS.items() for index in range(len(op.samples))]


def graph_of(name: str, sample: Sample, weighted: bool) -> Graph:
    """The operation applied to inputs x0, x1, ...; `weighted` sums result times w, its gradients as outputs."""
    b = Builder("sample", DType.F64)
    inputs = [b.input(f"x{k}", type, "data") for k, type in enumerate(sample.operands)]
    result = b.emit(name, *inputs, name="y", **dict(sample.attrs or {}))
    b.output("y", result, "output")
    if weighted:
        adjoint = b.input("w", result.type, "data")
        gradients = OPERATIONS[name].derivative(b, b._nodes[-1], adjoint)
        for k, gradient in enumerate(gradients):
            if gradient is not None:
                b.output(f"g{k}", gradient, "output")
    return b.graph()


def draw(rng: np.random.Generator, type: Tensor, sample: Sample) -> np.ndarray:
    shape = type.at(ROWS)
    if type.dtype.is_float:
        return rng.uniform(sample.low, sample.high, shape)
    return rng.integers(0, 2 if type.dtype is DType.BOOL else 4, shape)


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_is_complete(name: str) -> None:
    op = OPERATIONS[name]
    assert op.samples or op.family == "structure"
    assert isinstance(op.derivative, NoDerivative) or callable(op.derivative)
    if isinstance(op.derivative, NoDerivative):
        assert op.derivative.reason
    assert callable(op.reference) and callable(op.type_rule)


@pytest.mark.parametrize(("name", "index"), SAMPLES)
def test_samples_obey_the_type_rule_and_run(name: str, index: int) -> None:
    sample = OPERATIONS[name].samples[index]
    graph = graph_of(name, sample, weighted=False)
    verify(graph)
    rng = np.random.default_rng(index)
    inputs = {f"x{k}": draw(rng, type, sample) for k, type in enumerate(sample.operands)}
    (result,) = run(graph, inputs, rows=ROWS).values()
    type = graph.outputs[0].value.type
    assert result.shape == type.at(ROWS) and result.dtype == type.dtype.numpy


@pytest.mark.parametrize(("name", "index"), SAMPLES)
def test_derivatives_agree_with_central_differences(name: str, index: int) -> None:
    op, sample = OPERATIONS[name], OPERATIONS[name].samples[index]
    real = any(type.dtype.is_float for type in sample.operands)
    if isinstance(op.derivative, NoDerivative) or not real or name == "stop_gradient":
        pytest.skip("nothing to differentiate")
    graph = graph_of(name, sample, weighted=True)
    verify(graph)
    rng = np.random.default_rng(index)
    inputs = {f"x{k}": draw(rng, type, sample) for k, type in enumerate(sample.operands)}
    inputs["w"] = rng.normal(size=graph.outputs[0].value.type.at(ROWS))
    exact = run(graph, inputs, rows=ROWS)
    for k, type in enumerate(sample.operands):
        if not type.dtype.is_float:
            continue
        direction, step = rng.normal(size=type.at(ROWS)), 1e-6

        def value(shift: float, k: int = k, direction: np.ndarray = direction) -> float:
            moved = inputs | {f"x{k}": inputs[f"x{k}"] + shift * direction}
            return float(np.sum(run(graph, moved, rows=ROWS)["y"] * inputs["w"]))

        difference = (value(step) - value(-step)) / (2 * step)
        gradient = exact.get(f"g{k}", np.zeros(type.at(ROWS)))
        assert np.sum(gradient * direction) == pytest.approx(difference, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("name", [n for n, op in OPERATIONS.items() if op.family == "pointwise" and op.formula])
def test_stated_derivatives_agree_with_sympys(name: str) -> None:
    """A derivative stated in terms of the output is the derivative of the formula, at random points."""
    op = OPERATIONS[name]
    if name in ("select", "cast", "sign", "floor", "round"):
        pytest.skip("not a differentiable formula of x and y alone")
    import sympy

    stated = inspect.getclosurevars(op.derivative).nonlocals["stated"]
    names = [n for n in formulas.NAMES if n in op.formula]
    x, y, out = (sympy.Symbol(n, real=True) for n in ("x", "y", "out"))
    rng = np.random.default_rng(0)
    for place in range(len(names)):
        claimed = formulas.partial(op.formula, stated, place).subs(out, formulas.parse(op.formula))
        derived = formulas.derived(op.formula, place)
        known = {sympy.Function("sigmoid"): lambda v: 1 / (1 + sympy.exp(-v)), sympy.Function("sign"): sympy.sign}
        for function, meaning in known.items():
            claimed = claimed.replace(function, meaning)
        for _ in range(5):
            at = {x: rng.uniform(max(op.samples[0].low, -2), 2), y: rng.uniform(0.5, 2)}
            assert float(claimed.subs(at)) == pytest.approx(float(derived.subs(at)), rel=1e-9)

