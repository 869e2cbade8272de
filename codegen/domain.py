"""From a kernel's region to terms over loop axes.

A region is a small graph of whole tensors; a loop nest computes elements. This module finds the loop axes (two tensor
axes are one loop axis where the region forces their indices to be equal), and writes what each output needs as terms:
an operation with operands, and the axes that its element depends on. Transposes, reshapes, broadcasts and unit axes
vanish into the axes and strides of loads and stores. Adjacent axes that every access walks through without a gap
become one. Nothing here knows vectors, targets or instructions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tapeless.ir.graph import Graph, Node, Value
from tapeless.ir.types import Dim, DType, Rows, Tensor

__all__ = ["REDUCTIONS", "Access", "Axis", "Domain", "LoweringError", "Size", "Store", "Term", "analyse", "closure"]


class LoweringError(Exception):
    """The kernel asks for what no kernel family can do; fusion should not have made it."""


@dataclass(frozen=True, slots=True)
class Size:
    """coefficient * rows ** power"""

    coefficient: int
    power: int = 0

    def __mul__(self, other: Size) -> Size:
        return Size(self.coefficient * other.coefficient, self.power + other.power)

    def at(self, rows: int) -> int:
        return self.coefficient * int(rows**self.power)

    @property
    def known(self) -> bool:
        return self.power == 0


ONE = Size(1)
Axis = int
Strides = dict[Axis, Size]
REDUCTIONS = ("sum", "prod", "max", "min", "argmax")


def size_of(dim: Dim) -> Size:
    return Size(dim.multiple, 1) if isinstance(dim, Rows) else Size(dim)


def kind_of(dtype: DType) -> str:
    return "i1" if dtype is DType.BOOL else dtype.value


@dataclass(eq=False)
class Term:
    """One element-wise step. `axes` are those its element depends on; a reduction's `reduced` are those it sums out.

    op: a pointwise operation, a reduction, or load (attrs buffer, strides), load_if (the operand says whether the element
    exists), load_at (also size, stride: the operand is a computed index), constant, iota, count, random_uniform (strides of its element number), leaf.
    """

    op: str
    operands: tuple[Term, ...]
    axes: frozenset[Axis]
    kind: str
    attrs: dict[str, Any] = field(default_factory=dict)
    reduced: frozenset[Axis] = frozenset()
    stage: int = 0


@dataclass(frozen=True)
class Access:
    """How elements lie in a buffer; `offset` is a sum of sizes, where the first one lies."""

    buffer: int
    strides: tuple[Size, ...]
    offset: tuple[Size, ...] = ()


@dataclass(eq=False)
class Store:
    buffer: int
    term: Term
    strides: Strides


@dataclass
class Domain:
    """What a nest computes: stores of terms, and the extent of each loop axis."""

    stores: list[Store]
    extents: dict[Axis, Size]
    leaves: dict[Value, Term]
    first_axes: dict[Value, tuple[Axis | None, ...]]


def dense(shape: Sequence[Dim], leading: int = 0) -> tuple[Size, ...]:
    """Row-major strides; a matrix's rows may be `leading` elements apart."""
    strides: list[Size] = []
    step = ONE
    for dim in reversed(shape):
        strides.append(step)
        step = step * size_of(dim)
    strides.reverse()
    if leading and len(shape) == 2:
        strides[0] = Size(leading)
    return tuple(strides)


def closure(terms: Iterable[Term]) -> list[Term]:
    """The terms and all they depend on, operands first."""
    order: list[Term] = []
    seen: set[Term] = set()
    pending: list[tuple[Term, bool]] = [(term, False) for term in reversed(list(terms))]
    while pending:
        term, ready = pending.pop()
        if ready:
            order.append(term)
        elif term not in seen:
            seen.add(term)
            pending.append((term, True))
            pending.extend((operand, False) for operand in reversed(term.operands) if operand not in seen)
    return order


class _Classes:
    """Union-find over the axes of values."""

    def __init__(self) -> None:
        self.parent: dict[tuple[Value, int], tuple[Value, int]] = {}

    def find(self, item: tuple[Value, int]) -> tuple[Value, int]:
        root = item
        while (above := self.parent.get(root, root)) != root:
            root = above
        while item != root:
            self.parent[item], item = root, self.parent.get(item, item)
        return root

    def join(self, a: tuple[Value, int], b: tuple[Value, int]) -> None:
        ra, rb = self.find(a), self.find(b)
        if ra != rb:
            self.parent[rb] = ra


def analyse(region: Graph, leading: Sequence[int], *, leaf: Value | None = None) -> Domain:
    """The terms of a region. `leaf` is a value made elsewhere (a product's element), whose node is not looked at."""
    return _Analysis(region, leading, leaf).domain()


class _Analysis:
    def __init__(self, region: Graph, leading: Sequence[int], leaf: Value | None) -> None:
        self.region = region
        self.leading = tuple(leading)
        self.leaf = leaf
        self.classes = _Classes()
        self.names: dict[tuple[tuple[Value, int], int], Axis] = {}
        self.extents: dict[Axis, Size] = {}
        self.loads: dict[tuple[Any, ...], Term] = {}
        self.views = self.find_views()

    # Inputs seen through transposes and reshapes, as strides

    def find_views(self) -> dict[Value, Access]:
        views: dict[Value, Access] = {}
        for place, port in enumerate(self.region.inputs):
            views[port.value] = Access(place, dense(port.value.type.shape, self.leading[place]))
        for node in self.region.nodes:
            if node.op in ("transpose", "reshape", "slice", "windows", "stop_gradient") and node.operands[0] in views:
                view = views[node.operands[0]]
                made = self.view_through(node, view)
                if made is not None:
                    views[node.result] = made
        return views

    def view_through(self, node: Node, view: Access) -> Access | None:
        if node.op == "stop_gradient":
            return view
        if node.op == "transpose":
            return Access(view.buffer, tuple(view.strides[axis] for axis in node.attrs["perm"]), view.offset)
        if node.op == "slice":
            strides = tuple(stride * Size(step) for stride, step in zip(view.strides, node.attrs["step"], strict=True))
            moves = [stride * Size(start) for stride, start in zip(view.strides, node.attrs["start"], strict=True)]
            return Access(view.buffer, strides, (*view.offset, *(move for move in moves if move.coefficient)))
        if node.op == "windows":
            axis = node.attrs["axis"]
            stride = view.strides[axis]
            own = (stride * Size(node.attrs["step"]), stride * Size(node.attrs["dilation"]))
            return Access(view.buffer, (*view.strides[:axis], *own, *view.strides[axis + 1:]), view.offset)
        shape = node.operands[0].type.shape
        mapped = _unit_reshape(shape, node.result.type.shape)
        if mapped is not None:
            return Access(view.buffer, tuple(ONE if axis is None else view.strides[axis] for axis in mapped),
                          view.offset)
        if all(stride == wanted or dim == 1 for stride, wanted, dim in zip(view.strides, dense(shape), shape,
                                                                           strict=True)):
            return Access(view.buffer, dense(node.result.type.shape), view.offset)
        return None

    # Which axes are one

    def unify(self) -> None:
        for node in self.region.nodes:
            if node.result == self.leaf or node.result in self.views:
                continue
            for operand, axes in _correspondence(node):
                for axis, other in enumerate(axes):
                    if other is not None:
                        self.classes.join((node.result, other), (operand, axis))

    def axis(self, value: Value, place: int, taken: Iterable[Axis | None] = ()) -> Axis | None:
        """The loop axis of a value's axis, other than those `taken` (a value met along two paths); None for size 1."""
        dim = value.type.shape[place]
        if dim == 1:
            return None
        root = self.classes.find((value, place))
        turn = 0
        taken = set(taken)
        while (name := self.names.setdefault((root, turn), len(self.names))) in taken:
            turn += 1
        self.extents[name] = size_of(dim)
        return name

    def own_axes(self, value: Value) -> tuple[Axis | None, ...]:
        axes: list[Axis | None] = []
        for place in range(value.type.rank):
            axes.append(self.axis(value, place, axes))
        return tuple(axes)

    # Demands, from outputs to inputs; then terms, from inputs to outputs

    def domain(self) -> Domain:
        self.unify()
        outputs = []
        demands: dict[Value, dict[tuple[Axis | None, ...], None]] = {}
        first = len(self.region.inputs)
        for place, port in enumerate(self.region.outputs):
            value, strides = self.output_view(port.value, self.leading[first + place])
            axes = self.own_axes(value)
            demands.setdefault(value, {})[axes] = None
            outputs.append((first + place, value, axes, strides))
        for node in reversed(self.region.nodes):
            if node.result == self.leaf or node.result in self.views:
                continue
            for axes in list(demands.get(node.result, {})):
                for operand, wanted in self.demanded(node, axes):
                    demands.setdefault(operand, {})[wanted] = None
        terms: dict[tuple[Value, tuple[Axis | None, ...]], Term] = {}
        for port in self.region.inputs:
            self.make(port.value, None, demands, terms)
        for node in self.region.nodes:
            self.make(node.result, node, demands, terms)
        stores = [
            Store(buffer, terms[value, axes],
                  {axis: stride for axis, stride in zip(axes, strides, strict=True) if axis is not None})
            for buffer, value, axes, strides in outputs
        ]
        domain = Domain(stores, self.extents, {}, {value: axes for _, value, axes, _ in outputs})
        if self.leaf is not None:
            domain.leaves[self.leaf] = next((term for (value, _), term in terms.items() if value == self.leaf),
                                            Term("leaf", (), frozenset(), kind_of(self.leaf.type.dtype)))
            domain.first_axes[self.leaf] = self.own_axes(self.leaf)
        return domain

    def output_view(self, value: Value, leading: int) -> tuple[Value, tuple[Size, ...]]:
        """An output that is a reshape stores its operand, with the operand's strides."""
        strides = dense(value.type.shape, leading)
        producers = self.region.producers
        while value in producers and value not in self.views and producers[value].op == "reshape":
            node = producers[value]
            operand = node.operands[0]
            if _unit_reshape(operand.type.shape, value.type.shape) is not None or leading:
                break
            value, strides = operand, dense(operand.type.shape)
        return value, strides

    def demanded(self, node: Node, axes: tuple[Axis | None, ...]) -> list[tuple[Value, tuple[Axis | None, ...]]]:
        """The operands of a node that are computed values, with the axes they are wanted at."""
        wanted: list[tuple[Value, tuple[Axis | None, ...]]] = []
        corresponding = _correspondence(node)
        if node.op == "reshape" and not corresponding:
            raise LoweringError(f"{node.result} reshapes {node.operands[0]}, which is computed in the same kernel")
        for operand, places in corresponding:
            made: list[Axis | None] = [None if place is None else axes[place] for place in places]
            if node.op in _REDUCING:
                taken = [axis for axis in axes if axis is not None]
                for place in _reduced(node):
                    made[place] = self.axis(operand, place, taken)
                    taken += [axis for axis in (made[place],) if axis is not None]
            wanted.append((operand, tuple(made)))
        return wanted

    def make(self, value: Value, node: Node | None, demands: Mapping[Value, Mapping[tuple[Axis | None, ...], None]],
             terms: dict[tuple[Value, tuple[Axis | None, ...]], Term]) -> None:
        for axes in demands.get(value, ()):
            terms[value, axes] = self.term(value, node, axes, terms)

    def term(self, value: Value, node: Node | None, axes: tuple[Axis | None, ...],
             terms: dict[tuple[Value, tuple[Axis | None, ...]], Term]) -> Term:
        kind = kind_of(value.type.dtype)
        bound = frozenset(axis for axis in axes if axis is not None)
        if value == self.leaf:
            return Term("leaf", (), bound, kind)
        if value in self.views:
            view = self.views[value]
            strides = _strides(axes, view.strides)
            key = (view.buffer, view.offset, tuple(sorted(strides.items(), key=lambda item: item[0])))
            if key not in self.loads:
                self.loads[key] = Term("load", (), bound, kind, {"buffer": view.buffer, "strides": strides, "offset": view.offset})
            return self.loads[key]
        assert node is not None
        operands = tuple(terms[operand, wanted] for operand, wanted in self.demanded(node, axes))
        stage = max((operand.stage for operand in operands), default=0)
        made = Term(node.op, operands, bound, kind, stage=stage)
        if node.op in ("broadcast", "transpose", "reshape", "stop_gradient"):
            return operands[0]
        if node.op in _REDUCING:
            return self.reduction(node, axes, operands[0], kind)
        if node.op == "constant":
            made.axes = frozenset()
            made.attrs = {"value": node.attrs["value"]}
        elif node.op == "iota":
            axis = axes[node.attrs["axis"]]
            made.axes = frozenset() if axis is None else frozenset((axis,))
            made.attrs = {"axis": axis}
        elif node.op == "count":
            total = ONE
            for dim in node.attrs["shape"]:
                total = total * size_of(dim)
            made.attrs = {"size": total}
        elif node.op == "random_uniform":
            seed, *counters = node.operands
            made.attrs = {"site": node.attrs["site"], "seed": self.views[seed].buffer,
                          "counters": tuple(self.counter(value) for value in counters),
                          "strides": _strides(axes, dense(value.type.shape))}
        elif node.op == "pad":
            return self.padded(node, axes, kind)
        elif node.op == "align_windows":
            return self.aligned(node, axes, kind)
        elif node.op in ("pick", "gather"):
            self.indexed(node, axes, made)
        else:
            made.attrs = {"order": node.attrs["order"]} if "order" in node.attrs else {}
            # What was broadcast does not vary along the new axes, nor does what is made of it alone.
            made.axes = frozenset(axis for operand in operands for axis in operand.axes)
        return made

    def counter(self, value: Value) -> tuple[int | None, int]:
        """The buffer that holds a counter; or, in `init`, which draws at step 0, none and the number."""
        if value in self.views:
            return self.views[value].buffer, 0
        return None, self.region.producers[value].attrs["value"]

    def indexed(self, node: Node, axes: tuple[Axis | None, ...], made: Term) -> None:
        table, index = node.operands
        if table not in self.views:
            raise LoweringError(f"`{node.op}` takes {table}, which its own kernel makes")
        view = self.views[table]
        if node.op == "pick":
            walked, along = view.strides[:-1], view.strides[-1]
            strides, size = _strides(axes, walked), table.type.shape[-1]
        else:
            walked, along = view.strides[1:], view.strides[0]
            strides, size = _strides(axes[index.type.rank:], walked), table.type.shape[0]
        made.op = "load_at"
        made.axes = frozenset(strides) | made.operands[0].axes
        made.attrs = {"buffer": view.buffer, "strides": strides, "along": along, "size": size_of(size),
                      "offset": view.offset}

    def padded(self, node: Node, axes: tuple[Axis | None, ...], kind: str) -> Term:
        """`pad`: the operand's element where the place has one, else 0."""
        along, step = node.attrs["axis"], node.attrs["step"]
        moved = _apply("sub", _index(axes[along]), _number(node.attrs["start"]))
        return self.placed(node, axes, kind, along, moved, {axes[along]: 1}, -node.attrs["start"], step)

    def aligned(self, node: Node, axes: tuple[Axis | None, ...], kind: str) -> Term:
        """`align_windows`: at place p of column u, the element of window (p - u * dilation) / step if there is one."""
        along, dilation = node.attrs["axis"], node.attrs["dilation"]
        column = axes[along + 1]
        moved = _apply("sub", _index(axes[along]), _apply("mul", _index(column), _number(dilation)))
        return self.placed(node, axes, kind, along, moved, {axes[along]: 1, column: -dilation}, 0, node.attrs["step"])

    def placed(self, node: Node, axes: tuple[Axis | None, ...], kind: str, along: int, moved: Term,
               moves: dict[Axis | None, int], first: int, step: int) -> Term:
        """The operand's element at `moved / step` along one axis where that is a place, else 0; `moved` is `first` and
        `moves` of the loops. No load is wild: one that steps evenly is masked, any other is clamped."""
        (operand,) = node.operands
        if operand not in self.views:
            raise LoweringError(f"`{node.op}` takes {operand}, which its own kernel makes")
        view, size = self.views[operand], size_of(operand.type.shape[along])
        zero = Term("constant", (), frozenset(), kind, {"value": 0.0 if kind[0] == "f" else 0})
        if size == Size(0):
            return zero
        even = abs(step) == 1
        place = moved if step == 1 else _apply("div", moved, _number(step))
        there = _apply("logical_and", _apply("le", _number(0), place, made="i1"),
                       _apply("lt", place, _number(size.coefficient), made="i1"), made="i1")
        stride, others = view.strides[along], _strides([None if k == along else a for k, a in enumerate(axes)], view.strides)
        moving = {axis: stride * Size(count * step) for axis, count in moves.items() if axis is not None}
        if even and all(others.get(axis, move).power == move.power for axis, move in moving.items()):
            strides = others | {axis: Size(move.coefficient + others.get(axis, Size(0)).coefficient, move.power)
                                for axis, move in moving.items()}
            offset = (*view.offset, stride * Size(first * step)) if first else view.offset
            attrs = {"buffer": view.buffer, "strides": strides, "offset": offset}
            taken = Term("load_if", (there,), frozenset(strides) | there.axes, kind, attrs)
        else:
            if not even:
                there = _apply("logical_and", there, _apply("eq", _apply("mul", place, _number(step)), moved, made="i1"), made="i1")
            attrs = {"buffer": view.buffer, "strides": others, "along": stride, "size": size, "offset": view.offset}
            taken = Term("load_at", (place,), frozenset(others) | place.axes, kind, attrs)
        return Term("select", (there, taken, zero), taken.axes, kind)

    def reduction(self, node: Node, axes: tuple[Axis | None, ...], operand: Term, kind: str) -> Term:
        ((_, wanted),) = self.demanded(node, axes)
        reduced = frozenset(axis for axis in (wanted[place] for place in _reduced(node)) if axis is not None)
        kept = operand.axes - reduced

        def over(op: str, value: Term) -> Term:
            attrs = {"axis": next(iter(reduced))} if op == "argmax" else {}
            return Term(op, (value,), kept, kind, attrs, reduced, value.stage + 1)

        def apply(op: str, *operands: Term) -> Term:
            bound = frozenset(axis for value in operands for axis in value.axes)
            made_kind = "i1" if op in ("eq", "lt") else operands[-1].kind
            return Term(op, operands, bound, made_kind, stage=max(value.stage for value in operands))

        if not reduced:
            return Term("constant", (), frozenset(), kind, {"value": 0}) if node.op == "argmax" else operand
        if node.op != "logsumexp":
            return over(node.op, operand)
        # log(sum(exp(x - m))) + m with m the maximum, or 0 where that is not finite
        top = over("max", operand)
        zero, infinity = (Term("constant", (), frozenset(), kind, {"value": value}) for value in (0.0, float("inf")))
        finite = apply("lt", apply("abs", top), infinity)
        shift = Term("select", (finite, top, zero), top.axes, kind, stage=top.stage)
        total = over("sum", apply("exp", apply("sub", operand, shift)))
        return apply("add", apply("log", total), shift)


_REDUCING = ("sum", "prod", "max", "min", "logsumexp", "argmax")


def _number(value: int) -> Term:
    return Term("constant", (), frozenset(), "i32", {"value": value})


def _index(axis: Axis | None) -> Term:
    """Where a loop stands."""
    return Term("iota", (), frozenset() if axis is None else frozenset((axis,)), "i32", {"axis": axis})


def _apply(op: str, *operands: Term, made: str = "i32") -> Term:
    return Term(op, operands, frozenset(axis for value in operands for axis in value.axes), made)


def _strides(axes: Sequence[Axis | None], strides: Sequence[Size]) -> Strides:
    return {axis: stride for axis, stride in zip(axes, strides, strict=True) if axis is not None}


def _reduced(node: Node) -> tuple[int, ...]:
    return (node.attrs["axis"],) if node.op == "argmax" else tuple(node.attrs["axes"])


def _unit_reshape(old: Sequence[Dim], new: Sequence[Dim]) -> list[int | None] | None:
    """For each new axis the old one it is, where the reshape only adds or takes away axes of size 1."""
    kept = [axis for axis, dim in enumerate(old) if dim != 1]
    if [old[axis] for axis in kept] != [dim for dim in new if dim != 1]:
        return None
    source = iter(kept)
    return [None if dim == 1 else next(source) for dim in new]


def _correspondence(node: Node) -> list[tuple[Value, tuple[int | None, ...]]]:
    """For each computed operand, which result axis each of its axes is (None: a reduced or unit axis)."""
    result: Tensor = node.result.type
    if node.op in ("constant", "iota", "count", "random_uniform", "matmul", "slice", "pad", "windows", "align_windows"):
        return []
    if node.op == "broadcast":
        return [(node.operands[0], tuple(node.attrs["axes"]))]
    if node.op == "transpose":
        perm = node.attrs["perm"]
        return [(node.operands[0], tuple(perm.index(axis) for axis in range(len(perm))))]
    if node.op == "reshape":
        mapped = _unit_reshape(result.shape, node.operands[0].type.shape)
        if mapped is None:
            return []
        return [(node.operands[0], tuple(mapped))]
    if node.op in _REDUCING:
        gone = _reduced(node)
        kept = iter(range(result.rank))
        rank = node.operands[0].type.rank
        return [(node.operands[0], tuple(None if axis in gone else next(kept) for axis in range(rank)))]
    if node.op in ("pick", "gather"):
        return [(node.operands[1], tuple(range(node.operands[1].type.rank)))]
    return [(operand, tuple(range(result.rank))) for operand in node.operands]
