"""What a step of an open scan sees of the sequences: `x[t]`, `x[t - 1] else 0`; and `stacked h` after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tapeless.compiler.elaborate.context import Context, Rules
from tapeless.compiler.elaborate.frames import Frame
from tapeless.compiler.elaborate.loops import Walk
from tapeless.compiler.elaborate.values import Computed, Poison, Poisoned, describe
from tapeless.compiler.language import ast


@dataclass(frozen=True, eq=False)
class Steps:
    """Picks the elements of steps."""

    context: Context

    @property
    def rules(self) -> Rules:
        """The kinds of syntax that this part takes."""
        return {ast.Stacked: self.stacked}

    def stacked(self, frame: Frame, syntax: ast.Stacked) -> Any:
        """`stacked h`: what the steps yielded, along the axis again."""
        known = frame.stacked.get(syntax.name)
        if known is None:
            listing = (
                f"There is {', '.join(f'`{name}`' for name in frame.stacked)}."
                if frame.stacked
                else f"End a step of the scan with `yield {syntax.name}`."
            )
            raise frame.fault("E0804", f"no scan here has yielded `{syntax.name}`", syntax.span, hint=listing)
        if isinstance(known.value, Poison):
            raise Poisoned
        return known.value

    def shift(self, frame: Frame, item: Any) -> tuple[Walk, int] | None:
        """The scan and the distance k where an index is `t`, `t + k` or `t - k` for the axis t of an open scan."""
        distance = 0
        if (
            isinstance(item, ast.Binary)
            and item.operator in ("+", "-")
            and isinstance(item.right, ast.Number)
            and type(item.right.value) is int
        ):
            distance, item = (item.right.value if item.operator == "+" else -item.right.value), item.left
        if isinstance(item, ast.Name):
            for walk in reversed(self.context.walks):
                if walk.frame is frame and walk.axis == item.name:
                    return walk, distance
        return None

    def element(self, frame: Frame, syntax: ast.Index, walk: Walk, distance: int, axis: int | None = None) -> Computed:
        """`x[t]`, `x[t - 1] else 0`: the element of one step, along the axis given where the text says which."""
        value = self.context.evaluate(frame, syntax.value)
        text = frame.module.source.slice(syntax.value.span)
        if not isinstance(value, Computed):
            raise frame.fault("E0401", f"a scan walks tensors, not {describe(value)}", syntax.value.span)
        length = walk.emitter.length
        if any(
            other.emitter.builder.made(value.value) for other in self.context.walks[self.context.walks.index(walk) :]
        ):
            raise frame.fault(
                "E0803",
                f"`{text}` is made in this step: it has no other steps yet",
                syntax.span,
                hint="What a step hands to the next is carried: `scan over t with h = 0:`.",
            )
        if axis is None:
            axis = self.walked_axis(frame, syntax, value, walk, text)
        if distance and syntax.otherwise is None:
            place = f"{walk.axis} {'+' if distance > 0 else '-'} {abs(distance)}"
            if abs(distance) >= length:
                raise frame.fault(
                    "E0803",
                    f"`{walk.axis}` has {length} steps, so `{place}` is always outside",
                    syntax.span,
                    hint="Say what it is there: `... else 0`.",
                )
            picked = frame.module.source.slice(syntax.span)
            raise frame.fault(
                "E0803",
                f"`{picked}` is outside of `{walk.axis}` in the {'last' if distance > 0 else 'first'} step",
                syntax.span,
                hint=f"Say what it is there: `{picked} else 0`.",
            )
        made: Computed = self.context.guarded(
            frame, syntax.span, lambda: self.picked(value, axis, walk, distance, text)
        )
        if not distance or syntax.otherwise is None:
            return made
        return self.inside_or(frame, syntax.otherwise, made, walk, distance)

    def walked_axis(self, frame: Frame, syntax: ast.Index, value: Computed, walk: Walk, text: str) -> int:
        """Which axis of a tensor is the one that is walked: as declared, else the only one of that size."""
        binding = frame.names.get(syntax.value.name) if isinstance(syntax.value, ast.Name) else None
        declared = binding.syntax if binding else None
        if isinstance(declared, ast.Parameter) and declared.pattern is not None:
            items = declared.pattern.items
            for place, item in enumerate(items):
                if isinstance(item, ast.Name) and item.name == walk.axis:
                    opened = any(isinstance(other, ast.Ellipsis) for other in items[:place])
                    return (place - len(items)) % value.rank if opened else place
        if isinstance(declared, ast.Input):
            for place, dim in enumerate(declared.type.dims):
                if isinstance(dim, ast.Name) and dim.name == walk.axis:
                    return place
        length = walk.emitter.length
        axes = [axis for axis, dim in enumerate(value.shape) if dim == length]
        if len(axes) != 1:
            what = "no axis" if not axes else f"{len(axes)} axes"
            raise frame.fault(
                "E0803",
                f"`{text}` has {what} of size {length}, so it is not clear which is `{walk.axis}`",
                syntax.span,
                frame.sides((syntax.value, value)),
                (
                    "Put the axis where a declared one is, in an argument's shape, or "
                    "take the steps before the scan with `transpose`."
                ),
            )
        return axes[0]

    def picked(self, value: Computed, axis: int, walk: Walk, distance: int, text: str) -> Computed:
        """The element at t + distance, 0 outside."""
        outer = walk.emitter.outer
        outer.where, outer.span = self.context.emitter.where, self.context.emitter.span
        steps = outer.own(value.value)
        if axis:
            steps = outer.once("transpose", steps, perm=(axis, *(k for k in range(value.rank) if k != axis)))
        length, others = walk.emitter.length, steps.type.shape[1:]
        if abs(distance) >= length:
            steps = outer.broadcast(outer.computed(0, value.dtype), steps.type.shape).value
        elif distance:
            size, start = length - abs(distance), max(distance, 0)
            part = outer.once(
                "slice", steps, start=(start, *(0 for _ in others)), size=(size, *others), step=(1,) * steps.type.rank
            )
            steps = outer.once("pad", part, axis=0, size=length, start=max(-distance, 0), step=1)
        return Computed(
            walk.emitter.element(steps, f"{text}.{walk.axis}" if text.isidentifier() else walk.axis), value.bound
        )

    def inside_or(self, frame: Frame, syntax: ast.Expression, made: Computed, walk: Walk, distance: int) -> Computed:
        """The element, or what is said for places outside."""
        other = self.context.evaluate(frame, syntax)
        if other == 0 and not isinstance(other, (bool, Computed)):
            return made
        if isinstance(other, bool) or not isinstance(other, (Computed, int, float)):
            raise frame.fault(
                "E0401", f"outside of the axis there is a number or a tensor, not {describe(other)}", syntax.span
            )

        def choose() -> Computed:
            emit = self.context.emitter
            place = Computed(walk.emitter.place())
            limit = walk.emitter.length - distance if distance > 0 else -distance
            within = emit.binary("<" if distance > 0 else ">=", place, limit)
            assert isinstance(within, Computed)
            values = [
                emit.broadcast(item, made.shape).value for item in (within, made, emit.computed(other, made.dtype))
            ]
            return Computed(emit.emit("select", *values))

        chosen: Computed = self.context.guarded(frame, syntax.span, choose)
        return chosen
