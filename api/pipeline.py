"""The way from text to machine code, stage by stage: what `compile`, `build` and `inspect` share.

Every stage is made when it is first asked for and kept. Importing this module imports the compiler; a program that
comes from the cache never does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from tapeless.codegen.image import Image, compile_image
from tapeless.compiler import entries, fusion, passes
from tapeless.compiler import model as front
from tapeless.compiler.diagnostics import ProgramErrors
from tapeless.ir.graph import Graph
from tapeless.ir.target import TARGETS, Target, named
from tapeless.ir.types import DType
from tapeless.runtime.errors import UserError


class SourceError(UserError):
    """The model's text is wrong; the message holds all that was found, each with its place."""

    def __init__(self, errors: ProgramErrors) -> None:
        super().__init__(str(errors))
        self.errors = errors


class Pipeline:
    """One model in one precision on its way through the stages."""

    def __init__(self, text: str, file: str, model: str | None, sizes: Mapping[str, int | float], dtype: DType) -> None:
        self._text, self._file, self._name = text, file, model
        self._sizes, self._dtype = dict(sizes), dtype
        self._simplified: dict[str, Graph] = {}
        self._fused: dict[str, Graph] = {}

    @cached_property
    def model(self) -> front.Model:
        """The checked model. Raises SourceError."""
        try:
            return front.load(self._text, self._file, sizes=self._sizes, dtype=self._dtype, model=self._name)
        except ProgramErrors as errors:
            raise SourceError(errors) from errors

    @cached_property
    def entries(self) -> dict[str, Graph]:
        """The entry points as graphs, as differentiation leaves them."""
        return dict(entries.build(self.model))

    def simplified(self, entry: str) -> Graph:
        if entry not in self._simplified:
            self._simplified[entry] = passes.simplify(self.entries[entry])
        return self._simplified[entry]

    def fused(self, entry: str) -> Graph:
        if entry not in self._fused:
            self._fused[entry] = fusion.fuse(self.simplified(entry))
        return self._fused[entry]

    def image(self, names: Sequence[str], target: Target, capacity: int | None) -> Image:
        """Machine code for the named entries."""
        return compile_image(
            self.model, {name: self.fused(name) for name in names}, target, capacity or self.model.settings.batch
        )


def target_named(name: str | None) -> Target:
    """A target by name; None is this machine."""
    try:
        return named(name or "host")
    except KeyError:
        raise UserError(f"there is no target {name!r}; there are host, {', '.join(TARGETS)}") from None
