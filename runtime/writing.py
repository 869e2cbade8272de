"""Files on their way out: written whole or not at all, where a link leads, with the mode they had; and refused
before any work.

What is no regular file (a device, a pipe, a folder) is never replaced by one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from tapeless.runtime.errors import UserError

SUFFIX = ".part"  # of a file that is being written
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def write_atomically(path: str | Path, content: bytes, executable: bool = False) -> None:
    """Writes a file so that a reader, or a crash, finds either the old content or the new, never a part. OSError if
    it can't be.
    """
    place, status = _place(path)
    with _beside(place, 0o777 if executable else 0o666) as (descriptor, temporary):
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if status is not None:
                _take_over(descriptor, status)
            os.fsync(descriptor)
        os.replace(temporary, place)
        _sync_folder(place.parent)
    _clear_away(place)


def check_writable(path: str | Path, kind: type[UserError] = UserError, what: str = "") -> None:
    """Finds out, before any work is done for it, whether a file can be written; `what` it is to hold. An error of
    that kind if not.
    """
    try:
        place, _ = _place(path)
        with _beside(place) as (descriptor, temporary):
            os.close(descriptor)
            os.unlink(temporary)
    except OSError as error:
        raise kind(what + refusal(path, error)) from error


def check_folder(path: str | Path) -> None:
    """As `check_writable`, of a folder that need not be there yet. UserError if files can't be written in it."""
    folder = Path(path).absolute()
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        raise UserError(f"{path} can't be written: {folder} is no folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{path} can't be written: {os.strerror(errno.EACCES)}")


def refusal(path: str | Path, error: OSError) -> str:
    """Says what can't be written, and why."""
    return f"{path} can't be written: {error.strerror or error}"


def _place(path: str | Path) -> tuple[Path, os.stat_result | None]:
    """Where a file lies once all links are followed, and what is there. OSError if nothing can be written in its
    place.
    """
    try:
        status = os.stat(path)  # of what links lead to; it finds a circle of them, and a name that is too long
    except (FileNotFoundError, NotADirectoryError):
        status = None
    place = Path(os.path.realpath(path))
    if status is None:
        if not place.parent.is_dir():
            raise FileNotFoundError(
                errno.ENOENT,
                f"there is no folder {place.parent if os.path.islink(path) else Path(path).parent}",
                str(path),
            )
    elif not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, f"it is {_KINDS.get(stat.S_IFMT(status.st_mode), 'no file')}", str(path))
    elif not os.access(place, os.W_OK):
        raise PermissionError(errno.EACCES, "it is read-only", str(path))
    return place, status


def _take_over(descriptor: int, status: os.stat_result) -> None:
    """Owner and mode of the file that is replaced, as far as this user may give them."""
    if hasattr(os, "fchmod"):
        with contextlib.suppress(OSError):
            os.fchown(descriptor, status.st_uid, status.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(status.st_mode))


@contextlib.contextmanager
def _beside(path: Path, mode: int = 0o666) -> Iterator[tuple[int, str]]:
    """A temporary file in the same folder, removed if anything goes wrong. Its name holds machine and process."""
    temporary = str(path.parent / f"{_prefix(path)}{os.getpid()}.{secrets.token_hex(4)}{SUFFIX}")
    # Not by tempfile, whose files are private: this one is as readable as any new file.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
    try:
        yield descriptor, temporary
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _prefix(path: Path) -> str:
    # File systems allow 255 bytes, and a folder may be shared with other machines, whose processes are not ours.
    return f".{path.name[:160]}.{platform.node()[:40]}."


def _clear_away(path: Path) -> None:
    """Removes what processes that were killed while they wrote this file have left behind."""
    with contextlib.suppress(OSError):
        for name in os.listdir(path.absolute().parent):
            if not (name.startswith(_prefix(path)) and name.endswith(SUFFIX)):
                continue
            process = name.removeprefix(_prefix(path)).split(".")[0]
            if process.isdigit() and not alive(int(process)):
                (path.parent / name).unlink(missing_ok=True)


def alive(process: int) -> bool:
    """Whether there is a process of that number on this machine."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # it belongs to someone else
    return True


def _sync_folder(folder: Path) -> None:
    """Makes a new name durable, where the system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
