"""`input` and `target`: what a model takes."""

from __future__ import annotations

from dataclasses import dataclass

from tapeless.compiler.elaborate.context import Context, Rules
from tapeless.compiler.elaborate.frames import Frame
from tapeless.compiler.elaborate.interface import Given, Interface, in_model
from tapeless.compiler.elaborate.names import CONSTANTS, Names, fresh
from tapeless.compiler.elaborate.sizes import Sizes
from tapeless.compiler.elaborate.values import Binding, Computed, shape_text
from tapeless.compiler.language import ast
from tapeless.ir.types import DType, Rows, Tensor


@dataclass(frozen=True, eq=False)
class Inputs:
    """Declares data."""

    context: Context
    names: Names
    sizes: Sizes
    interface: Interface

    @property
    def rules(self) -> Rules:
        """The kinds of syntax that this part takes."""
        return {ast.Input: self.input}

    def input(self, frame: Frame, syntax: ast.Input) -> None:
        """`input image: [batch, 64]`, `target label: int[batch] < classes`."""
        in_model(self.context, frame, syntax.role, syntax.span)
        fresh(frame, syntax.name, syntax.span)
        first = syntax.type.dims[0] if syntax.type.dims else None
        rows = any(isinstance(dim, ast.Name) and dim.name == "batch" for dim in syntax.type.dims)
        if (
            first is not None
            and not rows
            and (
                isinstance(first, ast.Unary)
                or (
                    isinstance(first, ast.Name) and first.name not in frame.names and first.name not in self.names.given
                )
            )
        ):
            raise frame.fault(
                "E0208",
                f"the first axis of `{syntax.name}` is the rows, and is called `batch`",
                first.span,
                hint="Write `[batch, ...]`.",
            )
        for dim in syntax.type.dims:
            if isinstance(dim, ast.Name) and dim.name not in frame.names and dim.name not in CONSTANTS:
                self.free_size(frame, dim)
        shape = self.sizes.dims(frame, syntax.type.dims)
        if not shape or shape[0] != Rows() or any(isinstance(dim, Rows) for dim in shape[1:]):
            written = {"real": ""}.get(syntax.type.kind, syntax.type.kind)
            fixed = ", ".join(["batch", *(str(dim) for dim in shape if not isinstance(dim, Rows))])
            raise frame.fault(
                "E0208",
                f"the first axis of `{syntax.name}`, and no other, must be `batch`",
                syntax.type.span,
                hint=f"Did you mean `{syntax.role} {syntax.name}: {written}[{fixed}]`?",
            )
        kind = syntax.type.kind
        dtype = {"int": DType.I32, "bool": DType.BOOL}.get(kind, self.context.emitter.real)
        bound = None
        if syntax.bound is not None:
            value = self.context.evaluate(frame, syntax.bound)
            if dtype is not DType.I32:
                raise frame.fault(
                    "E0401",
                    "only ints have a bound",
                    syntax.bound.span,
                    hint=f"Did you mean `int{shape_text(shape)}`?",
                )
            size = self.sizes.dim(frame, syntax.bound.span, value)
            if not isinstance(size, int):
                raise frame.fault("E0208", "a bound is a fixed number", syntax.bound.span)
            bound = size
        type_ = Tensor(dtype, shape)
        given = Given(syntax.name, type_, syntax.role, bound, syntax.span)
        self.interface.given[syntax.name] = given
        value = Computed(self.context.emitter.input(syntax.name, type_, "data", syntax.span), bound)
        frame.names[syntax.name] = Binding(value, syntax.name, syntax.span, "declared", "input", syntax)

    def free_size(self, frame: Frame, dim: ast.Name) -> None:
        """A size that only the data, or whoever compiles, knows."""
        name = dim.name
        self.interface.free_sizes.add(name)
        if name not in self.names.given:
            raise frame.fault(
                "E0205",
                f"the size `{name}` has no value",
                dim.span,
                hint=(
                    f"Give it when compiling ({name}=64), or make it an argument of the "
                    f"model: `model {frame.name}({name} = 64):`."
                ),
            )
        size = self.sizes.dim(frame, dim.span, self.names.given[name])
        frame.names[name] = Binding(size, name, dim.span, "declared", "size", dim)
