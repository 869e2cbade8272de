"""`scan`: its head, what each step picks of the sequences, what it carries and yields. The graphs are made by
`loops`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tapeless.compiler.elaborate.parameters import Parameters, Walk
from tapeless.compiler.elaborate.scan_graphs import BodyEmitter
from tapeless.compiler.elaborate.scope import Frame
from tapeless.compiler.elaborate.values import Binding, Computed, Poison, Poisoned, describe, shape_text
from tapeless.compiler.language import ast
from tapeless.compiler.language.statement_parser import made_by
from tapeless.compiler.messages.diagnostics import Label
from tapeless.ir.graph import Span, Value
from tapeless.ir.types import Dim, DType, Rows


@dataclass(frozen=True)
class Head:
    """What the head of a scan says."""

    length: int
    reverse: bool
    lengths: Computed | None
    checkpoint: int | None


class Scans(Parameters):
    """Runs scans."""

    def scan(self, frame: Frame, syntax: ast.Scan) -> None:
        """`scan over t with h: [b, units] = 0:`."""
        head = self.head(frame, syntax)
        carried = [carry.name for carry in syntax.carries]
        for name in carried:
            if carried.count(name) > 1:
                raise self.fault(frame, "E0302", f"`{name}` is carried twice", syntax.span)
        starts = [self.start_of(frame, carry) for carry in syntax.carries]
        self.check_assignments(frame, syntax, carried)
        body = BodyEmitter(self.emitter, head.length)
        walk = Walk(frame, body, syntax.axis, self.axis_of(frame, syntax.axis))
        outer = self.emitter
        inside = [body.carry(carry.name, start.value) for carry, start in zip(syntax.carries, starts, strict=True)]
        with self.inside(frame, walk):
            for carry, value in zip(syntax.carries, inside, strict=True):
                frame.names[carry.name] = Binding(Computed(value), carry.name, carry.span, "carried", "carry", carry)
            frame.names[syntax.axis] = Binding(
                Computed(body.place(), head.length), syntax.axis, syntax.span, "walked", "step", syntax
            )
            self.run_body(frame, syntax.body)
            if frame.broken:
                raise Poisoned
            after = [
                self.next_of(frame, carry, start, value, head)
                for carry, start, value in zip(syntax.carries, starts, inside, strict=True)
            ]
            yields = [self.masked(frame, value, None, head, syntax.span) for value in walk.yields.values()]
            if not after and not yields:
                raise self.fault(
                    frame,
                    "E0804",
                    "this scan carries nothing and yields nothing",
                    syntax.span,
                    hint="End a step with `yield h`.",
                )
        outer.span, outer.where = self.shown(frame, syntax.span), frame.where
        last, stacks = body.scan(
            [outer.own(start.value) for start in starts], after, yields, head.reverse, head.checkpoint
        )
        for carry, value, start in zip(syntax.carries, last, starts, strict=True):
            frame.names[carry.name] = Binding(Computed(value, start.bound), carry.name, carry.span, "carried")
            outer.claim(Computed(value), self.value_name(frame, carry.name))
        for (name, made), stack in zip(walk.yields.items(), stacks, strict=True):
            along = Computed(self.unstacked(stack, walk.place), made.bound)
            frame.names[f"stacked {name}"] = Binding(along, f"stacked {name}", syntax.span, "yielded")
            outer.claim(along, f"{self.value_name(frame, name)}.stacked")

    @contextmanager
    def inside(self, frame: Frame, walk: Walk) -> Iterator[None]:
        """Run what follows as the body of a loop; names, turn and emitter are then what they were before."""
        names, outer, broken, loops, turn = dict(frame.names), self.emitter, frame.broken, self.loops, frame.turn
        self.emitter = frame.emitter = walk.emitter
        self.loops, frame.broken = (*loops, walk), False
        try:
            yield
        finally:
            self.emitter = frame.emitter = outer
            self.loops, frame.broken, frame.turn = loops, frame.broken or broken, turn
            frame.names = names

    # --- Provided by the statements

    def value_name(self, frame: Frame, name: str) -> str:
        raise AssertionError("assignments belong to `statements`")

    def assignable(self, frame: Frame, target: ast.Target) -> None:
        raise AssertionError("assignments belong to `statements`")

    # --- The head

    def head(self, frame: Frame, syntax: ast.Scan) -> Head:
        """Axis and options, checked."""
        binding = self.walked(frame, syntax)
        if isinstance(binding.value, Rows):
            raise self.fault(
                frame,
                "E0801",
                (
                    f"a scan walks an axis of fixed size, and `{syntax.axis}` counts the rows of the batch, which "
                    "are independent"
                ),
                syntax.span,
            )
        if binding.kind not in ("size", "argument") or type(binding.value) is not int:
            hint = "Name an axis of an argument: `layer RNN(x[b, t, d], units):`."
            raise self.fault(frame, "E0801", f"`{syntax.axis}` is no axis that a scan could walk", syntax.span,
                             [Label(binding.subject, f"is {describe(binding.value)}", binding.span,
                                 binding.relation)], hint)  # fmt: skip
        given = {option.name: (self.evaluate(frame, option.value), option.value.span) for option in syntax.options}
        reverse, span = given.get("reverse", (False, syntax.span))
        if not isinstance(reverse, bool):
            raise self.fault(frame, "E0404", f"`reverse` is true or false, not {describe(reverse)}", span)
        lengths, span = given.get("lengths", (None, syntax.span))
        if type(lengths) is int:
            lengths = None if lengths >= binding.value else Computed(self.emitter.constant(lengths, DType.I32))
        if lengths is not None and not (isinstance(lengths, Computed) and lengths.dtype is DType.I32):
            raise self.fault(frame, "E0802",
                f"`lengths` is one int, or one for each sequence, not {describe(lengths)}", span,
                             hint="For example `input n: int[batch] < t + 1`.")  # fmt: skip
        every, span = given.get("checkpoint", (None, syntax.span))
        if every is not None and (type(every) is not int or every < 1):
            raise self.fault(
                frame,
                "E0404",
                f"a checkpoint comes every so many steps, a whole number of at least 1, not {describe(every)}",
                span,
            )
        # nothing goes back in evaluation
        return Head(binding.value, reverse, lengths, every if self.training else None)

    def walked(self, frame: Frame, syntax: ast.Scan) -> Binding:
        """The axis that a scan names; where there is none, which there are."""
        if syntax.axis not in self.known(frame) and syntax.axis not in frame.made and syntax.axis not in self.sizes:
            if frame.broken:  # perhaps the line that would have named it
                raise Poisoned
            inputs = [
                dim.name
                for binding in frame.names.values()
                if isinstance(binding.syntax, ast.Input)
                for dim in binding.syntax.type.dims
                if isinstance(dim, ast.Name)
            ]
            named = {name: frame.names[name].value for name in (*frame.axes, *inputs) if name in frame.names}
            axes = [f"`{name}` ({size})" for name, size in named.items() if type(size) is int]
            example = "input x: [batch, t, 4]" if frame.kind == "model" else f"{frame.kind} {frame.name}(x[b, t, d]):"
            hint = (
                f"The axes with names are {', '.join(axes)}."
                if len(axes) > 1
                else f"The axis with a name is {axes[0]}."
                if axes
                else f"Name it where it is declared: `{example}`."
            )
            raise self.fault(frame, "E0301", f"there is no axis `{syntax.axis}` here", syntax.span, hint=hint)
        return self.lookup(frame, syntax.axis, syntax.span)

    def axis_of(self, frame: Frame, name: str) -> int:
        """Where an axis is in what is declared with it: 0 where nothing is."""
        if name in frame.axes:
            return frame.axes[name]
        for binding in frame.names.values():
            if isinstance(binding.syntax, ast.Input):
                dims = [dim.name if isinstance(dim, ast.Name) else None for dim in binding.syntax.type.dims]
                if name in dims:
                    return dims.index(name)
        return 0

    def start_of(self, frame: Frame, carry: ast.Carry) -> Computed:
        """A starting value in the shape of what is carried."""
        self.assignable(frame, ast.Target(carry.span, carry.name, None))
        value = self.evaluate(frame, carry.value)
        if isinstance(value, bool) or not isinstance(value, (Computed, int, float, Rows)):
            raise self.fault(
                frame, "E0401", f"a carry starts as a number or a tensor, not {describe(value)}", carry.value.span
            )
        shape = None if carry.dims is None else self.dims(frame, carry.dims)

        def stretched() -> Computed:
            tensor = self.emitter.computed(value, None if isinstance(value, Computed) else self.real())
            return tensor if shape is None else self.emitter.broadcast(tensor, shape)

        if shape is not None and isinstance(value, Computed) and not self.stretches(value, shape):
            raise self.fault(
                frame,
                "E0802",
                f"`{carry.name}` is {shape_text(shape)} and cannot start as {describe(value)}",
                carry.span,
            )
        made: Computed = self.guarded(frame, carry.span, stretched)
        return made

    def check_assignments(self, frame: Frame, syntax: ast.Scan, carried: list[str]) -> None:
        """What a step assigns is forgotten after it, unless it is carried: names from before must be."""
        for statement in syntax.body:
            for name in made_by(statement):
                known = frame.names.get(name)
                if (
                    name not in carried
                    and known is not None
                    and isinstance(known.value, Computed)
                    and known.kind not in ("state", "param")
                ):
                    first = Label(f"`{name}`", f"is {describe(known.value)}", known.span, known.relation)
                    raise self.fault(frame, "E0802",
                        f"`{name}` is assigned in this scan and not carried from step to step", statement.span, [first],
                                     (f"Carry it, `with {name} = {name}`, or choose another name in "
                                         "the scan."))  # fmt: skip

    # --- The end of a step

    def next_of(self, frame: Frame, carry: ast.Carry, start: Computed, before: Value, head: Head) -> Computed:
        """What a step hands to the next, of the kind that it got."""
        binding = frame.names[carry.name]
        value = binding.value
        if not isinstance(value, (Computed, int, float, Rows)) or isinstance(value, bool):
            raise self.fault(
                frame,
                "E0802",
                f"`{carry.name}` is {describe(start)} before a step and {describe(value)} after it",
                carry.span,
            )
        made = self.emitter.computed(
            value, start.dtype if start.dtype.is_float or not isinstance(value, Computed) else None
        )
        fits = made.dtype is start.dtype and self.stretches(made, start.shape)
        if not fits:
            labels = [Label(f"`{carry.name}`", f"is {describe(start)} before a step,", carry.span, "carried"),
                      Label(f"`{carry.name}`", f"is {describe(value)} after it,", binding.span,
                          binding.relation)]  # fmt: skip
            hint = None
            if made.dtype is start.dtype and not start.shape:
                hint = (
                    f"Say its shape: `{carry.name}: {shape_text(made.shape)} = "
                    f"{frame.module.source.slice(carry.value.span)}`."
                )
            raise self.fault(
                frame,
                "E0802",
                f"a step must leave `{carry.name}` the shape and kind that it had",
                carry.span,
                labels,
                hint,
            )
        return self.masked(frame, self.emitter.broadcast(made, start.shape), before, head, carry.span)

    def stretches(self, made: Computed, shape: tuple[Dim, ...]) -> bool:
        """Whether a value broadcasts to a shape."""
        return made.rank <= len(shape) and all(
            one in (1, other) for one, other in zip(made.shape[::-1], shape[::-1], strict=False)
        )

    def masked(self, frame: Frame, value: Computed, before: Value | None, head: Head, span: Span) -> Computed:
        """Beyond a sequence's length a carry stays as it was, and what is yielded is 0."""
        if head.lengths is None:
            return value
        lengths, emit = head.lengths, self.emitter
        if value.shape[: lengths.rank] != lengths.shape:
            raise self.fault(
                frame,
                "E0802",
                f"`lengths` is {describe(lengths)}, and a step of this scan makes {describe(value)}",
                span,
            )

        def choose() -> Computed:
            body = self.walks[-1].emitter
            place = Computed(body.place())
            inside = emit.binary("<", place, lengths)
            assert isinstance(inside, Computed)
            shape = (*lengths.shape, *(1 for _ in value.shape[lengths.rank :]))
            if shape != inside.shape:
                inside = Computed(emit.emit("reshape", inside.value, shape=shape))
            other = Computed(before) if before is not None else emit.computed(0, value.dtype)
            chosen = [emit.broadcast(item, value.shape).value for item in (inside, value, other)]
            return Computed(emit.emit("select", *chosen), value.bound)

        made: Computed = self.guarded(frame, span, choose)
        return made

    def unstacked(self, stack: Value, place: int) -> Value:
        """[steps, ...] with the steps at the place of the walked axis."""
        rank = stack.type.rank
        at = place % rank if place < 0 else min(place, rank - 1)
        if at == 0:
            return stack
        perm = (*range(1, at + 1), 0, *range(at + 1, rank))
        return self.emitter.emit("transpose", stack, perm=perm)

    # --- Inside a step

    def yield_(self, frame: Frame, syntax: ast.Yield) -> None:
        """`yield h`, `yield h, c`."""
        walk = self.walks[-1] if self.walks else None
        if walk is None or walk.frame is not frame or walk.turns is not None:
            raise self.fault(
                frame,
                "E0804",
                "`yield` belongs in a scan",
                syntax.span,
                hint="A layer hands back its result with `return`.",
            )
        for item in syntax.value.items if isinstance(syntax.value, ast.Several) else (syntax.value,):
            if not isinstance(item, ast.Name):
                raise self.fault(
                    frame,
                    "E0804",
                    "what is yielded needs a name, by which `stacked` finds it",
                    item.span,
                    hint="Write `y = ...`, then `yield y`.",
                )
            if item.name in walk.yields:
                raise self.fault(frame, "E0302", f"`{item.name}` is yielded twice", item.span)
            value = self.evaluate(frame, item)
            if isinstance(value, bool) or not isinstance(value, (Computed, int, float, Rows)):
                raise self.fault(frame, "E0401", f"a step yields tensors, not {describe(value)}", item.span)
            walk.yields[item.name] = self.emitter.computed(value)

    def stacked(self, frame: Frame, syntax: ast.Stacked) -> Any:
        """`stacked h`: what the steps yielded, along the axis again."""
        known = frame.names.get(f"stacked {syntax.name}")
        if known is None:
            found = [name.removeprefix("stacked ") for name in frame.names if name.startswith("stacked ")]
            listing = (
                f"There is {', '.join(f'`{name}`' for name in found)}."
                if found
                else f"End a step of the scan with `yield {syntax.name}`."
            )
            raise self.fault(frame, "E0804", f"no scan here has yielded `{syntax.name}`", syntax.span, hint=listing)
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
            for walk in reversed(self.walks):
                if walk.frame is frame and walk.axis == item.name:
                    return walk, distance
        return None

    def element(self, frame: Frame, syntax: ast.Index, walk: Walk, distance: int, axis: int | None = None) -> Computed:
        """`x[t]`, `x[t - 1] else 0`: the element of one step, along the axis given where the text says which."""
        value = self.evaluate(frame, syntax.value)
        text = frame.module.source.slice(syntax.value.span)
        if not isinstance(value, Computed):
            raise self.fault(frame, "E0401", f"a scan walks tensors, not {describe(value)}", syntax.value.span)
        length = walk.emitter.length
        if any(other.emitter.builder.made(value.value) for other in self.walks[self.walks.index(walk) :]):
            raise self.fault(frame, "E0803", f"`{text}` is made in this step: it has no other steps yet", syntax.span,
                             hint="What a step hands to the next is carried: `scan over t with h = 0:`.")  # fmt: skip
        if axis is None:
            axis = self.walked_axis(frame, syntax, value, walk, text)
        if distance and syntax.otherwise is None:
            place = f"{walk.axis} {'+' if distance > 0 else '-'} {abs(distance)}"
            if abs(distance) >= length:
                raise self.fault(frame, "E0803", f"`{walk.axis}` has {length} steps, so `{place}` is always outside",
                    syntax.span,
                                 hint="Say what it is there: `... else 0`.")  # fmt: skip
            picked = frame.module.source.slice(syntax.span)
            raise self.fault(frame, "E0803",
                f"`{picked}` is outside of `{walk.axis}` in the {'last' if distance > 0 else 'first'} step",
                syntax.span,
                             hint=f"Say what it is there: `{picked} else 0`.")  # fmt: skip
        made: Computed = self.guarded(frame, syntax.span, lambda: self.picked(value, axis, walk, distance, text))
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
            raise self.fault(frame, "E0803",
                f"`{text}` has {what} of size {length}, so it is not clear which is `{walk.axis}`", syntax.span,
                             self.sides(frame, (syntax.value, value)),
                             ("Put the axis where a declared one is, in an argument's shape, or "
                                 "take the steps before the scan with `transpose`."))  # fmt: skip
        return axes[0]

    def picked(self, value: Computed, axis: int, walk: Walk, distance: int, text: str) -> Computed:
        """The element at t + distance, 0 outside."""
        outer = walk.emitter.outer
        outer.where, outer.span = self.emitter.where, self.emitter.span
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
        other = self.evaluate(frame, syntax)
        if other == 0 and not isinstance(other, (bool, Computed)):
            return made
        if isinstance(other, bool) or not isinstance(other, (Computed, int, float)):
            raise self.fault(
                frame, "E0401", f"outside of the axis there is a number or a tensor, not {describe(other)}", syntax.span
            )

        def choose() -> Computed:
            emit = self.emitter
            place = Computed(walk.emitter.place())
            limit = walk.emitter.length - distance if distance > 0 else -distance
            within = emit.binary("<" if distance > 0 else ">=", place, limit)
            assert isinstance(within, Computed)
            values = [
                emit.broadcast(item, made.shape).value for item in (within, made, emit.computed(other, made.dtype))
            ]
            return Computed(emit.emit("select", *values))

        chosen: Computed = self.guarded(frame, syntax.span, choose)
        return chosen


__all__ = ["Scans"]
