"""`einsum`: sums of products of tensors whose axes are named by letters, in NumPy's notation.

The letters are index variables, and what they mean is what index notation means: `einsum('ij,jk->ik', A, B)` is
`C[i, k] = sum[j] A[i, j] * B[j, k]`. Of several tensors two at a time are multiplied, first those whose product has
the fewest elements, and what no other tensor has is summed at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from tapeless.compiler.elaborate.functions.elements import Elements
from tapeless.compiler.elaborate.functions.registry import CallSite, builtin
from tapeless.compiler.elaborate.index_ranges import Variable
from tapeless.compiler.elaborate.values import Computed, Fault, describe
from tapeless.compiler.language import ast
from tapeless.compiler.messages.diagnostics import Label
from tapeless.ir.graph import Span
from tapeless.ir.types import Dim

ROWS = 64  # what `batch` counts for where products are compared
REST = "..."


@dataclass(frozen=True)
class Axis:
    """A letter of the subscripts, or `...`, and where in them it stands."""

    name: str
    place: int


@builtin("einsum")
def einsum(call: CallSite, *operands: Any) -> Computed:
    """The sum of the product of tensors over all axes that the result does not have. `...` are axes without a
    letter, which broadcast; without `->` the result has those, then the letters that stand once, in alphabetical
    order; a letter twice is a diagonal.
    """
    if not operands or not isinstance(operands[0], str):
        given = describe(operands[0]) if operands else "nothing"
        raise call.fault(
            "E0401",
            f"`einsum` begins with its subscripts, not with {given}",
            "0",
            hint="For example `einsum('ij,jk->ik', A, B)`.",
        )
    tensors = [call.emit.as_real(call.tensor(str(k), operand)) for k, operand in enumerate(operands[1:], 1)]
    subscripts = Subscripts(call, operands[0], [x.rank for x in tensors])
    sizes = _sizes(call, subscripts.operands, tensors)
    names = [*subscripts.result, *(name for name in sizes if name not in subscripts.result)]
    variables = {
        name: Variable(name, call.span, place, name in subscripts.result, sizes[name])
        for place, name in enumerate(names)
    }
    outer, call.emit.indexed = call.emit.indexed, set()
    try:
        return _summed(
            Elements(call.emit, list(variables.values())),
            [[variables[name] for name in part] for part in subscripts.operands],
            tensors,
        )
    finally:
        call.emit.indexed = outer


class Subscripts:
    """What `'...ij,jk->...ik'` says of tensors with so many axes: a name for each axis, of the operands and of the
    result.

    The axes that `...` stands for are named by their places from the right, and broadcast as NumPy has it.
    """

    def __init__(self, call: CallSite, text: str, ranks: Sequence[int]) -> None:
        self.call, self.text = call, text
        left, arrow, right = text.partition("->")
        terms = left.split(",")
        if len(terms) != len(ranks):
            written = "one tensor" if len(terms) == 1 else f"{len(terms)} tensors"
            follow = "none follows" if not ranks else "one follows" if len(ranks) == 1 else f"{len(ranks)} follow"
            raise self.fault(f"the subscripts are those of {written}, and {follow}")
        self.axes, start = [], 0
        for term in terms:
            self.axes.append(self.read(term, start))
            start += len(term) + 1
        self.operands = [
            self.named(axes, rank, str(k)) for k, (axes, rank) in enumerate(zip(self.axes, ranks, strict=True), 1)
        ]
        self.rest = sorted(
            {name for part in self.operands for name in part if name.startswith(REST)}, key=lambda name: -int(name[3:])
        )
        self.result = self.chosen(self.read(right, len(left) + 2)) if arrow else self.implied()

    def fault(
        self, message: str, axes: Sequence[Axis] = (), labels: Sequence[Label] = (), hint: str | None = None
    ) -> Fault:
        """A fault of the text, or of some axes in it where the text is written in the call itself."""
        syntax = self.call.written["0"]
        span = syntax.span
        if axes and isinstance(syntax, ast.Text) and span.end_column - span.column == len(self.text) + 2:
            first, last = axes[0].place, axes[-1].place + len(axes[-1].name)
            span = Span(span.file, span.line, span.column + 1 + first, span.line, span.column + 1 + last)
        return self.call.frame.fault("E1007", message, span, labels, hint)

    def read(self, term: str, start: int) -> list[Axis]:
        """The letters of one tensor."""
        made: list[Axis] = []
        place = 0
        while place < len(term):
            name = REST if term.startswith(REST, place) else term[place]
            axis = Axis(name, start + place)
            if name == REST and any(other.name == REST for other in made):
                raise self.fault("`...` stands twice in the subscripts of one tensor", [axis])
            if name != REST and not name.isspace() and not (name.isascii() and name.isalpha()):
                raise self.fault(f"`{name}` is no subscript: axes have letters, and `...` those that have none", [axis])
            if not name.isspace():
                made.append(axis)
            place += len(name)
        return made

    def named(self, axes: Sequence[Axis], rank: int, parameter: str) -> list[str]:
        """A name for each axis of a tensor."""
        letters = sum(axis.name != REST for axis in axes)
        if letters > rank or (letters < rank and letters == len(axes)):
            written = "".join(axis.name for axis in axes)
            has = "no axis" if not rank else "one axis" if rank == 1 else f"{rank} axes"
            tensor = self.call.written[parameter]
            side = Label(f"`{self.call.frame.module.source.slice(tensor.span)}`", f"has {has}", tensor.span, "given")
            hint = f"`{written}...` leaves the others as they are." if letters < rank else None
            raise self.fault(
                f"`{written}` names {letters} {'axis' if letters == 1 else 'axes'}, and the tensor has {has}",
                axes,
                [side],
                hint,
            )
        return [
            name
            for axis in axes
            for name in ([f"{REST}{k}" for k in range(rank - letters, 0, -1)] if axis.name == REST else [axis.name])
        ]

    def chosen(self, axes: Sequence[Axis]) -> list[str]:
        """The result's axes as they stand after `->`."""
        known = {axis.name for part in self.axes for axis in part}
        for place, axis in enumerate(axes):
            if any(other.name == axis.name for other in axes[:place]):
                raise self.fault(
                    f"`{axis.name}` stands twice in the result",
                    [axis],
                    hint="A matrix with a vector on its diagonal is `diag(x)`.",
                )
            if axis.name not in known and axis.name != REST:
                raise self.fault(f"no tensor has an axis `{axis.name}`", [axis])
        if self.rest and not any(axis.name == REST for axis in axes):
            first = next(axis for part in self.axes for axis in part if axis.name == REST)
            raise self.fault("the axes that `...` stands for are missing from the result", [first],
                             hint="Put `...` after `->`, or give these axes letters to sum over them.")  # fmt: skip
        return [name for axis in axes for name in (self.rest if axis.name == REST else [axis.name])]

    def implied(self) -> list[str]:
        """Without `->`: what `...` stands for, then the letters that stand once."""
        letters = [axis.name for part in self.axes for axis in part if axis.name != REST]
        return [*self.rest, *sorted(name for name in letters if letters.count(name) == 1)]


def _sizes(call: CallSite, operands: Sequence[Sequence[str]], tensors: Sequence[Computed]) -> dict[str, Dim]:
    """The size of each name; between tensors an axis of size 1 goes with any."""
    sizes: dict[str, Dim] = {}
    owner: dict[str, int] = {}
    for place, (names, x) in enumerate(zip(operands, tensors, strict=True), 1):
        for name, size in zip(names, x.shape, strict=True):
            known = sizes.get(name, size)
            if known != size and (owner[name] == place or 1 not in (known, size)):
                shown = REST if name.startswith(REST) else name
                texts = {k: call.frame.module.source.slice(call.written[str(k)].span) for k in (owner[name], place)}
                labels = [Label(f"`{texts[k]}`", f"has {_places(dim)} where `{shown}` stands",
                    call.written[str(k)].span, "given")
                          for k, dim in ((owner[name], known), (place, size))]  # fmt: skip
                raise call.fault("E1003", f"`{shown}` would run over axes of different sizes", "0", labels)
            if name not in sizes or known == 1:
                sizes[name], owner[name] = size, place
    return sizes


def _places(size: Dim) -> str:
    return f"{size} place{'s' * (size != 1)}" if isinstance(size, int) else "`batch` places"


def _summed(elements: Elements, named: Sequence[Sequence[Variable]], tensors: Sequence[Computed]) -> Computed:
    """The sum over all variables that the result does not have."""
    factors: list[Computed] = []
    for axes, x in zip(named, tensors, strict=True):
        diagonal, walked = elements.on_diagonals(x, list(axes))
        factors.append(elements.spread(diagonal, [variable for variable in walked if isinstance(variable, Variable)]))
    factors = [_without_own(elements, factor, [*factors[:k], *factors[k + 1 :]]) for k, factor in enumerate(factors)]
    while len(factors) > 1:
        first, second = min(
            combinations(range(len(factors)), 2), key=lambda pair: _count(factors[pair[0]], factors[pair[1]])
        )
        others = [factor for k, factor in enumerate(factors) if k not in (first, second)]
        product = elements.emit.pointwise("mul", factors[first], factors[second])
        factors = [*others, _without_own(elements, product, others)]
    return elements.finished(factors[0])


def _without_own(elements: Elements, x: Computed, others: Sequence[Computed]) -> Computed:
    """A factor summed over what neither another one nor the result has."""
    places = [variable.place for variable in elements.variables if not variable.left]
    places = [place for place in places if _has(x, place) and not any(_has(other, place) for other in others)]
    return elements.over("sum", x, places) if places else x


def _has(x: Computed, place: int) -> bool:
    return x.rank > 0 and x.shape[place] != 1


def _count(x: Computed, y: Computed) -> int:
    """The elements of the product of two factors."""
    shapes = [factor.shape for factor in (x, y) if factor.rank]
    return math.prod(
        max(dim if isinstance(dim, int) else dim.at(ROWS) for dim in dims) for dims in zip(*shapes, strict=True)
    )
