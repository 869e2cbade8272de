"""The tables of docs/operations.md, made from what each operation declares and from what the compiler makes of its
samples: see docs/refresh.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from tapeless.compiler.passes.decompose import DECOMPOSE
from tapeless.compiler.passes.layout import PLACED, is_free
from tapeless.compiler.passes.pipelines import lowered, simplified
from tapeless.compiler.passes.rewriter import rewrite
from tapeless.compiler.passes.rules import ALGEBRA
from tapeless.formulas import Formula, Formulas
from tapeless.ir.correspondence import At, By, Over, correspondence, same
from tapeless.ir.graph import Builder, Graph, Node, Value
from tapeless.ir.ops import OPERATIONS, JointDerivative, NoDerivative, Operation, Sample
from tapeless.ir.target import TARGETS
from tapeless.ir.text import attribute_text
from tapeless.ir.types import DType

PLAIN = ("constant", "broadcast", "cast")  # which say nothing of a derivative
OPERANDS, RESULT_AXES, REDUCED_AXES = "xyzuvw", "ijklmn", "rst"
MACHINE = TARGETS["x86-64-v3"].machine
DROPPED = "none: dropped after differentiation"
LONGEST = 120  # characters: of a longer derivative it is said which operations it is made of


def tables() -> str:
    """A section for each family of operations."""
    families: dict[str, list[Operation]] = {}
    for _, operation in sorted(OPERATIONS.items()):
        families.setdefault(operation.family, []).append(operation)
    return "\n\n".join(_section(family, members) for family, members in sorted(families.items()))


def _section(family: str, operations: list[Operation]) -> str:
    """A heading, what all of them have in common, and a table of the rest."""
    columns = {name: [tell(operation) for operation in operations] for name, tell in COLUMNS.items()}
    common = {name: cells[0] for name, cells in columns.items() if len(cells) > 1 and len(set(cells)) == 1}
    columns = {name: cells for name, cells in columns.items() if name not in common and any(cells)}
    lines = [f"## {family.capitalize()}", ""]
    if said := [f"{name}: {cell}" for name, cell in common.items() if cell]:
        lines += [f"All have {'; '.join(said)}.", ""]
    lines += [_row(columns), _row("-" * 3 for _ in columns)]
    lines += [_row(cells) for cells in zip(*columns.values(), strict=True)]
    return "\n".join(lines)


def _row(cells: Iterator[str] | Mapping[str, list[str]] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _name(operation: Operation) -> str:
    return f"`{operation.name}`"


def _formula(operation: Operation) -> str:
    return _code(operation.formula)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _attributes(operation: Operation) -> str:
    """Those of the sample that the axes are shown of, with its values."""
    if not operation.samples:
        return ", ".join(map(_code, operation.attributes))
    attrs = operation.samples[0].attrs or {}
    return _code(", ".join(f"{name}={attribute_text(attrs[name])}" for name in operation.attributes))


def _axes(operation: Operation) -> str:
    """How the axes of the first sample's operands correspond to those of its result."""
    if operation.axes is None:
        return "no operands" if operation.samples and not operation.samples[0].operands else "as a whole"
    if operation.axes is same:
        return "kept"
    node = _applied(operation, operation.samples[0]).nodes[0]
    read = [
        f"{operand}[{', '.join(_place(along) for along in axes)}]"
        for operand, axes in zip(OPERANDS, correspondence(node) or (), strict=False)
    ]
    return _code(f"{', '.join(read)} -> [{', '.join(RESULT_AXES[: node.result.type.rank])}]")


def _place(along: object) -> str:
    """Where along an axis of an operand an element of the result is made of."""
    if isinstance(along, Over):
        return REDUCED_AXES[along.number]
    if isinstance(along, By):
        return f"by {OPERANDS[along.operand]}"
    if not isinstance(along, At):
        return ":"
    terms = [(step, RESULT_AXES[axis]) for axis, step in along.moves] + [(along.first, "")] * bool(along.first)
    text = "".join(_term(step, axis, first=k == 0) for k, (step, axis) in enumerate(terms)) or "0"
    if len(terms) > 1 and (along.every != 1 or along.bounded):
        text = f"({text})"
    return text + (f" / {along.every}" if along.every != 1 else "") + ("?" if along.bounded else "")


def _term(step: int, axis: str, first: bool) -> str:
    sign = "-" * (step < 0) if first else " - " if step < 0 else " + "
    return sign + (axis if axis and abs(step) == 1 else f"{abs(step)} {axis}".strip())


def _derivative(operation: Operation) -> str:
    """What its rule emits for the first sample, `d` being the adjoint of the result `out`."""
    rule = operation.derivative
    if isinstance(rule, NoDerivative):
        return f"none: {rule.reason}"
    if isinstance(rule, JointDerivative):
        return _told(rule.apply)
    if not operation.samples:
        return _told(rule)
    sample = operation.samples[0]
    if not any(type.dtype.is_float for type in sample.operands):
        return ""
    graph = _adjoints(operation, sample, rule)
    made = {port.label: port.value for port in graph.outputs}
    of_lines = {node.result: text for node, text in Formulas(graph, _called).lines()}
    lines = [f"{value.name} = {text}" for value, text in of_lines.items() if value not in made.values()]
    lines += [f"d{label} = {of_lines.get(value, value.name)}" for label, value in made.items()]
    text = "; ".join(lines)
    if len(text) <= LONGEST:
        return _code(text or "0")
    return "made of " + ", ".join(f"`{name}`" for name in dict.fromkeys(n.op for n in graph.nodes) if name not in PLAIN)


def _called(node: Node, operands: list[Formula]) -> Formula:
    attributes = [f"{name} = {attribute_text(value)}" for name, value in node.attrs.items()]
    return Formula(f"{node.op}({', '.join([*(operand.text for operand in operands), *attributes])})")


def _told(rule: Callable[..., object]) -> str:
    """What a rule's docstring says."""
    return " ".join((rule.__doc__ or "").split()).removesuffix(".").lower()


def _adjoints(operation: Operation, sample: Sample, rule: Callable[[Builder, Node, Value], object]) -> Graph:
    """The adjoints of the real operands as a graph of their own, in which what the operation made is an input."""
    whole = Builder("whole", DType.F64)
    operands = [whole.input(OPERANDS[k], type, "data") for k, type in enumerate(sample.operands)]
    out = whole.emit(operation.name, *operands, name="out", **dict(sample.attrs or {}))
    node = whole.graph().nodes[-1]
    adjoint = whole.input("d", out.type, "data")
    gradients = rule(whole, node, adjoint)
    made = Builder("adjoints", DType.F64)
    seen = {value: made.input(value.name, value.type, "data") for value in (*operands, adjoint, out)}
    graph = whole.graph()
    made.copy_nodes([one for one in graph.nodes if one is not node], seen)
    for operand, gradient in zip(operands, gradients, strict=True):  # type: ignore[call-overload]
        if gradient is not None:
            made.output(operand.name, seen[gradient], "output")
    return rewrite(made.graph(), ALGEBRA)


def _applied(operation: Operation, sample: Sample) -> Graph:
    builder = Builder("sample", DType.F64)
    operands = [builder.input(OPERANDS[k], type, "data") for k, type in enumerate(sample.operands)]
    builder.output("y", builder.emit(operation.name, *operands, **dict(sample.attrs or {})), "output")
    return builder.graph()


def _flops(operation: Operation) -> str:
    """Those of an element where that is what the cost comes to; else those of the first sample with one row."""
    if not operation.samples:
        return ""
    for sample in operation.samples:
        attrs = dict(sample.attrs or {})
        results = operation.infer(sample.operands, attrs, ())
        largest = max(type.count(1) for type in (*sample.operands, *results))
        flops = operation.cost(sample.operands, results, attrs, 1).flops
        if flops != round(operation.flops * largest):
            return f"{flops} of `{', '.join(map(str, sample.operands))}`, batch 1"
    return f"{operation.flops:g}"


def _instructions(operation: Operation) -> str:
    """What nests reckon a vector with; other kernels have costs of their own."""
    return str(operation.instructions) if "nest" in _kernels(operation) else ""


def _kernels(operation: Operation) -> str:
    """The families of the kernels that its samples become, where they are not made of others before."""
    name = operation.name
    if not operation.samples:
        return DROPPED if any(name in rule.ops for rule in DECOMPOSE) else "those of its body" if name in PLACED else ""
    if name in PLACED:
        return "none: a view"
    graphs = [simplified(_applied(operation, sample)) for sample in operation.samples]
    own = [graph for graph in graphs if any(node.op == name for node in graph.nodes)]
    if own and all(is_free(node, graph, MACHINE) for graph in own for node in graph.nodes if node.op == name):
        return "none: part of those that read it"
    kernels = [node for graph in own or graphs for node in lowered(graph, MACHINE).nodes if graph.nodes]
    return ", ".join(dict.fromkeys(node.attrs["family"] for node in kernels if node.op == "kernel")) or DROPPED


COLUMNS: Mapping[str, Callable[[Operation], str]] = {
    "operation": _name,
    "formula": _formula,
    "attributes": _attributes,
    "axes": _axes,
    "derivative": _derivative,
    "flops": _flops,
    "instructions": _instructions,
    "kernel": _kernels,
}

if __name__ == "__main__":
    print(tables())
