"""How LLVM spells the loop IR's types and numbers."""

from __future__ import annotations

import struct

from tapeless.codegen.loops.language import Type

__all__ = ["LLVM_KIND", "mangle", "number", "spell"]

LLVM_KIND = {"f32": "float", "f64": "double", "i32": "i32", "u32": "i32", "i64": "i64", "i1": "i1"}
_MANGLED = {"float": "f32", "double": "f64"}

_spelled: dict[Type, str] = {}


def spell(type: Type) -> str:
    """A type as LLVM writes it."""
    text = _spelled.get(type)
    if text is None:
        kind = LLVM_KIND[type.kind]
        text = kind if type.lanes == 1 else f"<{type.lanes} x {kind}>"
        _spelled[type] = text
    return text


def mangle(kind: str, lanes: int) -> str:
    short = _MANGLED.get(kind, kind)
    return short if lanes == 1 else f"v{lanes}{short}"


def number(value: float | int | bool, kind: str) -> str:
    if kind == "f32":
        rounded = struct.unpack("f", struct.pack("f", value))[0]
        return f"0x{struct.unpack('Q', struct.pack('d', rounded))[0]:016X}"
    if kind == "f64":
        return f"0x{struct.unpack('Q', struct.pack('d', value))[0]:016X}"
    if kind == "i1":
        return "true" if value else "false"
    return str(int(value))
