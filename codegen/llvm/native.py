"""LLVM IR text to machine code: object files, assembly, and objects loaded into this process.

Code made to run now and code written to disk are the same object: `compile_object` makes it, `load` links one into
the process. No pass over LLVM IR runs; code generation is at its highest level. The only module that imports
llvmlite, apart from the question which machine this is.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import llvmlite.binding as llvm

from tapeless.ir.target import Target

__all__ = ["Loaded", "assembly", "compile_object", "load", "undefined_symbols", "version"]


@lru_cache(maxsize=1)
def _initialize() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    llvm.initialize_native_asmparser()


@lru_cache(maxsize=1)
def _initialize_native() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def _machine(target: Target) -> Any:
    if target.name == "host":
        _initialize_native()
    else:
        _initialize()
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=3, reloc="pic", codemodel="default"
    )


def _module(text: str, machine: Any) -> Any:
    module = llvm.parse_assembly(text)
    module.verify()
    module.data_layout = str(machine.target_data)
    return module


def compile_object(text: str, target: Target) -> bytes:
    """The object file (position independent) of a module's text. Raises RuntimeError with LLVM's words."""
    machine = _machine(target)
    emitted: bytes = machine.emit_object(_module(text, machine))
    return emitted


def assembly(text: str, target: Target) -> str:
    """The assembly that `compile_object` encodes."""
    machine = _machine(target)
    emitted: str = machine.emit_assembly(_module(text, machine))
    return emitted


def version() -> str:
    """LLVM's version: part of what a cached object is found by."""
    return ".".join(str(number) for number in llvm.llvm_version_info)


def undefined_symbols(object_file: bytes) -> list[str]:
    """Names that an ELF object (64 bits, little-endian) needs from outside; empty for every object made here."""
    if object_file[:6] != b"\x7fELF\x02\x01":
        raise ValueError("not a little-endian ELF object of 64 bits")

    def number(offset: int, size: int) -> int:
        return int.from_bytes(object_file[offset : offset + size], "little")

    table, entry, count = number(0x28, 8), number(0x3A, 2), number(0x3C, 2)
    names: list[str] = []
    for header in range(table, table + entry * count, entry):
        if number(header + 4, 4) != 2:  # SHT_SYMTAB
            continue
        offset, size, link = number(header + 24, 8), number(header + 32, 8), number(header + 40, 4)
        strings = number(table + entry * link + 24, 8)
        for symbol in range(offset + 24, offset + size, 24):  # the first symbol is empty by definition
            if number(symbol + 6, 2) == 0:  # SHN_UNDEF
                start = strings + number(symbol, 4)
                names.append(object_file[start : object_file.index(b"\0", start)].decode())
    return names


class Loaded:
    """An object linked into this process. Its code lives as long as this value."""

    def __init__(self, jit: Any, tracker: Any, addresses: dict[str, int]) -> None:
        self._jit = jit
        self._tracker = tracker
        self.addresses = addresses

    def function(self, symbol: str, *argument_types: Any, result: Any = None) -> Any:
        return ctypes.CFUNCTYPE(result, *argument_types)(self.addresses[symbol])


def load(object_file: bytes, symbols: Iterable[str]) -> Loaded:
    """Links an object for this machine into the process and finds the addresses of `symbols`."""
    _initialize_native()
    jit = llvm.create_lljit_compiler()
    builder = llvm.JITLibraryBuilder().add_object_img(object_file)
    for symbol in symbols:
        builder.export_symbol(symbol)
    tracker = builder.link(jit, "tapeless")
    return Loaded(jit, tracker, {symbol: tracker[symbol] for symbol in symbols})
