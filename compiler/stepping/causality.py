"""Which values of a graph go along with the places of a sequence, and that none of them sees a later place.

Every value has a `Fact`. Its axes are parts (`axis_parts.py`), marked where they are the places of the sequence.
What is computed at a place depends on that place and those before it; of a value with two such axes, as scores of
queries and keys have, that is not so by itself: an element belongs to the later of its two places. A mask makes it
so, and `beyond` holds that it did: for two marked parts i and j, what the elements are whose place along j is later
than that along i. Only then may j be summed over. What masks are is read off their numbers, so it does not matter
how they are written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tapeless.compiler.messages.diagnostics import Diagnostic, Label
from tapeless.compiler.stepping.axis_parts import Axes, Axis, Part, Site, is_marked, is_whole, marks, plain, regroup
from tapeless.compiler.stepping.masks import (
    EXPONENTIALS,
    FAR_BELOW,
    MODERATE,
    PRODUCTS,
    Array,
    Beyond,
    State,
    applied,
    combined,
    hides,
    is_moderate,
)
from tapeless.ir.correspondence import Labels, labels
from tapeless.ir.graph import Graph, Node, Port, Value
from tapeless.ir.ops import OPERATIONS
from tapeless.ir.ops.movement import whole
from tapeless.ir.types import DType

LARGEST = 1 << 24  # elements of a mask that is computed here


class LooksAhead(Exception):
    """A value cannot be computed place by place: the reason, the node that shows it, and what to do about it."""

    walked: Sequence[Port] = ()  # the inputs whose axis of places was tried

    def __init__(self, reason: str, node: Node | None = None, hint: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.node, self.hint = reason, node, hint

    def diagnostic(self) -> Diagnostic:
        """What to tell the user, at its place in the source."""
        labels = [Label(f"`{port.label}`", f"has its {port.value.type.shape[1]} places along axis 1", port.span)
                  for port in self.walked if port.value.type.rank > 1]  # fmt: skip
        span = self.node.span if self.node is not None else next((port.span for port in self.walked), None)
        return Diagnostic(
            "E0805", f"this model cannot go place by place: {self.reason}", span, tuple(labels), self.hint
        )


@dataclass(frozen=True)
class Fact:
    """What is known of a value; see the module's docstring. `last`: it is what the end of the sequence gives. `lag`:
    what stands at a place of it is known so many places earlier already, because zeros or other values stand before
    the sequence.
    """

    axes: Axes
    beyond: Mapping[tuple[Site, Site], State] = field(default_factory=dict)
    last: bool = False
    lag: int = 0

    @property
    def moves(self) -> bool:
        return any(is_marked(axis) for axis in self.axes)


class Causality:
    """The facts of a graph. `inputs` are those of its inputs; of a body's, `numbers` says which numbers they are, if
    that is known, and
    `outlines` what is known of them in outline.

    Raises LooksAhead where a value depends on a later place.
    """

    def __init__(self, graph: Graph, inputs: Mapping[Value, Fact], length: int,
        numbers: Callable[[Value], Array | None] | None = None,
                 outlines: Mapping[Value, Array] | None = None) -> None:  # fmt: skip
        self.graph, self.length, self.numbers = graph, length, numbers
        self.facts: dict[Value, Fact] = dict(inputs)
        self.bodies: dict[Value, Causality] = {}  # of loops, by their first result
        self.arrays: dict[Value, Array | None] = {}
        self.outlines: dict[Value, Array] = dict(outlines or {})
        # where arithmetic hides later places, the operand that is the mask
        self.hiding: dict[Value, dict[tuple[Site, Site], int]] = {}
        for node in graph.nodes:
            made = self.visit(node)
            self.facts.update(zip(node.results, made, strict=True))

    def visit(self, node: Node) -> Sequence[Fact]:
        facts = [self.facts[value] for value in node.operands]
        ends, moving = any(fact.last for fact in facts), any(fact.moves for fact in facts)
        if ends and moving:
            raise LooksAhead("what the end of the sequence gives is used at its places", node)
        if not moving:
            return [Fact(plain(value.type.shape), last=ends) for value in node.results]
        if node.op in SPECIAL:
            return SPECIAL[node.op](self, node, facts)
        return [self.alike(node, facts)]

    def alike(self, node: Node, facts: Sequence[Fact]) -> Fact:
        """Of an operation that works alike at all places."""
        found = labels(node)
        if found is None:
            raise LooksAhead(f"`{node.op}` takes the whole sequence", node)
        axes: dict[int, Axis] = {}
        for value, fact, labelled in zip(node.operands, facts, found, strict=True):
            for k, label in enumerate(labelled):
                if not is_marked(fact.axes[k]):
                    continue
                if label is None:
                    raise LooksAhead(f"this works on the whole of {described(value)} along axis {k}", node)
                if axes.setdefault(label, fact.axes[k]) != fact.axes[k]:
                    raise LooksAhead("this mixes places of the sequence with other places", node)
        result = node.results[0].type
        axes |= self.places_of_masks(node, facts, found, axes)
        made = tuple(axes.get(k, unmoved) for k, unmoved in enumerate(plain(result.shape)))
        for label, axis in axes.items():
            if label < 0:
                self.check_reduced(node, facts, found, label, axis, made)
        along = len(marks(made)) == 1 and min(axes) >= 0
        return Fact(
            made,
            self.settled(node, facts, found, made),
            lag=min(fact.lag for fact in facts if fact.moves) if along else 0,
        )

    def places_of_masks(
        self, node: Node, facts: Sequence[Fact], found: Labels, axes: Mapping[int, Axis]
    ) -> dict[int, Axis]:
        """Axes of the result that are places because a mask says so: of `tril(ones([t, t])) @ x` the first is."""
        free = [k for k, size in enumerate(node.results[0].type.shape) if k not in axes and size == self.length]
        made: dict[int, Axis] = {}
        for value, fact, labelled in zip(node.operands, facts, found, strict=True):
            for k, j in ((k, j) for k in free if k in labelled for j in axes if j in labelled and not fact.moves):
                sites = labelled.index(k), labelled.index(j)
                square = all(value.type.shape[at] == self.length for at in sites)
                if (
                    square
                    and self.number_beyond(value, *sites) is not None
                    and self.number_beyond(value, None, None) is None
                ):
                    made[k] = (Part(self.length, True),)
        return made

    def check_reduced(
        self, node: Node, facts: Sequence[Fact], found: Labels, label: int, axis: Axis, made: Axes
    ) -> None:
        """What is summed over places has to be masked beyond the place that it is summed for."""

        def hidden(i: Site, j: Site) -> bool:
            states = self.states(node, facts, found, i, j)
            if node.op == "matmul":
                both = [{i, j} <= _labelled(fact, labelled) for fact, labelled in zip(facts, found, strict=True)]
                mixed = any(each and state is Beyond.OPEN for each, state in zip(both, states, strict=True))
                return not mixed and combined(node, states) not in (Beyond.OPEN, Beyond.FAR)
            if states[0] is Beyond.FAR:
                return node.op in ("logsumexp", "max") and self.sees_some(
                    node.operands[0], *(found[0].index(k) for k, _ in (i, j))
                )
            return states[0] is not Beyond.OPEN

        if all(any(hidden(i, (label, inner)) for i in marks(made)) for _, inner in marks((axis,))):
            return
        along = zip(node.operands, facts, found, strict=True)
        what = " and ".join(
            described(value)
            for value, fact, labelled in along
            if label in labelled and is_marked(fact.axes[labelled.index(label)])
        )
        does = "adds up" if node.op in ("sum", "matmul") else f"takes the `{node.op}` of"
        raise LooksAhead(f"this {does} {what} over all places, later ones too", node,
                         ("What is summed for a place is masked beyond it: `where(arange(t) <= i, "
                             "x, 0)`, or `attention(q, k, v, causal = true)`."))  # fmt: skip

    def settled(self, node: Node, facts: Sequence[Fact], found: Labels, made: Axes) -> dict[tuple[Site, Site], State]:
        sites = marks(made)
        beyond: dict[tuple[Site, Site], State] = {}
        for i, j in ((i, j) for i in sites for j in sites if i != j):
            states = self.states(node, facts, found, i, j)
            state = combined(node, states)
            hiding = next((k for k, each in enumerate(states) if hides(node.op, k, each)), None)
            if hiding is not None and Beyond.OPEN in states:
                if is_whole(made[j[0]]):
                    self.hiding.setdefault(node.results[0], {})[i, j] = hiding
                else:
                    state = Beyond.OPEN
            if (
                node.op in EXPONENTIALS
                and states[0] is Beyond.FAR
                and not self.is_far_beyond(node.operands[0], i[0], j[0])
            ):
                state = Beyond.OPEN
            beyond[i, j] = state
        return beyond

    # What is far below all others is so beside others: a softmax of nothing but masked scores is the same at all
    # places, later ones too.

    def sees_some(self, value: Value, i: int, j: int) -> bool:
        """Whether masks leave at least one place up to i for every place i."""
        near, later = self.square(value, i, j)
        return bool(((near > FAR_BELOW) & ~later).any(axis=1).all())

    def is_far_beyond(self, value: Value, i: int, j: int) -> bool:
        """Whether masks hide every place beyond i for every place i."""
        near, later = self.square(value, i, j)
        return bool(((near <= FAR_BELOW) | ~later).all())

    def square(self, value: Value, i: int, j: int) -> tuple[Array, Array]:
        """The outline of a value by places i and j, and where j is later."""
        if value.type.shape[i] != self.length or value.type.shape[j] != self.length:
            return np.full((1, 1), np.nan), np.ones((1, 1), bool)
        found = np.moveaxis(self.outline(value), (i, j), (0, 1))
        later = ~np.tri(self.length, dtype=bool)
        return np.broadcast_to(found, (self.length, self.length, *found.shape[2:])), later.reshape(
            *later.shape, *(1 for _ in found.shape[2:])
        )

    def outline(self, value: Value) -> Array:
        """What masks make of a value whose other numbers are 0; NaN where that is not known. Axes along which it is
        the same have size 1.
        """
        if value not in self.outlines:
            self.outlines[value] = self._outline(value)
        return self.outlines[value]

    def _outline(self, value: Value) -> Array:
        node = self.graph.producers.get(value)
        nothing = np.zeros((1,) * value.type.rank)
        if node is None or node.op in MODERATE or node.op == "scan":
            return nothing
        if node.op == "broadcast":
            outlined = self.outline(node.operands[0])
            return np.expand_dims(outlined, tuple(k for k in range(value.type.rank) if k not in node.attrs["axes"]))
        array = self.array(value)
        if array is not None or value.type.dtype is DType.BOOL:
            return nothing if array is None else array
        outlines = [self.outline(operand) for operand in node.operands]
        with np.errstate(all="ignore"):
            if node.op == "select":
                condition, one, other = outlines
                if not self.is_known(node.operands[0]):
                    condition, other = one == other, np.full(nothing.shape, np.nan)
                return np.where(condition, one, other)
            factor = any(self.is_known(operand) for operand in node.operands[node.op == "div" :])
            if node.op in ("add", "sub", "neg", "maximum", "minimum") or (node.op in (*PRODUCTS, "div") and factor):
                return applied(node, outlines, (value.type,))
            if node.op == "transpose":
                return outlines[0].transpose(node.attrs["perm"])
            if node.op in ("max", "logsumexp"):
                return np.asarray(outlines[0].max(axis=tuple(node.attrs["axes"])))
        if node.op in ("stop_gradient", "with_derivative"):
            return outlines[0]
        return nothing if all(is_moderate(outline) for outline in outlines) else np.full(nothing.shape, np.nan)

    def states(self, node: Node, facts: Sequence[Fact], found: Labels, i: Site, j: Site) -> list[State]:
        """What each operand is beyond place i along j, where these are parts of the result's axes or of what is
        reduced.
        """
        made: list[State] = []
        for value, fact, labelled in zip(node.operands, facts, found, strict=True):
            own = marks(fact.axes)
            at_i, at_j = ((labelled.index(label), inner) if label in labelled else None for label, inner in (i, j))
            if at_j in own:
                made.append(
                    fact.beyond.get((at_i, at_j), Beyond.OPEN) if at_i is not None and at_j is not None else Beyond.OPEN
                )
            else:
                axes = [site[0] if site is not None else None for site in (at_i, at_j)]
                known = all(k is None or value.type.shape[k] == self.length for k in axes)
                number = self.number_beyond(value, *axes) if known else self.number_beyond(value, None, None)
                made.append(Beyond.SETTLED if number is None else number)
        return made

    def number_beyond(self, value: Value, i: int | None, j: int | None) -> float | None:
        """The one number that a value is where its place along j is later than that along i, if its numbers are
        known.
        """
        node = self.graph.producers.get(value)
        if node is not None and node.op == "broadcast":
            axes = node.attrs["axes"]
            return self.number_beyond(node.operands[0], *(axes.index(k) if k in axes else None for k in (i, j)))
        array = self.array(value)
        if array is None:
            return None
        if j is not None:
            array = np.moveaxis(array, j, 0)
            if i is None:
                array = array[1:]
            else:
                array = np.moveaxis(array, i + (i < j), 1)
                array = array[np.arange(array.shape[0])[:, None] > np.arange(array.shape[1])]
        flat = array.ravel()
        return float(flat[0]) if flat.size and (flat == flat[0]).all() else None

    def is_known(self, value: Value) -> bool:
        node = self.graph.producers.get(value)
        return (
            self.is_known(node.operands[0])
            if node is not None and node.op == "broadcast"
            else self.array(value) is not None
        )

    def array(self, value: Value) -> Array | None:
        """The numbers of a value that depends on nothing but constants, for one row."""
        if value not in self.arrays:
            self.arrays[value] = self._array(value)
        return self.arrays[value]

    def _array(self, value: Value) -> Array | None:
        node = self.graph.producers.get(value)
        if node is None:
            return self.numbers(value) if self.numbers else None
        random = OPERATIONS[node.op].family == "random"
        if random or node.op == "scan" or self.facts[value].moves or value.type.count(1) > LARGEST:
            return None
        operands = []
        for operand in node.operands:
            array = self.array(operand)
            if array is None:
                return None
            operands.append(array)
        return applied(node, operands, tuple(result.type for result in node.results))


def _labelled(fact: Fact, labels: Sequence[int | None]) -> set[Site]:
    """The marked parts of an operand, under the labels of their axes."""
    return {(label, inner) for k, inner in marks(fact.axes) if (label := labels[k]) is not None}


def described(value: Value) -> str:
    return f"`{value.name.partition('.')[0]}`"


# -- operations that treat the places of a sequence in ways of their own


def _reshape(of: Causality, node: Node, facts: Sequence[Fact]) -> Sequence[Fact]:
    made = regroup(facts[0].axes, node.result.type.shape)
    if made is None:
        raise LooksAhead("this reshape cuts the places of the sequence into groups", node)
    moved = dict(zip(marks(facts[0].axes), marks(made), strict=True))
    return [Fact(made, {(moved[i], moved[j]): state for (i, j), state in facts[0].beyond.items()}, lag=facts[0].lag)]


def _slice(of: Causality, node: Node, facts: Sequence[Fact]) -> Sequence[Fact]:
    """A stretch from the first place on keeps its places; the first one and the last one alone are no sequence any
    more.
    """
    axes, last, cut, lag = list(facts[0].axes), False, False, facts[0].lag
    shape = node.operands[0].type.shape
    for k, (start, size, step) in enumerate(
        zip(*(node.attrs[part] for part in ("start", "size", "step")), strict=True)
    ):
        if not is_marked(axes[k]):
            axes[k] = plain((size,))[0]
        elif not whole(start, size, step, shape[k]):
            cut = True
            if not is_whole(axes[k]) or len(marks(facts[0].axes)) > 1:
                raise LooksAhead("this takes part of the places of what has more than those", node)
            if size == 1 and start == 0:
                axes[k] = ()
            elif size == 1 and start == of.length - 1:
                axes[k], last = (), True
            elif step == 1 and start <= lag:
                axes[k], lag = (Part(size, True),), lag - start
            else:
                raise LooksAhead(
                    "this reverses the sequence" if step < 0 else "this reads later places of the sequence", node
                )
    return [Fact(tuple(axes), {} if cut else facts[0].beyond, last, lag if any(map(is_marked, axes)) else 0)]


def _pad(of: Causality, node: Node, facts: Sequence[Fact]) -> Sequence[Fact]:
    """Zeros before a sequence are a delay."""
    axis, (fact,) = node.attrs["axis"], facts
    if not is_marked(fact.axes[axis]):
        return [of.alike(node, facts)]
    if not is_whole(fact.axes[axis]) or node.attrs["step"] != 1 or len(marks(fact.axes)) > 1:
        raise LooksAhead("this puts zeros between the places of the sequence", node)
    padded = tuple((Part(node.attrs["size"], True),) if k == axis else parts for k, parts in enumerate(fact.axes))
    return [Fact(padded, lag=fact.lag + node.attrs["start"])]


def _windows(of: Causality, node: Node, facts: Sequence[Fact]) -> Sequence[Fact]:
    """Windows that end at their place: as many values stand before the sequence as a window reaches back. One of a
    single place is a view of that.
    """
    axis, (fact,) = node.attrs["axis"], facts
    if not is_marked(fact.axes[axis]):
        return [of.alike(node, facts)]
    if is_view(node):
        return _reshape(of, node, facts)
    reach = (node.attrs["kernel"] - 1) * node.attrs["dilation"]
    if node.attrs["step"] != 1 or fact.lag < reach or not is_whole(fact.axes[axis]):
        raise LooksAhead("these windows see later places of the sequence, or leave some out", node,
                         ("A convolution that ends at its place has all its padding before it: "
                             "`padding = [[dilation * (kernel - 1), 0]]`."))  # fmt: skip
    kernel = plain((node.attrs["kernel"],))
    return [
        Fact(
            (*fact.axes[:axis], (Part(node.attrs["size"], True),), *kernel, *fact.axes[axis + 1 :]),
            lag=fact.lag - reach,
        )
    ]


def is_view(node: Node) -> bool:
    """Whether windows hold one place each, of all places."""
    return bool(node.attrs["kernel"] == 1 and node.attrs["size"] == node.operands[0].type.shape[node.attrs["axis"]])


def _overlap_add(of: Causality, node: Node, facts: Sequence[Fact]) -> Sequence[Fact]:
    """What the windows at the places before add to a place, a convolution's adjoint, never comes from a later one."""
    axis, (fact,) = node.attrs["axis"], facts
    if not is_marked(fact.axes[axis]) and not is_marked(fact.axes[axis + 1]):
        return [of.alike(node, facts)]
    if node.attrs["step"] != 1 or not is_whole(fact.axes[axis]) or len(marks(fact.axes)) > 1:
        raise LooksAhead("this puts places between the places of the sequence", node)
    return [Fact((*fact.axes[:axis], (Part(node.attrs["size"], True),), *fact.axes[axis + 2 :]))]


def _concat(of: Causality, node: Node, facts: Sequence[Fact]) -> Sequence[Fact]:
    """So are other values that stand before it."""
    axis = node.attrs["axis"]
    if not any(is_marked(fact.axes[axis]) for fact in facts):
        return [of.alike(node, facts)]
    *before, fact = facts
    if any(one.moves for one in before) or not is_whole(fact.axes[axis]) or len(marks(fact.axes)) > 1:
        raise LooksAhead("this puts something behind the sequence", node)
    size, front = node.result.type.shape[axis], sum(int(str(value.type.shape[axis])) for value in node.operands[:-1])
    return [
        Fact(
            tuple((Part(size, True),) if k == axis else parts for k, parts in enumerate(fact.axes)),
            lag=fact.lag + front,
        )
    ]


def _running(of: Causality, node: Node, facts: Sequence[Fact]) -> Sequence[Fact]:
    """A running total along the sequence is carried from place to place."""
    axis = node.attrs["axis"]
    if not any(is_marked(fact.axes[axis]) for fact in facts):
        return [of.alike(node, facts)]
    if node.attrs["reverse"]:
        raise LooksAhead(f"this `{node.op}` begins at the end of the sequence", node)
    found = next(fact.axes for fact in facts if is_marked(fact.axes[axis]))
    if not is_whole(found[axis]) or any(fact.moves and fact.axes != found for fact in facts) or len(marks(found)) > 1:
        raise LooksAhead("this mixes places of the sequence with other places", node)
    return [Fact(found)]


def _attention(of: Causality, node: Node, facts: Sequence[Fact]) -> Sequence[Fact]:
    (q, k, v), rank = (fact.axes for fact in facts[:3]), node.result.type.rank
    if any(is_marked(axes[at]) for axes, at in ((q, rank - 1), (k, rank - 2), (v, rank - 1))):
        raise LooksAhead("this attention multiplies over the places of the sequence", node)
    moves = is_marked(k[rank - 1]) or is_marked(v[rank - 2])
    if moves and not (node.attrs["causal"] and is_whole(q[rank - 2])):
        raise LooksAhead("each query sees the keys of all places, later ones too", node,
                         "Attention that sees no later place has `causal = true`.")  # fmt: skip
    lead: list[Axis] = []
    for at in range(rank - 2):
        found = {axes[at] for axes in (q, k, v) if is_marked(axes[at])}
        if len(found) > 1 or (found and node.operands[0].type.shape[at] != node.operands[1].type.shape[at]):
            raise LooksAhead("this mixes places of the sequence with other places", node)
        lead.append(found.pop() if found else q[at])
    return [Fact((*lead, q[rank - 2], plain(node.result.type.shape)[rank - 1]))]


def _scan(of: Causality, node: Node, facts: Sequence[Fact]) -> Sequence[Fact]:
    first, second = node.attrs["carries"], node.attrs["carries"] + node.attrs["sequences"]
    if any(is_marked(fact.axes[0]) for fact in facts[first:second]):
        return _over_places(of, node, facts)
    return _over_turns(of, node, facts)


def _over_places(of: Causality, node: Node, facts: Sequence[Fact]) -> Sequence[Fact]:
    """A scan over the sequence."""
    first, second = node.attrs["carries"], node.attrs["carries"] + node.attrs["sequences"]
    if node.attrs["reverse"]:
        raise LooksAhead("this scan begins at the end of the sequence", node)
    for value, fact in zip(
        [*node.operands[:first], *node.operands[second:]], [*facts[:first], *facts[second:]], strict=True
    ):
        if fact.moves:
            raise LooksAhead(f"every step of this scan reads {described(value)} at all places of the sequence", node)
    for value, fact in zip(node.operands[first:second], facts[first:second], strict=True):
        if len(marks(fact.axes)) > is_whole(fact.axes[0]):
            raise LooksAhead(f"a step of this scan reads {described(value)} at all places of the sequence", node)
    made = []
    for k, value in enumerate(node.results):
        axes = plain(value.type.shape)
        ends = node.attrs["length"] != of.length
        if k < first and ends and (value in of.graph.uses or value in of.graph.output_values):
            raise LooksAhead("this scan ends before the sequence does", node)
        made.append(Fact(axes, last=True) if k < first else Fact(((Part(node.attrs["length"], True),), *axes[1:])))
    return made


def _over_turns(of: Causality, node: Node, facts: Sequence[Fact]) -> Sequence[Fact]:
    """A loop over something else, whose turns take and make values along the sequence."""
    (body,), first, second = node.regions, node.attrs["carries"], node.attrs["carries"] + node.attrs["sequences"]
    outside = {port.value: value for port, value in zip(body.inputs[second:], node.operands[second:], strict=True)}
    outlines = {inner: of.outline(value) for inner, value in outside.items()}
    facts = [replace(fact, lag=0) for fact in facts]
    carried = list(facts[:first])
    while True:
        walked = [Fact(fact.axes[1:]) for fact in facts[first:second]]
        inputs = dict(zip((port.value for port in body.inputs), [*carried, *walked, *facts[second:]], strict=True))
        inner = Causality(
            body, inputs, of.length, lambda value: of.array(outside[value]) if value in outside else None, outlines
        )
        made = [inner.facts[port.value] for port in body.outputs]
        joined = [_joined(node, before, after) for before, after in zip(carried, made[:first], strict=True)]
        if joined == carried:
            break
        carried = joined
    of.bodies[node.results[0]] = inner
    masked = [of.outline(value) for value in node.operands[:second]] + [
        inner.outline(port.value) for port in body.outputs
    ]
    if not all(is_moderate(outline) for outline in masked):
        raise LooksAhead("a turn of this loop takes or makes what is masked", node)
    for fact in (*carried, *made):
        if len(marks(fact.axes)) > 1:
            raise LooksAhead("a turn of this loop makes something of two places of the sequence", node)
    turns = plain((node.attrs["length"],))
    return [*carried, *(Fact((*turns, *fact.axes), last=fact.last) for fact in made[first:])]


def _joined(node: Node, one: Fact, other: Fact) -> Fact:
    """What is known of a carry that is the one before the first turn, and the other after a turn."""
    if one.last or other.last:
        raise LooksAhead("what the end of the sequence gives is used at its places", node)
    axes = []
    for a, b in zip(one.axes, other.axes, strict=True):
        if is_marked(a) and is_marked(b) and a != b:
            raise LooksAhead("this mixes places of the sequence with other places", node)
        axes.append(b if is_marked(b) else a)
    return Fact(tuple(axes))


SPECIAL: Mapping[str, Callable[[Causality, Node, Sequence[Fact]], Sequence[Fact]]] = {
    "reshape": _reshape,
    "slice": _slice,
    "pad": _pad,
    "windows": _windows,
    "overlap_add": _overlap_add,
    "concat": _concat,
    **dict.fromkeys(("cumsum", "cumprod", "linear_scan", "strong_scan"), _running),
    "attention": _attention,
    "scan": _scan,
}
