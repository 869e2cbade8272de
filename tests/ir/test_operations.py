"""Every operation of the registry: complete, typed, and with a derivative that agrees with central differences."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from tapeless.compiler.passes.differentiate import differentiate
from tapeless.ir.graph import Builder, Graph
from tapeless.ir.interpreter import run
from tapeless.ir.ops import OPERATIONS, JointDerivative, NoDerivative, Sample
from tapeless.ir.ops import formula as formulas
from tapeless.ir.types import DType, Tensor
from tapeless.ir.verifier import verify

ROWS = 5
STEPS = {"lt", "le", "eq", "ne", "logical_and", "logical_or", "logical_not", "argmax", "argsort"}
DRAWS = {"random_uniform", "permutation"}
ONLY_AFTER_DIFFERENTIATION = {"loop", "kernel", "task", "after", "only_row", "convolution_shares", "sum_shares"}
FREE = {
    "constant",
    "iota",
    "count",
    "broadcast",
    "reshape",
    "transpose",
    "stop_gradient",
    "with_derivative",
    "slice",
    "pad",
    "concat",
    "windows",
}
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
    assert isinstance(op.derivative, (NoDerivative, JointDerivative)) or callable(op.derivative)
    if isinstance(op.derivative, NoDerivative):
        assert op.derivative.reason
    assert callable(op.reference) and callable(op.type_rule)


def test_operations_without_a_derivative_are_steps_and_draws() -> None:
    without = {name for name, op in OPERATIONS.items() if isinstance(op.derivative, NoDerivative)}
    assert without == STEPS | DRAWS | ONLY_AFTER_DIFFERENTIATION


@pytest.mark.parametrize(("name", "index"), SAMPLES)
def test_every_operation_has_a_cost(name: str, index: int) -> None:
    """Arithmetic for all but those that only move numbers, and more of it for more rows."""
    op, sample = OPERATIONS[name], OPERATIONS[name].samples[index]
    results = op.infer(sample.operands, dict(sample.attrs or {}), ())
    costs = [op.cost(sample.operands, results, dict(sample.attrs or {}), rows) for rows in (ROWS, 10 * ROWS)]
    assert all((cost.flops == 0) == (name in FREE) and cost.bytes > 0 for cost in costs)
    assert costs[0].flops <= costs[1].flops and costs[0].bytes <= costs[1].bytes


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
    if name in ("select", "cast", "sign", "floor", "ceil", "trunc", "round", "remainder", "floor_divide"):
        pytest.skip("not a differentiable formula of x and y alone")
    import sympy

    stated = inspect.getclosurevars(op.derivative).nonlocals["stated"]
    names = [n for n in formulas.NAMES if n in op.formula]
    x, y, out = (sympy.Symbol(n, real=True) for n in ("x", "y", "out"))
    rng = np.random.default_rng(0)
    for place in range(len(names)):
        claimed = formulas.partial(op.formula, stated, place).subs(out, formulas.parse(op.formula))
        derived = formulas.derived(op.formula, place)
        known = {
            sympy.Function(one): lambda v, one=one: formulas.parse(OPERATIONS[one].formula).subs(x, v)
            for one in ("sigmoid", "sigmoid_slope", "tanh_slope", "one_less_square")
        } | {
            sympy.Function("hypot"): lambda a, b: sympy.sqrt(a**2 + b**2),
            sympy.Function("hypot_slope"): lambda a, b: a / sympy.sqrt(a**2 + b**2),
        }
        known |= {sympy.Function("div"): lambda a, b: a / b} | {
            sympy.Function("sign"): sympy.sign,
            sympy.Function("strong_product"): lambda a, b: a * b,
        }
        for function, meaning in known.items():
            claimed = claimed.replace(function, meaning)
        for _ in range(5):
            low, high = max(op.samples[0].low, -2), min(op.samples[0].high, 2)
            at = {x: rng.uniform(low, high), y: rng.uniform(0.5, 2)}
            assert float(claimed.subs(at)) == pytest.approx(float(derived.subs(at)), rel=1e-9)


@pytest.mark.parametrize(("name", "index"), SAMPLES)
def test_second_derivatives_agree_with_central_differences(name: str, index: int) -> None:
    """The derivative's own vector-Jacobian product, by the sweep: rules are closed under differentiation."""
    op, sample = OPERATIONS[name], OPERATIONS[name].samples[index]
    if isinstance(op.derivative, NoDerivative) or not any(type.dtype.is_float for type in sample.operands):
        pytest.skip("nothing to differentiate")
    first = graph_of(name, sample, weighted=True)
    slopes = [port.value for port in first.outputs if port.key != "y"]
    wrt = [port for port in first.inputs if port.value.type.dtype.is_float]
    b = Builder("second", DType.F64)
    seen = {p.value: b.input(p.label, p.value.type, "data") for p in first.inputs}
    b.copy_nodes(first.nodes, seen)
    # A weighted sum of all first derivatives, so that one adjoint reaches every second one.
    total = None
    for k, slope in enumerate(slopes):
        weights = b.input(f"v{k}", slope.type, "data")
        part = b.emit("sum", b.emit("mul", seen[slope], weights), axes=tuple(range(slope.type.rank)))
        total = part if total is None else b.emit("add", total, part)
    if total is None:
        pytest.skip("nothing depends on the operands")
    b.output("total", total, "loss")
    graph = gradient_of(b.graph(), [port.label for port in wrt])
    verify(graph)
    rng = np.random.default_rng(index)
    inputs = {p.key: draw(rng, p.value.type, sample) for p in graph.inputs}
    exact = run(graph, inputs, rows=ROWS)
    for port in wrt:
        direction, step = rng.normal(size=port.value.type.at(ROWS)), 1e-6

        def value(shift: float, key: str = port.label, direction: np.ndarray = direction) -> float:
            return float(run(graph, inputs | {key: inputs[key] + shift * direction}, rows=ROWS)["total"])

        difference = (value(step) - value(-step)) / (2 * step)
        scale = max(1.0, float(np.abs(exact[f"d_{port.label}"]).max(initial=0.0)))
        assert np.sum(exact[f"d_{port.label}"] * direction) == pytest.approx(difference, rel=1e-6, abs=1e-7 * scale)


def gradient_of(graph: Graph, labels: list[str]) -> Graph:
    """The graph and the gradients of its loss by the named inputs, as outputs `d_<label>`."""
    b = Builder("gradient", DType.F64)
    seen = {p.value: b.input(p.label, p.value.type, p.role) for p in graph.inputs}
    b.copy_nodes(graph.nodes, seen)
    wanted = [p.value for p in graph.inputs if p.label in labels]
    loss = graph.output("total").value
    adjoints = differentiate(b, graph, seen, loss, wanted)
    b.output("total", seen[loss], "loss")
    for label, value in zip(labels, wanted, strict=True):
        b.output(f"d_{label}", adjoints[value], "output")
    return b.graph()
