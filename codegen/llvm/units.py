"""A program's definitions in units: modules that LLVM turns into machine code apart from each other, side by side.

A unit is a run of definitions in the order they come in, as long as a bound on its text says. So what a unit holds
follows from the program alone. Between units names are hidden: no other object sees them, and `objects.py` makes them
local again when it puts the units' objects together. A program of one unit is the plain module.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from tapeless.codegen.llvm.objects import joins
from tapeless.ir.target import Target

__all__ = ["Units", "bound_of"]

_UNIT = 64_000
"""Characters of text, as a bound: about 80 ms of code generation, of which a unit by itself costs 1 or 2, and short
beside what a large program takes on several processors."""

_DEFINED = re.compile(r"^(?:define [^@]*)?@([-\w.$]+)", re.MULTILINE)
_FUNCTION = re.compile(
    r"^define (?:internal )?(?P<result>\S+) @(?P<name>[-\w.$]+)\((?P<parameters>[^)]*)\)", re.MULTILINE
)
_CONSTANT = re.compile(r"^@(?P<name>[-\w.$]+) = internal constant (?P<type>\[[^]]*\])", re.MULTILINE)
_USE = re.compile(r"@(?!llvm\.)([-\w.$]+)")


def bound_of(target: Target) -> int | None:
    """The bound on the units of a program for a target; None where it is one module."""
    return _UNIT if joins(target.triple) else None


class Units:
    """Collects definitions. `begin` is told the text of each unit as soon as it is whole; without a `bound` there is
    one unit."""

    def __init__(self, head: str, begin: Callable[[str], None], bound: int | None) -> None:
        self._head, self._begin, self._bound = head, begin, bound
        self._declared: dict[str, str] = {}  # how other units declare a name
        self._open: list[str] = []
        self._length = 0
        self._several = False

    def add(self, texts: Iterable[str]) -> None:
        """Add definitions, each a text. They refer to each other and to what came before."""
        texts = list(texts)
        for text in texts:
            self._declared.update(_declarations(text))
        for text in texts:
            if self._open and self._bound is not None and self._length + len(text) > self._bound:
                self._several = True
                self._close()
            self._open.append(text)
            self._length += len(text)

    def finish(self) -> None:
        """There are no more definitions."""
        if self._several:
            self._close()
        else:
            self._begin(self._head + "\n".join(self._open))

    def _close(self) -> None:
        text = "\n".join(self._open)
        used = set(_USE.findall(text)) - set(_DEFINED.findall(text))
        hidden = re.sub(r"^(define |@\S+ = )internal ", r"\1hidden ", text, flags=re.MULTILINE)
        self._begin(self._head + hidden + "\n" + "".join(self._declared[name] for name in sorted(used)))
        self._open, self._length = [], 0


def _declarations(text: str) -> Iterator[tuple[str, str]]:
    """The names that a text defines for others, and how they declare them."""
    for found in _FUNCTION.finditer(text):
        types = ", ".join(parameter.split(" ")[0] for parameter in found["parameters"].split(", "))
        yield found["name"], f"declare hidden {found['result']} @{found['name']}({types})\n"
    for found in _CONSTANT.finditer(text):
        yield found["name"], f"@{found['name']} = external hidden constant {found['type']}\n"
