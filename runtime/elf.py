"""Placing an x86-64 ELF object in memory, as Linux has them: what llvmlite's linker does in general, for the objects
that this compiler makes. Those are code and constants that refer to each other by distance, and to nothing outside.

It spares a program from the cache LLVM: 45 MB, and the time to load it. What is not of that kind is left to LLVM.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SECTION, SYMBOL, RELOCATION = struct.Struct("<IIQQQQIIQQ"), struct.Struct("<IBBHQQ"), struct.Struct("<QQq")
SYMBOLS, RELOCATIONS, NOTHING, UNWINDING = 2, 4, 8, 0x70000001  # types of sections
WRITABLE, LOADED, EXECUTABLE = 1, 2, 4  # flags of sections
BY_DISTANCE = (2, 4)  # R_X86_64_PC32, R_X86_64_PLT32: 32 bits, from the place that refers
HEADER = b"\x7fELF\x02\x01\x01"
RELOCATABLE, X86_64 = 1, 62


@dataclass(frozen=True)
class Placed:
    """Code that can be called, until this is collected: the addresses of its functions by name."""

    addresses: Mapping[str, int]
    _memory: object


def place(code: bytes, symbols: Sequence[str]) -> Placed | None:
    """An object file with these functions in memory; None where this is not the machine, or not the kind of object."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return None
    try:
        return _placed(code, symbols)
    except (struct.error, LookupError, ValueError, OSError, MemoryError):
        return None


def _placed(code: bytes, symbols: Sequence[str]) -> Placed | None:
    kind, machine = struct.unpack_from("<HH", code, 16)
    if not code.startswith(HEADER) or (kind, machine) != (RELOCATABLE, X86_64):
        return None
    (start,) = struct.unpack_from("<Q", code, 0x28)
    _, count = struct.unpack_from("<HH", code, 0x3A)
    sections = [SECTION.unpack_from(code, start + k * SECTION.size) for k in range(count)]
    loaded = [k for k, (_, type, flags, *_) in enumerate(sections) if flags & LOADED and type != UNWINDING]
    if any(sections[k][2] & WRITABLE or sections[k][1] == NOTHING for k in loaded):
        return None
    places, executable, size = _layout(sections, loaded)
    memory = mmap.mmap(-1, max(size, 1))
    for k in loaded:
        _, _, _, _, offset, length, *_ = sections[k]
        memory[places[k] : places[k] + length] = code[offset : offset + length]
    named: dict[str, int] = {}
    for section in sections:
        if section[1] == SYMBOLS:
            known = [SYMBOL.unpack_from(code, section[4] + at) for at in range(0, section[5], SYMBOL.size)]
            text = sections[section[6]][4]
            named = {
                code[text + name : code.index(b"\0", text + name)].decode(): places[where] + value
                for name, _, _, where, value, _ in known
                if name and where in places
            }
    for section in sections:
        if section[1] == RELOCATIONS and section[7] in places:
            for at in range(0, section[5], RELOCATION.size):
                offset, info, addend = RELOCATION.unpack_from(code, section[4] + at)
                _, _, _, where, value, _ = known[info >> 32]
                if info & 0xFFFFFFFF not in BY_DISTANCE:
                    return None
                here = places[section[7]] + offset
                struct.pack_into("<i", memory, here, places[where] + value + addend - here)
    held = ctypes.c_char.from_buffer(memory)
    base = ctypes.addressof(held)
    _protect(base, executable, mmap.PROT_READ | mmap.PROT_EXEC)
    _protect(base + executable, size - executable, mmap.PROT_READ)
    return Placed({name: base + named[name] for name in symbols}, (held, memory))


def _layout(sections: Sequence[tuple[int, ...]], loaded: Sequence[int]) -> tuple[dict[int, int], int, int]:
    """The places of sections, code first, and the whole pages that code takes, and all of them."""
    places, end, executable = {}, 0, 0
    for code in (True, False):
        for k in loaded:
            if bool(sections[k][2] & EXECUTABLE) == code:
                places[k] = _aligned(end, max(sections[k][8], 1))
                end = places[k] + sections[k][5]
        end = _aligned(end, mmap.PAGESIZE)
        executable = end if code else executable
    return places, executable, end


def _aligned(count: int, to: int) -> int:
    return -(-count // to) * to


def _protect(address: int, size: int, access: int) -> None:
    """What may be done with some pages. OSError where that is not granted."""
    library = ctypes.CDLL(None, use_errno=True)
    if size and library.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), ctypes.c_int(access)):
        raise OSError(ctypes.get_errno(), "mprotect")
