"""Objects that tests have had made, found by what decides what they are: text, target, LLVM and how it is asked."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from tapeless.ir.target import Target

__all__ = ["KeptObjects"]

Maker = Callable[[str, Target], bytes]
DAYS = 7  # after which what no run has asked for goes
LARGEST = 1 << 20  # bytes of what is kept: a module for an emulator holds its memory, and is 33 MB


class KeptObjects:
    """In place of `make`, whose source is part of what an object is found by: another way to ask LLVM asks anew."""

    def __init__(self, folder: Path, make: Maker) -> None:
        self.folder = folder
        self.make = make
        source = Path(make.__code__.co_filename).read_bytes()
        self.maker = hashlib.sha256(version("llvmlite").encode() + source).hexdigest()
        before = time.time() - DAYS * 24 * 3600
        for path in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another worker has seen to it
                if path.stat().st_mtime < before:
                    path.unlink()

    def __call__(self, text: str, target: Target) -> bytes:
        path = self.folder / hashlib.sha256(f"{self.maker}\n{target!r}\n{text}".encode()).hexdigest()
        try:
            kept = path.read_bytes()
            os.utime(path)
            return kept
        except OSError:
            made = self.make(text, target)
        if len(made) <= LARGEST:
            self._keep(path, made)
        return made

    def _keep(self, path: Path, made: bytes) -> None:
        """Whole or not at all, for whoever reads meanwhile; not where the disk has no room."""
        own = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        try:
            own.write_bytes(made)
            own.replace(path)
        except OSError:
            own.unlink(missing_ok=True)
