"""The standard library as text to read: `tapeless std Adam` prints one definition, with the comments above it."""

from __future__ import annotations

import difflib
import re

from tapeless.cache import stage_folders
from tapeless.runtime.errors import UserError

_HEAD = re.compile(r"^(fn|layer|optimizer|model)\s+(\w+)", re.MULTILINE)


def definitions() -> dict[str, tuple[str, str]]:
    """For every definition by name: what kind of thing it is, and its text."""
    found: dict[str, tuple[str, str]] = {}
    for path in sorted((stage_folders()["tapeless.compiler"] / "std").glob("*.tl")):
        lines = path.read_text("utf-8").splitlines()
        starts = [(number, match) for number, line in enumerate(lines) if (match := _HEAD.match(line))]
        for number, match in starts:
            first = number
            while first and lines[first - 1].startswith("#"):
                first -= 1
            last = number + 1
            while last < len(lines) and (not lines[last].strip() or lines[last][0] in " \t"):
                last += 1
            found[match[2]] = (match[1], "\n".join(lines[first:last]).rstrip() + "\n")
    return found


def source(name: str) -> str:
    """The text of a definition."""
    known = definitions()
    if name not in known:
        near = difflib.get_close_matches(name, known, 3, 0.5)
        raise UserError(
            f"the standard library has no {name!r}" + (f"; did you mean {', '.join(near)}?" if near else "")
        )
    return known[name][1]


def listing() -> str:
    """The names of all definitions, by kind."""
    known = definitions()
    kinds: dict[str, list[str]] = {}
    for name, (kind, _) in known.items():
        kinds.setdefault(kind, []).append(name)
    return "".join(f"{kind + ':':<11}{', '.join(sorted(names))}\n" for kind, names in kinds.items())
