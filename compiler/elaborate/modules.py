"""Where global names come from: the file's own declarations, its imports, and the standard library, parsed file by
file as needed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tapeless.compiler.elaborate.values import Defined
from tapeless.compiler.language import ast
from tapeless.compiler.language.files import MOST_BYTES, Files
from tapeless.compiler.language.parser import parse
from tapeless.compiler.messages.diagnostics import Diagnostic, Label, Source
from tapeless.compiler.messages.near_names import nearest
from tapeless.ir.graph import Span

STANDARD = Path(__file__).parent.parent / "std"
_DEFINED = re.compile(r"^(fn|layer|optimizer) +([A-Za-z_]\w*)", re.MULTILINE)
# files whose functions are of use in one place alone
_OF_A_KIND = {"schedules.tl": "schedule", "initialisers.tl": "initialiser"}


@dataclass(eq=False)
class Module:
    """One file's declarations and, under their names, what it defines (`own`) or imports too (`names`)."""

    source: Source
    standard: bool = False
    tree: ast.File | None = None
    own: dict[str, Defined] = field(default_factory=dict)
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
        for _, name in _DEFINED.findall(path.read_text(encoding="utf-8"))
    }


@cache
def standard_kinds() -> dict[str, str]:
    """What each name of the standard library is: fn, layer, optimizer, schedule or initialiser."""
    return {
        name: _OF_A_KIND.get(path.name, kind)
        for path in sorted(STANDARD.glob("*.tl"))
        for kind, name in _DEFINED.findall(path.read_text(encoding="utf-8"))
    }


# What may stand in a body, an initialiser's place, the train section, and after `optimizer`.
FITTING: dict[str, frozenset[str]] = {
    "model": frozenset({"fn", "layer"}),
    "layer": frozenset({"fn", "layer"}),
    "fn": frozenset({"fn", "schedule", "initialiser"}),
    "optimizer": frozenset({"fn"}),
    "param": frozenset({"fn", "initialiser"}),
    "train": frozenset({"fn", "schedule"}),
    "rule": frozenset({"optimizer"}),
}


def fitting(names: Mapping[str, Defined], place: str) -> list[str]:
    """The defined names, of a file and of the standard library, that can stand in a place."""
    kinds = FITTING[place]
    own = [name for name, defined in names.items() if defined.definition.kind in kinds]
    return [*own, *(name for name, kind in standard_kinds().items() if kind in kinds)]


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


def read_module(files: Files, report: Callable[[Diagnostic], None]) -> Module:
    """The module of a model's own file, each of its files parsed once; every fault is reported."""
    modules = {source.file: _read(source, report) for source in files.sources}
    for module in modules.values():
        _link(module, files, modules, report)
    return modules[files.sources[0].file]


def _read(source: Source, report: Callable[[Diagnostic], None]) -> Module:
    """One file by itself."""
    tree, faults = parse(source)
    for fault in faults:
        report(fault)
    module = Module(source, tree=tree)
    spans: dict[str, Span] = {}
    for declaration in tree.declarations:
        if isinstance(declaration, ast.Broken):
            module.broken.update(declaration.names)
        elif isinstance(declaration, ast.Train):
            module.trains.append(declaration)
        elif isinstance(declaration, ast.Definition):
            name = declaration.name
            if name in spans:
                first = Label(f"`{name}`", "is here too", spans[name], "first declared")
                report(Diagnostic("E0302", f"`{name}` is declared twice", declaration.head, (first,)))
                continue
            spans[name] = declaration.head
            if declaration.kind == "model":
                module.models[name] = declaration
            else:
                module.own[name] = module.names[name] = Defined(declaration, module)
    return module


def _link(module: Module, files: Files, modules: Mapping[str, Module], report: Callable[[Diagnostic], None]) -> None:
    """Gives a module the names that its imports define, and theirs in turn: files may import each other."""
    seen: set[str] = set()
    pending = [module]
    while pending:
        other = pending.pop()
        if other.source.file in seen:
            continue
        seen.add(other.source.file)
        module.broken |= other.broken
        for name, defined in other.own.items():
            module.names.setdefault(name, defined)
        found = []
        for declaration in other.tree.declarations if other.tree else ():
            if isinstance(declaration, ast.Import):
                source = files.imported(other.source.file, declaration.path)
                module.incomplete |= source is None
                if source is not None:
                    found.append(modules[source.file])
                elif other is module:
                    report(_missing(declaration, module.source))
        pending += reversed(found)


def _missing(declaration: ast.Import, source: Source) -> Diagnostic:
    """Says the same of a file that is not there and of one that may not be read: a text can't ask what files there
    are.
    """
    path = declaration.path
    if not path.strip():
        return Diagnostic("E0111", "an import names a file", declaration.span, hint='Write `import "other.tl"`.')
    message = f"`{path}` cannot be imported: there is no such file, or none that may be read"
    near = nearest(path, _beside(source.file)) if Path(path).name == path else None
    hint = f'Did you mean `import "{near}"`?' if near else (
        f"Imports are regular files in UTF-8 whose names end in `.tl`, of at most {MOST_BYTES // 1_000_000} MB "
            "each; with `--imports beside` they "
        "lie in the folder of the model.")  # fmt: skip
    return Diagnostic("E0111", message, declaration.span, hint=hint)


def _beside(file: str) -> Iterator[str]:
    """The texts in the folder of a file."""
    try:
        yield from sorted(other.name for other in Path(file).parent.glob("*.tl"))
    except OSError:
        return
