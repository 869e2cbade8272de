"""How LLVM spells the loop IR's types and numbers."""

from __future__ import annotations

import struct

from tapeless.abi.dtypes import ScalarType
from tapeless.codegen.loops.language import Type

__all__ = ["mangle", "number", "spell", "spell_as"]

_spelled: dict[Type, str] = {}


def spell(type: Type) -> str:
    """A type as LLVM writes it."""
    text = _spelled.get(type)
    if text is None:
        text = _spelled[type] = spell_as(type.record.llvm, type.lanes)
    return text


def spell_as(element: str, lanes: int) -> str:
    """So many of what LLVM writes as `element`."""
    return element if lanes == 1 else f"<{lanes} x {element}>"


def mangle(element: ScalarType, lanes: int) -> str:
    """As the name of an intrinsic has it."""
    return element.mangled if lanes == 1 else f"v{lanes}{element.mangled}"


def number(value: float | int | bool, element: ScalarType) -> str:
    """A real number in the bits of the double that it is."""
    if element.is_real:
        code = _PACKED[element.bytes]
        (rounded,) = struct.unpack(code, struct.pack(code, value))
        return f"0x{struct.unpack('Q', struct.pack('d', rounded))[0]:016X}"
    if element.is_boolean:
        return "true" if value else "false"
    return str(int(value))


_PACKED = {4: "f", 8: "d"}
