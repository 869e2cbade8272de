"""The syntax tree as text for people: one node a line, children indented, with the line and column of each."""

from __future__ import annotations

from dataclasses import fields

from tapeless.compiler.language import ast
from tapeless.ir.graph import Span


def unparse(tree: ast.Syntax, places: bool = True) -> str:
    """The tree below a node: its kind, its plain fields, its place; then its children under the names of their
    fields.
    """
    out: list[str] = []
    pending: list[tuple[int, str, object]] = [(0, "", tree)]
    while pending:
        depth, role, item = pending.pop()
        indent = "  " * depth
        lead = f"{role}: " if role else ""
        if isinstance(item, tuple):
            out.append(f"{indent}{role}:")
            pending.extend((depth + 1, "", child) for child in reversed(item))
            continue
        if not isinstance(item, ast.Syntax):
            out.append(f"{indent}{lead}{item!r}")
            continue
        plain, children = [], []
        for name in [one.name for one in fields(type(item)) if one.name != "span"]:
            value = getattr(item, name)
            if isinstance(value, (ast.Syntax, tuple)):
                if value != ():
                    children.append((depth + 1, name, value))
            elif value is not None and value is not False and not isinstance(value, Span):
                plain.append(
                    name
                    if value is True and type(item) is not ast.Truth
                    else f"{name}={value!r}"
                    if name != "name"
                    else str(value)
                )
        words = " ".join([type(item).__name__, *plain])
        out.append(f"{indent}{lead}{words}" + (f"  @{item.span.line}:{item.span.column}" if places else ""))
        pending.extend(reversed(children))
    return "\n".join(out) + "\n"
