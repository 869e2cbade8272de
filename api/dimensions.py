"""Sizes that a model leaves to its data: which names of its dimensions the data decide, and as what.

In `input x: [batch, features]` the second dimension of the array decides `features`, and in
`target y: int[batch] < classes` the labels decide `classes`, wherever such a dimension is one name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tapeless.compiler.language import ast, parser
from tapeless.compiler.messages.diagnostics import Source
from tapeless.runtime.errors import DataError


@dataclass(frozen=True)
class Declared:
    """An input or target as the text declares it: a name for each dimension, or for the bound, that is one, or None."""

    name: str
    role: str
    kind: str
    dims: tuple[str | None, ...]
    bound: str | None


@dataclass(frozen=True)
class Declarations:
    """What a model takes: its own arguments, and its data."""

    arguments: frozenset[str]
    data: tuple[Declared, ...]

    def free(self) -> frozenset[str]:
        """The names of dimensions that neither the model's arguments nor the rows decide."""
        names = {dim for item in self.data for dim in item.dims if dim is not None}
        return frozenset(names - self.arguments - {"batch"})


def declarations(text: str, file: str, model: str | None) -> Declarations | None:
    """What the text declares of its model (the named one, or the only one); None where the text is faulty."""
    tree, faults = parser.parse(Source(file, text))
    models = [
        item for item in tree.declarations
        if isinstance(item, ast.Definition) and item.kind == "model" and model in (None, item.name)
    ]  # fmt: skip
    if faults or len(models) != 1:
        return None
    arguments = frozenset(parameter.name for parameter in models[0].parameters)
    inputs = [line for line in models[0].body if isinstance(line, ast.Input)]
    return Declarations(
        arguments,
        tuple(
            Declared(
                item.name, item.role, item.type.kind, tuple(_name(dim) for dim in item.type.dims), _name(item.bound)
            )
            for item in inputs
        ),
    )


def _name(expression: ast.Expression | None) -> str | None:
    return expression.name if isinstance(expression, ast.Name) else None


def sizes(wanted: frozenset[str], data: tuple[Declared, ...], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """The sizes that arrays of these shapes give to the wanted names. DataError if two of them disagree."""
    found: dict[str, tuple[int, str]] = {}
    for item in data:
        for dim, size in zip(item.dims, shapes.get(item.name, ()), strict=False):
            if dim not in wanted or dim is None:
                continue
            known = found.setdefault(dim, (size, item.name))
            if known[0] != size:
                raise DataError(f"the size `{dim}` is {known[0]} in `{known[1]}` and {size} in `{item.name}`")
    return {name: size for name, (size, _) in found.items()}
