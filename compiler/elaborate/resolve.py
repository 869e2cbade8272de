"""Names checked in every definition of a file, run or not: an unused layer with a misspelt name is wrong too."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from tapeless.compiler.elaborate import functions
from tapeless.compiler.elaborate.modules import Module, fitting, standard_names
from tapeless.compiler.elaborate.names import CONSTANTS, SPECIAL
from tapeless.compiler.language import ast
from tapeless.compiler.language.parser import NAMES
from tapeless.compiler.language.statement_parser import made_by
from tapeless.compiler.messages.diagnostics import Diagnostic, Label
from tapeless.compiler.messages.near_names import hint_for
from tapeless.ir.graph import Span

# in one body: each hint compares a name with all others, and whoever has that many faults wants the first ones
_HINTS = 50
OWN_WORDS = ("stop_early", "denormals")  # settings whose values are words of their own, no names of anything


def resolve(module: Module, sizes: Mapping[str, int | float], report: Callable[[Diagnostic], None]) -> None:
    """Report every name in the file's own definitions that nothing has."""
    if module.tree is None or module.incomplete:
        return
    everywhere = {*module.names, *module.broken, *standard_names(), *functions.BUILTINS, *CONSTANTS, *SPECIAL}

    def check(names: Iterable[tuple[ast.Name, str]], local: set[str]) -> None:
        """Report the names that nothing has, each with the place it stands in, which decides what is offered."""
        count = 0
        for name, place in names:
            if name.name not in local and name.name not in everywhere:
                count += 1
                hint = None
                if count <= _HINTS:
                    others = () if place == "rule" else (*sorted(local), *functions.BUILTINS, *CONSTANTS, *SPECIAL)
                    hint = hint_for(name.name, [*others, *fitting(module.names, place)])
                report(Diagnostic("E0301", f"there is no `{name.name}` here", name.span, hint=hint))

    for declaration in module.tree.declarations:
        if isinstance(declaration, ast.Definition):
            local = _local(declaration) | (set(sizes) if declaration.kind == "model" else set())
            layers = _layers(declaration)
            starting = {id(name) for part in declaration.body for name in _starting(part)}
            names = [name for part in (*declaration.parameters, *declaration.body) for name in names_in(part)]
            check([(name, "param" if id(name) in starting else declaration.kind) for name in names
                   if "." not in name.name or _NUMBER.sub("", name.name.partition(".")[0]) not in layers],
                   local)  # fmt: skip
            if declaration.derivatives:
                _derivatives(declaration, report)
                check(
                    [(name, declaration.kind) for part in declaration.derivatives for name in names_in(part)],
                    {*local, "out"},
                )
            if not _parameters_are_right(declaration, report):
                module.names.pop(declaration.name, None)
                module.broken.add(declaration.name)
        elif isinstance(declaration, ast.Train):
            model = module.models.get(declaration.model)
            local = {parameter.name for parameter in model.parameters} if model else set()
            settings = [
                setting
                for setting in declaration.settings
                if isinstance(setting, ast.Setting) and setting.name in NAMES and setting.name != "freeze"
            ]
            chosen = {
                id(value.function if isinstance(value, ast.Call) else value)
                for setting in settings
                if setting.name == "optimizer"
                for value in setting.values
            }
            check([(name,
                "rule" if id(name) in chosen else "train") for setting in settings for part in (*setting.values,
                *setting.named)
                   for name in names_in(part) if not (setting.name in OWN_WORDS and part in setting.values)],
                   local)  # fmt: skip


def _derivatives(definition: ast.Definition, report: Callable[[Diagnostic], None]) -> None:
    """A function has a derivative by each of its parameters, or says nothing of them."""
    given, names = len(definition.derivatives), [parameter.name for parameter in definition.parameters]
    if given != len(names):
        first, last = definition.derivatives[0].span, definition.derivatives[-1].span
        span = Span(first.file, first.line, first.column, last.end_line, last.end_column)
        count = "one derivative" if given == 1 else f"{given} derivatives"
        label = Label(f"`{definition.name}`", f"takes {', '.join(names) or 'no arguments'}", definition.head)
        report(
            Diagnostic(
                "E0704",
                f"{count} for {'one argument' if len(names) == 1 else f'{len(names)} arguments'}",
                span,
                (label,),
                "Give one by each argument, with commas between them.",
            )
        )


def _parameters_are_right(definition: ast.Definition, report: Callable[[Diagnostic], None]) -> bool:
    """Whether each argument has a name of its own, and not one with a fixed meaning. What is wrong is reported."""
    seen: dict[str, ast.Parameter] = {}
    right = True
    for parameter in definition.parameters:
        name = parameter.name
        if name in CONSTANTS or name in SPECIAL or name in seen:
            right = False
        if name in CONSTANTS or name in SPECIAL:
            report(
                Diagnostic(
                    "E0309",
                    f"`{name}` has a fixed meaning and cannot be an argument",
                    parameter.span,
                    hint="Choose another name.",
                )
            )
        elif name in seen:
            first = Label(f"`{name}`", "is here too", seen[name].span, "first declared")
            report(
                Diagnostic(
                    "E0302", f"two arguments of `{definition.name}` are called `{name}`", parameter.span, (first,)
                )
            )
        seen.setdefault(name, parameter)
    return right


def _local(definition: ast.Definition) -> set[str]:
    """Every name that a body makes anywhere."""
    names = {parameter.name for parameter in definition.parameters}
    for parameter in definition.parameters:
        if parameter.pattern:
            names |= {item.name for item in parameter.pattern.items if isinstance(item, ast.Name)}
    pending: list[ast.Syntax] = list(definition.body)
    while pending:
        item = pending.pop()
        if isinstance(item, ast.Input):
            names |= {dim.name for dim in item.type.dims if isinstance(dim, ast.Name)}
        elif isinstance(item, ast.For):
            names.add(item.name)
        elif isinstance(item, ast.Scan):
            names.add(item.axis)
            names |= {carry.name for carry in item.carries}
        elif isinstance(item, ast.Reduction):
            names |= {variable.name for variable in item.variables}
        elif isinstance(item, ast.Assign):
            for target in item.targets:
                names |= {index.name for index in target.indices or () if isinstance(index, ast.IndexVariable)}
        if isinstance(item, _STATEMENTS):
            names.update(made_by(item))
        pending += ast.children(item)
    return names


def _starting(syntax: ast.Syntax) -> list[ast.Name]:
    """The names that starting values of parameters are made by, below a node."""
    return [name for item in ast.walk(syntax) if isinstance(item, ast.Param) for part in (item.value,
        item.initialiser) if part is not None
            for name in names_in(part)]  # fmt: skip


def _layers(definition: ast.Definition) -> set[str]:
    """The names that layers in a body may have, with parameters behind a dot, which are known once the layer has
    run.
    """
    found: set[str] = set()
    pending: list[ast.Syntax] = list(definition.body)
    while pending:
        item = pending.pop()
        if isinstance(item, (ast.Assign, ast.Output, ast.Use)):
            found.update(made_by(item))
        elif isinstance(item, ast.Call) and isinstance(item.function, ast.Name):
            found.add(item.function.name.lower())
        pending += ast.children(item)
    return found


_NUMBER = re.compile(r"_\d+$")  # of a name made twice: `h_2`
_STATEMENTS = (ast.Assign, ast.Input, ast.Param, ast.State, ast.Output, ast.Use, ast.Metric, ast.Broken)


def names_in(syntax: ast.Syntax) -> list[ast.Name]:
    """Every name used below a node, in the order of the text; names of patterns and free sizes are none."""
    found: list[ast.Name] = []
    pending, indexed = [syntax], False
    while pending:
        item = pending.pop()
        if isinstance(item, ast.Name):
            found.append(item)
        elif isinstance(item, ast.Target):
            pending += [
                index.size
                for index in item.indices or ()
                if isinstance(index, ast.IndexVariable) and index.size is not None
            ]
        elif isinstance(item, ast.Index) and indexed:
            # An unknown index may be one that was forgotten on the left: who reads the line says so.
            pending += [*(part for part in reversed(item.items) if not isinstance(part, ast.Name)), item.value]
        elif not isinstance(item, (ast.Pattern, ast.TypeNote)):
            indexed = (
                indexed
                or isinstance(item, ast.Reduction)
                or (isinstance(item, ast.Assign) and item.targets[0].indices is not None)
            )
            pending += reversed(ast.children(item))
    return found
