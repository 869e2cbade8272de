"""Where global names come from: the file's own declarations, its imports, and the standard library, parsed file by file as needed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tapeless.compiler import ast
from tapeless.compiler.diagnostics import Diagnostic, Label, Source
from tapeless.compiler.elaborate.values import Defined
from tapeless.compiler.parser import parse
from tapeless.compiler.suggest import nearest
from tapeless.ir.graph import Span

STANDARD = Path(__file__).parent.parent / "std"
_DEFINED = re.compile(r"^(?:fn|layer|optimizer) +([A-Za-z_]\w*)", re.MULTILINE)


@dataclass(eq=False)
class Module:
    """One file's declarations and, under their names, what it defines or imports."""

    source: Source
    standard: bool = False
    tree: ast.File | None = None
    names: dict[str, Defined] = field(default_factory=dict)
    models: dict[str, ast.Definition] = field(default_factory=dict)
    trains: list[ast.Train] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    incomplete: bool = False  # an import failed: any unknown name may have been in it


@cache
def standard_names() -> dict[str, str]:
    """Every name the standard library defines, with its file; found without parsing."""
    return {
        name: path.name
        for path in sorted(STANDARD.glob("*.tl"))
        for name in _DEFINED.findall(path.read_text(encoding="utf-8"))
    }


@cache
def standard_module(file: str) -> Module:
    """One parsed file of the standard library. Raises ValueError if it has faults, which tests keep from happening."""
    source = Source(f"std/{file}", (STANDARD / file).read_text(encoding="utf-8"))
    tree, faults = parse(source)
    if faults:
        raise ValueError(f"the standard library's {file} has faults: {faults[0].message} in line {faults[0].span}")
    module = Module(source, standard=True, tree=tree)
    for declaration in tree.declarations:
        if isinstance(declaration, ast.Definition):
            module.names[declaration.name] = Defined(declaration, module)
    return module


def standard(name: str) -> Defined | None:
    """What the standard library defines under a name."""
    file = standard_names().get(name)
    return standard_module(file).names[name] if file else None


def standard_text(name: str) -> str | None:
    """The text of one definition of the standard library, with the comments above it; None if there is no such name."""
    defined = standard(name)
    if defined is None:
        return None
    lines = defined.module.source.lines
    start = first = defined.definition.span.line - 1
    while start > 0 and lines[start - 1].startswith("#"):
        start -= 1
    end = first + 1
    while end < len(lines) and (not lines[end].strip() or lines[end].startswith(" ")):
        end += 1
    return "\n".join(lines[start:end]).rstrip() + "\n"


def read_module(source: Source, report: Callable[[Diagnostic], None], sources: dict[str, Source]) -> Module:
    """Parse a file and what it imports; every fault is reported."""
    return _read(source, report, sources, {})


def _read(source: Source, report: Callable[[Diagnostic], None], sources: dict[str, Source], known: dict[str, Module]) -> Module:
    sources[source.file] = source
    tree, faults = parse(source)
    for fault in faults:
        report(fault)
    module = known[source.file] = Module(source, tree=tree)
    spans: dict[str, Span] = {}
    for declaration in tree.declarations:
        if isinstance(declaration, ast.Broken):
            module.broken.update(declaration.names)
        elif isinstance(declaration, ast.Train):
            module.trains.append(declaration)
        elif isinstance(declaration, ast.Import):
            imported = _imported(declaration, source, report, sources, known)
            if imported is None:
                module.incomplete = True
            else:
                module.broken |= imported.broken
                module.incomplete |= imported.incomplete
                for name, defined in imported.names.items():
                    module.names.setdefault(name, defined)
        else:
            name = declaration.name
            if name in spans:
                first = Label(f"`{name}`", "is here too", spans[name], "first declared")
                report(Diagnostic("E0302", f"`{name}` is declared twice", declaration.head, (first,)))
                continue
            spans[name] = declaration.head
            if declaration.kind == "model":
                module.models[name] = declaration
            else:
                module.names[name] = Defined(declaration, module)
    return module


def _imported(declaration: ast.Import, source: Source, report: Callable[[Diagnostic], None], sources: dict[str, Source],
              known: dict[str, Module]) -> Module | None:  # fmt: skip
    if not declaration.path.strip():
        report(Diagnostic("E0111", "an import names a file", declaration.span, hint='Write `import "other.tl"`.'))
        return None
    path = Path(source.file).parent / declaration.path
    file = str(path)
    if file in known:
        return known[file]
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as fault:
        reason = fault.strerror if isinstance(fault, OSError) and fault.strerror else "it is not a text in UTF-8"
        near = nearest(path.name, _beside(path)) if isinstance(fault, FileNotFoundError) else None
        hint = f'Did you mean `import "{Path(declaration.path).with_name(near)}"`?' if near else None
        report(Diagnostic("E0111", f"`{declaration.path}` cannot be read: {reason}", declaration.span, hint=hint))
        return None
    return _read(Source(file, text), report, sources, known)


def _beside(path: Path) -> Iterator[str]:
    try:
        yield from sorted(other.name for other in path.parent.glob("*.tl"))
    except OSError:
        return
