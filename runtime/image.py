"""Machine code in memory: a manifest and the addresses of its entries.

The code comes either as an object file, which `elf.py` places in memory or else llvmlite's linker (imported only then),
or as a shared library, for which ctypes is enough.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import struct
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tapeless.runtime import elf
from tapeless.runtime.errors import UserError
from tapeless.runtime.manifest import Manifest
from tapeless.runtime.turns import BUILDING

MAGIC = b"TAPELESS"


def pack(manifest: Mapping[str, Any], code: bytes) -> bytes:
    """One run of bytes: the magic word, the length of the manifest (u64, little-endian), it as JSON, the object."""
    text = json.dumps(manifest, separators=(",", ":")).encode()
    return MAGIC + struct.pack("<Q", len(text)) + text + code


def unpack(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The reverse of `pack`; ValueError if the bytes are not an image."""
    start = len(MAGIC) + 8
    if content[: len(MAGIC)] != MAGIC or len(content) < start:
        raise ValueError("not an image")
    (length,) = struct.unpack("<Q", content[len(MAGIC) : start])
    manifest = json.loads(content[start : start + length])
    return manifest, content[start + length :]


class Image:
    """Entries that can be called: `addresses[entry]` is the native function of that name."""

    def __init__(self, manifest: Manifest, addresses: Mapping[str, int], keep_alive: object, digest: str) -> None:
        self.manifest = manifest
        self.addresses = dict(addresses)
        self.digest = digest  # of the machine code: equal digests compute equal bits
        self._keep_alive = keep_alive  # the code is unmapped when its owner is collected

    @staticmethod
    def from_bytes(content: bytes) -> Image:
        manifest, code = unpack(content)
        return Image.from_object(manifest, code)

    @staticmethod
    def from_object(manifest: Mapping[str, Any], code: bytes) -> Image:
        """Links an object file for this machine into memory."""
        description = Manifest.from_json(manifest)
        symbols = [entry.symbol for entry in description.entries.values()]
        linked: elf.Placed | _Linked | None = elf.place(code, symbols)
        if linked is None:
            with BUILDING:
                linked = _Linked(code, symbols)
        addresses = {name: linked.addresses[entry.symbol] for name, entry in description.entries.items()}
        return Image(description, addresses, linked, hashlib.sha256(code).hexdigest())

    @staticmethod
    def from_library(path: str | Path) -> Image:
        """Loads a shared library that `tapeless build` wrote; its manifest lies beside it as `<name>.json`."""
        path = Path(path).resolve()
        beside = path.with_suffix(".json")
        try:
            manifest = Manifest.from_json(json.loads(beside.read_text("utf-8")))
            library = ctypes.CDLL(str(path))
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{path} can't be loaded as a compiled program: {error}") from error
        addresses = {}
        for name, entry in manifest.entries.items():
            pointer = ctypes.cast(getattr(library, entry.symbol), ctypes.c_void_p).value
            assert pointer is not None
            addresses[name] = pointer
        return Image(manifest, addresses, library, hashlib.sha256(path.read_bytes()).hexdigest())


class _Linked:
    """An object file in memory, with a linker of its own: one that several shared would never forget the names of
    what is gone.
    """

    def __init__(self, code: bytes, symbols: list[str]) -> None:
        binding = _binding()
        self._jit = binding.create_lljit_compiler()
        library = binding.JITLibraryBuilder().add_object_img(code)
        for symbol in symbols:
            library = library.export_symbol(symbol)
        self._tracker = library.link(self._jit, "program")
        self.addresses = {symbol: self._tracker[symbol] for symbol in symbols}

    def __del__(self) -> None:
        for owned in ("_tracker", "_jit"):  # in this order; neither is there if linking failed
            if hasattr(self, owned):
                getattr(self, owned).close()


@cache
def _binding() -> Any:
    import llvmlite.binding as binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding
