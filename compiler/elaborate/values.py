"""What an expression of the language can be: numbers known when compiling, computed tensors, sizes, and callables.

Compile-time numbers, booleans, texts and lists are Python's own int, float, bool, str and tuple.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from tapeless.compiler.language import ast
from tapeless.compiler.messages.diagnostics import Diagnostic
from tapeless.ir.graph import Span, Value
from tapeless.ir.types import Dim, DType, Rows

if TYPE_CHECKING:
    from tapeless.compiler.elaborate.modules import Module


@dataclass(frozen=True, slots=True)
class Computed:
    """A tensor computed at run time. `bound` is an exclusive upper bound of an integer tensor's elements, where one
    is known.
    """

    value: Value
    bound: int | None = None

    @property
    def shape(self) -> tuple[Dim, ...]:
        return self.value.type.shape

    @property
    def dtype(self) -> DType:
        return self.value.type.dtype

    @property
    def rank(self) -> int:
        return len(self.value.type.shape)


@dataclass(frozen=True, slots=True)
class Defined:
    """A `fn`, `layer` or `optimizer` written in the language, with the module whose names its body sees."""

    definition: ast.Definition
    module: Module


@dataclass(frozen=True, slots=True)
class Builtin:
    """A function that the language cannot express. `parameters` are its names in order; those in `defaults` may be
    left out.
    """

    name: str
    run: Callable[..., Any]
    parameters: tuple[str, ...]
    defaults: dict[str, Any]
    variadic: bool = False
    elementwise: bool = False  # each element of the result is made of those at the same place


@dataclass(slots=True)
class Instance:
    """One layer made by `use`: its calls share parameters. `taken` are the prefixes in use when it was made."""

    name: str
    layer: Defined
    arguments: dict[str, tuple[Evaluated, ast.Argument]]
    frame: Any
    taken: frozenset[str] | None = None
    path: str | None = None


@dataclass(frozen=True, slots=True)
class AllBut:
    """`all but c`: every axis of a tensor but these, counted from the front (or, negative, from the back)."""

    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Hole:
    """`_`: the size that follows from the others."""


class Poison:
    """The value of a name whose making failed; every use of it is silent."""


POISON = Poison()

Evaluated: TypeAlias = (
    "Computed | int | float | bool | str | Rows | tuple[Any, ...] | Defined | Builtin | Instance | AllBut | Hole | "
    "Poison"
)


@dataclass(slots=True)
class Binding:
    """A name's value and, for messages, what it is called there and where it came from (`relation` line N)."""

    value: Any
    subject: str
    span: Span | None
    relation: str = "declared"
    kind: str = "name"
    syntax: Any = None
    extra: dict[str, Any] = field(default_factory=dict)


class Fault(Exception):
    """A user's fault, found; whoever runs the statement reports it and goes on with the next."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic


class TooLarge(Exception):
    """The program grows beyond what can be compiled; the message says by what, the span says where it was noticed."""

    def __init__(self, message: str, span: Span) -> None:
        super().__init__(message)
        self.span = span


class Poisoned(Exception):
    """The value depends on a fault that has been reported."""


_KINDS = {DType.I32: "int", DType.U32: "int", DType.BOOL: "bool"}


LONGEST_LIST, DEEPEST_LIST = 100_000, 32


def bounded(items: tuple[Any, ...], span: Span) -> tuple[Any, ...]:
    """A list that holds no more than can be gone through, lists in it included. Raises TooLarge.

    One list can stand in another many times, so that a few lines hold 2**40 numbers: each is counted once here.
    """
    known: dict[int, tuple[int, int]] = {}

    def measured(item: Any) -> tuple[int, int]:
        if not isinstance(item, tuple):
            return 1, 0
        if id(item) not in known:
            parts = [measured(part) for part in item]
            known[id(item)] = sum(count for count, _ in parts), 1 + max((depth for _, depth in parts), default=0)
        return known[id(item)]

    count, depth = measured(items)
    if count > LONGEST_LIST:
        raise TooLarge(f"this list holds {count} numbers; at most {LONGEST_LIST} are possible", span)
    if depth > DEEPEST_LIST:
        raise TooLarge(f"this list is nested {depth} times; at most {DEEPEST_LIST} are possible", span)
    return items


class Compared(tuple[bool, ...]):
    """Two lists compared item by item; where a condition is wanted, `whole` is the answer for all of them."""

    whole: bool

    @staticmethod
    def of(items: Iterable[bool], whole: bool) -> Compared:
        made = Compared(items)
        made.whole = whole
        return made


def is_numbers(value: Any) -> bool:
    """A number known when compiling, or a list of such numbers and lists."""
    if isinstance(value, tuple):
        return bool(value) and all(is_numbers(item) for item in value)
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def shape_text(shape: Iterable[Dim]) -> str:
    """A shape as programs write it."""
    return "[" + ", ".join(str(dim) for dim in shape) + "]"


def describe(value: Evaluated) -> str:
    """A value's kind as messages name it: `[batch, 64]`, `int[batch]`, `the number 3`."""
    if isinstance(value, Computed):
        kind = _KINDS.get(value.dtype, "")
        if not value.shape:
            return {"int": "a single int", "bool": "a single bool"}.get(kind, "a single number")
        return kind + shape_text(value.shape)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"the number {value:g}" if isinstance(value, float) else f"the number {value}"
    if isinstance(value, str):
        return f"the text '{value}'"
    if isinstance(value, Rows):
        return f"the size {value}"
    if isinstance(value, tuple):
        return f"a list of {len(value)}"
    if isinstance(value, Defined):
        return f"the {'function' if value.definition.kind == 'fn' else value.definition.kind} `{value.definition.name}`"
    if isinstance(value, Builtin):
        return f"the function `{value.name}`"
    if isinstance(value, Instance):
        return f"the layer `{value.name}`"
    if isinstance(value, AllBut):
        return "a selection of axes"
    return "no value"
