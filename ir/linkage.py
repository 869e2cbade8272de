"""Names in ASCII: what linkers, LLVM and C can hold of names that may be in any script."""

from __future__ import annotations


def ascii_name(name: str) -> str:
    """The name with each other letter as its code point: `größe` is `grxf6xdfe`. Whoever needs names apart numbers
    equal ones.
    """
    return "".join(letter if letter.isascii() else f"x{ord(letter):x}" for letter in name)
