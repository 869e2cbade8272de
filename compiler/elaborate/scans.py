"""`scan`: its head, what its steps carry and yield. What a step picks of the sequences is in `scan_steps`, the graphs
are made by `scan_graphs`.
"""

from __future__ import annotations

from dataclasses import dataclass

from tapeless.compiler.elaborate.context import Context, Rules
from tapeless.compiler.elaborate.frames import Frame
from tapeless.compiler.elaborate.loops import Walk, inside_loop
from tapeless.compiler.elaborate.names import Names, assignable
from tapeless.compiler.elaborate.scan_graphs import BodyEmitter
from tapeless.compiler.elaborate.sizes import Sizes
from tapeless.compiler.elaborate.values import Binding, Computed, Poisoned, describe, shape_text
from tapeless.compiler.language import ast
from tapeless.compiler.language.statement_parser import made_by
from tapeless.compiler.messages.diagnostics import Label
from tapeless.ir.graph import Span, Value
from tapeless.ir.types import Dim, DType, Rows


@dataclass(frozen=True)
class ScanHead:
    """What the head of a scan says."""

    length: int
    reverse: bool
    lengths: Computed | None
    checkpoint: int | None


@dataclass(frozen=True, eq=False)
class Scans:
    """Runs scans."""

    context: Context
    names: Names
    sizes: Sizes

    @property
    def rules(self) -> Rules:
        """The kinds of syntax that this part takes."""
        return {ast.Scan: self.scan, ast.Yield: self.yield_}

    def scan(self, frame: Frame, syntax: ast.Scan) -> None:
        """`scan over t with h: [b, units] = 0:`."""
        head = self.head(frame, syntax)
        carried = [carry.name for carry in syntax.carries]
        for name in carried:
            if carried.count(name) > 1:
                raise frame.fault("E0302", f"`{name}` is carried twice", syntax.span)
        starts = [self.start_of(frame, carry) for carry in syntax.carries]
        self.check_assignments(frame, syntax, carried)
        body = BodyEmitter(self.context.emitter, head.length)
        walk = Walk(frame, body, syntax.axis, self.axis_of(frame, syntax.axis))
        outer = self.context.emitter
        inside = [body.carry(carry.name, start.value) for carry, start in zip(syntax.carries, starts, strict=True)]
        with inside_loop(self.context, frame, walk):
            for carry, value in zip(syntax.carries, inside, strict=True):
                frame.names[carry.name] = Binding(Computed(value), carry.name, carry.span, "carried", "carry", carry)
            frame.names[syntax.axis] = Binding(
                Computed(body.place(), head.length), syntax.axis, syntax.span, "walked", "step", syntax
            )
            self.context.run_body(frame, syntax.body)
            if frame.broken:
                raise Poisoned
            after = [
                self.next_of(frame, carry, start, value, head)
                for carry, start, value in zip(syntax.carries, starts, inside, strict=True)
            ]
            yields = [self.masked(frame, value, None, head, syntax.span) for value in walk.yields.values()]
            if not after and not yields:
                raise frame.fault(
                    "E0804",
                    "this scan carries nothing and yields nothing",
                    syntax.span,
                    hint="End a step with `yield h`.",
                )
        outer.span, outer.where = frame.shown(syntax.span), frame.where
        last, stacks = body.scan(
            [outer.own(start.value) for start in starts], after, yields, head.reverse, head.checkpoint
        )
        for carry, value, start in zip(syntax.carries, last, starts, strict=True):
            frame.names[carry.name] = Binding(Computed(value, start.bound), carry.name, carry.span, "carried")
            outer.claim(Computed(value), frame.value_name(carry.name))
        for (name, made), stack in zip(walk.yields.items(), stacks, strict=True):
            along = Computed(self.unstacked(stack, walk.place), made.bound)
            frame.stacked[name] = Binding(along, f"stacked {name}", syntax.span, "yielded")
            outer.claim(along, f"{frame.value_name(name)}.stacked")

    def head(self, frame: Frame, syntax: ast.Scan) -> ScanHead:
        """Axis and options, checked."""
        binding = self.walked(frame, syntax)
        if isinstance(binding.value, Rows):
            raise frame.fault(
                "E0801",
                (
                    f"a scan walks an axis of fixed size, and `{syntax.axis}` counts the rows of the batch, which "
                    "are independent"
                ),
                syntax.span,
            )
        if binding.kind not in ("size", "argument") or type(binding.value) is not int:
            hint = "Name an axis of an argument: `layer RNN(x[b, t, d], units):`."
            raise frame.fault(
                "E0801",
                f"`{syntax.axis}` is no axis that a scan could walk",
                syntax.span,
                [Label(binding.subject, f"is {describe(binding.value)}", binding.span, binding.relation)],
                hint,
            )
        given = {
            option.name: (self.context.evaluate(frame, option.value), option.value.span) for option in syntax.options
        }
        reverse, span = given.get("reverse", (False, syntax.span))
        if not isinstance(reverse, bool):
            raise frame.fault("E0404", f"`reverse` is true or false, not {describe(reverse)}", span)
        lengths, span = given.get("lengths", (None, syntax.span))
        if type(lengths) is int:
            lengths = None if lengths >= binding.value else Computed(self.context.emitter.constant(lengths, DType.I32))
        if lengths is not None and not (isinstance(lengths, Computed) and lengths.dtype is DType.I32):
            raise frame.fault(
                "E0802",
                f"`lengths` is one int, or one for each sequence, not {describe(lengths)}",
                span,
                hint="For example `input n: int[batch] < t + 1`.",
            )
        every, span = given.get("checkpoint", (None, syntax.span))
        if every is not None and (type(every) is not int or every < 1):
            raise frame.fault(
                "E0404",
                f"a checkpoint comes every so many steps, a whole number of at least 1, not {describe(every)}",
                span,
            )
        # nothing goes back in evaluation
        return ScanHead(binding.value, reverse, lengths, every if self.context.training else None)

    def walked(self, frame: Frame, syntax: ast.Scan) -> Binding:
        """The axis that a scan names; where there is none, which there are."""
        if (
            syntax.axis not in self.names.known(frame)
            and syntax.axis not in frame.made
            and syntax.axis not in self.names.given
        ):
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
            raise frame.fault("E0301", f"there is no axis `{syntax.axis}` here", syntax.span, hint=hint)
        return self.names.lookup(frame, syntax.axis, syntax.span)

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
        assignable(frame, ast.Target(carry.span, carry.name, None))
        value = self.context.evaluate(frame, carry.value)
        if isinstance(value, bool) or not isinstance(value, (Computed, int, float, Rows)):
            raise frame.fault(
                "E0401", f"a carry starts as a number or a tensor, not {describe(value)}", carry.value.span
            )
        shape = None if carry.dims is None else self.sizes.dims(frame, carry.dims)

        def stretched() -> Computed:
            tensor = self.context.emitter.computed(
                value, None if isinstance(value, Computed) else self.context.emitter.real
            )
            return tensor if shape is None else self.context.emitter.broadcast(tensor, shape)

        if shape is not None and isinstance(value, Computed) and not self.stretches(value, shape):
            raise frame.fault(
                "E0802",
                f"`{carry.name}` is {shape_text(shape)} and cannot start as {describe(value)}",
                carry.span,
            )
        made: Computed = self.context.guarded(frame, carry.span, stretched)
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
                    raise frame.fault(
                        "E0802",
                        f"`{name}` is assigned in this scan and not carried from step to step",
                        statement.span,
                        [first],
                        (f"Carry it, `with {name} = {name}`, or choose another name in the scan."),
                    )

    def next_of(self, frame: Frame, carry: ast.Carry, start: Computed, before: Value, head: ScanHead) -> Computed:
        """What a step hands to the next, of the kind that it got."""
        binding = frame.names[carry.name]
        value = binding.value
        if not isinstance(value, (Computed, int, float, Rows)) or isinstance(value, bool):
            raise frame.fault(
                "E0802",
                f"`{carry.name}` is {describe(start)} before a step and {describe(value)} after it",
                carry.span,
            )
        made = self.context.emitter.computed(
            value, start.dtype if start.dtype.is_float or not isinstance(value, Computed) else None
        )
        fits = made.dtype is start.dtype and self.stretches(made, start.shape)
        if not fits:
            labels = [
                Label(f"`{carry.name}`", f"is {describe(start)} before a step,", carry.span, "carried"),
                Label(f"`{carry.name}`", f"is {describe(value)} after it,", binding.span, binding.relation),
            ]
            hint = None
            if made.dtype is start.dtype and not start.shape:
                hint = (
                    f"Say its shape: `{carry.name}: {shape_text(made.shape)} = "
                    f"{frame.module.source.slice(carry.value.span)}`."
                )
            raise frame.fault(
                "E0802",
                f"a step must leave `{carry.name}` the shape and kind that it had",
                carry.span,
                labels,
                hint,
            )
        return self.masked(frame, self.context.emitter.broadcast(made, start.shape), before, head, carry.span)

    def stretches(self, made: Computed, shape: tuple[Dim, ...]) -> bool:
        """Whether a value broadcasts to a shape."""
        return made.rank <= len(shape) and all(
            one in (1, other) for one, other in zip(made.shape[::-1], shape[::-1], strict=False)
        )

    def masked(self, frame: Frame, value: Computed, before: Value | None, head: ScanHead, span: Span) -> Computed:
        """Beyond a sequence's length a carry stays as it was, and what is yielded is 0."""
        if head.lengths is None:
            return value
        lengths, emit = head.lengths, self.context.emitter
        if value.shape[: lengths.rank] != lengths.shape:
            raise frame.fault(
                "E0802",
                f"`lengths` is {describe(lengths)}, and a step of this scan makes {describe(value)}",
                span,
            )

        def choose() -> Computed:
            body = self.context.walks[-1].emitter
            place = Computed(body.place())
            inside = emit.binary("<", place, lengths)
            assert isinstance(inside, Computed)
            shape = (*lengths.shape, *(1 for _ in value.shape[lengths.rank :]))
            if shape != inside.shape:
                inside = Computed(emit.emit("reshape", inside.value, shape=shape))
            other = Computed(before) if before is not None else emit.computed(0, value.dtype)
            chosen = [emit.broadcast(item, value.shape).value for item in (inside, value, other)]
            return Computed(emit.emit("select", *chosen), value.bound)

        made: Computed = self.context.guarded(frame, span, choose)
        return made

    def unstacked(self, stack: Value, place: int) -> Value:
        """[steps, ...] with the steps at the place of the walked axis."""
        rank = stack.type.rank
        at = place % rank if place < 0 else min(place, rank - 1)
        if at == 0:
            return stack
        perm = (*range(1, at + 1), 0, *range(at + 1, rank))
        return self.context.emitter.emit("transpose", stack, perm=perm)

    def yield_(self, frame: Frame, syntax: ast.Yield) -> None:
        """`yield h`, `yield h, c`."""
        walk = self.context.walks[-1] if self.context.walks else None
        if walk is None or walk.frame is not frame or walk.turns is not None:
            raise frame.fault(
                "E0804",
                "`yield` belongs in a scan",
                syntax.span,
                hint="A layer hands back its result with `return`.",
            )
        for item in syntax.value.items if isinstance(syntax.value, ast.Several) else (syntax.value,):
            if not isinstance(item, ast.Name):
                raise frame.fault(
                    "E0804",
                    "what is yielded needs a name, by which `stacked` finds it",
                    item.span,
                    hint="Write `y = ...`, then `yield y`.",
                )
            if item.name in walk.yields:
                raise frame.fault("E0302", f"`{item.name}` is yielded twice", item.span)
            value = self.context.evaluate(frame, item)
            if isinstance(value, bool) or not isinstance(value, (Computed, int, float, Rows)):
                raise frame.fault("E0401", f"a step yields tensors, not {describe(value)}", item.span)
            walk.yields[item.name] = self.context.emitter.computed(value)
