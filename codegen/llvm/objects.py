"""Several ELF objects as one, as a linker's partial link does it: for the objects that LLVM made of a program's units.

Sections of one name follow each other in one. A name that one unit defines and others use is resolved, and is local
afterwards: from outside, the object is what LLVM would have made of all definitions in one module.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

__all__ = ["joined", "joins", "read"]

_HEADER, _SECTION = struct.Struct("<16sHHIQQQIHHHHHH"), struct.Struct("<IIQQQQIIQQ")
_SYMBOL, _RELOCATION = struct.Struct("<IBBHQQ"), struct.Struct("<QQq")
_SYMBOLS, _STRINGS, _RELOCATIONS, _ZEROS = 2, 3, 4, 8  # types of sections
_LOADED = 2  # of a section's flags: it is part of the running program
_OF_SECTION, _HIDDEN = 3, 2  # a symbol's type: it stands for a section; its visibility: no other program sees it
_RESERVED = 0xFF00  # from here on the number of a symbol's section stands for something else


@dataclass(frozen=True, slots=True)
class _Section:
    """Without its place in the file. What a relocation section is for is `info`, and `link` the table of symbols."""

    name: bytes
    type: int
    flags: int
    link: int
    info: int
    alignment: int
    entry: int
    content: bytes
    zeros: int = 0  # so many bytes follow that the file does not have


@dataclass(frozen=True, slots=True)
class _Symbol:
    name: bytes
    type: int
    binding: int
    visibility: int
    section: int
    value: int
    size: int


_NONE = _Symbol(b"", 0, 0, 0, 0, 0, 0)  # the first of each table


def joins(triple: str) -> bool:
    """Whether objects for a target can be put together here: ELF, 64 bits, little-endian, relocations with addends."""
    return "linux" in triple and triple.startswith(("x86_64", "aarch64", "riscv64"))


def joined(objects: Sequence[bytes]) -> bytes:
    """One object that defines what all these define. ValueError where a hidden name has no definition, or two."""
    if len(objects) == 1:
        return objects[0]
    found = [read(code) for code in objects]
    sections = _Sections()
    places = [[sections.place(section) for section in own] for own, _ in found]
    symbols = [
        symbol if symbol.section >= _RESERVED or symbol == _NONE else _moved(symbol, unit, *at[symbol.section])
        for unit, ((_, names), at) in enumerate(zip(found, places, strict=True))
        for symbol in names
    ]
    numbers, table = _resolved(symbols)
    first = 0
    for (own, names), at in zip(found, places, strict=True):
        for section in own:
            if section.type == _RELOCATIONS:
                relocated = []
                for offset, info, addend in _RELOCATION.iter_unpack(section.content):
                    symbol = info >> 32
                    by = at[names[symbol].section][1] if names[symbol].type == _OF_SECTION else 0
                    number = numbers[first + symbol] << 32 | info & 0xFFFFFFFF
                    relocated.append(_RELOCATION.pack(offset + at[section.info][1], number, addend + by))
                sections.relocate(replace(section, info=at[section.info][0]), b"".join(relocated))
        first += len(names)
    return _written(objects[0][: _HEADER.size], sections.finished(), table)


class _Sections:
    """The sections of the object that is made."""

    def __init__(self) -> None:
        self._first = [_Section(b"", 0, 0, 0, 0, 0, 0, b"")]  # how each began
        self._contents = [bytearray()]
        self._known: dict[tuple[object, ...], int] = {}
        self._relocations: dict[int, tuple[_Section, bytearray]] = {}

    def place(self, section: _Section) -> tuple[int, int]:
        """Where a section of an object goes: its number, and how far from there it begins."""
        if section.type in (0, _SYMBOLS, _STRINGS, _RELOCATIONS):
            return 0, 0
        key = (section.name, section.type, section.flags, section.entry)
        number = self._known.setdefault(key, len(self._first))
        if number == len(self._first):
            self._first.append(section)
            self._contents.append(bytearray(section.content))
            return number, 0
        first, content = self._first[number], self._contents[number]
        if section.type == _ZEROS:
            raise ValueError(f"two units have {section.name.decode()}")
        if not section.flags & _LOADED:
            return number, 0  # it says of each object the same: that no stack is executable, say
        self._first[number] = replace(first, alignment=max(first.alignment, section.alignment))
        content.extend(bytes(-len(content) % max(section.alignment, 1)))
        begin = len(content)
        content += section.content
        return number, begin

    def relocate(self, section: _Section, content: bytes) -> None:
        self._relocations.setdefault(section.info, (section, bytearray()))[1].extend(content)

    def finished(self) -> list[_Section]:
        """In order; the table of symbols is the next."""
        made = [replace(one, content=bytes(all)) for one, all in zip(self._first, self._contents, strict=True)]
        table = len(made) + len(self._relocations)
        return made + [replace(one, link=table, content=bytes(all)) for one, all in self._relocations.values()]


def _moved(symbol: _Symbol, unit: int, section: int, begin: int) -> _Symbol:
    """A unit's symbol in the whole. Local names, of constants say, get the unit's number: not every linker keeps apart
    two that are alike."""
    name, value = symbol.name, symbol.value
    if symbol.type != _OF_SECTION:
        value += begin
        name += b".%d" % unit if unit and not symbol.binding else b""
    return replace(symbol, name=name, section=section, value=value)


def read(code: bytes) -> tuple[list[_Section], list[_Symbol]]:
    """An object's sections and symbols, of which those of no section are needed from outside."""
    header = _HEADER.unpack_from(code)
    start, count, names = header[6], header[12], header[13]
    raw = [_SECTION.unpack_from(code, start + k * _SECTION.size) for k in range(count)]

    def text(section: int, at: int) -> bytes:
        begin = raw[section][4] + at
        return code[begin : code.index(b"\0", begin)]

    sections, symbols = [], []
    for name, type, flags, _, offset, size, link, info, alignment, entry in raw:
        content, zeros = (b"", size) if type == _ZEROS else (code[offset : offset + size], 0)
        sections.append(_Section(text(names, name), type, flags, link, info, alignment, entry, content, zeros))
        if type == _SYMBOLS:
            symbols = [
                _Symbol(text(link, spelled), kind & 15, kind >> 4, visibility, section, value, length)
                for spelled, kind, visibility, section, value, length in _SYMBOL.iter_unpack(content)
            ]
    return sections, symbols


def _resolved(symbols: Sequence[_Symbol]) -> tuple[list[int], list[_Symbol]]:
    """The place of each object's symbols in one table, and the table: local ones first, as the format wants it."""
    shared: dict[bytes, int] = {}  # by name, who speaks for what several objects know
    for k, symbol in enumerate(symbols):
        if symbol.binding and symbol.section:
            if symbol.name in shared:
                raise ValueError(f"{symbol.name.decode()} is defined twice")
            shared[symbol.name] = k
    for k, symbol in enumerate(symbols):
        if symbol.binding and shared.setdefault(symbol.name, k) == k and not symbol.section and symbol.visibility:
            raise ValueError(f"{symbol.name.decode()} is defined nowhere")
    kept = [k for k, symbol in enumerate(symbols) if symbol.binding or symbol != _NONE]
    speaking = [k for k in kept if not symbols[k].binding or shared[symbols[k].name] == k]
    speaking.sort(key=lambda k: _outside(symbols[k]))
    places = {k: place for place, k in enumerate(speaking, 1)}
    numbers = [places.get(shared[s.name] if s.binding else k, 0) for k, s in enumerate(symbols)]
    table = [symbols[k] if _outside(symbols[k]) else replace(symbols[k], binding=0, visibility=0) for k in speaking]
    return numbers, [_NONE, *table]


def _outside(symbol: _Symbol) -> bool:
    """Whether other objects see it."""
    return symbol.binding != 0 and symbol.visibility != _HIDDEN


def _written(header: bytes, sections: Sequence[_Section], symbols: Sequence[_Symbol]) -> bytes:
    strings = bytearray(b"\0")
    known: dict[bytes, int] = {b"": 0}

    def spelled(name: bytes) -> int:
        if name not in known:
            known[name] = len(strings)
            strings.extend(name + b"\0")
        return known[name]

    table = b"".join(
        _SYMBOL.pack(spelled(s.name), s.binding << 4 | s.type, s.visibility, s.section, s.value, s.size)
        for s in symbols
    )
    local = sum(not symbol.binding for symbol in symbols)
    last = len(sections) + 1
    sections = [
        *sections,
        _Section(b".symtab", _SYMBOLS, 0, last, local, 8, _SYMBOL.size, table),
        _Section(b".strtab", _STRINGS, 0, 0, 0, 1, 0, b""),
    ]
    names = [spelled(section.name) for section in sections]
    sections[last] = replace(sections[last], content=bytes(strings))
    made, headers = bytearray(header), []
    for name, section in zip(names, sections, strict=True):
        made.extend(bytes(-len(made) % max(section.alignment, 1)))
        place, size = len(made) if section.type else 0, len(section.content) + section.zeros
        headers.append(
            _SECTION.pack(
                name, section.type, section.flags, 0, place, size,
                section.link, section.info, section.alignment, section.entry,
            )
        )  # fmt: skip
        made += section.content
    made.extend(bytes(-len(made) % 8))
    fields = list(_HEADER.unpack(header))
    fields[6], fields[12], fields[13] = len(made), len(sections), last
    _HEADER.pack_into(made, 0, *fields)
    return bytes(made) + b"".join(headers)
