"""What files a model is made of: its text and all that it imports, directly or not, each read once.

The one place that answers this, with the language's own lexer: the compiler takes its texts from here, the cache and
checkpoints what a program is made of. It imports nothing heavy, as a program that comes from the cache asks too.

A text may come from anybody, so an import reads no other file than a text in the language: a regular file, whose
name ends in `.tl` even where links lead to it, of at most `MOST_BYTES`. What is missing and what is forbidden look
alike, so that a text cannot ask what files there are.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal

from tapeless.compiler.language.lexer import lex
from tapeless.compiler.messages.diagnostics import Source

Reach = Literal["anywhere", "beside"]
"""From where texts are imported: from any folder, or only from that of the model's own file and those in it."""

SUFFIX = ".tl"
MOST_BYTES = 1_000_000  # of one text; the largest of the standard library has 20 kB
MOST_FILES = 200


@dataclass(frozen=True)
class Files:
    """A model's text, the first, and those it imports. `links` says which of them is meant by a path in a file."""

    sources: tuple[Source, ...]
    links: Mapping[tuple[str, str], Source] = field(default_factory=dict)

    def imported(self, file: str, path: str) -> Source | None:
        """The text that an import of `path` in `file` means; None where there is none that may be read."""
        return self.links.get((file, path))


def files(source: Source, reach: Reach = "anywhere") -> Files:
    """The files of a model. What can't be imported is left out: the compiler will say so."""
    root = os.path.realpath(Path(source.file).parent)
    known = {os.path.realpath(source.file): source}
    links: dict[tuple[str, str], Source] = {}
    pending = [source]
    while pending:
        importing = pending.pop(0)
        for path in imports(importing):
            real = _place(importing.file, path, root if reach == "beside" else None)
            if real is None:
                continue
            if real not in known and len(known) < MOST_FILES and (text := _text(real)) is not None:
                known[real] = Source(str(Path(importing.file).parent / path), text)
                pending.append(known[real])
            if real in known:
                links[importing.file, path] = known[real]
    return Files(tuple(known.values()), links)


def imports(source: Source) -> Iterator[str]:
    """The paths that a text imports, in its order."""
    if "import" in source.text:
        tokens = lex(source).tokens
        yield from (path.text for word, path in pairwise(tokens) if word.kind == "import" and path.kind == "string")


def _place(importing: str, path: str, root: str | None) -> str | None:
    """Where an import leads, all links followed; None where imports may not lead. `root` is the folder to stay in,
    if there is one.
    """
    try:
        if root is not None and (os.path.isabs(path) or ".." in Path(path).parts):
            return None
        real = os.path.realpath(Path(importing).parent / path)
    except (OSError, ValueError):  # no name of a file can be so: too long, or with a zero byte
        return None
    inside = root is None or os.path.commonpath([root, real]) == root
    return real if inside and path.endswith(SUFFIX) and real.endswith(SUFFIX) else None


def _text(real: str) -> str | None:
    """The text of a file that may be imported, else None."""
    try:
        with open(real, "rb", opener=_opened) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None
            content = file.read(MOST_BYTES + 1)
            return content.decode("utf-8") if len(content) <= MOST_BYTES else None
    except (OSError, ValueError):
        return None


def _opened(path: str, flags: int) -> int:
    """Opens a file, but waits for nobody, as the opening of a pipe does, and follows no link."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))
