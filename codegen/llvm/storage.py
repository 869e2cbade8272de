"""How an element that is one type in memory and another in registers is brought in and put back: for each such type
of `abi.dtypes`, the lines after its load and before its store.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tapeless.codegen.llvm.types import spell_as
from tapeless.codegen.loops.language import Operand

if TYPE_CHECKING:
    from tapeless.codegen.llvm.functions import Writer

__all__ = ["CONVERSIONS"]


@dataclass(frozen=True)
class Conversion:
    """`bring` makes the result of what was loaded, both named, for so many lanes; `put` names what to store."""

    bring: Callable[[Writer, str, str, int], None]
    put: Callable[[Writer, Operand], str]


def _mask_of_bytes(writer: Writer, result: str, stored: str, lanes: int) -> None:
    zero = "0" if lanes == 1 else "zeroinitializer"
    writer.lines.append(f"  {result} = icmp ne {spell_as('i8', lanes)} {stored}, {zero}")


def _bytes_of_mask(writer: Writer, value: Operand) -> str:
    name = writer.temporary()
    writer.lines.append(f"  {name} = zext {writer.typed(value)} to {spell_as('i8', value.type.lanes)}")
    return name


CONVERSIONS = {"bool": Conversion(_mask_of_bytes, _bytes_of_mask)}
