"""A folder whose files only this user can have written: what is read from it may be run.

The folder is opened once, without following a link, and everything in it by its name below that, so nothing can be
put in the place of what was looked at. A file is taken only if it is a regular one, of this user, that nobody else
can write, and no larger than it may be.
"""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from tapeless.runtime.writing import SUFFIX as PART
from tapeless.runtime.writing import alive

ABANDONED = 3600.0  # seconds after which it is nobody's any more
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)  # the opening of a pipe would wait for its other end
_BINARY = getattr(os, "O_BINARY", 0)


class Unsafe(Exception):
    """Somebody else may have put there what would be read: the message says what and why."""


class GuardedFolder:
    """An open folder. Raises Unsafe where others can write into it, and OSError where it can't be opened."""

    def __init__(self, path: Path, make: bool = False) -> None:
        self.path = path
        if make:
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                path.mkdir(mode=0o700)
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _NOFOLLOW)
        try:
            if (reason := _foreign(os.fstat(self._descriptor))) is not None:
                raise Unsafe(f"the folder {path} {reason}")
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> GuardedFolder:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._descriptor)

    def hide(self) -> None:
        """Lets nobody else look into the folder."""
        os.fchmod(self._descriptor, 0o700)

    def read(self, name: str, most: int) -> bytes:
        """The content of a file, which is marked as used. Raises Unsafe, or OSError."""
        try:
            descriptor = os.open(name, os.O_RDONLY | _NOFOLLOW | _NONBLOCK | _BINARY, dir_fd=self._descriptor)
        except OSError:
            if self._is_link(name):
                raise Unsafe(f"{self.path / name} is a link") from None
            raise
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Unsafe(f"{self.path / name} is no regular file")
            if (reason := _foreign(status)) is not None:
                raise Unsafe(f"{self.path / name} {reason}")
            if status.st_size > most:
                raise Unsafe(f"{self.path / name} is larger than {most:,} bytes")
            content = b""
            while len(content) < status.st_size and (piece := os.read(descriptor, status.st_size - len(content))):
                content += piece
            os.utime(descriptor)
            return content
        finally:
            os.close(descriptor)

    def _is_link(self, name: str) -> bool:
        try:
            return stat.S_ISLNK(os.stat(name, dir_fd=self._descriptor, follow_symlinks=False).st_mode)
        except OSError:
            return False

    def write(self, name: str, content: bytes) -> None:
        """Writes a file so that a reader, or a crash, finds either the old content or the new, never a part."""
        temporary = f".{name[:160]}.{platform.node()[:40]}.{os.getpid()}.{secrets.token_hex(4)}{PART}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o600, dir_fd=self._descriptor)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, name, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        except BaseException:
            self.remove(temporary)
            raise

    def remove(self, name: str) -> None:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=self._descriptor)

    def files(self, suffix: str) -> Iterator[tuple[str, os.stat_result]]:
        """The files whose names end so, with what the system knows of them."""
        for name in os.listdir(self._descriptor):
            if name.endswith(suffix):
                with contextlib.suppress(OSError):  # another process may remove it first
                    yield name, os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)

    def clear_away(self) -> None:
        """Removes what processes that were ended while they wrote have left behind."""
        for name, status in list(self.files(PART)):
            *_, node, process, _ = ("", "", "", *name.removesuffix(PART).rsplit(".", 2))
            ours = node.endswith(f".{platform.node()[:40]}") and process.isdigit()
            if time.time() - status.st_mtime > ABANDONED or (ours and not alive(int(process))):
                self.remove(name)


def _foreign(status: os.stat_result) -> str | None:
    """Why somebody else may have written a file or folder, if so."""
    if status.st_uid != os.geteuid():
        return "belongs to somebody else"
    return "can be written by others" if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) else None
