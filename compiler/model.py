"""Program text to `Model`: the front end's result, which the rest of the compiler takes. Knows no later stage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tapeless.compiler.elaborate.checks import check_influence, check_sizes
from tapeless.compiler.elaborate.elaborator import Common
from tapeless.compiler.elaborate.emission import Labelled
from tapeless.compiler.elaborate.forward import forward
from tapeless.compiler.elaborate.ignored_labels import allowed, labels_of
from tapeless.compiler.elaborate.interface import Given
from tapeless.compiler.elaborate.modules import Module, read_module
from tapeless.compiler.elaborate.reporter import Reporter
from tapeless.compiler.elaborate.resolve import resolve
from tapeless.compiler.elaborate.storage import Storage
from tapeless.compiler.elaborate.train_settings import SettingsReader, TrainPlan
from tapeless.compiler.elaborate.update import Update
from tapeless.compiler.elaborate.values import TooLarge
from tapeless.compiler.identity import identity
from tapeless.compiler.language import ast
from tapeless.compiler.language.files import Files, Reach, files
from tapeless.compiler.messages.diagnostics import Diagnostic, ProgramErrors, Source
from tapeless.compiler.messages.near_names import nearest
from tapeless.ir.graph import Graph, Span
from tapeless.ir.types import DType, Tensor


@dataclass(frozen=True)
class Data:
    """A tensor that the data brings, in the order of the text. `bound` is exclusive; checked where data enters.
    `ignored` are labels of rows that do not count, which may come besides.
    """

    name: str
    type: Tensor
    role: str
    bound: int | None
    span: Span
    ignored: tuple[int, ...] = ()


@dataclass(frozen=True)
class StateTensor:
    """A tensor that the program keeps: a parameter, layer or optimizer state, hyper-parameter or counter."""

    name: str
    type: Tensor
    role: str
    span: Span
    frozen: bool = False
    turns: tuple[range, ...] = ()  # of a slot that holds a tensor for each turn of a loop, see `ir.stacking`


@dataclass(frozen=True)
class Settings:
    """What the train section says of the loop around the step."""

    epochs: int = 10
    batch: int = 64
    validation: float = 0.0
    patience: int | None = None
    monitor: str | None = None
    rising: bool = False


@dataclass(frozen=True)
class Model:
    """A model, elaborated: `forward[True]` is the training pass, `forward[False]` the evaluation pass."""

    name: str
    dtype: DType
    source: Source
    data: tuple[Data, ...]
    slots: tuple[StateTensor, ...]
    forward: Mapping[bool, Graph]
    init: Graph
    update: Graph
    settings: Settings
    denormals: str = "flush"  # or `keep`: what training does with numbers below the smallest normal one
    sources: tuple[Source, ...] = ()
    warnings: tuple[Diagnostic, ...] = ()
    # where statistics over the rows of a batch are used in training: batches need two rows at least
    statistics: Span | None = None
    derived: Mapping[Span, tuple[int, int]] = field(default_factory=dict)  # of `grad` and its kin: see Emitter
    # its arguments and free dimensions, as far as they are numbers
    sizes: Mapping[str, int | float] = field(default_factory=dict)
    memory: int | None = None  # the most bytes of a training step: state, gradients and workspace

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """What a checkpoint records of the program that it is of."""
        return identity(self)


def load(text: str, file: str = "model.tl", *, sizes: Mapping[str, int | float] | None = None, dtype: DType = DType.F32,
         model: str | None = None, freeze: Sequence[str] = (), reach: Reach = "anywhere") -> Model:  # fmt: skip
    """Read a program, what it imports from within `reach`, and elaborate one of its models (`model`, or the only one).

    `sizes` override the model's own arguments and give free dimensions their size; `freeze` are patterns of the
    names of parameters that training leaves alone, besides those that the text says. Raises ProgramErrors with every
    fault found.
    """
    return elaborated(files(Source(file, text), reach), sizes or {}, dtype, model, freeze)


def elaborated(
    files: Files, sizes: Mapping[str, int | float], dtype: DType, model: str | None, freeze: Sequence[str]
) -> Model:
    """As `load`, of files that have been read."""
    sources = {source.file: source for source in files.sources}
    found: list[Diagnostic] = []
    try:
        return _elaborated(files, dict(sizes), dtype, model, freeze, sources, found)
    except TooLarge as fault:
        found.append(Diagnostic("E0106", str(fault), fault.span))
        raise ProgramErrors(found, sources) from None
    except RecursionError:
        message = "this program nests expressions, blocks and calls too deeply"
        head = Span(files.sources[0].file, 1, 1, 1, 2)
        found.append(Diagnostic("E0106", message, head, hint="Give inner parts names on lines of their own."))
        raise ProgramErrors(found, sources) from None


def _elaborated(files: Files, sizes: dict[str, int | float], dtype: DType, model: str | None, freeze: Sequence[str],
                sources: dict[str, Source], found: list[Diagnostic]) -> Model:  # fmt: skip
    source = files.sources[0]
    module = read_module(files, found.append)
    definition = _chosen(module, model, found)
    resolve(module, sizes, found.append)
    if definition is None:
        raise ProgramErrors(_ordered(found, source), sources)
    reporter = Reporter(found, {(fault.code, fault.span) for fault in found})
    common = Common(reporter, Storage(definition.name, dtype), sizes)
    training = forward(common, module, definition, training=True)
    evaluation = forward(common, module, definition, training=False)
    interface, arguments = evaluation.interface, evaluation.arguments
    check_sizes(reporter, definition, sizes, training.interface.free_sizes | interface.free_sizes)
    section = _section(module, definition, reporter)
    reader = SettingsReader(common, module, definition, section, arguments, interface.watched)
    plan = reader.read()
    reader.freeze(freeze)
    update = Update(common, module, definition, plan, reader.span, arguments)
    updated = update.graph()
    slots = common.storage.slots
    if not reporter.failed:
        check_influence(reporter, training.graph, interface, slots)
    if section is not None and not interface.losses and not reporter.failed:
        assigned = [
            line.span for line in definition.body if isinstance(line, ast.Assign) and line.targets[0].name == "loss"
        ]
        reporter.report(
            Diagnostic(
                "E0503",
                f"model `{definition.name}` has a train section but no loss",
                assigned[0] if assigned else definition.head,
                hint="A loss is declared without `=`: `loss mean((y - t) ** 2)`."
                if assigned
                else "Say what to make small: `loss mean((y - t) ** 2)`.",
            )
        )
    common.storage.count(definition.head)
    init = common.storage.start()
    errors = [fault for fault in found if fault.severity == "error"]
    if errors:
        raise ProgramErrors(_ordered(errors, source), sources)
    return Model(
        name=definition.name,
        dtype=dtype,
        source=source,
        data=tuple(_data(given, common.labelled) for given in interface.given.values()),
        slots=tuple(
            StateTensor(one.name, one.type, one.role, one.span, one.frozen, one.turns) for one in slots.values()
        ),
        forward={True: training.graph, False: evaluation.graph},
        init=init,
        update=updated,
        settings=_settings(plan),
        denormals=plan.denormals,
        sources=files.sources,
        warnings=tuple(fault for fault in found if fault.severity == "warning"),
        statistics=training.statistics or evaluation.statistics or update.elaborator.updates.statistics,
        derived=training.derived,
        sizes=sizes | {name: value for name, value in arguments.items() if type(value) in (int, float)},
        memory=plan.memory,
    )


def _data(given: Given, labelled: Sequence[Labelled]) -> Data:
    bound, ignored = allowed(labels_of(labelled, given.name), given.bound)
    return Data(given.name, given.type, given.role, bound, given.span, ignored)


def _ordered(found: list[Diagnostic], source: Source) -> list[Diagnostic]:
    """Faults in the order of the text, those of the main file first."""

    def key(fault: Diagnostic) -> tuple[bool, str, int, int]:
        span = fault.span
        return (span.file != source.file, span.file, span.line, span.column) if span else (True, "", 0, 0)

    return sorted(found, key=key)


def _chosen(module: Module, wanted: str | None, found: list[Diagnostic]) -> ast.Definition | None:
    """The model to compile."""
    names = list(module.models)
    start = Span(module.source.file, 1, 1, 1, 2)
    if wanted is not None and wanted not in names:
        near = nearest(wanted, names)
        hint = (
            f"Did you mean `{near}`?"
            if near
            else f"There is {', '.join(f'`{name}`' for name in names)}."
            if names
            else None
        )
        found.append(Diagnostic("E0301", f"there is no model `{wanted}` in this file", start, hint=hint))
        return None
    if wanted is not None:
        return module.models[wanted]
    if not names:
        if not any(fault.severity == "error" for fault in found):
            found.append(
                Diagnostic("E0501", "there is no model in this file", start, hint="A model begins with `model Name:`.")
            )
        return None
    if len(names) > 1:
        listing = ", ".join(f"`{name}`" for name in names)
        found.append(
            Diagnostic(
                "E0502",
                f"this file has {len(names)} models: {listing}",
                module.models[names[1]].head,
                hint=f'Say which one to compile: `--model {names[0]}`, or `model="{names[0]}"` in Python.',
            )
        )
        return None
    return module.models[names[0]]


def _section(module: Module, definition: ast.Definition, reporter: Reporter) -> ast.Train | None:
    """The train section of a model; sections of no model, or a second one, are faults."""
    chosen = None
    seen: set[str] = set()
    for section in module.trains:
        if section.model not in module.models:
            if section.model not in module.broken:
                near = nearest(section.model, module.models)
                reporter.report(
                    Diagnostic(
                        "E0504",
                        f"there is no model `{section.model}` to train",
                        section.head,
                        hint=f"Did you mean `{near}`?" if near else f"There is {_listed(module.models)}.",
                    )
                )
        elif section.model in seen:
            reporter.report(Diagnostic("E0505", f"`{section.model}` has a train section already", section.head))
        elif section.model == definition.name:
            chosen = section
        seen.add(section.model)
    return chosen


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _settings(plan: TrainPlan) -> Settings:
    return Settings(plan.epochs, plan.batch, plan.validation, plan.patience, plan.monitor, plan.rising)
