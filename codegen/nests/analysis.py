"""From a kernel's region to terms over loop axes.

A region is a small graph of whole tensors; a loop nest computes elements. This module finds the loop axes (two tensor
axes are one loop axis where the region forces their indices to be equal), and writes what each output needs as terms.
Transposes, reshapes, broadcasts and unit axes vanish into the axes and strides of loads and stores. Nothing here knows
vectors, targets or instructions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tapeless.abi.dtypes import INTEGER, MASK, TYPES
from tapeless.codegen.nests.cut import cut
from tapeless.codegen.nests.sizes import ONE, Axis, Size, Strides, dense, product, size_of
from tapeless.codegen.nests.terms import (
    Apply,
    Count,
    Domain,
    IndexedLoad,
    Iota,
    Leaf,
    Load,
    MaskedLoad,
    Number,
    Reduction,
    Store,
    Term,
    Uniform,
)
from tapeless.ir.correspondence import Along, At, By, correspondence, labels_of, of_units, reduced
from tapeless.ir.graph import Graph, Node, Value
from tapeless.ir.ops import OPERATIONS
from tapeless.ir.types import Examples

__all__ = ["LoweringError", "analyse"]


class LoweringError(Exception):
    """The kernel asks for what no kernel family can do; fusion should not have made it."""


@dataclass(frozen=True)
class Placement:
    """How elements lie in a buffer; `offset` is a sum of sizes, where the first one lies."""

    buffer: int
    strides: tuple[Size, ...]
    offset: tuple[Size, ...] = ()


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
        self.loads: dict[tuple[object, ...], Load] = {}
        self.cuts: dict[Axis, tuple[Axis, int]] = {}
        self.views = self.find_views()

    # Inputs seen through transposes and reshapes, as strides

    def find_views(self) -> dict[Value, Placement]:
        views: dict[Value, Placement] = {}
        for place, port in enumerate(self.region.inputs):
            views[port.value] = Placement(place, dense(port.value.type.shape, self.leading[place]))
        for node in self.region.nodes:
            if (
                OPERATIONS[node.op].family in ("shape", "movement")
                and len(node.operands) == 1
                and node.operands[0] in views
            ):
                made = self.view_through(node, views[node.operands[0]])
                if made is not None:
                    views[node.result] = made
        return views

    def view_through(self, node: Node, view: Placement) -> Placement | None:
        if node.op != "reshape":
            return _moved(node, view)
        shape = node.operands[0].type.shape
        mapped = of_units(shape, node.result.type.shape)
        if mapped is not None:
            return Placement(
                view.buffer, tuple(ONE if axis is None else view.strides[axis] for axis in mapped), view.offset
            )
        if all(
            stride == wanted or dim == 1 for stride, wanted, dim in zip(view.strides, dense(shape), shape, strict=True)
        ):
            return Placement(view.buffer, dense(node.result.type.shape), view.offset)
        return None

    # Which axes are one

    def unify(self) -> None:
        for node in self.region.nodes:
            if node.result == self.leaf or node.result in self.views:
                continue
            for operand, axes in _walked(node):
                for axis, other in enumerate(axes):
                    if other is not None:
                        self.classes.join((node.result, other), (operand, axis))
        shares: dict[tuple[object, int], Value] = {}
        for node in self.region.nodes:
            if node.op == "sum_shares":
                key = self.classes.find((node.operands[0], node.attrs["shared"])), node.attrs["shares"]
                self.classes.join((shares.setdefault(key, node.result), 0), (node.result, 0))

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
        stores = tuple(
            Store(buffer, terms[value, axes], _strides(axes, strides)) for buffer, value, axes, strides in outputs
        )
        first_axes = {value: axes for _, value, axes, _ in outputs}
        leaf = None
        if self.leaf is not None:
            made = (term for (value, _), term in terms.items() if value == self.leaf and isinstance(term, Leaf))
            leaf = next(made, Leaf(self.leaf.type.dtype.kind, frozenset()))
            first_axes[self.leaf] = self.own_axes(self.leaf)
        domain = Domain(stores, self.extents, leaf, first_axes)
        for inner, (outer, shares) in self.cuts.items():
            domain = cut(domain, inner, outer, shares)
        return domain

    def output_view(self, value: Value, leading: int) -> tuple[Value, tuple[Size, ...]]:
        """An output that is a reshape stores its operand, with the operand's strides."""
        strides = dense(value.type.shape, leading)
        producers = self.region.producers
        while value in producers and value not in self.views and producers[value].op == "reshape":
            node = producers[value]
            operand = node.operands[0]
            if of_units(operand.type.shape, value.type.shape) is not None or leading:
                break
            value, strides = operand, dense(operand.type.shape)
        return value, strides

    def demanded(self, node: Node, axes: tuple[Axis | None, ...]) -> list[tuple[Value, tuple[Axis | None, ...]]]:
        """The operands of a node that are computed values, with the axes they are wanted at."""
        wanted: list[tuple[Value, tuple[Axis | None, ...]]] = []
        walked = _walked(node)
        if node.op == "reshape" and not walked:
            raise LoweringError(f"{node.result} reshapes {node.operands[0]}, which is computed in the same kernel")
        for operand, places in walked:
            made: list[Axis | None] = [None if place is None else axes[place] for place in places]
            if OPERATIONS[node.op].family == "reduction":
                taken = [axis for axis in axes if axis is not None]
                for place in reduced(node):
                    made[place] = self.axis(operand, place, taken)
                    taken += [axis for axis in (made[place],) if axis is not None]
            wanted.append((operand, tuple(made)))
        return wanted

    def make(
        self,
        value: Value,
        node: Node | None,
        demands: Mapping[Value, Mapping[tuple[Axis | None, ...], None]],
        terms: dict[tuple[Value, tuple[Axis | None, ...]], Term],
    ) -> None:
        for axes in demands.get(value, ()):
            terms[value, axes] = self.term(value, node, axes, terms)

    def term(
        self,
        value: Value,
        node: Node | None,
        axes: tuple[Axis | None, ...],
        terms: dict[tuple[Value, tuple[Axis | None, ...]], Term],
    ) -> Term:
        kind = value.type.dtype.kind
        if value == self.leaf:
            return Leaf(kind, frozenset(axis for axis in axes if axis is not None))
        if value in self.views:
            view = self.views[value]
            strides = _strides(axes, view.strides)
            key = (view.buffer, view.offset, tuple(sorted(strides.items(), key=lambda item: item[0])))
            if key not in self.loads:
                self.loads[key] = Load(kind, strides, view.buffer, view.offset)
            return self.loads[key]
        assert node is not None
        operands = tuple(terms[operand, wanted] for operand, wanted in self.demanded(node, axes))
        family, read = OPERATIONS[node.op].family, (correspondence(node) or ((),))[0] if node.operands else ()
        if family == "reduction":
            return self.reduction(node, axes, operands[0], kind)
        for along, one in enumerate(read):
            if isinstance(one, By):
                return self.indexed(node, axes, kind, operands[0], read, along)
            if isinstance(one, At) and one.bounded:
                return self.placed(node, axes, kind, read, along, one)
        if family == "shape" and operands:
            return operands[0]
        if node.op == "constant":
            return Number(kind, node.attrs["value"])
        if node.op == "iota":
            return Iota(kind, axes[node.attrs["axis"]])
        if node.op == "count":
            return Count(kind, product(node.attrs["shape"]))
        if node.op == "random_uniform":
            seed, *counters = node.operands
            strides = _strides(axes, dense(value.type.shape))
            places = tuple(self.counter(value) for value in counters)
            return Uniform(kind, strides, node.attrs["site"], self.views[seed].buffer, places)
        return Apply(kind, node.op, operands, node.attrs.get("order"))

    def counter(self, value: Value) -> tuple[int | None, int]:
        """The buffer that holds a counter; or, in `init`, which draws at step 0, none and the number."""
        if value in self.views:
            return self.views[value].buffer, 0
        return None, self.region.producers[value].attrs["value"]

    def indexed(
        self, node: Node, axes: tuple[Axis | None, ...], kind: str, index: Term, read: Sequence[Along], along: int
    ) -> Term:
        """The table's element at the index that the only computed operand is."""
        table = node.operands[0]
        if table not in self.views:
            raise LoweringError(f"`{node.op}` takes {table}, which its own kernel makes")
        view = self.views[table]
        strides, extent = _beside(axes, view, read, along), table.type.shape[along]
        size = None if isinstance(extent, Examples) else size_of(extent)
        return IndexedLoad(kind, strides, view.buffer, view.offset, index, view.strides[along], size)

    def placed(
        self, node: Node, axes: tuple[Axis | None, ...], kind: str, read: Sequence[Along], along: int, place_of: At
    ) -> Term:
        """The operand's element at the place along one axis where there is one, else 0. No load is wild: one that
        steps evenly is masked, any other is clamped.
        """
        (operand,) = node.operands
        if operand not in self.views:
            raise LoweringError(f"`{node.op}` takes {operand}, which its own kernel makes")
        view, size = self.views[operand], size_of(operand.type.shape[along])
        zero = Number(kind, 0.0 if TYPES[kind].is_real else 0)
        if size == Size(0):
            return zero
        step, first = place_of.every, place_of.first
        even = abs(step) == 1
        moved = _sum_of(place_of, axes)
        place = moved if step == 1 else _apply("div", moved, _number(step))
        there = _apply(
            "logical_and",
            _apply("le", _number(0), place, made=MASK),
            _apply("lt", place, _number(size.coefficient), made=MASK),
            made=MASK,
        )
        stride, others = view.strides[along], _beside(axes, view, read, along)
        moving = {
            axis: stride * Size(count * step) for move, count in place_of.moves if (axis := axes[move]) is not None
        }
        if even and all(others.get(axis, move).power == move.power for axis, move in moving.items()):
            strides = dict(others) | {
                axis: Size(move.coefficient + others.get(axis, Size(0)).coefficient, move.power)
                for axis, move in moving.items()
            }
            offset = (*view.offset, stride * Size(first * step)) if first else view.offset
            taken: Term = MaskedLoad(kind, strides, view.buffer, offset, there)
        else:
            if not even:
                there = _apply(
                    "logical_and", there, _apply("eq", _apply("mul", place, _number(step)), moved, made=MASK), made=MASK
                )
            taken = IndexedLoad(kind, others, view.buffer, view.offset, place, stride, size)
        return Apply(kind, "select", (there, taken, zero))

    def reduction(self, node: Node, axes: tuple[Axis | None, ...], operand: Term, kind: str) -> Term:
        ((_, wanted),), dropped = self.demanded(node, axes), reduced(node)
        gone = frozenset(axis for axis in (wanted[place] for place in dropped) if axis is not None)
        if not gone:
            return Number(kind, 0) if node.op == "argmax" else operand
        if node.op == "sum_shares":
            shared, share = wanted[node.attrs["shared"]], axes[0]
            if shared is not None and share is not None:
                self.cuts[shared] = share, node.attrs["shares"]
            return Reduction(kind, "sum", operand, gone)
        if node.op != "logsumexp":
            return Reduction(kind, node.op, operand, gone)
        # log(sum(exp(x - m))) + m with m the maximum, or 0 where that is not finite
        top = Reduction(kind, "max", operand, gone)
        size = Apply(kind, "abs", (top,))
        finite = Apply(MASK, "lt", (size, Number(kind, float("inf"))))
        shift = Apply(kind, "select", (finite, top, Number(kind, 0.0)))
        difference = Apply(kind, "sub", (operand, shift))
        total = Reduction(kind, "sum", Apply(kind, "exp", (difference,)), gone)
        return Apply(kind, "add", (Apply(kind, "log", (total,)), shift))


def _number(value: int) -> Term:
    return Number(INTEGER, value)


def _apply(op: str, *operands: Term, made: str = INTEGER) -> Term:
    """On places."""
    return Apply(made, op, operands)


def _strides(axes: Sequence[Axis | None], strides: Sequence[Size]) -> Strides:
    return {axis: stride for axis, stride in zip(axes, strides, strict=True) if axis is not None}


def _beside(axes: Sequence[Axis | None], view: Placement, read: Sequence[Along], along: int) -> Strides:
    """The strides of an operand's axes that are axes of the result, all but one."""
    return {axis: stride for k, (one, stride) in enumerate(zip(read, view.strides, strict=True))
            if k != along and isinstance(one,
                At) and one.axis is not None and (axis := axes[one.axis]) is not None}  # fmt: skip


def _sum_of(place: At, axes: Sequence[Axis | None]) -> Term:
    """A place before it is divided, from where the loops stand."""
    total: Term | None = None
    for move, step in place.moves:
        index: Term = Iota(INTEGER, axes[move])
        index = index if abs(step) == 1 else _apply("mul", index, _number(abs(step)))
        total = index if total is None else _apply("add" if step > 0 else "sub", total, index)
    assert total is not None
    return total if not place.first else _apply("sub", total, _number(-place.first))


def _moved(node: Node, view: Placement) -> Placement | None:
    """What is read of memory at places that move evenly with those of the result; None if that is not so, some are
    read again and again, or along a diagonal.
    """
    found = correspondence(node)
    strides: list[Size | None] = [None] * node.result.type.rank
    offset = view.offset
    for one, stride in zip(found[0] if found else (), view.strides, strict=False):
        if not isinstance(one, At) or one.bounded or one.every != 1:
            return None
        for axis, step in one.moves:
            if strides[axis] is not None:
                return None
            strides[axis] = stride * Size(step)
        if one.first:
            offset = (*offset, stride * Size(one.first))
    known = tuple(stride for stride in strides if stride is not None)
    return Placement(view.buffer, known, offset) if found and len(known) == len(strides) else None


def _walked(node: Node) -> list[tuple[Value, tuple[int | None, ...]]]:
    """The operands that are read along the loops alone, with the axis of the result that each of their axes is
    (None: reduced, or of size 1).
    """
    found = correspondence(node)
    if found is None:
        return []
    return [
        (value, tuple(label if label is not None and label >= 0 else None for label in own))
        for value, read, own in zip(node.operands, found, labels_of(node, found), strict=True)
        if all(
            label is not None or (isinstance(one, At) and not one.moves) for one, label in zip(read, own, strict=True)
        )
    ]
