"""What a program is, for a checkpoint that has to know whether it belongs to one: equal digests mean equal
computations.

The digest is of what the text means (the forward pass, the update, all that is kept), so comments, spacing, the
numbers of the optimizer and where a definition stands do not matter to it. Beside it is what a person is told if it
differs: the lines without their comments, the sizes, and the numbers that the text gives to the optimizer.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tapeless.compiler.language.format import formatted
from tapeless.compiler.language.lexer import lex
from tapeless.compiler.messages.diagnostics import Source
from tapeless.ir.graph import Graph, Port, Value
from tapeless.ir.text import attribute_text

if TYPE_CHECKING:
    from tapeless.compiler.model import Model

_ALIGNED = re.compile(r"(?<=\S) {2,}")  # spaces that a line owes to its neighbours


def identity(model: Model) -> dict[str, Any]:
    """The record of one program, as JSON takes it."""
    graphs = (*(_meaning(graph) for graph in model.forward.values()), _meaning(model.update, numbers=False))
    slots = "".join(f"{slot.name} {slot.type} {slot.role} {slot.frozen}\n" for slot in model.slots)
    return {
        "digest": hashlib.sha256("\0".join([model.name, model.dtype.value, *graphs, slots]).encode()).hexdigest(),
        "sizes": dict(model.sizes),
        "lines": [
            [Path(source.file).name if k else "", list(_lines(source))] for k, source in enumerate(model.sources)
        ],
        "frozen": [slot.name for slot in model.slots if slot.frozen],
        "hyper": _hypers(model),
    }


def _meaning(graph: Graph, numbers: bool = True) -> str:
    """A digest of what a graph computes, whatever its values are called, in whatever order, and where in the text
    they come from.

    Without `numbers` its constants may be any: those of an optimizer.
    """
    known: dict[Value, str] = {port.value: f"{port.role} {port.label} {port.value.type}" for port in graph.inputs}
    for node in graph.nodes:
        free = node.op == "constant" and not numbers
        attrs = ", ".join(
            f"{key}={attribute_text(value)}"
            for key, value in sorted(node.attrs.items())
            if not (free and key == "value")
        )
        inner = [_meaning(region, numbers) for region in node.regions]
        made = "\0".join([node.op, attrs, *(known[operand] for operand in node.operands), *inner])
        digest = hashlib.sha256(made.encode()).hexdigest()
        for place, value in enumerate(node.results):
            known[value] = f"{digest} {place} {value.type}"
    outputs = sorted(f"{port.role} {_spelled(port)} {known[port.value]}" for port in graph.outputs)
    return hashlib.sha256(
        "\0".join([*(f"{port.role} {port.label}" for port in graph.inputs), *outputs]).encode()
    ).hexdigest()


def _spelled(port: Port) -> str:
    """An output's label and which part it is, as the digests in checkpoints on disk have always been made of it."""
    if port.part is None:
        return port.label
    return f"{port.label}~{port.part.kind if port.part.kind == 'rest' else f'{port.part.term}.{port.part.kind}'}"


def _lines(source: Source) -> Iterator[str]:
    """The lines of a text as the formatter writes them, without comments."""
    made = Source(source.file, formatted(source.text, source.file))
    comments = {comment.line: comment.column for comment in lex(made).comments}
    for number, line in enumerate(made.lines, start=1):
        if kept := line[: comments.get(number, len(line) + 1) - 1].rstrip():
            yield _ALIGNED.sub(" ", kept)


def _hypers(model: Model) -> dict[str, float]:
    """The numbers that the text gives to the optimizer, by the names of their slots."""
    made = {node.results[0]: node for node in model.init.nodes if node.op == "constant"}
    names = {slot.name for slot in model.slots if slot.role == "hyper"}
    return {port.label: float(made[port.value].attrs["value"]) for port in model.init.outputs if port.label in names}
