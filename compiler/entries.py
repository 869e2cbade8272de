"""Entry points: the graphs that a program offers, put together from what the front end hands over.

All of them read and write one layout of state. `backward` and `update` are the stages that a reader inspects; the
entries are made from them by the passes of `compiler.passes`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from tapeless.compiler.passes.differentiate import differentiate
from tapeless.compiler.passes.layout import FREE
from tapeless.compiler.passes.pipelines import AFTER_DIFFERENTIATION, BEFORE_DIFFERENTIATION, After, Pass, run
from tapeless.compiler.passes.rewriter import Rewriter, without_dead_code
from tapeless.compiler.passes.rules import ALGEBRA
from tapeless.compiler.stepping.step_graph import stepped
from tapeless.ir.graph import OUTPUT_ROLES, STATE_ROLES, Builder, Graph, Node, Port, Value
from tapeless.ir.types import DType, Rows, Tensor

if TYPE_CHECKING:
    from tapeless.compiler.model import Model

RESULT_ROLES = ("loss", "metric")
SUMMED_ROLES = (*RESULT_ROLES, "part")


def forward(model: Model, training: bool = True) -> Graph:
    """The forward graph as the front end lowered it."""
    return model.forward[training]


def backward(model: Model, after: After | None = None) -> Graph:
    """The training forward graph in stable form, then the gradient of the loss by each trainable parameter.

    Raises DifferentiationError where the loss depends on a parameter through an operation without a derivative.
    """
    return _backward(model, OUTPUT_ROLES, after)[0]


def backward_operations(model: Model) -> tuple[int, int]:
    """How many operations the sweep back from the loss asks for, and how many are left of them when they are
    simplified.
    """
    graph, asked = _backward(model, OUTPUT_ROLES)
    forward = graph.ancestors(port.value for port in graph.outputs if port.role != "gradient")
    return asked, sum(node.op not in FREE and forward.isdisjoint(node.results) for node in graph.nodes)


def _backward(model: Model, roles: Collection[str], after: After | None = None) -> tuple[Graph, int]:
    """The graph beside forward outputs of some roles, and the number of operations that the sweep asked for. What no
    such output and no gradient needs, as the Jacobian that a model gives out, is left out before any work is done on
    it.
    """
    whole = model.forward[True]
    needed = whole.with_outputs([port for port in whole.outputs if port.role in roles])
    builder, asked = Rewriter("backward", model.dtype, ALGEBRA), 0
    adjoints: Mapping[Value, Value] = {}

    def sweep(source: Graph) -> Graph:
        """The graph, and the gradient of its loss by each parameter that is trained."""
        nonlocal adjoints, asked
        seen = _copy(builder, source)
        frozen = {slot.name for slot in model.slots if slot.frozen}
        trained = [port for port in source.inputs if port.role == "param" and port.label not in frozen]
        before = builder.asked
        adjoints = differentiate(builder, source, seen, source.output("loss").value, [port.value for port in trained])
        asked = builder.asked - before
        for port in source.outputs:
            builder.output_like(port, seen[port.value])
        for port in trained:
            builder.output(port.label, adjoints[port.value], "gradient", port.span)
        return builder.graph()

    passes = (*BEFORE_DIFFERENTIATION, Pass("differentiate", sweep), *AFTER_DIFFERENTIATION)
    made = run(passes, without_dead_code(needed), after)
    return renamed(made, _adjoint_names(adjoints)), asked


def train_step(model: Model, after: After | None = None) -> Graph:
    """Forward pass, backward pass and the optimizer's update, in one graph; the counter of steps goes up by one."""
    return _joined("train_step", model, _backward(model, ("state", *SUMMED_ROLES), after)[0], model.update)


def gradients(model: Model, after: After | None = None) -> Graph:
    """The gradient of the training loss by each trainable parameter, and the loss, for the step that comes next."""
    return _pruned("gradients", _backward(model, RESULT_ROLES, after)[0], lambda port: True)


def apply(model: Model, after: After | None = None) -> Graph:
    """The optimizer's update from a block of gradients."""
    return _pruned("apply", model.update, lambda port: True)


def predict(model: Model, after: After | None = None) -> Graph:
    """The outputs in evaluation mode."""
    return _pruned("predict", model.forward[False], lambda port: port.role == "output")


def step(model: Model, after: After | None = None) -> Graph:
    """The outputs in evaluation mode, at one place of a sequence. Raises LooksAhead where they need later places."""
    return _pruned("step", stepped(predict(model), model.dtype), lambda port: True)


def evaluate(model: Model, after: After | None = None) -> Graph:
    """Loss and metrics in evaluation mode."""
    return _pruned("evaluate", model.forward[False], lambda port: port.role in SUMMED_ROLES)


def init(model: Model, after: After | None = None) -> Graph:
    """Starting values of every slot of the state, from the seed."""
    return _pruned("init", model.init, lambda port: True)


def permutation(model: Model, after: After | None = None) -> Graph:
    """The order in which an epoch walks the examples; `batch` is the count of examples here."""
    builder = Builder("permutation", model.dtype)
    seed = builder.input("seed", Tensor(DType.U32, (2,)), "counter")
    epoch = builder.input("epoch", Tensor(DType.I32), "argument")
    builder.output("order", builder.emit("permutation", seed, epoch, name="order", shape=(Rows(),)), "output")
    return builder.graph()


class Entry(Protocol):
    """Makes the graph of an entry; `after` is told of each pass on the way."""

    def __call__(self, model: Model, after: After | None = None) -> Graph: ...


ENTRIES: Mapping[str, Entry] = {
    "init": init,
    "permutation": permutation,
    "predict": predict,
    "step": step,
    "evaluate": evaluate,
    "gradients": gradients,
    "apply": apply,
    "train_step": train_step,
}


def lacking(model: Model, name: str) -> str | None:
    """What a model would need to have an entry point, if it lacks that: `loss`, or `loss or metric`."""
    roles = {port.role for port in model.forward[False].outputs}
    if name in ("backward", "gradients", "apply", "train_step") and "loss" not in roles:
        return "loss"
    return "loss or metric" if name == "evaluate" and roles.isdisjoint(SUMMED_ROLES) else None


def _adjoint_names(adjoints: Mapping[Value, Value]) -> dict[Value, str]:
    """A name for each adjoint: `d_` and its primal's. An adjoint that several share (a sum hands it on as it is) is
    named after the one with the plainest name, the latest of those."""
    names: dict[Value, str] = {}
    for primal, adjoint in adjoints.items():
        name = f"d_{primal.name}"
        if adjoint not in names or name.count(".") < names[adjoint].count("."):
            names[adjoint] = name
    return names


def renamed(graph: Graph, names: Mapping[Value, str]) -> Graph:
    """The graph with some of its nodes' results renamed, where the new name is free."""
    taken = {value.name for node in graph.nodes for value in node.results} | {port.value.name for port in graph.inputs}
    inputs = {port.value for port in graph.inputs}
    fresh: dict[Value, Value] = {}
    for value, name in names.items():
        if value in graph.producers and value not in inputs and value not in fresh and name not in taken:
            if graph.producers[value].op == "constant":
                continue
            taken.add(name)
            fresh[value] = Value(name, value.type)

    def now(values: Sequence[Value]) -> tuple[Value, ...]:
        return tuple(fresh.get(value, value) for value in values)

    nodes = tuple(Node(n.op, now(n.operands), now(n.results), n.attrs, n.regions, n.span) for n in graph.nodes)
    outputs = tuple(replace(port, value=fresh.get(port.value, port.value)) for port in graph.outputs)
    return Graph(graph.name, graph.inputs, nodes, outputs)


def _copy(builder: Builder, graph: Graph) -> dict[Value, Value]:
    seen = {port.value: builder.input_like(port) for port in graph.inputs}
    builder.copy_nodes(graph.nodes, seen)
    return seen


def _pruned(name: str, graph: Graph, keep: Callable[[Port], bool]) -> Graph:
    """The part of a graph that some of its outputs need, under a new name; inputs that nothing needs go too."""
    part = without_dead_code(graph.with_outputs([port for port in graph.outputs if keep(port)], name))
    wanted = part.ancestors([port.value for port in part.outputs])
    return Graph(name, tuple(port for port in part.inputs if port.value in wanted), part.nodes, part.outputs)


def _joined(name: str, model: Model, first: Graph, second: Graph) -> Graph:
    """Two graphs as one: the second takes the first's gradients, and shares its state inputs."""
    builder = Builder(name, model.dtype)
    seen = _copy(builder, first)
    made = {port.key: seen[port.value] for port in first.outputs}
    inputs = {port.key: seen[port.value] for port in first.inputs}
    bindings: dict[str, Value] = {}
    for port in second.inputs:
        if port.role == "gradient":
            bindings[port.key] = made[port.key]
        elif port.role in STATE_ROLES and port.label in inputs:
            bindings[port.key] = inputs[port.label]
        else:
            bindings[port.key] = builder.input_like(port)
    updated = builder.splice(second, bindings)
    for port in first.outputs:
        if port.role in ("state", *SUMMED_ROLES):
            builder.output_like(port, seen[port.value])
    for port in second.outputs:
        builder.output_like(port, updated[port.key])
    return builder.graph()
