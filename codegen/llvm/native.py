"""LLVM IR text to machine code: object files, assembly, and objects loaded into this process.

Code made to run now and code written to disk are the same object: `compile_object` makes it, `load` links one into
the process. No pass over LLVM IR runs; code generation is at its highest level. The only module that imports
llvmlite, apart from the question which machine this is.

llvmlite holds one lock around each of its calls, for its modules are of one context of LLVM's. Here each module has a
context of its own and is no other thread's, as LLVM asks of who uses it from several; so these calls go past the lock,
and several threads make code at once.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import llvmlite.binding as llvm

from tapeless.codegen.llvm.objects import read
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


def compile_object(text: str, target: Target) -> bytes:
    """The object file (position independent) of a module's text. Raises RuntimeError with LLVM's words."""
    machine, lib = _machine(target), _unlocked()
    with llvm.create_context() as context, _Words() as words:
        module = lib.LLVMPY_ParseAssembly(context, text.encode(), words)
        if not module:
            raise RuntimeError(f"LLVM IR parsing error\n{words}")
        try:
            lib.LLVMPY_SetDataLayout(module, str(machine.target_data).encode())
            if lib.LLVMPY_VerifyModule(module, words):
                raise RuntimeError(str(words))
            code = lib.LLVMPY_TargetMachineEmitToMemory(machine, module, 1, words)
        finally:
            lib.LLVMPY_DisposeModule(module)
        if not code:
            raise RuntimeError(str(words))
    try:
        return ctypes.string_at(lib.LLVMPY_GetBufferStart(code), lib.LLVMPY_GetBufferSize(code))
    finally:
        lib.LLVMPY_DisposeMemoryBuffer(code)


_CALLS = (
    *("ParseAssembly", "SetDataLayout", "VerifyModule", "TargetMachineEmitToMemory", "DisposeModule"),
    *("GetBufferStart", "GetBufferSize", "DisposeMemoryBuffer", "DisposeString"),
)


@lru_cache(maxsize=1)
def _unlocked() -> ctypes.CDLL:
    """llvmlite's library without its lock."""
    locked = llvm.ffi.lib
    library = ctypes.CDLL(locked._name, handle=locked._handle)
    for name in _CALLS:
        ours, theirs = getattr(library, f"LLVMPY_{name}"), getattr(locked, f"LLVMPY_{name}")
        ours.argtypes, ours.restype = theirs.argtypes, theirs.restype
    return library


class _Words:
    """What LLVM says of a fault: the place where it puts its text, which is freed here."""

    def __enter__(self) -> _Words:
        self._text = ctypes.c_char_p()
        self._as_parameter_ = ctypes.byref(self._text)
        return self

    def __str__(self) -> str:
        return (self._text.value or b"").decode("utf-8", "replace")

    def __exit__(self, *_: object) -> None:
        if self._text:
            _unlocked().LLVMPY_DisposeString(self._text)


def assembly(text: str, target: Target) -> str:
    """The assembly that `compile_object` encodes."""
    machine = _machine(target)
    module = llvm.parse_assembly(text)
    module.verify()
    module.data_layout = str(machine.target_data)
    emitted: str = machine.emit_assembly(module)
    return emitted


def version() -> str:
    """LLVM's version: part of what a cached object is found by."""
    return ".".join(str(number) for number in llvm.llvm_version_info)


def undefined_symbols(object_file: bytes) -> list[str]:
    """Names that an ELF object (64 bits, little-endian) needs from outside; empty for every object made here."""
    if object_file[:6] != b"\x7fELF\x02\x01":
        raise ValueError("not a little-endian ELF object of 64 bits")
    _, (_, *symbols) = read(object_file)  # the first is empty by definition
    return [symbol.name.decode() for symbol in symbols if symbol.section == 0]


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
