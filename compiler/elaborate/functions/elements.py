"""Tensors over index variables: one axis for each variable, of size 1 where a value does not depend on it.

Broadcasting then means what index notation means. Here tensors are brought into that shape (diagonals, gathers,
transposes), reduced over variables and brought out of it again. For lines of index notation and for `einsum`; knows
nothing of syntax.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tapeless.compiler.elaborate.emission import Emitter
from tapeless.compiler.elaborate.folding import Mismatch
from tapeless.compiler.elaborate.functions.movement import along, parted
from tapeless.compiler.elaborate.functions.shaping import gather, indexes
from tapeless.compiler.elaborate.index_ranges import Variable
from tapeless.compiler.elaborate.values import Computed
from tapeless.ir.graph import Value
from tapeless.ir.types import Dim, DType, Rows

# What a reduction over nothing is.
_NEUTRAL: dict[str, Any] = {"sum": 0.0, "mean": 0.0, "prod": 1.0, "max": float("-inf"), "min": float("inf")}
_WHOLE_NEUTRAL: dict[str, Any] = {"sum": 0, "prod": 1, "max": -(2**31), "min": 2**31 - 1}


@dataclass(frozen=True)
class Elements:
    """What one line or call emits into, and its variables, those of the result first."""

    emit: Emitter
    variables: list[Variable]

    def place(self, variable: Variable) -> Computed:
        """A variable as a value."""
        size = variable.size
        assert size is not None
        run = self.emit.once("iota", axis=0, shape=(size,), dtype=DType.I32)
        return self.spread(Computed(run, size if isinstance(size, int) else None), [variable])

    def spread(self, x: Computed, axes: Sequence[Variable]) -> Computed:
        """A tensor whose axes are those of some variables, in any order, in the line's shape."""
        emit = self.emit
        order = sorted(range(len(axes)), key=lambda k: axes[k].place)
        if order != list(range(len(axes))):
            x = Computed(emit.emit("transpose", x.value, perm=tuple(order)), x.bound)
        if not axes:
            return x
        sizes = {axes[k].place: x.shape[place] for place, k in enumerate(order)}
        shape = tuple(sizes.get(place, 1) for place in range(len(self.variables)))
        made = self.opened(x, shape, tuple(sorted(variable.place for variable in axes)))
        emit.indexed.add(made.value)
        return made

    def opened(self, x: Computed, shape: tuple[Dim, ...], axes: tuple[int, ...]) -> Computed:
        """A tensor whose axes become these axes of a shape that has size 1 elsewhere."""
        if shape == x.shape:
            return x
        made = self.emit.once("broadcast", x.value, name=f"{x.value.name}.i", shape=shape, axes=axes)
        self.emit.reduced[made] = x.value
        return Computed(made, x.bound)

    def on_diagonals(self, x: Computed, axes: list[Variable | Computed]) -> tuple[Computed, list[Variable | Computed]]:
        """Two axes of one variable are the diagonal between them."""
        emit = self.emit
        while True:
            pair = next(
                (
                    (p, q)
                    for q, name in enumerate(axes)
                    for p in range(q)
                    if isinstance(name, Variable) and axes[p] is name
                ),
                None,
            )
            if pair is None:
                return x, axes
            p, q = pair
            size = x.shape[q]
            if isinstance(size, Rows):
                places = [Computed(emit.emit("iota", axis=k, shape=x.shape, dtype=DType.I32)) for k in (p, q)]
                own = emit.pointwise("eq", *places)
                x = x if x.dtype is DType.I32 else emit.as_real(x)
                none = emit.broadcast(emit.computed(0, x.dtype), x.shape)
                x = Computed(
                    emit.reduce("sum", Computed(emit.emit("select", own.value, x.value, none.value)), (q,)).value,
                    x.bound,
                )
                axes = [name for k, name in enumerate(axes) if k != q]
                continue
            order = (*(k for k in range(x.rank) if k not in pair), p, q)
            if order != tuple(range(x.rank)):
                x = Computed(emit.emit("transpose", x.value, perm=order), x.bound)
            flat = Computed(emit.emit("reshape", x.value, shape=(*x.shape[:-2], size * size)), x.bound)
            x = parted(emit, flat, along(flat, flat.rank - 1, (0, size, size + 1)))
            axes = [axes[k] for k in order[:-1]]

    def gathered(self, x: Computed, axes: Sequence[Variable | Computed]) -> Computed:
        """Elements at computed places: gathered where the index shares no variable with the other axes, else picked
        row by row.
        """
        emit = self.emit
        others = [name for name in axes if isinstance(name, Variable)]
        indices = [(x.shape[k], name) for k, name in enumerate(axes) if isinstance(name, Computed)]
        for extent, index in indices:
            indexes(index, extent)
        kept = tuple(k for k, name in enumerate(axes) if isinstance(name, Variable))
        order = (*kept, *(k for k in range(len(axes)) if k not in kept))
        if order != tuple(range(len(axes))):
            x = Computed(emit.emit("transpose", x.value, perm=order), x.bound)
        index, total = indices[0][1], 1
        for extent, other in indices:
            assert isinstance(extent, int)
            if other is not index:
                merged = emit.pointwise("add", emit.pointwise("mul", index, extent), other)
                index = Computed(merged.value, (index.bound or 1) * extent)
            total *= extent
        x = (
            Computed(emit.emit("reshape", x.value, shape=(*x.shape[: len(kept)], total)), x.bound)
            if len(indices) > 1
            else x
        )
        owned = [variable for variable in self.variables if index.rank and index.shape[variable.place] != 1]
        narrow = emit.broadcast(index, tuple(index.shape)) if not index.rank else self.narrowed(index, owned)
        if not set(owned) & set(others):
            if len(others):
                x = Computed(emit.emit("transpose", x.value, perm=(len(others), *range(len(others)))), x.bound)
            return self.spread(gather(emit, x, narrow), [*owned, *others])
        every = sorted({*owned, *others}, key=lambda variable: variable.place)
        shape = tuple(size for variable in every for size in (variable.size,) if size is not None)
        ranked = sorted(range(len(others)), key=lambda k: others[k].place)
        if ranked != list(range(len(others))):
            x = Computed(emit.emit("transpose", x.value, perm=(*ranked, len(others))), x.bound)
        at = tuple(every.index(others[k]) for k in ranked)
        table = self.stretched(x if x.dtype is DType.I32 else emit.as_real(x), (*shape, total), (*at, len(every)))
        rows = self.stretched(narrow, shape, tuple(every.index(variable) for variable in owned))
        return self.spread(Computed(emit.emit("pick", table, rows), x.bound if x.dtype is DType.I32 else None), every)

    def stretched(self, x: Computed, shape: tuple[Dim, ...], axes: tuple[int, ...]) -> Value:
        """A tensor over more axes than its own."""
        return (
            x.value
            if shape == x.shape
            else self.emit.once("broadcast", x.value, name=f"{x.value.name}.b", shape=shape, axes=axes)
        )

    def narrowed(self, x: Computed, axes: Sequence[Variable]) -> Computed:
        """A value of the line's shape with the axes of these variables alone."""
        shape = tuple(x.shape[variable.place] for variable in axes)
        before = self.emit.reduced.get(x.value)
        if before is not None and before.type.shape == shape:
            return Computed(before, x.bound)
        return x if shape == x.shape else Computed(self.emit.emit("reshape", x.value, shape=shape), x.bound)

    def over(self, operator: str, x: Computed, axes: Sequence[int]) -> Computed:
        """A reduction over axes, which stay with size 1."""
        kept = tuple(k for k in range(x.rank) if k not in axes)
        made = self.opened(
            self.emit.reduce(operator, x, axes), tuple(dim if k in kept else 1 for k, dim in enumerate(x.shape)), kept
        )
        self.emit.indexed.add(made.value)
        return made

    def reduced(self, operator: str, variables: Sequence[Variable], body: Any, condition: Any) -> Computed:
        """A reduction over the axes of some variables, where a condition holds."""
        emit = self.emit
        whole = operator != "mean" and emit.common((body,)) is DType.I32 and not isinstance(body, bool)
        whole = whole and not (isinstance(body, Computed) and body.dtype is DType.BOOL)
        x = emit.computed(body, DType.I32) if whole else emit.as_real(body)
        count: Any = None
        neutral = (_WHOLE_NEUTRAL if whole else _NEUTRAL)[operator]
        if condition is not None:
            chosen = emit.truth(condition)
            shape = emit.meet([x.shape, chosen.shape])
            parts = [emit.broadcast(part, shape).value for part in (chosen, x, emit.computed(neutral, x.dtype))]
            x = Computed(emit.emit("select", *parts))
            if operator == "mean":
                count = self.reduced("sum", variables, emit.as_real(chosen), None)
        if operator == "mean":
            total = self.reduced("sum", variables, x, None)
            if count is None:
                count = 1
                for variable in variables:
                    count = emit.binary("*", count, emit.size((variable.size,))) if variable.size is not None else count
            else:
                count = emit.pointwise("maximum", count, 1, dtype=emit.real)
            return Computed(emit.pointwise("div", total, count, dtype=emit.real).value)
        walked = [v.place for v in variables if x.rank and (x.shape[v.place] != 1 or v.size == 1)]
        idle = [v.size for v in variables if v.place not in walked and v.size is not None]
        if walked and operator == "prod":
            for place in sorted(walked, reverse=True):
                if isinstance(x.shape[place], Rows):
                    raise Mismatch(
                        "E0214", "a product over the rows of `batch` is not supported", "Sum the logarithms."
                    )
                x = self.over("prod", x, (place,))
        elif walked:
            x = self.over(operator, x, walked)
        for size in idle:
            if operator == "sum":
                x = emit.computed(emit.binary("*", x, emit.size((size,))))
            elif operator == "prod":
                x = emit.computed(
                    emit.power(
                        x,
                        size if isinstance(size, int) else Computed(emit.once("count", shape=(size,), dtype=emit.real)),
                    )
                )
        return x

    def finished(self, value: Any) -> Computed:
        """The value over all variables on the left, without the axes of the others."""
        made = self.emit.computed(value, DType.I32 if type(value) is int else None)
        shape = tuple(
            size for variable in self.variables if variable.left for size in (variable.size,) if size is not None
        )
        whole = self.emit.broadcast(made, (*shape, *(1,) * (len(self.variables) - len(shape))))
        if whole.shape == shape:
            return whole
        before = self.emit.reduced.get(whole.value)
        if before is not None and before.type.shape == shape:
            return Computed(before, whole.bound)
        if sum(isinstance(size, Rows) for size in shape) > 1:  # no reshape counts the elements of these
            return self.emit.reduce("sum", whole, range(len(shape), len(self.variables)))
        return Computed(self.emit.emit("reshape", whole.value, shape=shape), whole.bound)
