"""The abstract syntax tree of a model file: frozen dataclasses, each with the span of its text.

Nodes say what was written, never what it means. The whole grammar is here, also what elaboration refuses in this
version.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from tapeless.ir.graph import Span


@dataclass(frozen=True, slots=True)
class Syntax:
    """Whatever has a place in the text."""

    span: Span


# --- Expressions


@dataclass(frozen=True, slots=True)
class Number(Syntax):
    """`3`, `1e-3`: an int where it is written without fraction and exponent."""

    value: int | float


@dataclass(frozen=True, slots=True)
class Truth(Syntax):
    """`true` or `false`."""

    value: bool


@dataclass(frozen=True, slots=True)
class Text(Syntax):
    """`'*.b'`."""

    value: str


@dataclass(frozen=True, slots=True)
class Name(Syntax):
    """A name, with dots where it names something inside a namespace (`random.uniform`). `_` is a hole."""

    name: str


@dataclass(frozen=True, slots=True)
class Unary(Syntax):
    """`-x`, `not x`."""

    operator: str
    operand: Expression


@dataclass(frozen=True, slots=True)
class Binary(Syntax):
    """`x @ W`; also `and`, `or` and comparisons of two sides."""

    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Conditional(Syntax):
    """`a if condition else b`."""

    condition: Expression
    then: Expression
    otherwise: Expression


@dataclass(frozen=True, slots=True)
class Argument(Syntax):
    """One argument of a call; `name` is None for a positional one."""

    name: str | None
    value: Expression


@dataclass(frozen=True, slots=True)
class Call(Syntax):
    """`Dense(x, 64, act = relu)`."""

    function: Expression
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class Slice(Syntax):
    """`1:`, `:`, `a:b:c` inside an index."""

    start: Expression | None
    stop: Expression | None
    step: Expression | None


@dataclass(frozen=True, slots=True)
class Ellipsis(Syntax):
    """`...` inside an index."""


@dataclass(frozen=True, slots=True)
class Index(Syntax):
    """`x[:, 0]`, `E[tokens]`, `x[t - 1] else 0`."""

    value: Expression
    items: tuple[Expression | Slice | Ellipsis, ...]
    otherwise: Expression | None = None


@dataclass(frozen=True, slots=True)
class Items(Syntax):
    """`[batch, 8, 8]`."""

    items: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Several(Syntax):
    """`m, v` on the right of an assignment or after `return`."""

    items: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class IndexVariable(Syntax):
    """`u` or `u: 2` in `sum[u, v: 2]`."""

    name: str
    size: Expression | None


@dataclass(frozen=True, slots=True)
class Reduction(Syntax):
    """`sum[k where k <= q] w[n, q, k]`."""

    operator: str
    variables: tuple[IndexVariable, ...]
    condition: Expression | None
    body: Expression


@dataclass(frozen=True, slots=True)
class AllBut(Syntax):
    """`all but c`: an axis selection."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stacked(Syntax):
    """`stacked h`: what a scan yielded."""

    name: str


Expression: TypeAlias = (
    Number
    | Truth
    | Text
    | Name
    | Unary
    | Binary
    | Conditional
    | Call
    | Index
    | Items
    | Several
    | Reduction
    | AllBut
    | Stacked
)


# --- Types and parameters


@dataclass(frozen=True, slots=True)
class TypeNote(Syntax):
    """`[batch, 64]`, `int[batch]`, `int`; `kind` is real, int or bool."""

    kind: str
    dims: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Pattern(Syntax):
    """The shape of an argument, `[.., i]` or `[n, c, ..]`: names, whole numbers, and `..` at most once."""

    items: tuple[Name | Number | Ellipsis, ...]


@dataclass(frozen=True, slots=True)
class Parameter(Syntax):
    """A parameter of a function, layer, optimizer or model."""

    name: str
    pattern: Pattern | None
    default: Expression | None


# --- Statements


@dataclass(frozen=True, slots=True)
class Input(Syntax):
    """`input image: [batch, 64]`, `target label: int[batch] < classes`."""

    role: str
    name: str
    type: TypeNote
    bound: Expression | None


@dataclass(frozen=True, slots=True)
class Param(Syntax):
    """`param W: [i, units] ~ he_normal`, `param rate = 0.5`."""

    name: str
    dims: tuple[Expression, ...] | None
    value: Expression | None
    initialiser: Expression | None
    frozen: bool


@dataclass(frozen=True, slots=True)
class State(Syntax):
    """`state mean: [c] = 0`."""

    name: str
    dims: tuple[Expression, ...] | None
    value: Expression | None


@dataclass(frozen=True, slots=True)
class Target(Syntax):
    """A name on the left of an assignment; with index variables in index notation."""

    name: str
    indices: tuple[Expression | IndexVariable, ...] | None = None


@dataclass(frozen=True, slots=True)
class Assign(Syntax):
    """`h = ...`, `m, v = ...`, `y[n, o] = ...`."""

    targets: tuple[Target, ...]
    value: Expression


@dataclass(frozen=True, slots=True)
class Output(Syntax):
    """`output probs = softmax(logits)`, `output h`."""

    name: str
    value: Expression | None


@dataclass(frozen=True, slots=True)
class Loss(Syntax):
    """`loss ... as smoothness`."""

    value: Expression
    name: str | None


@dataclass(frozen=True, slots=True)
class Metric(Syntax):
    """`metric accuracy = ...`, `metric f1 = a / b total`."""

    name: str
    value: Expression
    total: bool


@dataclass(frozen=True, slots=True)
class Require(Syntax):
    """`require c % heads == 0, 'the heads share the channels evenly'`."""

    condition: Expression
    message: Text


@dataclass(frozen=True, slots=True)
class Return(Syntax):
    """`return y`."""

    value: Expression


@dataclass(frozen=True, slots=True)
class Yield(Syntax):
    """`yield h` in a scan."""

    value: Expression


@dataclass(frozen=True, slots=True)
class If(Syntax):
    """`if training:` with its branches; an `else if` is an If alone in `otherwise`."""

    condition: Expression
    then: tuple[Statement, ...]
    otherwise: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class For(Syntax):
    """`for k in 0..depth:`, or `for width in [64, 32]:`, whose `start` is the list; with `stacked` written `repeat`."""

    name: str
    start: Expression
    stop: Expression | None
    body: tuple[Statement, ...]
    stacked: bool


@dataclass(frozen=True, slots=True)
class Carry(Syntax):
    """`h: [b, units] = 0` in the head of a scan."""

    name: str
    dims: tuple[Expression, ...] | None
    value: Expression


@dataclass(frozen=True, slots=True)
class Scan(Syntax):
    """`scan over t reverse lengths = n checkpoint every = 8 with h: [b, units] = 0:`; `reverse` alone is `reverse =
    true`.
    """

    axis: str
    options: tuple[Argument, ...]
    carries: tuple[Carry, ...]
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Use(Syntax):
    """`use encoder = Dense(units = 64)`."""

    name: str
    call: Expression


@dataclass(frozen=True, slots=True)
class Broken(Syntax):
    """A line or block that could not be read, with the names it may have made, so that their later uses are no new
    faults.
    """

    names: tuple[str, ...]


Statement: TypeAlias = (
    Input | Param | State | Assign | Output | Loss | Metric | Require | Return | Yield | If | For | Scan | Use | Broken
)


# --- Declarations


@dataclass(frozen=True, slots=True)
class Import(Syntax):
    """`import "other.tl"`."""

    path: str


@dataclass(frozen=True, slots=True)
class Definition(Syntax):
    """`fn`, `layer`, `optimizer` or `model`, as `kind` says. A one-line `fn` has a body of one Return, and may have
    a derivative by each parameter. `head` is the name's span.
    """

    kind: str
    name: str
    head: Span
    parameters: tuple[Parameter, ...]
    body: tuple[Statement, ...]
    derivatives: tuple[Expression, ...] = ()


@dataclass(frozen=True, slots=True)
class Setting(Syntax):
    """A line of a train section: `epochs 30`, `stop_early patience = 5 on accuracy rising`.

    `values` are positional, `named` come after a name and `=`; `words` are what stands after `on`; `patterns` those
    of `except`.
    """

    name: str
    values: tuple[Expression, ...]
    named: tuple[Argument, ...]
    words: tuple[Name, ...]
    patterns: tuple[Text, ...]


@dataclass(frozen=True, slots=True)
class Train(Syntax):
    """`train Digits:`."""

    model: str
    head: Span
    settings: tuple[Setting | Broken, ...]


Declaration: TypeAlias = Import | Definition | Train | Broken


@dataclass(frozen=True, slots=True)
class File(Syntax):
    """A whole file, in order."""

    declarations: tuple[Declaration, ...]


# --- Walking


def children(item: Syntax) -> list[Syntax]:
    """The nodes right below a node, in the order of the text."""
    found: list[Syntax] = []
    for name in item.__dataclass_fields__:
        value = getattr(item, name)
        if isinstance(value, Syntax):
            found.append(value)
        elif isinstance(value, tuple):
            found += [child for child in value if isinstance(child, Syntax)]
    return found


def walk(item: Syntax) -> Iterator[Syntax]:
    """A node and all below it, in the order of the text."""
    pending = [item]
    while pending:
        here = pending.pop()
        yield here
        pending += reversed(children(here))
