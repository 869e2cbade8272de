"""Compiled programs on disk: found by everything that decides their bytes, and never a reason to fail.

Knows neither what it stores nor how that is made. An entry that is corrupt, or a folder that can't be written, means
that the program is compiled again. An entry is run, so it counts only where nobody else can have written it; else it is
as if there were no cache, with one warning.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import re
import sys
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tapeless.guarded_folder import GuardedFolder, Unsafe
from tapeless.runtime.errors import printable

LIMIT = 256 << 20  # bytes in all; a program of the digits' size takes some 100 kB
SUFFIX = ".image"
_SIZE = hashlib.sha256().digest_size


class Cache:
    """A folder of entries, the least recently used of which are removed when they outgrow `limit` bytes together."""

    def __init__(self, folder: Path | None = None, limit: int = LIMIT) -> None:
        self._folder = folder
        self._usual = folder is None
        self._limit = limit

    @property
    def folder(self) -> Path:
        if self._folder is None:
            from platformdirs import user_cache_path

            self._folder = user_cache_path("tapeless", appauthor=False)
        return self._folder

    def get(self, key: str) -> bytes | None:
        """The content stored under `key`, if it is there, whole, and this user's own."""
        try:
            with GuardedFolder(self.folder) as folder:
                stored = folder.read(f"{key}{SUFFIX}", self._limit)
                content = stored[_SIZE:]
                if _digest(key, content) == stored[:_SIZE]:
                    return content
                folder.remove(f"{key}{SUFFIX}")
        except Unsafe as reason:
            _warn(reason)
        except (OSError, RuntimeError):  # platformdirs and Path.home raise RuntimeError where there is no home
            pass
        return None

    def put(self, key: str, content: bytes) -> None:
        """Stores content under `key`, or does nothing where that is impossible."""
        try:
            with GuardedFolder(self.folder, make=True) as folder:
                if self._usual:
                    folder.hide()
                folder.clear_away()
                if len(content) + _SIZE <= self._limit:
                    folder.write(f"{key}{SUFFIX}", _digest(key, content) + content)
                    self._bound(folder, f"{key}{SUFFIX}")
        except Unsafe as reason:
            _warn(reason)
        except (OSError, RuntimeError):
            pass

    def clear(self) -> None:
        with contextlib.suppress(OSError, RuntimeError, Unsafe), GuardedFolder(self.folder) as folder:
            for name, _ in list(folder.files(SUFFIX)):
                folder.remove(name)

    def _bound(self, folder: GuardedFolder, newest: str) -> None:
        """Removes the entries that were not used for longest until the rest fits."""
        entries = sorted((status.st_mtime_ns, status.st_size, name) for name, status in folder.files(SUFFIX))
        total = sum(size for _, size, _ in entries)
        for _, size, name in entries:
            if total <= self._limit:
                return
            if name != newest:
                folder.remove(name)
                total -= size


def _digest(key: str, content: bytes) -> bytes:
    """By which a damaged entry is noticed, and one that was put under another's name."""
    return hashlib.sha256(f"{key}\0".encode() + content).digest()


def _warn(reason: Unsafe) -> None:
    """Says once in a process that there is no cache, and why."""
    if not _warned:
        _warned.append(reason)
        warnings.warn(
            f"compiled programs are not taken from the cache, nor kept there: {printable(str(reason))}. It "
            "should be your own, and "
            "writable for you alone (`chmod -R go-w`); XDG_CACHE_HOME or TAPELESS_CACHE names another place",
            stacklevel=2,
        )


_warned: list[Unsafe] = []


class NoCache(Cache):
    """Keeps nothing."""

    def get(self, key: str) -> bytes | None:
        return None

    def put(self, key: str, content: bytes) -> None:
        return None


def key(**parts: Any) -> str:
    """The name of an entry: a digest of the given parts, of this package's own files, of what it is built on, and of
    the machine."""
    whole = {**parts, "package": package_digest(), "versions": _versions(), "machine": machine()}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


@cache
def package_digest() -> str:
    """A digest of every source and library file of this package: an edited compiler never finds an old program."""
    digest = hashlib.sha256()
    for folder in stage_folders().values():
        for path in sorted([*folder.rglob("*.py"), *folder.rglob("*.tl")]):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(folder)}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()


@cache
def stage_folders() -> Mapping[str, Path]:
    """Where each part of the package lies; in a working tree they are not below one folder."""
    import importlib.util

    folders = {"tapeless": Path(__file__).parent}
    for name in ("abi", "ir", "compiler", "codegen", "runtime"):
        found = importlib.util.find_spec(f"tapeless.{name}")
        if found is not None and found.origin is not None:
            folders[f"tapeless.{name}"] = Path(found.origin).parent
    return folders


@cache
def _versions() -> Mapping[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    versions = {"python": platform.python_version()}
    for name in ("llvmlite", "sympy", "networkx", "numpy"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # installed by other means
            versions[name] = "unknown"
    return versions


@cache
def machine() -> str:
    """The processor's name and features, without asking LLVM, which takes longer than starting a cached program."""
    parts = [sys.platform, platform.machine(), platform.processor()]
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            first = file.read(1 << 16).split("\n\n")[0]
        wanted = r"^(vendor_id|cpu family|model|model name|stepping|flags|Features|isa|CPU \w+)\s*:.*$"
        parts += [match.group(0) for match in re.finditer(wanted, first, re.MULTILINE)]
    except OSError:
        parts.append(platform.platform())
    return "\n".join(parts)
