"""The way from text to machine code, stage by stage: what `compile`, `build` and `inspect` share.

Every stage is made when it is first asked for and kept. Importing this module imports the compiler; a program that
comes from the cache never does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from tapeless.codegen.program.assemble import Image, Scales, compile_image
from tapeless.codegen.program.tuning import Plans, Tuned, tune
from tapeless.collection import uncollected
from tapeless.compiler import entries
from tapeless.compiler import model as front
from tapeless.compiler.language import parser, unparse
from tapeless.compiler.language.byte_sizes import amount
from tapeless.compiler.language.files import Files
from tapeless.compiler.messages.diagnostics import ProgramErrors, render
from tapeless.compiler.passes.differentiate import DifferentiationError, diagnostic
from tapeless.compiler.passes.pipelines import SIMPLIFICATION, After, lowering, run
from tapeless.compiler.passes.rematerialise import Bounded, TooMuch, within
from tapeless.compiler.stepping.causality import LooksAhead
from tapeless.ir.graph import Graph
from tapeless.ir.machine import Machine
from tapeless.ir.target import TARGETS, Target, named, runnable
from tapeless.ir.types import DType
from tapeless.runtime.errors import UserError

BACKWARD = ("train_step", "gradients")  # the entries that have a backward half


class SourceError(UserError):
    """The model's text is wrong; the message holds all that was found, each with its place."""

    def __init__(self, message: str, errors: ProgramErrors | None = None) -> None:
        super().__init__(message)
        self.errors = errors


class Pipeline:
    """One model in one precision on its way through the stages."""

    def __init__(self, files: Files, model: str | None, sizes: Mapping[str, int | float], dtype: DType,
                 freeze: Sequence[str] = (), after: After | None = None,
                 memory: int | None = None) -> None:  # fmt: skip
        self._files, self._name, self._after, self._memory = files, model, after, memory
        self._sizes, self._dtype, self._freeze = dict(sizes), dtype, tuple(freeze)
        self._entries: dict[str, Graph] = {}
        self._simplified: dict[str, Graph] = {}
        self._fused: dict[tuple[str, Machine, int | None], Graph] = {}
        self._bounded: dict[tuple[str, Target, int], Bounded] = {}
        self._lowered: dict[tuple[str, int | None, str | None], Image] = {}

    def fresh(self, after: After | None = None) -> Pipeline:
        """The same model with no stage made yet; `after` is told of each pass."""
        return Pipeline(self._files, self._name, self._sizes, self._dtype, self._freeze, after, self._memory)

    def syntax(self) -> str:
        """The syntax tree as text. Raises SourceError."""
        source = self._files.sources[0]
        tree, faults = parser.parse(source)
        if faults:
            errors = ProgramErrors(faults, {source.file: source})
            raise SourceError(str(errors), errors)
        return unparse.unparse(tree)

    @cached_property
    def model(self) -> front.Model:
        """The checked model. Raises SourceError."""
        try:
            with uncollected():
                return front.elaborated(self._files, self._sizes, self._dtype, self._name, self._freeze)
        except ProgramErrors as errors:
            raise SourceError(str(errors), errors) from errors

    def warnings(self) -> list[str]:
        """What is allowed in the model but hardly meant, each as text. Raises SourceError."""
        sources = {source.file: source for source in self.model.sources}
        return [render(warning, sources) for warning in self.model.warnings]

    def available(self) -> tuple[str, ...]:
        """The entry points that the model has: one without a loss has none for training."""
        names = [name for name in entries.ENTRIES if entries.lacking(self.model, name) is None]
        return tuple(name for name in names if name != "step" or self._steps())

    def _steps(self) -> bool:
        """Whether the model can go along a sequence place by place, and remembers something on the way: where every
        place is for itself, as features are, nothing speaks for a sequence.
        """
        try:
            return sum(port.role == "carry" for port in self.entry("step").inputs) > 1
        except SourceError:
            return False

    def backward(self) -> Graph:
        """The training forward pass and the gradient of the loss, for reading."""
        self._require("backward")
        return self._made(entries.backward)

    def backward_operations(self) -> tuple[int, int]:
        """Operations of the backward half, before and after simplification."""
        return entries.backward_operations(self.model)

    def entry(self, name: str) -> Graph:
        """An entry point, as differentiation and the front end leave it. UserError if there is none of that name."""
        if name not in entries.ENTRIES:
            raise UserError(f"there is no entry {name!r}; there are {', '.join(entries.ENTRIES)}")
        if name not in self._entries:
            self._require(name)
            self._entries[name] = self._made(entries.ENTRIES[name])
        return self._entries[name]

    def _made(self, make: entries.Entry) -> Graph:
        """A graph made from the model. Raises SourceError where a step on the way to the loss has no derivative, or
        a place of a sequence needs later ones.
        """
        try:
            return make(self.model, self._after)
        except (DifferentiationError, LooksAhead) as error:
            found = diagnostic(error) if isinstance(error, DifferentiationError) else error.diagnostic()
            errors = ProgramErrors([found], {source.file: source for source in self.model.sources})
            raise SourceError(str(errors), errors) from error

    def _require(self, name: str) -> None:
        if (lacking := entries.lacking(self.model, name)) is not None:
            able = "be evaluated" if name == "evaluate" else "be trained, nor have gradients"
            raise UserError(f"the model {self.model.name} has no {lacking}, so it can't {able}")

    def simplified(self, name: str) -> Graph:
        if name not in self._simplified:
            self._simplified[name] = run(SIMPLIFICATION, self.entry(name), self._after)
        return self._simplified[name]

    def fused(self, name: str, machine: Machine, capacity: int | None = None) -> Graph:
        """The kernels of an entry for one kind of processor, for batches of at most so many rows."""
        rows = capacity or self.model.settings.batch
        key = name, machine, rows if rows == 1 else None  # more rows than one are any number to kernels
        if key not in self._fused:
            self._fused[key] = run(lowering(machine, key[-1]), self.simplified(name), self._after)
        return self._fused[key]

    def bounded(self, name: str, target: Target, capacity: int | None) -> Bounded:
        """The kernels of an entry, and what of its forward half is made again: as little as the bound on memory allows.
        UserError where that cannot be met."""
        bound = self._memory or self.model.memory
        if bound is None or name not in BACKWARD:
            return Bounded(self.fused(name, target.machine, capacity), ())
        rows = capacity or self.model.settings.batch
        if (name, target, rows) not in self._bounded:
            graph, scales = self.simplified(name), Scales(self.model, target, rows)

            def fused(graph: Graph) -> Graph:
                return run(lowering(target.machine), graph, self._after)

            try:
                found = within(graph, target.machine, rows, bound, fused, scales.bytes)
            except TooMuch as least:
                raise UserError(
                    f"training {self.model.name} with {rows} rows takes {amount(least.bytes)} of memory at least, and "
                    f"{amount(bound)} are allowed: that is state, gradients and the workspace of `{name}`, which makes "
                    "again what it can. Fewer rows take less; so does `checkpoint every = k` in a loop over time"
                ) from None
            self._bounded[name, target, rows] = found
        return self._bounded[name, target, rows]

    def lowered(self, name: str, capacity: int | None, target: str | None = None) -> Image:
        """Machine code for one entry, with its schedule and loops; `target` None is this machine."""
        key = (name, capacity, target)
        if key not in self._lowered:
            self._lowered[key] = self.image((name,), target_named(target), capacity)
        return self._lowered[key]

    def image(self, names: Sequence[str], target: Target, capacity: int | None, plans: Plans | None = None,
              threads: int = 1) -> Image:  # fmt: skip
        """Machine code for the named entries, by plans that tuning has found, made by so many threads."""
        with uncollected():
            kernels = ((name, self.bounded(name, target, capacity).graph) for name in names)
            return compile_image(self.model, kernels, target, capacity or self.model.settings.batch, plans, threads)

    def tune(self, names: Sequence[str], capacity: int | None, name: str | None) -> Iterator[Tuned]:
        """Measures the plans of the entries' kernels on this machine: see `codegen.program.tuning`."""
        target = target_to_run(name)
        graphs = [self.bounded(entry, target, capacity).graph for entry in names]
        return tune(graphs, target, capacity or self.model.settings.batch)


def target_named(name: str | None) -> Target:
    """A target by name; None is this machine."""
    try:
        return named(name or "host")
    except KeyError:
        raise UserError(f"there is no target {name!r}; there are host, {', '.join(TARGETS)}") from None


def target_to_run(name: str | None) -> Target:
    """A target by name whose programs run on this machine; None is this machine as it is."""
    target = target_named(name)
    if target.name not in (able := runnable()):
        raise UserError(
            f"programs for {name} don't run on this machine; it runs {', '.join(able)}. "
            f"`tapeless build --target {name}` writes a library for another"
        )
    return target
